"""The MCP endpoint of a whole house: real sockets, a real link, and a target that remembers what reached it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.protocol.credit import LINK_WINDOW, STREAM_WINDOW
from arrowslit.relay import endpoint as endpoint_module
from tests.support.inprocess import ENDPOINT, JSON, House, bearer, in_process
from tests.support.wire import WAIT, Wire, dial, request, until

MIB = 1024 * 1024


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with in_process(tmp_path) as house:
        yield house
        await until(lambda: house.relay.hub.streams == 0)


# ---------------------------------------------------------------- callers that leave


@pytest.mark.promise("P2")
@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
async def test_a_caller_who_leaves_has_the_call_given_up_at_the_target(house: House, leave: str) -> None:
    async with dial(house.port) as wire:
        await wire.send(house.post(house.message("hang")))
        await until(lambda: house.target.tools == ["hang"])
        if leave == "reset":
            wire.reset()
        elif leave == "half-close":
            wire.half_close()
        else:
            wire.writer.close()
        await until(lambda: [str(each) for each in house.target.cancelled] == ["caller_left"])
    await until(lambda: house.outcomes() == ["outcome_unknown"])
    await house.good_call()


async def test_a_caller_who_leaves_an_event_stream_leaves_none_open_at_the_target(house: House) -> None:
    for count in range(1, 4):
        async with house.open_stream():
            assert house.relay.hub.streams == 1
        await until(lambda count=count: len(house.target.cancelled) == count)  # type: ignore[misc]
        await until(lambda: house.relay.hub.streams == 0)


async def test_a_caller_who_leaves_a_notification_leaves_nothing_behind(house: House) -> None:
    body = b'{"jsonrpc": "2.0", "method": "notifications/initialized", "params": {"_meta": {"hang": 1}}}'
    async with dial(house.port) as wire:
        house.target.hangs = True
        await wire.send(house.post(body))
        await until(lambda: house.target.requests)
    await until(lambda: house.target.cancelled)


# ---------------------------------------------------------------- slow readers


@pytest.mark.promise("P15")
async def test_a_slow_reader_stops_its_own_stream_and_nobody_elses(house: House) -> None:
    size, events = 16 * 1024, 1200
    async with dial(house.port, receive_buffer=8 * 1024) as slow:
        await slow.send(house.post(house.message("stream", {"events": events, "size": size})))
        status, _ = await slow.head()
        assert status == 200

        await _still(house)
        unread = house.target.sent
        assert unread < events * size / 2, "it waits for its reader"
        connection = house.front.connection
        assert connection.transport.get_write_buffer_size() < STREAM_WINDOW
        for _ in range(20):
            await house.good_call()
        assert house.target.sent == unread

        read = 0
        while chunk := await slow.chunk():
            read += len(chunk)
        assert read > events * size


async def _still(house: House) -> None:
    """Return once the target's stream does not get any further."""
    before = -1
    async with asyncio.timeout(WAIT):
        while before != house.target.sent or before == 0:
            before = house.target.sent
            await asyncio.sleep(0.05)


@pytest.mark.promise("P15")
async def test_many_slow_readers_hold_no_more_than_the_windows_of_their_link(house: House) -> None:
    wires: list[Wire] = []
    async with asyncio.TaskGroup() as group:
        go = asyncio.Event()

        async def read_slowly() -> None:
            async with dial(house.port, receive_buffer=8 * 1024) as wire:
                await wire.send(house.post(house.message("stream", {"events": 4000, "size": 16 * 1024})))
                await wire.head()
                wires.append(wire)
                await go.wait()

        for _ in range(8):
            group.create_task(read_slowly())
        await until(lambda: len(wires) == 8)
        await _still(house)
        kernel = 8 * 6 * MIB  # what the two sockets of a connection take
        assert house.target.sent < kernel + 8 * (LINK_WINDOW + MIB)
        await house.good_call()
        go.set()


# ---------------------------------------------------------------- large answers


@pytest.mark.parametrize("size", [10, MIB - 200, MIB + 200, 5 * MIB])
async def test_a_large_answer_arrives_whole(house: House, size: int) -> None:
    answer = await house.call("big", {"size": size})
    assert answer.status == 200
    assert answer.json["result"]["text"] == "x" * size
    assert ("arrowslit-outcome" in answer.headers) == (size < MIB)


async def test_an_event_that_is_too_long_is_an_error_and_on_record(house: House) -> None:
    async with dial(house.port) as wire:
        await wire.send(house.post(house.message("stream", {"events": 1, "size": 17 * MIB}, ident="mine")))
        answer = await wire.answer()
    assert answer.status == 200
    said = json.loads(answer.body.split(b"data: ")[-1])
    assert (said["id"], said["error"]["data"]["code"]) == ("mine", "result_too_large")
    await until(lambda: [record.get("code") for record in house.ledger()][-1:] == ["result_too_large"])


# ---------------------------------------------------------------- streams and keys


async def test_a_key_has_at_most_so_many_streams(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "STREAMS", 2)
    async with house.open_stream(), house.open_stream():
        async with dial(house.port) as wire:
            await wire.send(house.get())
            answer = await wire.answer()
            assert (answer.status, answer.code) == (429, "rate_limited")
        await house.good_call()
        other = await house.make_key("globex")
        async with house.open_stream(key=other):
            pass
    await until(lambda: house.relay.hub.streams == 0)
    async with house.open_stream():
        pass


@pytest.mark.promise("P11")
async def test_a_revoked_key_is_cut_off_from_what_it_has_open(house: House) -> None:
    key = await house.make_key("globex")
    async with house.open_stream(key=key) as stream, house.open_stream() as kept, dial(house.port) as calling:
        await calling.send(house.post(house.message("hang"), key=key))
        await until(lambda: house.target.tools == ["hang"])

        await house.api("DELETE", f"/v1/keys/{await house.key_id(key)}")

        answer = await calling.answer()
        assert (answer.status, answer.code) == (401, "unauthenticated")
        with pytest.raises(asyncio.IncompleteReadError):
            await stream.chunk()
        await until(lambda: len(house.target.cancelled) == 2)
        assert (await house.call("echo", key=key)).status == 401
        assert await kept.is_open()
    await until(lambda: house.outcomes() == ["outcome_unknown"])


@pytest.mark.promise("P11")
async def test_a_key_that_expires_is_cut_off_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "EXPIRY_CHECK", 0.05)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    key = await house.make_key("globex", expires_at=soon.isoformat())
    async with house.open_stream(key=key) as stream:
        with pytest.raises(asyncio.IncompleteReadError):
            await stream.chunk()
        assert (await house.call("echo", key=key)).status == 401


async def test_a_relay_that_stops_ends_its_streams_and_takes_no_new_ones(house: House) -> None:
    async with house.open_stream() as stream, dial(house.port) as calling:
        await calling.send(house.post(house.message("wait")))
        await until(lambda: house.target.tools == ["wait"])

        house.relay.endpoint.end_streams()

        assert await stream.chunk() == b"", "in order, and not broken off"
        assert await stream.rest() == b""
        async with dial(house.port) as late:
            await late.send(house.get())
            assert (await late.answer()).code == "no_connector"
        house.target.go.set()
        assert (await calling.answer()).status == 200


# ---------------------------------------------------------------- the rest of HTTP


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD"])
async def test_other_methods_are_said_not_to_be_there(house: House, method: str) -> None:
    async with dial(house.port) as wire:
        await wire.send(request(method, ENDPOINT, headers=(*JSON, bearer(house.key))))
        answer = await wire.answer(to_head=method == "HEAD")
        assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, POST")
        await wire.send(house.post(house.message("echo", {"next": 1})))
        assert (await wire.answer()).json["result"]["arguments"] == {"next": 1}
    assert house.target.tools == ["echo"]


async def test_the_end_of_a_session_has_no_body(house: House) -> None:
    session = f"Mcp-Session-Id: {await house.session()}"
    async with dial(house.port) as wire:
        await wire.send(
            request("DELETE", ENDPOINT, headers=(bearer(house.key), session)) + house.post(house.message("echo"))
        )
        assert (await wire.answer()).status == 204
        assert (await wire.answer()).status == 200
