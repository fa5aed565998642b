"""The server that is started ahead."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.target import NotStarted
from tests.connector.targets.facade_kit import INITIALIZE, HandClock, call, open_session, running, send, servers, until
from tests.support import processes


async def spare_beside(facade: Facade, used: int) -> None:
    """Wait until a spare is there beside so many servers that are used."""
    await until(lambda: len(servers()) == used + 1 and facade.state()["processes"] == used)


async def test_a_session_gets_the_server_that_was_started_ahead_of_it(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock, spare=True) as facade:
        await until(lambda: servers() == [])
        first = await open_session(facade)
        (used,) = servers()
        await clock.turn(1)
        await spare_beside(facade, 1)
        (ahead,) = set(servers()) - {used}

        second = await open_session(facade)

        assert (await send(facade, call("pid"), session=second)).result == {"pid": ahead, "handshakes": 1}
        assert (await send(facade, call("pid"), session=first)).result["pid"] == used
        await clock.turn(1)
        await spare_beside(facade, 2)


async def test_before_any_session_and_long_after_the_last_there_is_no_spare(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "dual", clock=clock, spare=True) as facade:
        await clock.turn(60)
        assert len(servers()) == 1
        await open_session(facade)
        await clock.turn(1)
        await spare_beside(facade, 2)
        await clock.turn(600)
        await until(lambda: len(servers()) == facade.state()["processes"] == 2)


async def test_a_spare_that_died_is_not_given_to_anybody(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock, spare=True) as facade:
        await until(lambda: servers() == [])
        await open_session(facade)
        (used,) = servers()
        await clock.turn(1)
        await spare_beside(facade, 1)
        (ahead,) = set(servers()) - {used}
        os.kill(ahead, signal.SIGKILL)
        await until(lambda: not processes.is_there(ahead))

        session = await open_session(facade)

        assert (await send(facade, call("pid"), session=session)).result["pid"] != ahead
        assert (facade.state()["restarts"], facade.state()["last_error"]) == (0, None)


async def test_a_spare_takes_no_place_away(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock, most=2, spare=True) as facade:
        await until(lambda: servers() == [])
        await open_session(facade)
        await clock.turn(1)
        await spare_beside(facade, 1)
        await open_session(facade)
        await clock.turn(1)
        with pytest.raises(NotStarted, match="2 times"):
            await send(facade, INITIALIZE)
