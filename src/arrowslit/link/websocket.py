"""A WebSocket (RFC 6455) as a Pipe, through picows; for the relay on a connection that the door has read a head from.

picows is known here and nowhere else. `WSProtocol` is not in its documented surface: it is pinned to a minor version,
and tests/contracts/test_websocket.py is what a newer one has to pass.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from picows import (
    WSAutoPingStrategy,
    WSError,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)
from picows.picows import WSCloseHandshake, WSProtocol  # type: ignore[attr-defined]
from picows.proxy import ProxyError  # type: ignore[attr-defined]  # what it raises is of a library below it

from arrowslit.errors import CODES, Error
from arrowslit.link.pipe import MAX_MESSAGE, CloseCode, PipeListener

log = logging.getLogger(__name__)

READ_BUFFER = 4096  # bytes a connection starts with; ten thousand idle ones are what it is for
FRAGMENTS = 4096  # of one message: a proxy may cut it into packets, nobody has a reason to cut it into bytes
LINGER = 5.0  # seconds in which the last words must have left; then the connection is dropped with what it still holds
_quiet = logging.getLogger("arrowslit.link.picows")
_quiet.setLevel(logging.WARNING)


class WebSocketPipe(WSListener):
    """One end of a WebSocket. Messages are binary; text, extensions and over-long ones close it."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self._listener: PipeListener | None = None
        self._early: list[bytes] = []
        self._gone: str | None = None
        self._writable = True
        self._fragments = 0  # of the message that is not finished
        self._bytes = 0
        self._lingering: asyncio.TimerHandle | None = None

    def attach(self, listener: PipeListener) -> None:
        """See Pipe."""
        self._listener = listener
        early, self._early = self._early, []
        for data in early:
            listener.message(data)
        if self._gone is not None:
            listener.closed(self._gone)
        elif not self._writable:
            listener.writable(False)

    def send(self, message: bytes) -> bool:
        """See Pipe. Writing to a transport that is closing raises inside uvloop, so it is asked first."""
        transport = self._open_transport()
        if transport is None:
            return False
        transport.send(WSMsgType.BINARY, message)
        return True

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See Pipe."""
        transport = self._open_transport()
        if transport is None:
            return
        words = reason.encode(errors="replace")[:123].decode(errors="ignore")  # whole characters, RFC 6455 5.5
        transport.send_close(code, words)  # type: ignore[arg-type]  # any close code is an int
        transport.disconnect()
        self._lingering = asyncio.get_running_loop().call_later(LINGER, transport.disconnect, False)

    def _open_transport(self) -> WSTransport | None:
        """The transport while something may be sent and heard on it."""
        transport = self._transport
        if transport is None or self._gone is not None or transport.underlying_transport.is_closing():
            return None
        return transport

    @property
    def is_new(self) -> bool:
        """Whether there has been no handshake so far."""
        return self._transport is None

    @property
    def certificate(self) -> bytes | None:
        """SHA-256 of the other side's TLS certificate (DER), None without TLS."""
        if self._transport is None:
            return None
        tls = self._transport.underlying_transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        return hashlib.sha256(der).digest() if der else None

    # ------------------------------------------------------------ what picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        try:
            self._frame(frame)
        except Exception:  # one broken stream must not take the link down with it
            log.exception("a frame could not be handled")

    def _frame(self, frame: WSFrame) -> None:
        transport = self._open_transport()
        if transport is None:
            return  # what still stood in the buffer when the pipe was closed
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(CloseCode.PROTOCOL_ERROR, "no extension was agreed")
            return
        match frame.msg_type:
            case WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._piece(frame)
            case WSMsgType.PING:
                if self._writable:  # pings of somebody who does not read the pongs are not saved up
                    transport.send_pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.close(CloseCode.NORMAL)
            case WSMsgType.TEXT:
                self.close(CloseCode.PROTOCOL_ERROR, "messages are binary")
            case _:
                return  # pongs that nobody asked for mean nothing

    def _piece(self, frame: WSFrame) -> None:
        """One frame of a message. It goes on at once, since the decoder takes any slicing; the limits are the
        message's.
        """
        if (frame.msg_type == WSMsgType.BINARY) != (self._fragments == 0):
            self.close(CloseCode.PROTOCOL_ERROR, "a message began before the last one ended, or went on without one")
            return
        data = frame.get_payload_as_memoryview()
        self._fragments += 1
        self._bytes += len(data)
        if self._bytes > MAX_MESSAGE or self._fragments > FRAGMENTS:
            self.close(CloseCode.TOO_BIG, f"a message has at most {MAX_MESSAGE} bytes and {FRAGMENTS} fragments")
            return
        if frame.fin:
            self._fragments = self._bytes = 0
        if self._listener is not None:
            self._listener.message(data)
        else:
            self._early.append(bytes(data))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        heard: WSCloseHandshake | None = transport.close_handshake
        info = (heard.recv or heard.sent) if heard is not None else None
        self._gone = f"closed with {info.code.value} {info.reason}".strip() if info else "connection lost"
        if self._listener is not None:
            self._listener.closed(self._gone)

    def pause_writing(self) -> None:
        self._writable = False
        if self._listener is not None:
            self._listener.writable(False)

    def resume_writing(self) -> None:
        self._writable = True
        if self._listener is not None:
            self._listener.writable(True)


def accept(transport: asyncio.Transport, key: bytes) -> WebSocketPipe:
    """Turn a connection whose upgrade has been read and authenticated into a pipe; answers 101 at once.

    `key` is the value of Sec-WebSocket-Key. The caller has cancelled its own timers on the transport.
    """
    pipe = WebSocketPipe()
    protocol = WSProtocol(
        None,
        None,
        False,  # the server's side
        lambda _request: pipe,
        _quiet,
        False,  # an exception of ours does not disconnect
        5,
        False,  # pings are the Peer's
        10,
        10,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # WebSocket pings of others are answered by the pipe
        MAX_MESSAGE,
        None,
        READ_BUFFER,
    )
    head = (
        b"GET /connect HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )
    protocol.connection_made(transport)
    transport.set_protocol(protocol)
    buffer = protocol.get_buffer(-1)
    buffer[: len(head)] = head
    del buffer
    protocol.buffer_updated(len(head))
    return pipe


@dataclass(frozen=True, slots=True)
class Address:
    """Where a relay is: `wss` or `ws`, host, port, path, and the proxy on the way
    (`http://user:password@host:port`).
    """

    url: str
    proxy: str | None = None
    tls: ssl.SSLContext | None = None


async def connect(address: Address, headers: Sequence[tuple[str, str]]) -> WebSocketPipe:
    """Dial a relay. Raises Error `relay_unreachable`, or `connector_unauthenticated` and others that its answer
    names.
    """
    pipe = WebSocketPipe()
    try:
        await ws_connect(
            lambda: pipe,
            address.url,
            ssl_context=address.tls,
            disconnect_on_exception=False,
            enable_auto_pong=False,
            websocket_handshake_timeout=10,
            logger_name=_quiet,
            max_frame_size=MAX_MESSAGE,
            extra_headers=list(headers),
            max_redirects=0,
            proxy=address.proxy,
            read_buffer_init_size=READ_BUFFER,
        )
    except (OSError, WSError, ProxyError, TimeoutError, EOFError) as error:
        raise _refusal(error) from error
    if pipe.is_new:
        raise Error(
            "relay_unreachable", "the relay hung up before it answered", hint="is there a relay at that address?"
        )
    return pipe


def _refusal(error: Exception) -> Error:
    """What the relay said in HTTP instead of 101 (the envelope of edge/problem.py), or that it said nothing."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Error(
            "relay_not_trusted",
            f"the relay's TLS certificate is not trusted: {error.verify_message}",
            hint="name the certificates of its authority with SSL_CERT_FILE=…, and the relay as its certificate does",
        )
    response = getattr(error, "response", None)
    status = getattr(response, "status", None)
    if status is None:
        return Error("relay_unreachable", f"the relay cannot be reached: {str(error) or type(error).__name__}")
    try:
        said = msgspec.json.decode(getattr(error, "raw_body", None) or b"", type=_Problem).error
    except msgspec.MsgspecError:
        return Error("relay_unreachable", f"the relay answered {int(status)} and nothing that can be read")
    code = said.details.error_code if said.details.error_code in CODES else "relay_unreachable"
    return Error(code, said.message[:500], hint=said.details.hint)


class _Details(msgspec.Struct):
    error_code: str = ""
    hint: str | None = None


class _Said(msgspec.Struct):
    message: str
    details: _Details = msgspec.field(default_factory=_Details)


class _Problem(msgspec.Struct):
    error: _Said
