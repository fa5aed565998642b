"""Both ends of the tunnel played by hand over a real WebSocket: a relay that was taken over, and a slow connector."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from arrowslit.protocol import events as ev
from arrowslit.protocol import hello
from arrowslit.protocol.peer import Peer
from arrowslit.protocol.state import Role

PATIENCE = 60.0  # seconds; a connector tries again after a second or two, if it gets to run


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one stream: `ending` in the connector's words, and what it answered."""

    ending: str
    detail: str = ""
    head: bytes = b""
    body: bytes = b""


class Hand:
    """One end of a link. What the other side says is read when one waits for it, or by `listen`."""

    def __init__(self, socket: ServerConnection | ClientConnection, role: Role) -> None:
        self.socket = socket
        self.peer = Peer(role)
        self._events: list[ev.Event] = []

    async def event(self) -> ev.Event:
        """The next event. Raises ConnectionClosed once the other side has hung up."""
        async with asyncio.timeout(PATIENCE):
            while not self._events:
                data = await self.socket.recv()
                assert isinstance(data, bytes)
                self._events += self.peer.receive(data, time.monotonic())
                await self.flush()
        return self._events.pop(0)

    async def flush(self) -> None:
        """Send what the peer has to send."""
        while self.peer.has_bytes:
            await self.socket.send(self.peer.bytes_to_send())

    async def say(self, raw: bytes) -> None:
        """Send these bytes as one message, whatever the protocol says."""
        await self.socket.send(raw)

    async def exchange(self, head: bytes, body: bytes = b"") -> Ended:
        """Relay: one stream from its head to its ending."""
        stream = self.peer.open(head, body)
        await self.flush()
        answer, data = b"", b""
        while True:
            match await self.event():
                case ev.HeadArrived(stream=number, head=answer) if number == stream:
                    pass
                case ev.DataArrived(stream=number, data=piece) if number == stream:
                    data += piece
                case ev.StreamEnded(stream=number, ending=ending, detail=detail) if number == stream:
                    return Ended(ending.value, detail, answer, data)
                case _:
                    pass

    async def round_trip(self) -> None:
        """Wait until the other side has read everything that was sent."""
        self.peer.ping(time.monotonic())
        await self.flush()
        while not isinstance(await self.event(), ev.Ponged):
            pass

    async def hung_up(self) -> None:
        """Wait until the other side hangs up."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(PATIENCE):
                while True:
                    await self.socket.recv()


@dataclass(slots=True)
class TakenOver:
    """A relay in somebody else's hands. It has its own key, so what it says is properly signed."""

    port: int = 0
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    dialled: asyncio.Queue[Hand] = field(default_factory=asyncio.Queue)

    @property
    def address(self) -> str:
        """What ARROWSLIT_RELAY is to be."""
        digest = hashlib.sha256(self.key.public_key().public_bytes_raw()).hexdigest()
        return f"http://127.0.0.1:{self.port}#sha256={digest}"

    async def next(self) -> Hand:
        """The next connection that somebody dials, without a greeting."""
        async with asyncio.timeout(PATIENCE):
            while True:
                hand = await self.dialled.get()
                if hand.socket.state.name == "OPEN":
                    return hand

    async def greet(
        self, hand: Hand, *, tunnel: str | None = None, token: str | None = None, key: Ed25519PrivateKey | None = None
    ) -> hello.Hello:
        """Greet a connector as a relay does, but for what is given."""
        key = key or self.key
        offer = hello.Offer(
            versions=list(hello.VERSIONS),
            features=sorted(hello.FEATURES),
            required=sorted(hello.REQUIRED),
            nonce=bytes(32),
        )
        hand.peer.hello(hello.encode(offer))
        await hand.flush()
        greeted = await hand.event()
        assert isinstance(greeted, ev.Greeted)
        said = hello.decode(greeted.payload, hello.Hello)
        own = "tnl_" + said.name.replace("-", "_")
        transcript = hello.Transcript(offer.nonce, said.nonce, own, said.version, said.features)
        welcome = hello.Welcome(
            tunnel=own if tunnel is None else tunnel,
            features=said.features,
            key=key.public_key().public_bytes_raw(),
            proof=key.sign(transcript.signed_by("relay", None)),
            token=token,
        )
        hand.peer.welcome(hello.encode(welcome))
        await hand.flush()
        return said

    async def link(self) -> Hand:
        """The next link, open, after one answered ping: whoever loses it comes back soon."""
        hand = await self.next()
        await self.greet(hand)
        await hand.round_trip()
        return hand


@asynccontextmanager
async def taken_over() -> AsyncIterator[TakenOver]:
    """Listen on a free port of loopback."""
    relay = TakenOver()

    async def accept(socket: ServerConnection) -> None:
        relay.dialled.put_nowait(Hand(socket, Role.RELAY))
        await socket.wait_closed()

    async with serve(accept, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None) as server:
        relay.port = next(iter(server.sockets)).getsockname()[1]
        yield relay


@asynccontextmanager
async def dialling(url: str, token: str) -> AsyncIterator[Hand]:
    """Dial a relay as a connector does; the relay has spoken first when the block begins."""
    headers = {"authorization": f"Bearer {token}"}
    address = url.replace("http", "ws", 1) + "/connect"
    async with connect(address, additional_headers=headers, compression=None, ping_interval=None, proxy=None) as socket:
        yield Hand(socket, Role.CONNECTOR)


async def introduce(hand: Hand, name: str, key: Ed25519PrivateKey) -> bool:
    """Connector: say who it is; whether the relay welcomes it."""
    offered = await hand.event()
    assert isinstance(offered, ev.Greeted)
    offer = hello.decode(offered.payload, hello.Offer)
    version, features = hello.agree(offer)
    transcript = hello.Transcript(offer.nonce, bytes(32), "tnl_" + name.replace("-", "_"), version, features)
    said = hello.Hello(
        version=version,
        features=features,
        nonce=bytes(32),
        name=name,
        connector="by hand",
        instance="by hand",
        key=key.public_key().public_bytes_raw(),
        proof=key.sign(transcript.signed_by("connector", None)),
    )
    hand.peer.hello(hello.encode(said))
    await hand.flush()
    return isinstance(await hand.event(), ev.Welcomed)
