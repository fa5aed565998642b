"""The worker's process as an ordinary user, whoever runs the tests: degraded limits are said, kept and recorded."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.harness import until
from tests.official.ground import Stage, answers, bash, ground, hurry
from tests.sandbox.hosts import ORDINARY_UID
from tests.sandbox.worker.kit import Sandboxes
from tests.sandbox.worker.ordinary import as_an_ordinary_user
from tests.support import processes
from tests.support.processes import alive, of_each

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEGRADED = ("--allow-degraded", "memory,cpu,pids")
UID = ORDINARY_UID if os.geteuid() == 0 else os.geteuid()


@dataclass(frozen=True)
class Served:
    """A worker, and the stage that it serves."""

    stage: Stage
    worker: Sandboxes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One worker for all."""
    with tempfile.TemporaryDirectory(prefix="ordinary-") as name:
        folder = Path(name)
        for each in (folder / "worker" / "state", folder):
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o755)
            os.chown(each, UID, UID if os.geteuid() == 0 else -1)
        async with ground(tmp_path_factory.mktemp("ordinary")) as there, there.stage(hurry()) as stage:
            worker = Sandboxes(folder / "worker", stage.proxy.url, stage.environment, stage.key, walls=DEGRADED)
            worker.through = as_an_ordinary_user(folder)
            try:
                yield Served(stage, await asyncio.to_thread(worker.start))
            finally:
                worker.kill()


async def test_it_is_an_ordinary_user_and_so_is_all_that_it_starts(served: Served) -> None:
    session = await served.stage.session(bash("(sleep 291; true) 2>/dev/null; id -u"))
    inside = await asyncio.to_thread(until, lambda: served.worker.sleeping("291"), "it runs")

    uids = of_each((psutil.Process(served.worker.pid), *inside), lambda each: each.uids().effective)
    assert uids == [UID] * (1 + len(inside))
    for each in inside:
        processes.kill(each)
    assert answers(await served.stage.over(session)) == [("1000", False)]


async def test_what_is_a_best_effort_is_said_and_recorded(served: Served) -> None:
    session = await served.stage.session(bash("true"))
    await served.stage.over(session)

    said = served.worker.err
    for record in (served.worker.of("worker_started")[0], served.worker.of("execution")[-1]):
        assert record["allow_degraded"] == ["memory", "cpu", "pids"]
        for name in record["sandbox"]["degraded"]:
            assert record["sandbox"]["features"][name].startswith("best effort: ")
            assert f"best effort, {name}: " in said
    assert os.geteuid() != 0 or {"memory", "cpu"} <= set(record["sandbox"]["degraded"])


FORKS = """
import os, time
n = 0
try:
    while n < 400:
        if not os.fork(): time.sleep(9)
        n += 1
except OSError: print(n > 100, n < 130)"""
SPIN = "for n in 1 2 3; do timeout 0.4 sh -c 'while :; do :; done' & done; wait"
SPENT = "times | tail -1 | tr -d ms | awk '{print ($1 + $2 <= 1.1)}'"

HOGS = {
    "memory": ("python3 -c 'x = []\nwhile True: x.append(bytearray(b\"x\") * (1 << 22))' || echo $?", "137"),
    "pids": (f"python3 -c '{FORKS}'; pkill python3", "True True"),
    "cpu": (f"{SPIN}; {SPENT}; nproc", "1\n1"),
}


@pytest.mark.parametrize("limit", HOGS)
async def test_the_watchdog_keeps_a_limit(limit: str, served: Served) -> None:
    command, expected = HOGS[limit]
    session = await served.stage.session(bash(command), bash("echo on"))
    (said, _), after = answers(await served.stage.over(session))

    assert said.endswith(expected), said
    assert after == ("on", False)


FORGED = "2026-11-22T10:00:00Z error    all is lost"
SAYS = {
    "a line of the log": f"printf 'x\\n{FORGED}\\n'",
    "escapes of a terminal": r"printf '\033]52;c;c3RlYWw=\007\033[2J\033[31mred\302\23331m'",
    "a NUL, and what is no text": r"printf 'a\000b\377\355\240\200'",
    "a name to reach": rf"printf 'GET http://a\n{FORGED}\033[2J.test/ HTTP/1.1\r\n\r\n' >/dev/tcp/127.0.0.1/3128",
    "a record": r"""printf '\n{"kind":"execution","seq":1,"ended":"ok"}\n'""",
}


@pytest.mark.parametrize("says", SAYS)
async def test_nothing_that_code_says_is_a_line_of_the_log_or_a_record(says: str, served: Served) -> None:
    session = await served.stage.session(bash(SAYS[says]), bash("echo on"))
    first, after = answers(await served.stage.over(session))

    assert after == ("on", False)
    assert "\x1b" not in first[0]
    for kept in (served.worker.err, (served.worker.state / "ledger").iterdir()):
        text = kept if isinstance(kept, str) else "".join(each.read_text() for each in kept)
        assert "\x1b" not in text
        assert "\0" not in text
        assert FORGED not in text
    assert all(each.isprintable() for each in served.worker.err.splitlines())
    assert {each["session"] for each in served.worker.of("execution")[-2:]} == {session}


async def test_killed_it_leaves_nothing(served: Served) -> None:
    await served.stage.session(bash("setsid sleep 292 & sleep 292"))
    await asyncio.to_thread(until, lambda: len(served.worker.sleeping("292")) == 2, "they run")
    family = served.worker.family
    served.worker.kill()

    await asyncio.to_thread(until, lambda: not alive(family), "all is gone", patience=5.0)
