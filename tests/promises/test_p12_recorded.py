from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx2
import pytest

from tests.cli.kit import invoke
from tests.e2e import plain
from tests.e2e.door import MODERN, until
from tests.e2e.stage import Stage, served
from tests.harness import Relay, arrowslit

pytestmark = pytest.mark.promise("P12")

CALLERS = 16


@pytest.mark.promise("P2")
@pytest.mark.parametrize("sync", ["soon", "always"])
async def test_what_was_executed_when_the_relay_is_killed_is_on_record(sync: str, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    target = plain.over_stdio(log=log.path, delay=200)
    with Relay(tmp_path / "relay", "--ledger-sync", sync) as relay, served(relay, target, ["change"]) as stage:
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(calls_until_killed(stage)) for _ in range(CALLERS)]
            await until(lambda: len(log.calls) > 150, "calls run", seconds=20)
            relay.kill()
        told = sum(caller.result() for caller in callers)
        relay.start()

        executed = {call.meta["dev.arrowslit/call-id"] for call in log.calls}
        asked = {each["call"] for each in stage.records("asked") if each["tool"] == "change"}
        assert len(executed) == len(log.calls) > 150
        assert executed <= asked
        outcomes = stage.outcomes_now("change")
        assert None not in outcomes
        # an outcome is written as soon as the answer has left: of each caller's last one the kill may have come between
        assert outcomes.count("result") >= told - CALLERS
        assert outcomes.count("outcome_unknown") > 0
        assert invoke("ledger", "verify", "--state", str(relay.state), "--json").ok().json["ok"] is True


async def calls_until_killed(stage: Stage) -> int:
    """Call again and again; returns how many answers came."""
    answers = 0
    async with stage.door(version=MODERN) as client:
        while True:
            try:
                assert (await client.call("change")).outcome == "result"
            except httpx2.TransportError:
                return answers
            answers += 1


async def test_a_call_that_was_denied_leaves_a_record_and_none_of_its_words(relay: Relay, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    with served(relay, plain.over_stdio(log=log.path), ["look"]) as stage:
        async with stage.door(version=MODERN) as client:
            await client.call("hidden", {"canary": "s3cret-words"})
            await client.call("look", {"canary": "s3cret-words"})
        ours = [each for each in stage.records() if each.get("tunnel") == stage.tunnel.id]

    assert [(each["kind"], each["tool"], each["tenant"]) for each in ours] == [
        ("denied", "hidden", "acme"),
        ("asked", "look", "acme"),
        ("listed", None, "acme"),  # the relay looks at the tools before the first call
    ]
    files = [path.read_text() for path in (relay.state / "ledger").glob("*.jsonl")]
    assert not any("s3cret-words" in text or stage.keys["acme"] in text for text in files)


# ---------------------------------------------------------------- somebody changes the files


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a relay that has stopped, with some calls in its ledger."""
    folder = tmp_path_factory.mktemp("stopped")

    async def calls(stage: Stage) -> None:
        async with stage.door(version=MODERN) as client:
            for tool in ["look", "change", "hidden", "look"]:
                await client.call(tool)

    with Relay(folder) as relay, served(relay, plain.over_stdio(), ["look", "change"]) as stage:
        asyncio.run(calls(stage))
        assert relay.stop() == 0
        return relay.state


def records(state: Path) -> tuple[Path, list[bytes]]:
    (segment,) = (state / "ledger").glob("*.jsonl")
    return segment, segment.read_bytes().splitlines(keepends=True)


def edits(lines: list[bytes]) -> dict[str, tuple[list[bytes], int]]:
    """Every edit of one record, with the number of the first bad one afterwards."""
    found: dict[str, tuple[list[bytes], int]] = {}
    for at, line in enumerate(lines):
        number = at + 1
        changed = line.replace(b'"ts":"2', b'"ts":"3')
        found[f"edit {number}"] = ([*lines[:at], changed, *lines[at + 1 :]], number)
        found[f"delete {number}"] = ([*lines[:at], *lines[at + 1 :]], number)
        found[f"insert {number} again"] = ([*lines[:at], line, *lines[at:]], number)
        found[f"insert a forged {number}"] = ([*lines[:at], changed, *lines[at:]], number)
        if at:
            found[f"swap {at} and {number}"] = ([*lines[: at - 1], line, lines[at - 1], *lines[at + 1 :]], at)
    found["delete the last two"] = (lines[:-2], len(lines) - 1)
    found["delete all"] = ([], 1)
    return found


def test_whatever_is_done_to_a_record_of_a_stopped_relay_is_found_and_named(stopped: Path, tmp_path: Path) -> None:
    state = Path(shutil.copytree(stopped, tmp_path / "copy"))
    segment, lines = records(state)
    assert len(lines) == 11  # three calls of two records, one that was denied, a list, two definitions, and the end
    assert invoke("ledger", "verify", "--state", str(state), "--json").ok().json["records"] == 11

    for what, (changed, first_bad) in edits(lines).items():
        segment.write_bytes(b"".join(changed))
        done = invoke("ledger", "verify", "--state", str(state), "--json")
        assert (done.status, done.json["error"]["code"]) == (1, "ledger_broken"), what
        assert done.json["first_bad"]["seq"] == first_bad, (what, done.json)

    segment.write_bytes(b"".join(lines))
    assert invoke("ledger", "verify", "--state", str(state), "--json").ok().json["ok"] is True


def test_the_program_says_it_to_a_person_and_a_relay_does_not_go_on_with_it(stopped: Path, tmp_path: Path) -> None:
    state = Path(shutil.copytree(stopped, tmp_path / "relay"))
    segment, lines = records(state)
    segment.write_bytes(b"".join(lines[:-1]))

    done = arrowslit("ledger", "verify", "--state", str(state))
    started = arrowslit("serve", "--listen", "127.0.0.1:0", "--state", str(state))

    assert (done.status, done.out) == (1, "")
    assert "record 11 of the ledger is missing" in done.err
    assert (started.status, started.out) == (1, "")
    assert "code: ledger_broken" in started.err
