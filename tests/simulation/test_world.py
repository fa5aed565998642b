"""The shipped classes under a loop that one seed decides. The checker reads only what the outside saw."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from arrowslit.relay import carriage
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import Deadlock, SimLoop, run
from arrowslit.testing.world import READS, WRITES, SimTarget, World, world

SEEDS = 150


@dataclass(slots=True)
class Log:
    """What the outside saw: each call with its answer, each execution, each record."""

    answers: dict[str, tuple[str, str, dict[str, Any]]] = field(default_factory=dict)
    executed: Counter[str] = field(default_factory=Counter)
    records: list[dict[str, Any]] = field(default_factory=list)

    def digest(self) -> str:
        """Two runs are the same if this is."""
        said = json.dumps([self.answers, sorted(self.executed.items()), self.records], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


async def scenario(seed: int) -> Log:
    """25 calls of two tenants, two connectors, cuts and kills at times that the seed chooses."""
    chance, disk, log = random.Random(seed), MemoryDisk(), Log()

    async def caller(here: World, number: int) -> None:
        await asyncio.sleep(chance.random() * 4)
        tenant, tool = f"tenant{number % 2}", chance.choice([READS, WRITES])
        canary = f"{tenant}/{number}"
        answer = await here.call(tenant, tool, canary, deadline=chance.choice([0.05, 0.3, 5.0]))
        log.answers[canary] = (tenant, tool, answer)

    async def trouble(here: World, targets: list[SimTarget]) -> None:
        processes = [here.start_connector(f"c{number}", target) for number, target in enumerate(targets)]
        for _ in range(chance.randrange(7)):
            await asyncio.sleep(chance.random() * 1.5)
            if chance.random() < 0.3:
                victim = chance.randrange(len(processes))
                processes[victim].cancel()
                here.cut()
                processes[victim] = here.start_connector(f"c{victim}", targets[victim])
            else:
                here.cut()

    async with world(seed, disk) as here:
        targets = [SimTarget(random.Random(seed + number)) for number in range(chance.choice([1, 2]))]
        async with asyncio.TaskGroup() as group:
            group.create_task(trouble(here, targets))
            await here.connected()
            for number in range(25):
                group.create_task(caller(here, number))
        for target in targets:
            log.executed.update(target.executed)
    for segment in disk.segments():
        log.records += [json.loads(line) for line in disk.lines(segment.first)]
    return log


def check(log: Log) -> list[str]:
    """What of the promises does not hold, as sentences."""
    wrong = []
    outcomes: dict[str, list[str]] = {}
    asked = [record["call"] for record in log.records if record["kind"] == "asked"]
    for record in log.records:
        if record["kind"] == "outcome":
            outcomes.setdefault(record["call"], []).append(record["outcome"])
    wrong += [f"P2: {call} ended {outcomes.get(call)}" for call in asked if len(outcomes.get(call, [])) != 1]
    for canary, (tenant, tool, answer) in log.answers.items():
        times = log.executed[canary]
        if "result" in answer:
            said = answer["result"]
            if said != {"canary": canary, "tenant": tenant}:
                wrong.append(f"P5: {canary} got {said}")
            if times < 1:
                wrong.append(f"P2: {canary} has a result and was not executed")
            continue
        outcome = answer["error"]["data"]["outcome"]
        if outcome in ("not_delivered", "denied") and times:
            wrong.append(f"P3: {canary} is {outcome} and was executed")
        if outcome == "timeout" and tool == WRITES:
            wrong.append(f"P3: the write {canary} timed out instead of being in doubt")
        if tool == WRITES and times > 1:
            wrong.append(f"P4: the write {canary} was executed {times} times")
    return wrong


@pytest.mark.promise("P2")
@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
@pytest.mark.promise("P5")
def test_the_promises_hold_under_every_seed() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        log = run(seed, lambda seed=seed: scenario(seed))  # type: ignore[misc]
        assert not check(log), f"seed {seed}: {check(log)}"
        assert len(log.answers) == 25
        seen.update("result" if "result" in a else a["error"]["data"]["code"] for _, _, a in log.answers.values())
    assert {"result", "no_connector", "not_started", "outcome_unknown", "timeout"} <= set(seen), seen


def test_a_seed_decides_everything() -> None:
    assert run(7, lambda: scenario(7)).digest() == run(7, lambda: scenario(7)).digest()


def test_the_checker_finds_a_relay_that_claims_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carriage, "_certainly_not_started", lambda last: True)  # a write is tried again when it is lost
    found = {line[:2] for seed in range(20) for line in check(run(seed, lambda seed=seed: scenario(seed)))}  # type: ignore[misc]
    assert {"P3", "P4"} & found


def test_the_loop_refuses_what_cannot_be_simulated() -> None:
    async def thread() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="no threads"):
        run(1, thread)


def test_a_world_in_which_nobody_can_go_on_is_a_deadlock() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    loop = SimLoop(1)
    with pytest.raises(Deadlock):
        loop.run_until_complete(wait())
    loop.close()


def test_a_long_time_costs_none() -> None:
    async def year() -> float:
        await asyncio.sleep(365 * 86400.0)
        return asyncio.get_running_loop().time()

    assert run(1, year) >= 365 * 86400.0
