from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.agents.api import records
from arrowslit.ledger.chain import GENESIS, seal
from arrowslit.record import WorkerChain
from arrowslit.store.open import Store
from tests.agents.api.delivered import Delivered, deliver
from tests.agents.bench import Records
from tests.agents.kit import Caller, code_of
from tests.store.kit import ManualClock

TS = "2026-11-22T10:00:00.000Z"
Record = dict[str, Any]


def chained(count: int, prev: str = GENESIS, first: int = 1, **fields: object) -> list[Record]:
    """Records as a worker chains them."""
    made: list[Record] = []
    for seq in range(first, first + count):
        own = {"argv": ["true"], "number": seq, **fields}
        _, line_hash = seal("exec_start", own, seq=seq, prev=prev, ts=TS)
        made.append({"seq": seq, "prev": prev, "ts": TS, "kind": "exec_start", "fields": own, "hash": line_hash})
        prev = line_hash
    return made


@pytest_asyncio.fixture
async def place(app: Starlette, store: Store) -> Delivered:
    return await deliver(app, store)


@pytest_asyncio.fixture
async def worker(app: Starlette, place: Delivered) -> AsyncIterator[Caller]:
    async with Caller(app, place.token) as worker:
        yield worker


async def say(worker: Caller, place: Delivered, records: list[Record]) -> Any:
    return await worker.ok("POST", place.records, {"records": records})


async def test_what_a_worker_says_is_recorded_as_what_it_said(
    worker: Caller, place: Delivered, ledger: Records
) -> None:
    sent = chained(2)

    assert await say(worker, place, sent) == {"type": "work_records", "stored": 2, "last_seq": 2}

    assert [kind for kind, _ in ledger.kept] == ["said_by_worker"] * 2
    assert ledger.kept[0][1] == {
        "work": place.work,
        "environment": place.environment,
        "session": place.session,
        "worker": place.worker_id,
        "delivery": 1,
        "late": False,
        "said_seq": 1,
        "said_hash": sent[0]["hash"],
        "said": {
            "kind": "exec_start",
            "ts": TS,
            "prev": GENESIS,
            "signed": 0,
            "fields": {"argv": ["true"], "number": 1},
        },
    }


async def test_a_worker_that_heard_no_answer_says_it_again_and_nothing_is_there_twice(
    worker: Caller, place: Delivered, ledger: Records
) -> None:
    sent = chained(5)
    await say(worker, place, sent[:3])

    assert await say(worker, place, sent[:3]) == {"type": "work_records", "stored": 0, "last_seq": 3}
    assert await say(worker, place, sent[1:]) == {"type": "work_records", "stored": 2, "last_seq": 5}
    assert [fields["said_seq"] for _, fields in ledger.kept] == [1, 2, 3, 4, 5]


async def test_the_same_records_at_the_same_time_are_kept_once(
    worker: Caller, place: Delivered, ledger: Records
) -> None:
    answers = await asyncio.gather(*(say(worker, place, chained(3)) for _ in range(4)))

    assert sorted(answer["stored"] for answer in answers) == [0, 0, 0, 3]
    assert len(ledger.kept) == 3


def altered(seq: int, **change: object) -> Callable[[list[Record]], list[Record]]:
    """The records, of which that one says something else."""
    return lambda sent: [{**each, **change} if each["seq"] == seq else each for each in sent]


BROKEN: Mapping[str, tuple[Callable[[list[Record]], list[Record]], int]] = {
    "a gap before them": (lambda sent: sent[1:], 3),
    "a gap among them": (lambda sent: [sent[0], *sent[2:]], 4),
    "another order": (lambda sent: [sent[0], sent[2], sent[1]], 4),
    "one twice": (lambda sent: [sent[0], sent[0], *sent[1:]], 4),
    "a field changed": (altered(4, fields={"argv": ["false"]}), 4),
    "a kind changed": (altered(4, kind="exec_end"), 4),
    "a time changed": (altered(4, ts="2026-11-22T10:00:00.001Z"), 4),
    "a hash changed": (altered(5, hash="0" * 64), 5),
    "a chain of its own": (lambda _: chained(2, "1" * 64, 3), 3),
    "another past": (lambda _: chained(5, number_of="another worker"), 2),
}


@pytest.mark.parametrize(("spoil", "first_bad"), BROKEN.values(), ids=BROKEN)
async def test_what_does_not_continue_the_chain_is_refused_whole(
    worker: Caller,
    place: Delivered,
    ledger: Records,
    spoil: Callable[[list[Record]], list[Record]],
    first_bad: int,
) -> None:
    sent = chained(5)
    await say(worker, place, sent[:2])

    response = await worker.post(place.records, json={"records": spoil(sent[2:])})

    assert code_of(response) == (400, "records_broken")
    details = response.json()["error"]["details"]
    assert (details["first_bad"], details["last_seq"]) == (first_bad, 2)
    assert len(ledger.kept) == 2
    assert (await say(worker, place, sent[2:]))["last_seq"] == 5


async def test_a_chain_begins_with_its_first_record(worker: Caller, place: Delivered) -> None:
    assert await worker.refused("POST", place.records, {"records": chained(1, first=2)}) == (400, "records_broken")
    assert await worker.refused("POST", place.records, {"records": chained(1, "1" * 64)}) == (400, "records_broken")


INVALID: Mapping[str, Record] = {
    "a field of the chain's own": {"fields": {"seq": 1}},
    "a long text": {"fields": {"argv": ["x" * 8193]}},
    "a long name": {"fields": {"x" * 65: 1}},
    "too much": {"fields": {"argv": ["x" * 8000] * 9}},
    "no hash": {"hash": "xyz"},
    "no time": {"ts": "yesterday"},
    "a kind for a terminal": {"kind": "\x1b[2J"},
    "number 0": {"seq": 0},
    "a text for a number": {"seq": "1"},
}


@pytest.mark.parametrize("change", INVALID.values(), ids=INVALID)
async def test_what_cannot_be_a_record_is_refused(
    worker: Caller, place: Delivered, ledger: Records, change: Record
) -> None:
    records = [{**chained(1)[0], **change}]

    assert await worker.refused("POST", place.records, {"records": records}) == (400, "validation_error")
    assert ledger.kept == []


async def test_a_request_has_so_many_records_and_bytes(worker: Caller, place: Delivered) -> None:
    assert await worker.refused("POST", place.records, {"records": chained(1001)}) == (400, "validation_error")
    large = chained(20, text=["x" * 8000] * 7)
    assert await worker.refused("POST", place.records, {"records": large}) == (413, "payload_too_large")
    assert await worker.refused("POST", place.records, {"records": []}) == (400, "validation_error")
    assert (await say(worker, place, chained(1000)))["stored"] == 1000


async def test_a_worker_does_not_fill_the_ledger(
    worker: Caller, place: Delivered, ledger: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_OF_DELIVERY", 1000)
    sent = chained(9)
    await say(worker, place, sent[:2])

    assert await worker.refused("POST", place.records, {"records": sent[2:]}) == (400, "quota_exceeded")
    assert len(ledger.kept) == 2


async def test_a_worker_that_lost_its_item_still_says_what_it_did_for_a_while(
    worker: Caller, place: Delivered, ledger: Records, clock: ManualClock
) -> None:
    sent = chained(3)
    await say(worker, place, sent[:1])
    successor = await place.again()
    clock.turn(170)

    assert (await say(worker, place, sent[:2]))["last_seq"] == 2

    assert [(fields["late"], fields["delivery"]) for _, fields in ledger.kept] == [(False, 1), (True, 1)]
    async with Caller(place.app, successor) as other:  # which has a chain of its own
        assert (await say(other, place, sent))["stored"] == 3
    clock.turn(11)
    assert await worker.refused("POST", place.records, {"records": sent}) == (401, "unauthenticated")


async def test_nobody_says_anything_in_a_workers_place(worker: Caller, place: Delivered, store: Store) -> None:
    body = {"records": chained(1)}
    other = await deliver(place.app, store, "globex")
    for credential in (place.key, place.worker):
        async with Caller(place.app, credential) as caller:
            assert await caller.refused("POST", place.records, body) == (403, "forbidden")
    assert await worker.refused("POST", other.records, body) == (404, "work_not_found")
    assert await worker.refused("POST", "/v1/work/work_none/records", body) == (404, "work_not_found")


async def test_what_cannot_be_recorded_can_be_said_again(worker: Caller, place: Delivered, ledger: Records) -> None:
    ledger.full = True
    body = {"records": chained(2)}
    assert await worker.refused("POST", place.records, body) == (503, "ledger_unavailable")
    ledger.full = False

    assert (await say(worker, place, chained(2)))["stored"] == 2


def test_records_of_a_chain_whose_head_was_signed_are_the_same_records() -> None:
    """A worker may use the ledger's own writer, which notes in each record how far the head had come."""
    _, first = seal("a", {}, seq=1, prev=GENESIS, signed=0, ts=TS)
    line, second = seal("b", {}, seq=2, prev=first, signed=1, ts=TS)
    sent = [
        records.SaidRecord(seq=1, prev=GENESIS, ts=TS, kind="a", hash=first),
        records.SaidRecord(seq=2, prev=first, ts=TS, kind="b", hash=second, signed=1),
    ]

    new, after = records.continued(WorkerChain("ekey_1"), sent, seal)

    assert [each.seq for each in new] == [1, 2]
    assert after == replace(after, seq=2, hash=second)
    assert after.size > len(line)
