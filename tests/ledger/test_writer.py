from __future__ import annotations

import asyncio
import json
import logging

import pytest

from arrowslit.errors import Error
from arrowslit.ledger.verify import Report, audit
from arrowslit.ledger.writer import LedgerWriter, open_ledger
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import SimClock, run
from tests.ledger.scene import KEYS, PUBLIC, chain, head_at, virtual


def asked(number: int) -> dict[str, object]:
    return {"call": f"call_{number}", "tool": "check_stock"}


def ended(number: int, outcome: str = "result") -> dict[str, object]:
    return {"call": f"call_{number}", "outcome": outcome}


def records(disk: MemoryDisk) -> list[dict[str, object]]:
    return [json.loads(line) for segment in disk.segments() for line in disk.lines(segment.first)]


def told(disk: MemoryDisk) -> list[tuple[object, object]]:
    """Kind and call of each record."""
    return [(record["kind"], record.get("call")) for record in records(disk)]


async def ask(ledger: LedgerWriter, *numbers: int) -> list[int]:
    """Several at once."""
    return await asyncio.gather(*(ledger.append("asked", asked(number)) for number in numbers))


@pytest.mark.promise("P12")
@virtual
async def test_a_record_has_left_the_process_when_its_append_returns() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        assert await ledger.append("asked", asked(1)) == 1

        assert told(disk.after_kill()) == [("asked", "call_1")]


@pytest.mark.promise("P12")
@virtual
async def test_what_has_happened_leaves_with_the_next_write_or_at_the_end_of_the_tick() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1, 2)
        assert disk.writes == 2, "what is about to happen waits for nothing"
        ledger.note("outcome", ended(1))
        ledger.note("outcome", ended(2))
        assert disk.writes == 2

        assert await ledger.append("asked", asked(3)) == 5
        assert disk.writes == 3

        ledger.note("outcome", ended(3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert disk.writes == 4
        assert [kind for kind, _ in told(disk)] == ["asked", "asked", "outcome", "outcome", "asked", "outcome"]


@pytest.mark.promise("P12")
@pytest.mark.parametrize("later", [0.001, 0.024, 0.026, 0.030, 0.039, 0.041])
@virtual
async def test_a_record_is_on_disk_within_50_ms(later: float) -> None:
    """Also one that comes just before, or during, the sync of another; a sync takes 15 ms here."""
    disk = MemoryDisk(SimClock(), sync_takes=0.015)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        await asyncio.sleep(later)
        await ask(ledger, 2)
        assert ("asked", "call_2") not in told(disk.after_power_loss())

        await asyncio.sleep(0.050)

        assert told(disk.after_power_loss()) == [("asked", "call_1"), ("asked", "call_2")]


@virtual
async def test_an_idle_ledger_syncs_and_signs_nothing() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        await asyncio.sleep(1)
        before = (disk.syncs, disk.heads)

        await asyncio.sleep(60)

        assert (disk.syncs, disk.heads) == before


@pytest.mark.promise("P12")
@virtual
async def test_with_sync_always_an_append_returns_once_its_record_is_on_disk() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock(), sync="always") as ledger:
        append = asyncio.create_task(ledger.append("asked", asked(1)))
        await asyncio.sleep(0.009)
        assert told(disk) == [("asked", "call_1")]
        assert not append.done()

        assert await append == 1

        assert told(disk.after_power_loss()) == [("asked", "call_1")]


@pytest.mark.promise("P12")
@virtual
async def test_with_sync_always_one_sync_serves_all_that_waited() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock(), sync="always") as ledger:
        first = asyncio.create_task(ask(ledger, 0))
        await asyncio.sleep(0.002)  # the first sync is under way
        before = disk.syncs
        others = [asyncio.create_task(ask(ledger, number)) for number in range(1, 50)]

        await asyncio.gather(first, *others)

        assert disk.syncs == before + 1
        assert len(told(disk.after_power_loss())) == 50


@pytest.mark.promise("P12")
@virtual
async def test_the_head_follows_the_records_in_less_than_a_tenth_of_a_second() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.005)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        for number in range(20):
            await ask(ledger, number)
            await asyncio.sleep(0.013)
        heads = disk.heads
        await asyncio.sleep(0.1)

        assert audit(disk, PUBLIC) == Report(records=20, first_bad=None, head=20, newer=0, torn=0)
        assert heads < 20 * 0.013 / 0.05 + 2  # never more often than each 50 ms


@pytest.mark.promise("P12")
@virtual
async def test_an_older_head_put_back_under_a_running_relay_is_found() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.005)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        old = disk.head()
        for number in range(2, 5):
            await asyncio.sleep(0.1)
            await ask(ledger, number)

        found = audit(MemoryDisk.holding({1: b"".join(disk.lines(1))}, old), PUBLIC)

        assert found.first_bad
        assert found.first_bad.file == "ledger.head"


@virtual
async def test_a_ledger_closed_in_order_says_so_and_goes_on_later() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        await ledger.append("outcome", ended(1))
    assert audit(disk, PUBLIC) == Report(records=3, first_bad=None, head=3, newer=0, torn=0)

    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        assert await ledger.append("denied", asked(2)) == 4

    assert told(disk) == [
        ("asked", "call_1"),
        ("outcome", "call_1"),
        ("stopped", None),
        ("denied", "call_2"),
        ("stopped", None),
    ]
    assert audit(disk, PUBLIC).ok


@virtual
async def test_a_closed_ledger_takes_nothing_more() -> None:
    async with open_ledger(MemoryDisk(), KEYS, SimClock()) as ledger:
        pass

    with pytest.raises(Error, match="the relay is stopping"):
        await ledger.append("asked", asked(1))


@pytest.mark.promise("P2")
@virtual
async def test_calls_that_a_dead_relay_left_open_end_as_unknown() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1, 2, 3)
        await asyncio.sleep(1)
        await ledger.append("outcome", ended(2))
        await ledger.append("denied", asked(4))
        left = disk.after_kill()

    async with open_ledger(left, KEYS, SimClock()):
        new = records(left)[5:]

    assert [(record["kind"], record.get("call"), record.get("outcome")) for record in new] == [
        ("recovered", None, None),
        ("outcome", "call_1", "outcome_unknown"),
        ("outcome", "call_3", "outcome_unknown"),
    ]
    assert (new[1]["reason"], new[1]["asked"]) == ("relay_died", 1)
    assert (new[0]["newer"], new[0]["bytes"]) == (2, 0)
    assert audit(left, PUBLIC).ok


@pytest.mark.promise("P2")
@virtual
async def test_a_call_that_ended_after_the_head_and_lost_its_end_is_open_again() -> None:
    """The head must not say that a call is over because of a record that did not reach the disk."""
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1, 2)
        await asyncio.sleep(0.026)  # the sync of these two is under way
        await ledger.append("outcome", ended(1))
        await asyncio.sleep(0.021)  # they are signed, the outcome is not on disk yet
        left = disk.after_power_loss()

    assert told(left) == [("asked", "call_1"), ("asked", "call_2")]
    assert audit(left, PUBLIC).head == 2
    async with open_ledger(left, KEYS, SimClock()):
        assert told(left)[2:] == [("recovered", None), ("outcome", "call_1"), ("outcome", "call_2")]


@pytest.mark.promise("P2")
@virtual
async def test_a_call_open_since_an_older_segment_is_still_found() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock(), segment_bytes=1000) as ledger:
        await ask(ledger, 0)
        for number in range(1, 20):
            await ask(ledger, number)
            await ledger.append("outcome", ended(number))
            await asyncio.sleep(0.1)
        left = disk.after_kill()

    assert len(left.segments()) > 3
    async with open_ledger(left, KEYS, SimClock()):
        assert told(left)[-1] == ("outcome", "call_0")


@virtual
async def test_a_long_ledger_lies_in_segments_and_no_record_is_lost_between_them() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.005)
    async with open_ledger(disk, KEYS, SimClock(), segment_bytes=2000) as ledger:
        for start in range(0, 200, 10):
            assert await ask(ledger, *range(start, start + 10)) == list(range(start + 1, start + 11))
            await asyncio.sleep(0.011)  # so that some come while a segment is begun

    segments = disk.segments()
    assert len(segments) > 3
    assert [json.loads(next(disk.lines(segment.first)))["seq"] for segment in segments] == [s.first for s in segments]
    assert audit(disk, PUBLIC) == Report(records=201, first_bad=None, head=201, newer=0, torn=0)


@virtual
async def test_what_lost_power_tore_is_cut_and_said() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        await asyncio.sleep(0.2)
        await ask(ledger, 2)
        left = disk.after_power_loss(keep=100)

    assert audit(left, PUBLIC).torn == 100
    async with open_ledger(left, KEYS, SimClock()):
        last = records(left)[1]

    assert (last["kind"], last["seq"], last["bytes"]) == ("recovered", 2, 100)
    assert audit(left, PUBLIC).ok


@virtual
async def test_a_relay_killed_when_it_had_just_begun_a_segment_goes_on_there() -> None:
    lines = chain(20)
    disk = MemoryDisk.holding({1: b"".join(lines), 21: b""}, head_at(lines, 20))
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        size = disk.segments()[1].size
        disk.room = 10
        with pytest.raises(Error):
            await ask(ledger, 30)
        assert disk.segments()[1].size == size
        disk.room = None

    assert [segment.first for segment in disk.segments()] == [1, 21]
    assert audit(disk, PUBLIC) == Report(records=22, first_bad=None, head=22, newer=0, torn=0)


@pytest.mark.promise("P12")
@pytest.mark.parametrize("keep", range(0, 700, 70))
@virtual
async def test_wherever_power_is_lost_the_chain_goes_on(keep: int) -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.010)
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        await asyncio.sleep(0.2)
        await ask(ledger, 2, 3)
        left = disk.after_power_loss(keep)

    async with open_ledger(left, KEYS, SimClock()) as ledger:
        await ask(ledger, 4)

    assert told(left)[0] == ("asked", "call_1")
    assert ("outcome", "call_1") in told(left)
    assert audit(left, PUBLIC).ok


@virtual
async def test_the_very_first_start_has_nothing_and_signs_that() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()):
        assert audit(disk, PUBLIC) == Report(records=0, first_bad=None, head=0, newer=0, torn=0)


@pytest.mark.promise("P12")
@virtual
async def test_records_without_a_head_are_not_taken_over() -> None:
    disk = MemoryDisk.holding({1: b"".join(chain(4))}, None)

    with pytest.raises(Error, match="the head of the ledger is missing") as refused:
        async with open_ledger(disk, KEYS, SimClock()):
            pass

    assert refused.value.code == "ledger_broken"


@pytest.mark.promise("P12")
@virtual
async def test_what_cannot_be_written_is_refused_and_leaves_nothing() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room = 100

        refused = await asyncio.gather(*(ledger.append("asked", asked(n)) for n in (2, 3)), return_exceptions=True)

        assert [error.code for error in refused if isinstance(error, Error)] == ["ledger_unavailable"] * 2
        assert told(disk) == [("asked", "call_1")]
        disk.room = None
        assert await ledger.append("asked", asked(4)) == 2
    assert audit(disk, PUBLIC).ok


@pytest.mark.promise("P12")
@virtual
async def test_the_outcome_of_an_open_call_outlasts_a_full_disk() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1, 2)
        disk.room = 0

        kept = await ledger.append("outcome", ended(1))
        with pytest.raises(Error, match="No space left on device"):
            await ledger.append("asked", asked(3))
        also_kept = await ledger.append("outcome", ended(2))
        assert told(disk) == [("asked", "call_1"), ("asked", "call_2")]
        disk.room = None
        await asyncio.sleep(1.1)  # nobody asks, it is written all the same

        assert [(record["seq"], record.get("call")) for record in records(disk)[2:]] == [
            (kept, "call_1"),
            (also_kept, "call_2"),
        ]
        assert await ledger.append("asked", asked(4)) == also_kept + 1
    assert audit(disk, PUBLIC).ok


@pytest.mark.promise("P12")
@virtual
async def test_what_was_kept_is_written_too_where_a_new_segment_held_back_the_first_try() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=3.0)
    async with open_ledger(disk, KEYS, SimClock(), segment_bytes=100) as ledger:
        await ask(ledger, 1)  # synced from the first moments to 3 s; then a segment is begun, until 6 s
        await asyncio.sleep(2.5)
        disk.room = 0
        await ledger.append("outcome", ended(1))
        disk.room = None
        await asyncio.sleep(2.5)
        assert told(disk) == [("asked", "call_1")]

        await asyncio.sleep(2.5)

        assert told(disk) == [("asked", "call_1"), ("outcome", "call_1")]
    assert audit(disk, PUBLIC).ok


@virtual
async def test_what_was_kept_is_written_before_what_is_new() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room = 0
        await ledger.append("outcome", ended(1))
        disk.room = None

        await ask(ledger, 2)

        assert told(disk) == [("asked", "call_1"), ("outcome", "call_1"), ("asked", "call_2")]


@virtual
async def test_room_for_an_outcome_goes_to_the_outcome() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room = 0
        await ledger.append("outcome", ended(1))
        disk.room = 300

        with pytest.raises(Error):
            await ask(ledger, 2)

        assert told(disk) == [("asked", "call_1"), ("outcome", "call_1")]


@virtual
async def test_only_what_ends_an_open_call_is_kept_and_once() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room = 0
        await ledger.append("outcome", ended(1))

        for kind, fields in [("outcome", ended(1)), ("outcome", ended(7)), ("denied", asked(8)), ("outcome", {})]:
            with pytest.raises(Error, match="ledger_unavailable"):
                await ledger.append(kind, fields)


@virtual
async def test_a_relay_stopped_with_a_full_disk_does_not_claim_to_have_stopped_in_order() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room = 1
        await ledger.append("outcome", ended(1))
    disk.room = None

    assert told(disk) == [("asked", "call_1")]
    async with open_ledger(disk, KEYS, SimClock()):
        assert told(disk) == [("asked", "call_1"), ("recovered", None), ("outcome", "call_1")]


@pytest.mark.promise("P12")
@virtual
async def test_a_write_that_cannot_be_taken_back_breaks_the_writer_for_good() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        await ask(ledger, 1)
        disk.room, disk.stuck = 100, True
        with pytest.raises(Error, match="No space left on device; and taking the write back: Input/output error"):
            await ask(ledger, 2)
        disk.room, disk.stuck = None, False

        for kind, fields in [("asked", asked(3)), ("outcome", ended(1))]:
            with pytest.raises(Error, match="ledger_unavailable"):
                await ledger.append(kind, fields)

    left = disk.after_kill()
    async with open_ledger(left, KEYS, SimClock()):
        assert told(left) == [("asked", "call_1"), ("recovered", None), ("outcome", "call_1")]


@pytest.mark.promise("P12")
@virtual
async def test_after_a_failed_sync_nothing_is_taken_any_more() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock(), sync="always") as ledger:
        disk.bad = True
        with pytest.raises(Error, match="Input/output error"):
            await ask(ledger, 1)
        disk.bad = False

        with pytest.raises(Error, match="ledger_unavailable"):
            await ask(ledger, 2)


@virtual
async def test_a_head_that_cannot_be_written_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        disk.room = 1000
        await ask(ledger, 1)
        disk.room = 0
        await asyncio.sleep(0.5)
        assert audit(disk, PUBLIC).newer == 1
        assert [r.levelno for r in caplog.records if "the head of the ledger" in r.message] == [logging.ERROR]
        disk.room = None

        await asyncio.sleep(0.1)

        assert audit(disk, PUBLIC).newer == 0


@virtual
async def test_a_record_that_is_no_json_is_refused_alone() -> None:
    disk = MemoryDisk()
    async with open_ledger(disk, KEYS, SimClock()) as ledger:
        results = await asyncio.gather(
            ledger.append("asked", asked(1)),
            ledger.append("asked", {"call": "call_2", "tool": "\ud800"}),
            ledger.append("asked", asked(3)),
            return_exceptions=True,
        )

        assert [type(result) for result in results] == [int, UnicodeEncodeError, int]
    assert audit(disk, PUBLIC).ok


@virtual
async def test_who_is_cancelled_takes_back_the_waiting_and_not_the_record() -> None:
    disk = MemoryDisk(SimClock(), sync_takes=0.015)
    async with open_ledger(disk, KEYS, SimClock(), sync="always") as ledger:
        append = asyncio.create_task(ledger.append("asked", asked(1)))
        await asyncio.sleep(0)
        append.cancel()
        await ask(ledger, 2)

        assert append.cancelled()
        assert told(disk) == [("asked", "call_1"), ("asked", "call_2")]


@virtual
async def test_a_digest_is_the_same_for_the_same_and_tells_nothing_without_the_key() -> None:
    async with open_ledger(MemoryDisk(), KEYS, SimClock()) as ledger:
        digest = ledger.digest(b'{"sku":"A-1"}')

        assert digest == ledger.digest(b'{"sku":"A-1"}') != ledger.digest(b'{"sku":"A-2"}')
        assert len(bytes.fromhex(digest)) == 16


@virtual
async def test_a_ledger_in_use_is_not_faulted_by_a_reader() -> None:
    """Verify at every state that the disk goes through while a relay writes, signs, begins segments and stops."""
    disk = MemoryDisk(SimClock(), sync_takes=0.003)
    async with open_ledger(disk, KEYS, SimClock()):
        pass
    faults = []

    async def watch() -> None:
        while True:
            faults.append(audit(disk, PUBLIC).first_bad)
            await asyncio.sleep(0.0007)

    watcher = asyncio.create_task(watch())
    async with open_ledger(disk, KEYS, SimClock(), segment_bytes=1500) as ledger:
        for number in range(40):
            await ask(ledger, number)
            await asyncio.sleep(0.004)
    watcher.cancel()

    assert len(faults) > 100
    assert not [bad for bad in faults if bad]


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seed", range(20))
def test_in_whatever_order_tasks_run_each_call_is_asked_before_it_ends(seed: int) -> None:
    disk = MemoryDisk()

    async def call(ledger: LedgerWriter, number: int) -> None:
        await ledger.append("asked", asked(number))
        await asyncio.sleep(0.001 * (number % 7))
        await ledger.append("outcome", ended(number))

    async def relay() -> None:
        disk.clock, disk.sync_takes = SimClock(), 0.002
        async with open_ledger(disk, KEYS, SimClock(), sync="always", segment_bytes=2000) as ledger:
            await asyncio.gather(*(call(ledger, number) for number in range(30)))

    run(seed, relay)

    story = told(disk)
    assert all(story.index(("asked", f"call_{n}")) < story.index(("outcome", f"call_{n}")) for n in range(30))
    assert audit(disk, PUBLIC) == Report(records=61, first_bad=None, head=61, newer=0, torn=0)
