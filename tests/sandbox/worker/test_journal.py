from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from arrowslit.agents.api.records import SaidRecord, continued
from arrowslit.clock import SystemClock
from arrowslit.errors import Error
from arrowslit.ledger.chain import seal
from arrowslit.record import WorkerChain
from arrowslit.sandbox.journal import JSON, Courier, Execution, Taking, code_of, output_of
from tests.harness import PATIENCE


class Server:
    """Takes records as a relay does; before that it fails as often as it is told to."""

    def __init__(self, *failures: Error) -> None:
        self.failures = list(failures)
        self.chain = WorkerChain("key")
        self.asked = 0

    async def take(self, records: Sequence[JSON]) -> None:
        """See Send."""
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        _, self.chain = continued(self.chain, [SaidRecord(**each) for each in records], seal)


class NoTime(SystemClock):
    """Waits for nothing."""

    async def sleep(self, seconds: float) -> None:
        """Return soon."""
        await asyncio.sleep(0)


@asynccontextmanager
async def sending(server: Server, taking: Taking | None = None) -> AsyncIterator[Courier]:
    """A courier at work."""
    courier = Courier(seal, server.take, taking or Taking(), NoTime())
    task = asyncio.create_task(courier.run())
    try:
        yield courier
        await courier.flush()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_records_arrive_as_one_chain_whatever_happens_on_the_way() -> None:
    server = Server(Error("relay_unreachable", "no"), Error("relay_unreachable", "no"))
    async with sending(server) as courier:
        for number in range(250):
            courier.add("execution", {"number": number, "text": "ä\n", "seconds": number / 7})
        await courier.flush()
        courier.add("egress", {})

    assert server.chain.seq == 251
    assert server.asked == 2 + 3 + 1


async def test_after_a_refusal_nothing_more_is_sent_of_this_delivery() -> None:
    server = Server(Error("records_broken", "no"))
    taking = Taking()
    async with sending(server, taking) as courier:
        courier.add("execution", {})
        await courier.flush()
        courier.add("execution", {})

    assert server.asked == 1
    assert taking.taken


async def test_a_server_that_takes_none_is_asked_once_in_the_life_of_a_worker() -> None:
    server, taking = Server(Error("not_supported", "no")), Taking()
    for _ in range(2):
        async with sending(server, taking) as courier:
            courier.add("execution", {})

    assert server.asked == 1


async def test_a_flush_has_an_end() -> None:
    async def never(_: Sequence[JSON]) -> None:
        await asyncio.Event().wait()

    courier = Courier(seal, never, Taking(), SystemClock())
    task = asyncio.create_task(courier.run())
    courier.add("execution", {})

    async with asyncio.timeout(PATIENCE):
        await courier.flush(0.05)
    task.cancel()


def test_a_record_holds_digests_and_sizes_and_nothing_of_what_was_said() -> None:
    secret = "s3cret"
    block = {"type": "text", "text": secret}
    record = Execution(
        tool="bash", input={"command": secret}, output=[block], ended="ok", status=0, seconds=0.12345
    ).record()

    assert secret not in str(record)
    assert record["code_sha256"] == record["output_sha256"]
    assert (record["code_bytes"], record["output_bytes"], record["seconds"]) == (6, 6, 0.123)


def test_what_was_run_and_what_came_out_have_one_spelling() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}

    assert code_of("bash", {"command": "echo ä", "timeout_ms": 5}) == "echo ä".encode()
    assert code_of("bash", {"restart": True}) == b'{"restart":true}'
    assert code_of("write", {"file_path": "a", "content": "ä"}) == '{"content":"ä","file_path":"a"}'.encode()
    assert code_of("bash", {"command": "\ud800"})  # half of a surrogate pair is no reason to leave it out
    assert output_of([{"type": "text", "text": "a"}, image]) == b"aQUJD"
