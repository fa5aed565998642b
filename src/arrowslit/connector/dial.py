"""Dialling out: `keep_connected`, again and again, around `connect_once`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from arrowslit.clock import Clock, rfc3339
from arrowslit.connector.backoff import wait
from arrowslit.connector.offer import Announced
from arrowslit.connector.serve import Server
from arrowslit.errors import CODES, Error
from arrowslit.ids import RandomBytes, tunnel_id
from arrowslit.link.link import Link
from arrowslit.link.pipe import CloseCode, Pipe
from arrowslit.protocol import events as ev
from arrowslit.protocol import hello
from arrowslit.protocol.credit import Allowance
from arrowslit.protocol.state import Role

log = logging.getLogger(__name__)

HANDSHAKE = 10.0  # seconds from the upgrade to the relay's decision

_REPLACED = "another link took its place"

_HOPELESS = frozenset({"connector_unauthenticated", "relay_not_trusted", "registration_refused", "name_taken"})
"""Refusals that waiting does not mend: at the first try they end `connect`, later they are tried again with
patience."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this connector is. `connector` is kept in its state folder, `instance` is new for each process."""

    name: str
    key: Ed25519PrivateKey
    connector: str
    instance: str

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a tunnel is pinned to."""
        return self.key.public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Dialled:
    """A pipe to a relay, and the SHA-256 of the certificate that was seen on the way (None without TLS)."""

    pipe: Pipe
    certificate: bytes | None


@dataclass(slots=True)
class State:
    """What `/readyz`, `/metrics` and the log know about this connector. Times are Unix seconds."""

    connected: int = 0
    connected_since: float | None = None
    last_error: str | None = None
    reconnects: int = 0
    tunnel: str | None = None
    facts: dict[str, object] = field(default_factory=dict)

    def report(self) -> Mapping[str, object]:
        """As fields."""
        return {
            "connected": self.connected > 0,
            "connected_since": rfc3339(self.connected_since) if self.connected_since is not None else None,
            "last_error": self.last_error,
            "reconnects": self.reconnects,
            "tunnel": self.tunnel,
        }


class Dialler:
    """Keeps one tunnel open. `on_open` hears of every link that was agreed on."""

    def __init__(
        self,
        *,
        identity: Identity,
        dial: Callable[[], Awaitable[Dialled]],
        relay_fingerprint: str | None,
        server: Server,
        facts: Mapping[str, str],
        clock: Clock,
        random: RandomBytes,
        on_open: Callable[[hello.Welcome], None],
    ) -> None:
        self.state = State()
        self._identity = identity
        self._dial = dial
        self._fingerprint = relay_fingerprint
        self._server = server
        self._facts = facts
        self._clock = clock
        self._random = random
        self._on_open = on_open
        self._allowance = Allowance()
        self._links: dict[Link, asyncio.Event] = {}  # and what ends the wait for the next one
        self._told: Announced | None = None  # what the newest link says of the offers
        self._leaving = asyncio.Event()

    @property
    def name(self) -> str:
        """The tunnel's."""
        return self._identity.name

    async def keep_connected(self) -> None:
        """Connect, serve, connect again, until cancelled or drained.

        Raises Error, in a group, only if the very first try is refused in a way that stays.
        """
        attempt, lost_at = 0, self._clock.monotonic()
        async with asyncio.TaskGroup() as links:
            while not self._leaving.is_set():
                try:
                    link = await self._connect_once(links)
                except Error as error:
                    self._failed(error)
                else:
                    answered = await self._until_replaced(link, links)
                    if answered:
                        attempt, lost_at = 0, self._clock.monotonic()
                    if self._leaving.is_set():
                        return
                    if link in self._links and link.usable:
                        continue  # what is offered has changed: the next link says so, and this one finishes
                    self.state.reconnects += 1
                    if link.draining and answered:
                        continue  # the relay is going: the next link is dialled before this one ends
                pause = wait(attempt, self._clock.monotonic() - lost_at, self._chance())
                log.warning("not connected (%s): next try in %.1f s", self.state.last_error, pause)
                await self._clock.sleep(pause)
                attempt += 1

    def renew(self) -> None:
        """Say anew what is offered, over another link. Calls that run on the one there is end there."""
        for over in self._links.values():
            over.set()

    async def drain(self, seconds: float) -> None:
        """Take no new calls and dial no more. Returns once the running calls have ended, or after `seconds`.

        A pong tells that the relay has heard of it: what it had sent before is here by then. Streams that only listen
        are not waited for; their clients open them again.
        """
        self._leaving.set()
        until = self._clock.monotonic() + seconds
        for link in self._links:
            link.drain()
            link.ping()
        while self._busy and self._clock.monotonic() < until:
            await self._clock.sleep(0.02)  # a matter of moments, once in a life

    @property
    def _busy(self) -> bool:
        streams = sum(link.peer.streams for link in self._links)
        return streams > self._server.listening or any(link.peer.unanswered_pings for link in self._links)

    def _failed(self, error: Error) -> None:
        self.state.last_error = str(error)
        if error.code in _HOPELESS and self.state.tunnel is None:
            raise error
        if error.hint:
            log.warning("%s (%s)", error.message, error.hint)

    def _chance(self) -> float:
        return int.from_bytes(self._random(6)) / 2**48

    # ------------------------------------------------------------ one link

    async def _connect_once(self, tasks: asyncio.TaskGroup) -> Link:
        """Dial, greet, prove. Returns an open link, or raises Error."""
        dialled = await self._dial()
        server = self._server
        link = Link(
            dialled.pipe, Role.CONNECTOR, self._clock, lambda stream: server.begin(stream, tasks), self._allowance
        )
        try:
            async with asyncio.timeout(HANDSHAKE):
                welcome = await self._greet(link, dialled.certificate)
        except BaseException as error:
            link.close(CloseCode.GOING_AWAY, "no link was agreed on")
            if isinstance(error, TimeoutError):
                raise Error("relay_unreachable", f"the relay did not greet within {HANDSHAKE:.0f} s") from error
            raise
        log.info("connected: %s is open", welcome.tunnel)
        for older in [each for each in self._links if each.usable]:
            tasks.create_task(self._finish(older))
        self.state.tunnel = welcome.tunnel
        self._on_open(welcome)
        return link

    async def _until_replaced(self, link: Link, links: asyncio.TaskGroup) -> bool:
        """Run a link until it is gone, the relay drains it, or `renew`. True if a ping was answered on it."""
        answered = False
        over = asyncio.Event()

        def ponged() -> None:
            nonlocal answered
            answered = True

        link.on_ponged = ponged
        link.on_draining = over.set
        self._links[link] = over
        links.create_task(self._run(link, over))
        if self._told != self._server.offers.announced():
            over.set()  # it changed during the greetings
        await over.wait()
        return answered

    async def _finish(self, link: Link) -> None:
        """Close a link that another one has taken the place of, once nothing runs on it."""
        link.drain()
        while link in self._links and link.peer.streams:
            await self._clock.sleep(1)
        link.close(CloseCode.NORMAL, _REPLACED)

    async def _run(self, link: Link, over: asyncio.Event) -> None:
        self.state.connected += 1
        self.state.connected_since = self._clock.now()
        try:
            reason = await link.run()
            if reason == _REPLACED:
                log.info("the link is gone: %s", reason)
            else:
                self.state.last_error = reason
                log.warning("the link is gone: %s", reason)
        finally:
            del self._links[link]
            self.state.connected -= 1
            over.set()

    async def _greet(self, link: Link, certificate: bytes | None) -> hello.Welcome:
        offer_said = await link.greeting()
        if not isinstance(offer_said, ev.Greeted):
            raise Error("relay_unreachable", "the relay hung up before it said anything")
        identity = self._identity
        try:
            offer = hello.decode(offer_said.payload, hello.Offer)
            version, features = hello.agree(offer)
        except hello.Disagreement as error:
            raise Error("version_unsupported", str(error), hint="update the older side") from error
        nonce = self._random(32)
        transcript = hello.Transcript(offer.nonce, nonce, tunnel_id(identity.name), version, features)
        proof = identity.key.sign(transcript.signed_by("connector", certificate))
        offered = self._told = self._server.offers.announced()
        link.hello(
            hello.encode(
                hello.Hello(
                    version=version,
                    features=features,
                    nonce=nonce,
                    name=identity.name,
                    connector=identity.connector,
                    instance=identity.instance,
                    key=identity.public_key,
                    proof=proof,
                    certificate=certificate,
                    read_only=offered.read_only,
                    idempotent=offered.idempotent,
                    facts={**self._facts, "ceiling": offered.ceiling},
                    targets=offered.targets,
                    beside=any(link.usable for link in self._links),
                )
            )
        )
        welcome = _decided(await link.greeting())
        if welcome.tunnel != tunnel_id(identity.name):
            raise Error("protocol_error", "the relay opened another tunnel than the one that was asked for")
        if welcome.certificate is not None and welcome.certificate != certificate:
            raise Error("relay_not_trusted", "the relay vouches for another TLS certificate than the one on the way")
        self._check_relay(welcome, transcript.signed_by("relay", welcome.certificate))
        return welcome

    def _check_relay(self, welcome: hello.Welcome, transcript: bytes) -> None:
        if self._fingerprint is None:
            return
        seen = hashlib.sha256(welcome.key).hexdigest()
        try:
            Ed25519PublicKey.from_public_bytes(welcome.key).verify(welcome.proof, transcript)
            proved = True
        except (InvalidSignature, ValueError):
            proved = False
        if not proved or not hmac.compare_digest(seen, self._fingerprint):
            raise Error(
                "relay_not_trusted",
                f"this is not the relay that ARROWSLIT_RELAY names: its key has the fingerprint {seen}",
                hint="take the address from `arrowslit tunnel create` on the relay you mean",
            )


def _decided(greeting: ev.Greeted | ev.Welcomed | ev.Refused | None) -> hello.Welcome:
    try:
        match greeting:
            case ev.Welcomed():
                return hello.decode(greeting.payload, hello.Welcome)
            case ev.Refused():
                said = hello.decode(greeting.payload, hello.Refusal)
                code = said.code if said.code in CODES else "connector_unauthenticated"
                raise Error(code, said.message, hint=said.hint)
            case _:
                raise Error("relay_unreachable", "the relay hung up during the greetings")
    except hello.Disagreement as error:
        raise Error("protocol_error", str(error)) from error
