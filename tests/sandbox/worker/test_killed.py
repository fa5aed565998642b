"""A worker that is killed: its session is taken up by another, and nothing is run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arrowslit.agents.work.leases import TTL
from arrowslit.agents.work.reaper import UNKNOWN
from tests.harness import PATIENCE, until
from tests.official.ground import ACK, Stage, answers, bash, is_over
from tests.official.inside import TurnedClock, relay
from tests.sandbox.egress.kit import Origin, origin
from tests.sandbox.worker.kit import Sandboxes
from tests.support.processes import alive

GONE = 5.0  # seconds; what is promised after a kill
PROMPT = "from the next one"


@dataclass(frozen=True)
class Scene:
    """What is there when the worker is killed. `server` may be reached from inside, and never answers."""

    stage: Stage
    worker: Sandboxes
    server: Origin
    session: list[str] = field(default_factory=list)

    async def begin(self, *calls: str) -> None:
        """A session with these calls."""
        self.session.append(await self.stage.session(*calls, agent="cautious"))

    async def runs(self, seconds: str) -> None:
        """Once a command that sleeps so long runs."""
        await asyncio.to_thread(until, lambda: self.worker.sleeping(seconds), f"sleep {seconds} runs")


async def taken(scene: Scene) -> None:
    await scene.begin(bash(f"echo {PROMPT}"))
    await scene.stage.proxy.until(ACK)


async def in_the_second(scene: Scene) -> None:
    await scene.begin(bash("echo first"), bash("sleep 293"))
    await scene.runs("293")


async def getting_out(scene: Scene) -> None:
    await scene.begin(bash(f"curl -s http://localhost:{scene.server.port}/"))
    async with asyncio.timeout(PATIENCE):
        await scene.server.asked.wait()


async def over(scene: Scene) -> None:
    await scene.begin(bash("echo first"))
    await scene.stage.over(scene.session[0])


MOMENTS: dict[str, tuple[Callable[[Scene], Awaitable[None]], list[list[tuple[str, bool]]]]] = {
    "as it takes a session": (taken, [[(UNKNOWN, True)], [(PROMPT, False)]]),  # it may have begun, or not
    "in a second call": (in_the_second, [[("first", False), (UNKNOWN, True)]]),
    "as a command gets out": (getting_out, [[(UNKNOWN, True)]]),
    "between two sessions": (over, [[("first", False)]]),
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_session_of_a_killed_worker_goes_on_with_another(moment: str, tmp_path: Path) -> None:
    bring, expected = MOMENTS[moment]
    clock = TurnedClock()
    async with relay(tmp_path, clock) as here, here.stage() as stage, origin(answer=b"", stubborn=True) as server:
        options = ("--allow-private-host", f"localhost:{server.port}")
        worker = Sandboxes(tmp_path / "killed", stage.proxy.url, stage.environment, stage.key, *options)
        try:
            scene = Scene(stage, await asyncio.to_thread(worker.start), server)
            await bring(scene)
            family, groups = worker.family, worker.groups
        finally:
            worker.kill()
        await asyncio.to_thread(until, lambda: not alive(family), "no process left", patience=GONE)
        await asyncio.to_thread(
            until, lambda: not any(each.exists() for each in groups), "no cgroup left", patience=GONE
        )

        clock.turn(TTL + 1)
        (session,) = scene.session
        async with stage.worker():
            count = len(expected[0])
            events = await stage.until(session, lambda seen: is_over(seen) and len(answers(seen)) == count)
            assert answers(events) in expected
            said = [{"type": "text", "text": bash("echo after")}]
            await stage.send(session, "user.message", content=said)
            events = await stage.until(session, lambda seen: is_over(seen) and len(answers(seen)) == count + 1)
            assert answers(events)[-1] == ("after", False)
        assert len(server.received) == (1 if moment == "as a command gets out" else 0)
