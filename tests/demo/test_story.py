from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from arrowslit.demo import folders
from arrowslit.demo.scene import Told
from arrowslit.demo.story import STEPS
from arrowslit.demo.telling import Terminal
from tests.fixtures_postgres import open_folder
from tests.harness import arrowslit, environment, until
from tests.support import processes

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bond to a parent is Linux's")

OUTCOMES = {  # of the steps, in their order
    "stock_found": "result",
    "unknown_sku_not_found": "result",
    "other_tenant_not_found": "result",
    "no_tenant_denied": "denied",
    "unlisted_tool_hidden": "result",
    "unlisted_tool_refused": "denied",
    "new_tool_invisible": "denied",
    "tunnel_cut_not_delivered": "not_delivered",
    "reconnected_result": "result",
    "agent_answer": "result",
    "agent_never_saw_unlisted_tool": "result",
    "agent_cannot_confirm": "outcome_unknown",
    "agent_answer_after_reconnect": "result",
    "sandbox_aggregate": "result",
    "sandbox_egress_denied": "denied",
    "ledger_verified": "result",
}

# The same program, in a world where everything that the story relies on is not so.
BROKEN_WORLD = """
from arrowslit.cli.main import main
from arrowslit.demo import child, sandbox, schema, stage

truth, kill, tamper = stage.Stage.stock, child.Child.kill, stage.Stage.tamper

async def one_more(self, tenant, sku):
    there = await truth(self, tenant, sku)
    return {**there, "quantity": there["quantity"] + 1} if sku == "BOLT8" else there

async def spare(self):
    pass

stage.Stage.stock = one_more
schema.ROWS += (schema.Row("acme", "NOSUCH1", 1), schema.Row("acme", "LASER9", 1))
stage.KEYS["nobody"] = ("stock", "acme")
stage.TOOLS["stock"].append("adjust_stock")
sandbox.OPTIONS += ("--allow-host", "collector.example")
stage.Stage.grow = lambda self: None
child.Child.kill = spare
stage.Stage.tamper = lambda self, old, new: tamper(self, old, old)
main()
"""

WITHOUT_A_RELAY = """
from arrowslit.cli.main import main
from arrowslit.demo import child

bound = child.bound
child.bound = lambda uid, gid, *command: bound(uid, gid, "/bin/sh", "-c", "echo no relay today >&2")
main()
"""

WHAT_IS_WRONG = {
    "stock_found": "and not",
    "unknown_sku_not_found": "the table has a NOSUCH1",
    "other_tenant_not_found": "is not something that only globex has",
    "no_tenant_denied": "result",
    "unlisted_tool_hidden": "the agent is shown ['check_stock', 'adjust_stock']",
    "unlisted_tool_refused": "result",
    "new_tool_invisible": "the server has not grown",
    "tunnel_cut_not_delivered": "result",
    "reconnected_result": "did not start",
    "agent_answer": "and not",
    "agent_never_saw_unlisted_tool": "the model was offered",
    "agent_cannot_confirm": "ask ends with 0",
    "agent_answer_after_reconnect": "did not start",
    "sandbox_aggregate": "and not 393",
    "sandbox_egress_denied": "collector.example was failed",
    "ledger_verified": "one letter was changed in a copy",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the demo runs, again and again. Its temporary files would be in the folder `tmp`."""
    with open_folder() as folder:
        (folder / "tmp").mkdir()
        yield folder


@contextmanager
def demo(folder: Path, *words: str, program: Sequence[str] = ("-m", "arrowslit")) -> Iterator[subprocess.Popen[str]]:
    """`arrowslit demo` as a user starts it; what it left behind afterwards fails the test."""
    process = subprocess.Popen(
        [sys.executable, *program, "demo", "--state", str(folder / "state"), *words],
        env=environment(TMPDIR=str(folder / "tmp")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    too_long = threading.Timer(120, process.kill)
    too_long.start()
    try:
        yield process
        assert process.wait() is not None
        until(lambda: not processes_of(folder), f"nothing runs: {processes_of(folder)}")
        assert list((folder / "tmp").iterdir()) == []
    finally:
        too_long.cancel()
        process.kill()
        process.communicate()
        with suppress(AssertionError):  # the next test runs in the same folder
            until(lambda: not processes_of(folder), "nothing runs")


def processes_of(folder: Path) -> list[str]:
    """The processes that were started with something in this folder, or by one that was."""
    found = []
    for process in processes.alive(psutil.process_iter()):
        said = " ".join(processes.words(process))
        if str(folder) in said or str(folder) in processes.variable(process, "INVENTORY_EXTRA_TOOLS"):
            found.append(said)
    return found


@pytest.mark.parametrize(
    ("how", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), pytest.param(signal.SIGKILL, -9, marks=only_linux)],
)
def test_a_stopped_demo_leaves_nothing_behind(folder: Path, how: signal.Signals, status: int) -> None:
    with demo(folder, "--json") as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["step"] == "stock_found"  # everything has been started
        assert len(processes_of(folder)) > 3

        running.send_signal(how)

        assert running.wait() == status


def test_the_story_comes_out_as_promised(folder: Path) -> None:
    with demo(folder, "--json") as running:
        out, err = running.communicate()
    steps = [json.loads(line) for line in out.splitlines()]

    assert (running.returncode, err) == (0, "")
    assert {step["step"]: step["outcome"] for step in steps} == OUTCOMES
    assert [step["step"] for step in steps] == list(OUTCOMES)
    assert all(step["ok"] is True and step["detail"] and step["seconds"] >= 0 for step in steps), steps


def test_every_step_can_fail(folder: Path) -> None:
    with demo(folder, "--json", program=("-c", BROKEN_WORLD)) as running:
        out, err = running.communicate()
    steps = {step["step"]: step for step in map(json.loads, out.splitlines())}

    assert (running.returncode, err) == (1, "")
    assert list(steps) == list(OUTCOMES)
    for name, said in WHAT_IS_WRONG.items():
        assert steps[name]["ok"] is False, name
        assert said in steps[name]["detail"], steps[name]


def test_a_kept_demo_can_be_asked_until_it_is_stopped(folder: Path) -> None:
    with demo(folder, "--keep") as running:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if "Ctrl-C here" in line:
                break
        told = "".join(said)
        assert "\n16 of 16 came out as promised" in told, told
        assert "\x1b" not in told  # nobody sees colours here
        variables = dict(line.split()[1].split("=", 1) for line in said if line.startswith("  export "))
        tools = arrowslit("tools", "stock", "internal-inventory", env=variables)
        asked = arrowslit("ask", "stock", "How many BOLT8 do we have?", env=variables)
        told = next(line.partition("    ")[0] for line in said if line.startswith("  grep "))
        records = subprocess.run(told.strip(), shell=True, capture_output=True, text=True, check=True).stdout
        stock = arrowslit("call", "stock", "internal-inventory", "check_stock", "sku=BOLT8", env=variables)

        running.send_signal(signal.SIGINT)

        assert running.wait() == 0
    assert tools.ok().out.startswith("check_stock sku=STRING\n")
    assert "390" in asked.ok().out
    kinds = [json.loads(line)["said"]["kind"] for line in records.splitlines()]
    assert sorted(kinds) == ["egress", *["execution"] * 4]
    assert json.loads(stock.ok().out)["quantity"] == 390


def test_what_cannot_be_set_up_is_said_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "state").touch()

    done = arrowslit("demo", "--json", "--state", str(tmp_path / "state"))
    told = arrowslit("demo", "--state", str(tmp_path / "state"))

    assert (done.status, done.err) == (1, "")
    assert done.json["step"] == "set_up"
    assert done.json["ok"] is False
    assert done.json["error"]["code"] == "postgres_failed"
    assert told.status == 1
    assert "code: postgres_failed" in told.err


def test_a_relay_that_does_not_start_is_quoted(folder: Path) -> None:
    with demo(folder, "--json", program=("-c", WITHOUT_A_RELAY)) as running:
        out, _ = running.communicate()

    assert running.returncode == 1
    (line,) = map(json.loads, out.splitlines())
    assert line["error"]["code"] == "demo_failed"
    assert "`arrowslit serve --listen …` did not start" in line["detail"]
    assert line["detail"].endswith("no relay today")
    assert "relay.log" in line["error"]["hint"]


def test_an_account_without_a_home_gets_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("arrowslit.app.config.default_state", lambda: tmp_path / "home" / "arrowslit")
    with folders.kept_if_possible() as kept:
        assert kept == tmp_path / "home" / "arrowslit-demo"

    monkeypatch.setattr("arrowslit.app.config.default_state", homeless)
    with folders.kept_if_possible() as lent:
        assert lent.stat().st_mode & 0o777 == 0o711
        assert lent.stat().st_uid == os.geteuid()
    assert not lent.exists()


def test_a_failed_step_is_told_in_plain_characters(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Terminal(plain=True)

    teller.told(Told(STEPS[0], True, "result", "as it should be", 0.0214))
    teller.told(Told(STEPS[1], False, None, "a server said \x1b[2J", 12.0))

    told = capsys.readouterr().out
    assert f"\n 1. {STEPS[0].title}\n    ok      result (21 ms): as it should be\n    why     " in told
    assert f"\n 2. {STEPS[1].title}\n    FAILED  no outcome (12.0 s): a server said \\x1b[2J\n" in told
