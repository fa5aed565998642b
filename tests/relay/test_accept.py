"""Who may serve a tunnel: the two shipped ends greet each other over a wire in memory, and one of them lies."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.connector import dial
from arrowslit.connector.offer import Offer
from arrowslit.connector.serve import Server
from arrowslit.errors import Error
from arrowslit.link.link import Link
from arrowslit.policy.ceiling import OPEN, parse
from arrowslit.protocol import events as ev
from arrowslit.protocol import hello
from arrowslit.protocol.state import Role
from arrowslit.relay.accept import Accept, Identity
from arrowslit.relay.hub import Hub
from arrowslit.testing import world as sim
from arrowslit.testing.loop import SimClock, random_bytes, run
from arrowslit.testing.wire import Wire
from arrowslit.tunnel import KeyBinding, Registration, Tunnel

PINNED = Tunnel("tnl_inventory", "inventory")
CERTIFICATE, OTHER_CERTIFICATE = b"c" * 32, b"o" * 32


class Enrolment(sim.Store):
    """One tunnel, and what was asked of it."""

    def __init__(self, tunnel: Tunnel | None = PINNED) -> None:
        self.tunnel = tunnel
        self.refused: list[bytes] = []

    def tunnel_by_token(self, token: str) -> Tunnel | None:
        return self.tunnel if token in ("good", "its own token") else None

    def registration(self, token: str) -> Registration | None:
        return Registration("key_reg", "inv*", 0.0) if token == "register" else None

    async def register(self, registration: Registration, name: str, connector_key: bytes) -> tuple[Tunnel, str]:
        if not registration.matches(name):
            raise Error("registration_refused", "not covered")
        self.tunnel = Tunnel("tnl_" + name.replace("-", "_"), name, connector_key=connector_key)
        return self.tunnel, "its own token"

    async def pin(self, tunnel_id: str, connector_key: bytes) -> Tunnel:
        assert self.tunnel is not None
        self.tunnel = replace(self.tunnel, connector_key=connector_key)
        return self.tunnel

    async def remember_refused(self, tunnel_id: str, connector_key: bytes) -> None:
        self.refused.append(connector_key)


@dataclass
class Ends:
    """A relay and a connector about to greet each other."""

    enrolment: Enrolment
    relay_key: Ed25519PrivateKey
    connector_key: Ed25519PrivateKey
    certificates: frozenset[bytes] = frozenset()
    seen_certificate: bytes | None = None
    fingerprint: str | None = None
    name: str = "inventory"
    token: str = "good"
    ceiling_text: str | None = None

    async def meet(self) -> tuple[Hub, list[hello.Welcome], Error | None]:
        """One try. Returns the hub, what the connector was told, and how it failed."""
        clock, chance = SimClock(), random.Random(1)
        hub, welcomes = Hub(clock), list[hello.Welcome]()
        accept = Accept(hub, self.enrolment, Identity(self.relay_key, self.certificates), clock, random_bytes(1))
        ceiling = OPEN if self.ceiling_text is None else parse(self.ceiling_text)
        async with asyncio.TaskGroup() as group:

            async def dialled() -> dial.Dialled:
                accept.authenticate(self.token)
                wire = Wire(chance)
                group.create_task(accept.serve(wire.relay_end, self.token))
                return dial.Dialled(wire.connector_end, self.seen_certificate)

            dialler = dial.Dialler(
                identity=dial.Identity(self.name, self.connector_key, "folder", "process"),
                dial=dialled,
                relay_fingerprint=self.fingerprint,
                server=Server([Offer(sim.SimTarget(chance), ceiling)]),
                facts={},
                clock=clock,
                random=random_bytes(2),
                on_open=welcomes.append,
            )
            keeping = group.create_task(_caught(dialler.keep_connected))
            await asyncio.sleep(0.5)
            error = keeping.result() if keeping.done() else None
            if error is None and not welcomes:
                assert dialler.state.last_error is not None
                code, _, message = dialler.state.last_error.partition(": ")
                error = Error(code, message)
            connected = {"connected": hub.status(PINNED.id)["connected"]}
            keeping.cancel()
            hub.close()
        assert bool(welcomes) == connected["connected"] or self.name != "inventory"
        return hub, welcomes, error


async def _caught(work: Callable[[], Any]) -> Error | None:
    try:
        await work()
    except ExceptionGroup as group:
        found = group.exceptions[0]
        assert isinstance(found, Error)
        return found
    return None


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(random_bytes(seed)(32))


def ends(**changes: Any) -> Ends:
    """Two ends that get on, with some changes."""
    return replace(Ends(Enrolment(), key(1), key(2)), **changes)


def fingerprint_of(relay_key: Ed25519PrivateKey) -> str:
    return hashlib.sha256(relay_key.public_key().public_bytes_raw()).hexdigest()


def test_the_first_key_that_connects_is_pinned() -> None:
    two = ends()
    _, welcomes, error = run(1, two.meet)
    assert error is None
    assert welcomes[0].tunnel == "tnl_inventory"
    assert welcomes[0].pinned
    assert two.enrolment.tunnel is not None
    assert two.enrolment.tunnel.connector_key == two.connector_key.public_key().public_bytes_raw()


class Hasty(Enrolment):
    """Something is taken back while a connector is being greeted."""

    def __init__(self, then: Tunnel | None) -> None:
        super().__init__(replace(PINNED, connector_key=key(2).public_key().public_bytes_raw()))
        self.then = then

    async def mark_used(self, tunnel_id: str, generation: int) -> None:
        self.tunnel = self.then


@pytest.mark.promise("P11")
@pytest.mark.parametrize(
    ("then", "code"),
    [
        (None, "connector_unauthenticated"),
        (replace(PINNED, connector_key=b"k" * 32), "key_mismatch"),
        (Tunnel("tnl_other", "other"), "connector_unauthenticated"),
    ],
    ids=["the token is revoked", "another key is approved", "the token is another tunnel's"],
)
def test_what_is_taken_back_during_the_handshake_opens_no_link(then: Tunnel | None, code: str) -> None:
    _, welcomes, error = run(1, ends(enrolment=Hasty(then)).meet)
    assert error is not None
    assert error.code == code
    assert not welcomes


@pytest.mark.promise("P11")
def test_a_second_key_is_refused_and_remembered_for_approval() -> None:
    enrolment = Enrolment(replace(PINNED, connector_key=key(9).public_key().public_bytes_raw()))
    two = ends(enrolment=enrolment)
    _, _, error = run(1, two.meet)
    assert error is not None
    assert error.code == "key_mismatch"
    assert enrolment.refused
    assert set(enrolment.refused) == {two.connector_key.public_key().public_bytes_raw()}


def test_without_key_binding_any_key_may_serve() -> None:
    enrolment = Enrolment(
        replace(PINNED, key_binding=KeyBinding.NONE, connector_key=key(9).public_key().public_bytes_raw())
    )
    _, welcomes, error = run(1, ends(enrolment=enrolment).meet)
    assert error is None
    assert not welcomes[0].pinned


CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("the right fingerprint", {"fingerprint": fingerprint_of(key(1))}, None),
    ("another relay's fingerprint", {"fingerprint": fingerprint_of(key(3))}, "relay_not_trusted"),
    ("a wrong token", {"token": "guess"}, "connector_unauthenticated"),
    ("a token of another tunnel", {"name": "other"}, "registration_refused"),
    ("the relay's own certificate", {"certificates": frozenset({CERTIFICATE}), "seen_certificate": CERTIFICATE}, None),
    (
        "a certificate of something in the middle",
        {"certificates": frozenset({CERTIFICATE}), "seen_certificate": OTHER_CERTIFICATE},
        "certificate_mismatch",
    ),
    ("a balancer that the relay does not know", {"seen_certificate": OTHER_CERTIFICATE}, None),
]


@pytest.mark.parametrize(("changes", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_ends_agree_or_say_why_not(changes: dict[str, Any], code: str | None) -> None:
    _, welcomes, error = run(1, ends(**changes).meet)
    assert (error.code if error else None) == code
    assert bool(welcomes) == (code is None)


def test_a_registration_token_makes_a_tunnel_and_brings_its_token() -> None:
    two = ends(enrolment=Enrolment(None), token="register", name="inv-two")
    _, welcomes, error = run(1, two.meet)
    assert error is None
    assert welcomes[0].token == "its own token"
    refused = ends(enrolment=Enrolment(None), token="register", name="other")
    _, _, error = run(1, refused.meet)
    assert error is not None
    assert error.code == "registration_refused"


def offered(**changes: Any) -> hello.Hello:
    """What a connector of another make may say."""
    said: dict[str, Any] = {
        "version": 1,
        "features": ["http-exchange"],
        "nonce": b"n" * 32,
        "name": "inventory",
        "connector": "c",
        "instance": "i",
        "key": key(2).public_key().public_bytes_raw(),
        "proof": b"",
    }
    return hello.Hello(**said | changes)


def prove(said: hello.Hello, offer: hello.Offer, secret: Ed25519PrivateKey, **changes: Any) -> hello.Hello:
    """The same with a proof; `changes` spoil what is signed."""
    signed: dict[str, Any] = {
        "offer_nonce": offer.nonce,
        "hello_nonce": said.nonce,
        "tunnel": "tnl_inventory",
        "version": said.version,
        "features": said.features,
    }
    transcript = hello.Transcript(**signed | changes)
    values = {name: getattr(said, name) for name in said.__struct_fields__}
    return hello.Hello(**values | {"proof": secret.sign(transcript.signed_by("connector", said.certificate))})


LIES: list[tuple[str, dict[str, Any], dict[str, Any], int, str]] = [
    ("no proof at all", {}, {"skip": True}, 2, "proof_invalid"),
    ("a proof by another key", {}, {}, 3, "proof_invalid"),
    ("a proof that was made for another nonce", {}, {"offer_nonce": b"x" * 32}, 2, "proof_invalid"),
    ("a proof that was made for another tunnel", {}, {"tunnel": "tnl_other"}, 2, "proof_invalid"),
    ("a proof over fewer features", {}, {"features": []}, 2, "proof_invalid"),
    ("a required feature left out", {"features": []}, {}, 2, "version_unsupported"),
    ("a feature that was not offered", {"features": ["http-exchange", "magic"]}, {}, 2, "version_unsupported"),
    ("a version that was not offered", {"version": 2}, {}, 2, "version_unsupported"),
    ("a name that is none", {"name": "../etc"}, {}, 2, "validation_error"),
    ("a key that is none", {"key": b"short"}, {}, 2, "proof_invalid"),
]


@pytest.mark.parametrize(("said", "signed", "secret", "code"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_lying_connector_is_refused_by_code(
    said: dict[str, Any], signed: dict[str, Any], secret: int, code: str
) -> None:
    async def greet() -> hello.Refusal:
        clock, wire = SimClock(), Wire(random.Random(1))
        accept = Accept(Hub(clock), Enrolment(), Identity(key(1)), clock, random_bytes(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(accept.serve(wire.relay_end, "good"))
            link = Link(wire.connector_end, Role.CONNECTOR, clock)
            first = await link.greeting()
            assert isinstance(first, ev.Greeted)
            words = offered(**said)
            if "skip" not in signed:
                words = prove(words, hello.decode(first.payload, hello.Offer), key(secret), **signed)
            link.hello(hello.encode(words))
            second = await link.greeting()
            assert isinstance(second, ev.Refused)
            return hello.decode(second.payload, hello.Refusal)

    assert run(1, greet).code == code


def test_a_connector_that_says_nothing_is_let_go_after_five_seconds() -> None:
    async def silent() -> tuple[float, hello.Refusal]:
        clock, wire = SimClock(), Wire(random.Random(1))
        accept = Accept(Hub(clock), Enrolment(), Identity(key(1)), clock, random_bytes(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(accept.serve(wire.relay_end, "good"))
            link = Link(wire.connector_end, Role.CONNECTOR, clock)
            await link.greeting()
            refused = await link.greeting()
            assert isinstance(refused, ev.Refused)
            return clock.monotonic(), hello.decode(refused.payload, hello.Refusal)

    seconds, refusal = run(1, silent)
    assert seconds == pytest.approx(5.0, abs=0.1)
    assert refusal.code == "handshake_timeout"


def test_what_the_ceiling_declares_reaches_the_relay() -> None:
    two = ends(ceiling_text='tools = ["*"]\ntenants = ["*"]\nread_only = ["look"]\nidempotent = ["set"]')

    async def effects() -> dict[str, str]:
        clock, wire, hub = SimClock(), Wire(random.Random(1)), Hub(SimClock())
        accept = Accept(hub, two.enrolment, Identity(key(1)), clock, random_bytes(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(accept.serve(wire.relay_end, "good"))
            link = Link(wire.connector_end, Role.CONNECTOR, clock)
            first = await link.greeting()
            assert isinstance(first, ev.Greeted)
            words = offered(read_only=["look"], idempotent=["set"])
            link.hello(hello.encode(prove(words, hello.decode(first.payload, hello.Offer), key(2))))
            await link.greeting()
            found = {tool: effect.value for tool, effect in hub.pick("tnl_inventory").targets[None].effects.items()}
            hub.close()
            return found

    assert run(1, effects) == {"look": "read_only", "set": "idempotent"}


def test_what_a_connector_says_of_itself_does_not_stand_for_what_the_relay_found() -> None:
    async def status() -> dict[str, Any]:
        clock, wire = SimClock(), Wire(random.Random(1))
        hub = Hub(clock)
        accept = Accept(hub, Enrolment(), Identity(key(1)), clock, random_bytes(1))
        async with asyncio.TaskGroup() as group:
            group.create_task(accept.serve(wire.relay_end, "good"))
            link = Link(wire.connector_end, Role.CONNECTOR, clock)
            first = await link.greeting()
            assert isinstance(first, ev.Greeted)
            lies = {
                "key_fingerprint": "x",
                "certificate_binding": "on",
                "connector": "x",
                "ceiling": "file",
                "extra": "x",
            }
            words = offered(facts=lies)
            link.hello(hello.encode(prove(words, hello.decode(first.payload, hello.Offer), key(2))))
            await link.greeting()
            shown = hub.status("tnl_inventory")["connectors"]
            hub.close()
            assert isinstance(shown, list)
            return dict(shown[0])

    shown = run(1, status)
    assert shown["certificate_binding"] == "off"
    assert shown["key_fingerprint"].startswith("sha256:")
    assert shown["ceiling"] == "file"
    assert "x" not in shown.values()
