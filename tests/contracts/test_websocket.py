"""What a newer picows has to pass: `link/websocket.py` against a foreign implementation, in both directions and on both
loops.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as foreign_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as foreign_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from arrowslit.edge.door import Upgrade
from arrowslit.edge.request import McpRequest
from arrowslit.errors import Error
from arrowslit.link import websocket
from arrowslit.link.pipe import MAX_MESSAGE, CloseCode
from arrowslit.link.websocket import Address, WebSocketPipe
from arrowslit.tunnel import Headers
from tests.cli import certificates
from tests.support.front import Front, listening
from tests.support.wire import WAIT, dial, request, until

TOKEN = ("Authorization", "Bearer right")


class Heard:
    """A PipeListener that remembers."""

    def __init__(self, pipe: WebSocketPipe) -> None:
        self.pipe = pipe
        self.messages: list[bytes] = []
        self.writable_said: list[bool] = []
        self.reasons: list[str] = []
        self.raises = False
        pipe.attach(self)

    def message(self, data: bytes | memoryview) -> None:
        self.messages.append(bytes(data))
        if self.raises:
            raise RuntimeError("a defect behind the pipe")

    def writable(self, yes: bool) -> None:
        self.writable_said.append(yes)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)

    async def hears(self, size: int) -> bytes:
        """What was heard, once it is so many bytes."""
        await until(lambda: sum(map(len, self.messages)) >= size)
        return b"".join(self.messages)

    async def ends(self) -> str:
        """Why the pipe is gone. It is said once, and nothing can be sent afterwards."""
        await until(lambda: self.reasons)
        assert not self.pipe.send(b"too late")
        self.pipe.close(CloseCode.NORMAL)
        (reason,) = self.reasons
        return reason


class Gate(NamedTuple):
    """A door whose `/connect` becomes a pipe with a listener, which the queue hands over."""

    front: Front
    arrived: asyncio.Queue[Heard]


@asynccontextmanager
async def door(tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    arrived: asyncio.Queue[Heard] = asyncio.Queue()

    def take_over(transport: asyncio.Transport, key: bytes) -> None:
        arrived.put_nowait(Heard(websocket.accept(transport, key)))

    def admit(headers: Headers, address: str) -> Upgrade:
        if (TOKEN[0].lower(), TOKEN[1]) not in headers:
            raise Error("connector_unauthenticated", "this token opens no tunnel", hint="make another one")
        return take_over

    async def nothing(request: McpRequest) -> None:
        raise AssertionError("no call is made here")

    async with listening(nothing, admit, Starlette(), tls=tls) as front:
        yield Gate(front, arrived)


class Pair(NamedTuple):
    """Two ends of one WebSocket: ours, and that of the library `websockets`."""

    ours: Heard
    theirs: Connection


@asynccontextmanager
async def relay() -> AsyncIterator[Pair]:
    """We accept, they dial."""
    async with door() as gate, foreign_client(gate.front.port) as theirs:
        yield Pair(await gate.arrived.get(), theirs)


def foreign_client(port: int, **options: object) -> AbstractAsyncContextManager[ClientConnection]:
    return foreign_connect(
        f"ws://localhost:{port}/connect",
        additional_headers=[TOKEN],
        max_size=None,
        close_timeout=1,
        ping_interval=None,
        proxy=None,
        **options,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def connector() -> AsyncIterator[Pair]:
    """We dial, they accept."""
    arrived: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def serve(connection: ServerConnection) -> None:
        arrived.put_nowait(connection)
        await connection.wait_closed()

    async with foreign_serve(serve, "127.0.0.1", 0, max_size=None, close_timeout=1, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        heard = Heard(await websocket.connect(Address(f"ws://127.0.0.1:{port}/connect"), [TOKEN]))
        theirs = await arrived.get()
        assert theirs.request is not None
        assert theirs.request.headers["Authorization"] == TOKEN[1]
        yield Pair(heard, theirs)
        heard.pipe.close(CloseCode.NORMAL)


Opened = Callable[[], AbstractAsyncContextManager[Pair]]
both = pytest.mark.parametrize("opened", [relay, connector])


async def raw(theirs: Connection, *frames: Frame) -> None:
    """Send frames as they are, whatever the standard says about them."""
    for each in frames:
        theirs.transport.write(written(each, masked=isinstance(theirs, ClientConnection)))
        await asyncio.sleep(0)


def written(frame: Frame, *, masked: bool) -> bytes:
    """The bytes of a frame; their own writer refuses reserved bits."""
    plain = Frame(frame.opcode, frame.data, frame.fin).serialize(mask=masked, extensions=[])
    return bytes([plain[0] | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4]) + plain[1:]


async def closed_with(theirs: Connection) -> int:
    """The close code that they hear."""
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(WAIT):
            while True:
                await theirs.recv()
    assert theirs.close_code is not None
    return theirs.close_code


# ---------------------------------------------------------------- messages


@both
async def test_binary_messages_pass_whole_in_both_directions(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        for size in (1, 125, 126, 65_535, 65_536, MAX_MESSAGE):
            data = os.urandom(size)
            assert ours.pipe.send(data)
            assert await theirs.recv() == data
            ours.messages.clear()
            await theirs.send(data)
            assert await ours.hears(size) == data
        assert ours.reasons == []


@both
async def test_a_fragmented_message_is_heard_piece_by_piece(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        pieces = [os.urandom(300_000), b"x", os.urandom(1000)]
        for _ in range(4):  # together they are longer than one message may be
            ours.messages.clear()
            await theirs.send(pieces)
            assert await ours.hears(301_001) == b"".join(pieces)
        assert ours.reasons == []


@both
async def test_what_arrives_before_somebody_listens_is_not_lost(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        late = WebSocketPipe()
        assert (ours.pipe.attach, late.send(b"nowhere")) == (ours.pipe.attach, False)
        await theirs.send(b"one")
        await ours.hears(3)
        ours.pipe._listener = None  # as before the first attach
        await theirs.send(b"two")
        await until(lambda: ours.pipe._early)
        again = Heard(ours.pipe)
        assert again.messages == [b"two"]


@both
async def test_no_compression_is_agreed_on_even_if_it_is_offered(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        assert theirs.protocol.extensions == []
        await theirs.send(b"\0" * 100_000)
        assert await ours.hears(100_000) == b"\0" * 100_000
        assert theirs.request is not None
        assert theirs.response is not None
        offered = "permessage-deflate" in theirs.request.headers.get("Sec-WebSocket-Extensions", "")
        assert offered == (opened is relay), "their client offers it, ours does not"
        assert "Sec-WebSocket-Extensions" not in theirs.response.headers


@both
async def test_a_defect_behind_the_pipe_is_logged_and_the_pipe_stays(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as (ours, theirs):
        ours.raises = True
        await theirs.send(b"one")
        await ours.hears(3)
        ours.raises = False
        await theirs.send(b"two")
        assert await ours.hears(6) == b"onetwo"
        assert "a defect behind the pipe" in caplog.text


# ---------------------------------------------------------------- ping and pong


@both
async def test_their_pings_are_answered(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        async with asyncio.timeout(WAIT):
            await (await theirs.ping(b"are you there"))
            await theirs.pong(b"unasked")
            await (await theirs.ping(b"still"))
        assert (ours.messages, ours.reasons) == ([], [])


@both
async def test_pings_of_one_who_does_not_read_are_not_saved_up(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        theirs.transport.pause_reading()
        while ours.writable_said != [False]:
            ours.pipe.send(b"x" * 100_000)
            await asyncio.sleep(0)
        transport = ours.pipe._transport
        assert transport is not None
        held = transport.underlying_transport.get_write_buffer_size()
        await raw(theirs, *[Frame(Opcode.PING, b"p" * 125)] * 500)
        await theirs.send(b"after the pings")
        await ours.hears(15)
        assert transport.underlying_transport.get_write_buffer_size() <= held
        theirs.transport.abort()


# ---------------------------------------------------------------- what closes it


@both
@pytest.mark.parametrize("code", [CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.FORBIDDEN, CloseCode.SUPERSEDED])
async def test_they_hear_our_close_code_and_reason(opened: Opened, code: CloseCode) -> None:
    async with opened() as (ours, theirs):
        ours.pipe.send(b"last words")
        ours.pipe.close(code, "because")
        assert await theirs.recv() == b"last words"
        assert await closed_with(theirs) == code
        assert theirs.close_reason == "because"
        assert await ours.ends() == f"closed with {int(code)} because"


@both
async def test_a_reason_is_cut_between_two_characters(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        ours.pipe.close(CloseCode.PROTOCOL_ERROR, "\ud800" + "x" + "ä" * 100)
        assert await closed_with(theirs) == 1002
        assert theirs.close_reason == "?x" + "ä" * 60


@both
async def test_we_hear_their_close_code_and_reason(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        await theirs.close(4403, "not you")
        assert theirs.protocol.close_rcvd is not None, "we answered"
        assert await ours.ends() == "closed with 4403 not you"


@both
async def test_a_connection_that_breaks_is_heard_at_once(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        theirs.transport.abort()
        assert await ours.ends() == "connection lost"


@both
async def test_one_who_listens_after_the_end_hears_of_it(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        theirs.transport.abort()
        reason = await ours.ends()
        assert await Heard(ours.pipe).ends() == reason


def frame(opcode: Opcode, data: bytes = b"x", **bits: bool) -> Frame:
    return Frame(opcode, data, **bits)


WRONG = {
    "text": ([frame(Opcode.TEXT)], 1002),
    "RSV1, as compression would": ([frame(Opcode.BINARY, rsv1=True)], 1002),
    "RSV2": ([frame(Opcode.BINARY, rsv2=True)], 1002),
    "RSV3": ([frame(Opcode.BINARY, rsv3=True)], 1002),
    "a fragment of nothing": ([frame(Opcode.CONT)], 1002),
    "a message inside of another": ([frame(Opcode.BINARY, fin=False), frame(Opcode.BINARY)], 1002),
    "over 1 MiB": ([frame(Opcode.BINARY, b"x" * (MAX_MESSAGE + 1))], 1009),
    "over 1 MiB in fragments": (
        [frame(Opcode.BINARY, fin=False), *[frame(Opcode.CONT, b"x" * 65_536, fin=False)] * 16],
        1009,
    ),
    "a flood of fragments": (
        [frame(Opcode.BINARY, fin=False), *[frame(Opcode.CONT, b"", fin=False)] * websocket.FRAGMENTS],
        1009,
    ),
}


@both
@pytest.mark.parametrize(("frames", "code"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_not_agreed_closes_the_pipe(opened: Opened, frames: list[Frame], code: int) -> None:
    async with opened() as (ours, theirs):
        theirs.transport.set_write_buffer_limits(high=64 * MAX_MESSAGE)
        await raw(theirs, *frames, frame(Opcode.BINARY, b"after it"))
        assert await closed_with(theirs) == code
        assert f"closed with {code}" in await ours.ends()
        assert b"after it" not in ours.messages


async def test_frames_in_the_buffer_of_a_closed_pipe_are_not_heard() -> None:
    async with relay() as (ours, theirs):
        frames = [frame(Opcode.BINARY, b"one"), frame(Opcode.TEXT), frame(Opcode.BINARY, b"two"), frame(Opcode.PING)]
        theirs.transport.write(b"".join(written(each, masked=True) for each in frames))
        await ours.ends()
        assert ours.messages == [b"one"]


@both
async def test_a_peer_that_does_not_read_is_dropped_in_the_end(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LINGER", 0.1)
    async with opened() as (ours, theirs):
        theirs.transport.pause_reading()
        while ours.writable_said != [False]:
            ours.pipe.send(b"x" * 100_000)
            await asyncio.sleep(0)
        ours.pipe.close(CloseCode.GOING_AWAY, "two pings were not answered")
        assert await ours.ends() == "closed with 1001 two pings were not answered"
        theirs.transport.abort()


# ---------------------------------------------------------------- backpressure


@both
async def test_a_full_pipe_says_so_and_says_when_there_is_room(opened: Opened) -> None:
    async with opened() as (ours, theirs):
        theirs.transport.pause_reading()
        sent = 0
        while ours.writable_said != [False]:
            ours.pipe.send(b"x" * 100_000)
            sent += 1
            await asyncio.sleep(0)
        late = Heard(ours.pipe)
        assert late.writable_said == [False]
        theirs.transport.resume_reading()
        for _ in range(sent):
            assert len(await theirs.recv()) == 100_000
        await until(lambda: late.writable_said == [False, True])


# ---------------------------------------------------------------- TLS


def trusting(issued: certificates.Issued) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(issued.authority))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the default from Python 3.13: about authorities, not about us
    return context


@pytest.mark.parametrize("size", [1, 5 * MAX_MESSAGE])
async def test_a_pipe_over_tls_knows_the_certificate_it_saw(tmp_path: Path, size: int) -> None:
    issued = certificates.issue(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    async with door(context) as gate:
        address = Address(f"wss://localhost:{gate.front.port}/connect", tls=trusting(issued))
        dialled = Heard(await websocket.connect(address, [TOKEN]))
        accepted = await gate.arrived.get()
        der = ssl.PEM_cert_to_DER_cert(issued.cert.read_text())
        assert dialled.pipe.certificate == hashlib.sha256(der).digest()
        assert accepted.pipe.certificate is None
        data = os.urandom(size)
        for sender, receiver in ((dialled, accepted), (accepted, dialled)):
            for at in range(0, size, MAX_MESSAGE):
                assert sender.pipe.send(data[at : at + MAX_MESSAGE])
            assert await receiver.hears(size) == data
        dialled.pipe.close(CloseCode.GOING_AWAY, "enough")
        assert await accepted.ends() == "closed with 1001 enough"
        await dialled.ends()


async def test_a_certificate_that_is_not_trusted_ends_the_dialling(tmp_path: Path) -> None:
    issued, other = certificates.issue(tmp_path / "a", "localhost"), certificates.issue(tmp_path / "b", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    async with door(context) as gate:
        address = Address(f"wss://localhost:{gate.front.port}/connect", tls=trusting(other))
        with pytest.raises(Error) as refused:
            await websocket.connect(address, [TOKEN])
        assert refused.value.code == "relay_not_trusted"
        assert gate.arrived.empty()


# ---------------------------------------------------------------- refusals


async def test_a_refused_upgrade_is_an_error_in_the_relays_own_words() -> None:
    async with door() as gate:
        with pytest.raises(Error, match="this token opens no tunnel") as refused:
            await websocket.connect(
                Address(f"ws://127.0.0.1:{gate.front.port}/connect"), [("Authorization", "Bearer wrong")]
            )
        assert (refused.value.code, refused.value.hint) == ("connector_unauthenticated", "make another one")
        with pytest.raises(InvalidStatus) as foreign:
            async with foreign_connect(f"ws://localhost:{gate.front.port}/connect", proxy=None):
                pass
        assert foreign.value.response.status_code == 401


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b'HTTP/1.1 401 No\r\ncontent-length: 58\r\n\r\n{"error":{"message":"m","details":{"error_code":"made_up"}}}',
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ],
    ids=["a balancer", "a web server", "another relay", "no key", "another protocol", "nobody"],
)
async def test_whoever_answers_in_the_relays_place_is_said_to_be_no_relay(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Error) as refused:
            await websocket.connect(Address(f"ws://127.0.0.1:{port}/connect"), [TOKEN])
    assert refused.value.code == "relay_unreachable"


async def test_a_relay_that_is_not_there_cannot_be_reached(unused_tcp_port: int) -> None:
    with pytest.raises(Error) as refused:
        await websocket.connect(Address(f"ws://127.0.0.1:{unused_tcp_port}/connect"), [TOKEN])
    assert refused.value.code == "relay_unreachable"


async def test_the_handshake_is_answered_to_the_byte() -> None:
    """RFC 6455, 1.3: the example of the standard."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    fields = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Version: 13", key)
    async with door() as gate, dial(gate.front.port) as wire:
        await wire.send(request("GET", "/connect", headers=("Authorization: Bearer right", *fields)))
        status, headers = await wire.head()
        assert (status, headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        assert "sec-websocket-extensions" not in headers
        assert "sec-websocket-protocol" not in headers
        await wire.send(b"\x82\x03abc")  # not masked
        assert b"1.1" not in await wire.rest()
        heard = await gate.arrived.get()
        assert "closed with 1002" in await heard.ends()
        assert heard.messages == []


async def test_picows_says_nothing_of_its_own_in_our_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with relay() as (ours, theirs):
        await theirs.send(b"x")
        await ours.hears(1)
    assert [each for each in caplog.records if each.name.startswith("arrowslit")] == []
