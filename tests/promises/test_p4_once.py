from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.e2e import plain
from tests.e2e.door import MODERN, until
from tests.e2e.stage import Stage, served
from tests.harness import Connector, Relay

pytestmark = [pytest.mark.promise("P4"), pytest.mark.promise("P3")]


@dataclass(frozen=True, slots=True)
class Two:
    """Two connectors of one tunnel, each with a server of its own. `look` is declared read-only, `change` is not."""

    stage: Stage
    connectors: tuple[Connector, Connector]
    logs: tuple[plain.Log, plain.Log]

    def executed(self) -> list[Counter[str]]:
        """How often each canary came to each of the servers."""
        return [Counter(call.message["params"]["arguments"]["canary"] for call in log.calls) for log in self.logs]

    def handed_over(self, canary: str) -> list[int]:
        """To which servers a call went, and how often."""
        return [came[canary] for came in self.executed()]


@contextmanager
def two(relay: Relay, folder: Path, first: str | None = None) -> Iterator[Two]:
    """`first` is the first connector's target, if it is to be another one."""
    ceiling = folder / "ceiling.toml"
    ceiling.write_text('tools = ["*"]\ntenants = ["*"]\nread_only = ["look"]\n')
    options = ["--ceiling", str(ceiling)]
    logs = (plain.Log(folder / "log-0"), plain.Log(folder / "log-1"))
    targets = [first or plain.over_stdio(log=logs[0].path), plain.over_stdio(log=logs[1].path)]
    with (
        served(relay, targets[0], ["look", "change"], *options, tunnel={"key_binding": "none"}) as stage,
        Connector(relay, stage.tunnel, targets[1], *options, folder=folder / "second") as second,
    ):
        yield Two(stage, (stage.connector, second), logs)


@pytest.mark.parametrize(
    ("tool", "outcome", "times"), [("change", "outcome_unknown", [0, 1]), ("look", "result", [1, 1])]
)
async def test_a_call_whose_connector_is_killed_goes_to_another_only_if_it_may_be_done_twice(
    tool: str, outcome: str, times: list[int], relay: Relay, tmp_path: Path
) -> None:
    with two(relay, tmp_path) as scene:
        async with scene.stage.door(version=MODERN) as client:
            call = asyncio.create_task(client.call(tool, {"canary": "one", "delay_ms": 3_000}))
            holder = await until(
                lambda: 1 + scene.handed_over("one").index(1) if any(scene.handed_over("one")) else 0, ""
            )
            scene.connectors[holder - 1].kill()
            said = await call
            afterwards = await client.call("change", {"canary": "two"})

    assert said.outcome == outcome
    assert sorted(scene.handed_over("one")) == times
    assert afterwards.outcome == "result"
    assert sum(scene.handed_over("two")) == 1
    assert scene.stage.outcomes(tool)[0] == outcome


@pytest.mark.promise("P2")
async def test_a_call_that_a_connector_did_not_start_goes_to_another(relay: Relay, tmp_path: Path) -> None:
    with two(relay, tmp_path, first="http://127.0.0.1:1/mcp") as scene:  # nobody listens there
        async with scene.stage.door(version=MODERN) as client:
            said = [await client.call("change", {"canary": str(number)}) for number in range(6)]
            assert [each.outcome for each in said] == ["result"] * 6
            scene.connectors[1].kill()
            last = await client.call("change", {"canary": "last"})

    assert [sum(scene.handed_over(str(number))) for number in range(6)] == [1] * 6
    assert (last.outcome, last.code) == ("not_delivered", "not_started")
    assert sum(scene.handed_over("last")) == 0


@pytest.mark.promise("P2")
async def test_among_kills_no_write_is_executed_twice_and_each_has_one_outcome(relay: Relay, tmp_path: Path) -> None:
    told: dict[str, str] = {}
    over = asyncio.Event()

    async def calls(number: int) -> None:
        async with scene.stage.door(version=MODERN) as client:
            for turn in count():
                if over.is_set():
                    return
                canary = f"{number}-{turn}"
                said = await client.call("change", {"canary": canary, "delay_ms": 5})
                told[canary] = said.outcome
                if said.outcome == "not_delivered":
                    await asyncio.sleep(0.05)  # nobody is there to call

    async def kills() -> None:
        for connector in (scene.connectors[0], scene.connectors[1], scene.connectors[0]):
            results = list(told.values()).count("result")
            await until(lambda: list(told.values()).count("result") > results + 50, "calls run")  # noqa: B023
            connector.kill()
            await asyncio.to_thread(connector.start)
        over.set()

    with two(relay, tmp_path) as scene:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(calls(number))
            await kills()

    executed = sum(scene.executed(), Counter[str]())
    for canary, outcome in told.items():
        assert executed[canary] <= 1, canary
        assert executed[canary] == 1 or outcome != "result", canary
        assert executed[canary] == 0 or outcome in ("result", "outcome_unknown"), canary
    assert "outcome_unknown" in told.values()
    outcomes = scene.stage.outcomes("change")
    assert sorted(map(str, outcomes)) == sorted(told.values())
