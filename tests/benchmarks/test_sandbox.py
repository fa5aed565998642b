from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from arrowslit.sandbox.isolation.isolation import Command, Ended, Output, Why
from arrowslit.sandbox.isolation.unconfined import Unconfined
from benchmarks import sandbox
from benchmarks.machine.process import Failed

PLAN = sandbox.Plan(rounds=1, repeats=2, sessions=3)


async def test_everything_that_is_promised_of_a_sandbox_is_measured() -> None:
    async with Unconfined() as isolation:
        figures = await sandbox.run(isolation, PLAN, lambda _: None)

    assert figures.scenarios() == [sandbox.WARM, sandbox.COLD, sandbox.OPEN, sandbox.CLOSE, sandbox.CROWD]
    assert all(target.read(figures) is not None for target in sandbox.TARGETS)
    assert figures.get(sandbox.CROWD, sandbox.OURS, "3 at once", "answered") == 1


async def test_a_command_that_did_not_run_is_no_figure() -> None:
    async def run(_: Command) -> AsyncGenerator[Output | Ended, None]:
        yield Ended(why=Why.NOT_STARTED, status=127, reason="no such file")

    deaf: Any = SimpleNamespace(run=run)

    with pytest.raises(Failed, match="status=127"):
        await sandbox._exec(deaf)
