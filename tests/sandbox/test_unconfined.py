from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.isolation import Command, Ended, Isolation, Sandbox, Why
from arrowslit.sandbox.isolation.unconfined import Unconfined
from tests.support.wire import until


@pytest.fixture
async def isolation() -> AsyncIterator[Isolation]:
    async with Unconfined() as found:
        yield found


async def everything(sandbox: Sandbox, script: str, **command: object) -> tuple[str, Ended]:
    said, end = b"", None
    async for each in sandbox.run(Command(argv=("sh", "-c", script), **command)):  # type: ignore[arg-type]
        if isinstance(each, Ended):
            end = each
        else:
            said += each.data
    assert end is not None
    return said.decode(), end


async def test_every_record_says_that_there_is_no_isolation(isolation: Isolation) -> None:
    record = isolation.report.record()

    assert record["isolation"] == "none"
    assert record["degraded"] == ["isolation"]
    assert "as the worker" in str(record["features"])


async def test_it_runs_commands_all_the_same(isolation: Isolation) -> None:
    sandbox = await isolation.open("sesn_1")

    out, end = await everything(sandbox, "cat; pwd; exit 3", stdin=b"in ")

    assert out.startswith("in /")
    assert (end.why, end.status) == (Why.EXIT, 3)
    assert (await everything(sandbox, "yes"))[1].why is Why.OUTPUT_LIMIT
    assert (await everything(sandbox, "sleep 60", timeout=0.1))[1].why is Why.TIMEOUT
    assert (await (await sandbox.start(Command(argv=("no-such-program",)))).wait()).status == 127
    assert (await everything(sandbox, "echo $ANTHROPIC_API_KEY$PATH"))[0] == "/usr/local/bin:/usr/bin:/bin\n"


async def test_a_closed_one_leaves_neither_its_folder_nor_its_processes(isolation: Isolation) -> None:
    sandbox = await isolation.open("sesn_1")
    folder = (await everything(sandbox, "pwd"))[0].strip()
    await everything(sandbox, "sleep 60 >/dev/null 2>&1 & echo $! > pid", leftovers="keep")
    pid = int((Path(folder) / "pid").read_text())
    os.kill(pid, 0)

    await sandbox.close()

    assert not Path(folder).exists()
    await until(lambda: not Path(f"/proc/{pid}/exe").exists())  # a zombie has none; somebody else will collect it
    with pytest.raises(Error, match="sandbox_ended"):
        await sandbox.start(Command(argv=("true",)))


async def test_it_does_not_pretend_to_keep_egress_rules(isolation: Isolation) -> None:
    with pytest.raises(Error, match="sandbox_unavailable"):
        await isolation.open("sesn_1", listen=3128)
