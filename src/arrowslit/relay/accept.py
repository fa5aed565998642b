"""A connector dials in: who is it, what may it serve; then run its link."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, check_name, tunnel_id
from arrowslit.link.link import Link
from arrowslit.link.pipe import CloseCode, Pipe
from arrowslit.outcome import Effect
from arrowslit.protocol import events as ev
from arrowslit.protocol import hello
from arrowslit.protocol.credit import Allowance
from arrowslit.protocol.state import Role
from arrowslit.relay.hub import Hub, Offered, Served
from arrowslit.tunnel import Enrolment, KeyBinding, Registration, Tunnel, fingerprint

log = logging.getLogger(__name__)

HANDSHAKE = 5.0  # seconds from the upgrade to an open link

_CLOSE = {
    "handshake_timeout": CloseCode.HANDSHAKE_TIMEOUT,
    "version_unsupported": CloseCode.VERSION_UNSUPPORTED,
    "connector_unauthenticated": CloseCode.UNAUTHENTICATED,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this relay is: its key, and the SHA-256 of the certificates that connectors may see in front of it.

    Without any certificate (loopback, or a balancer whose certificate nobody told us) the binding is off.
    """

    key: Ed25519PrivateKey
    certificates: Collection[bytes] = ()


class Accept:
    """Admits connectors and runs their links."""

    def __init__(self, hub: Hub, enrolment: Enrolment, identity: Identity, clock: Clock, random: RandomBytes) -> None:
        self._hub = hub
        self._enrolment = enrolment
        self._identity = identity
        self._clock = clock
        self._random = random
        self._allowance = Allowance()

    def authenticate(self, token: str) -> Tunnel | Registration:
        """What a token is good for. Raises Error `connector_unauthenticated`, the same for every reason."""
        entitled = self._enrolment.tunnel_by_token(token) or self._enrolment.registration(token)
        if entitled is None:
            raise Error(
                "connector_unauthenticated",
                "this token opens no tunnel",
                hint="`arrowslit tunnel create` prints a token; one that is never used expires after 24 h",
            )
        return entitled

    async def serve(self, pipe: Pipe, token: str) -> None:
        """Greet a connector and run its link to the end; or refuse it, with the reason in its own words."""
        try:
            await self._serve(pipe, token)
        except Exception:  # one connector must not take the others with it
            log.exception("a link failed inside the relay")
            pipe.close(CloseCode.INTERNAL_ERROR, "the relay failed")

    async def _serve(self, pipe: Pipe, token: str) -> None:
        link = Link(pipe, Role.RELAY, self._clock, allowance=self._allowance)
        try:
            async with asyncio.timeout(HANDSHAKE):
                greeted = await self._greet(link, token)
        except TimeoutError:
            self._refuse(link, Error("handshake_timeout", f"no valid hello within {HANDSHAKE:.0f} s"))
            return
        except Error as error:
            self._refuse(link, error)
            return
        if greeted is None:
            return
        served, beside = greeted
        log.info("connector %s serves %s", served.connector, served.tunnel_id)
        self._hub.add(served, beside=beside)
        try:
            reason = await link.run()
            log.warning("the link of %s is gone: %s", served.tunnel_id, reason)
        finally:
            self._hub.remove(served)

    async def _greet(self, link: Link, token: str) -> tuple[Served, bool] | None:
        """The handshake (hello.py), and whether an older link of the same process lives on. None: the connector hung
        up.
        """
        nonce = self._random(32)
        offer = hello.Offer(
            versions=list(hello.VERSIONS),
            features=sorted(hello.FEATURES),
            required=sorted(hello.REQUIRED),
            nonce=nonce,
        )
        link.hello(hello.encode(offer))
        greeting = await link.greeting()
        if not isinstance(greeting, ev.Greeted):
            return None
        said = _read(greeting.payload, offer)
        tunnel_name = tunnel_id(said.name)
        transcript = hello.Transcript(nonce, said.nonce, tunnel_name, said.version, said.features)
        _check_proof(said, transcript.signed_by("connector", said.certificate))
        bound = self._check_certificate(said.certificate)
        tunnel, own_token = await self._admit(self.authenticate(token), said, tunnel_name)
        self._confirm(tunnel, own_token or token, said)
        certificate = said.certificate if bound else None
        proof = self._identity.key.sign(transcript.signed_by("relay", certificate))
        link.welcome(
            hello.encode(
                hello.Welcome(
                    tunnel=tunnel.id,
                    features=said.features,
                    key=self._identity.key.public_key().public_bytes_raw(),
                    proof=proof,
                    certificate=certificate,
                    token=own_token,
                    pinned=tunnel.key_binding is KeyBinding.PINNED,
                )
            )
        )
        served = Served(
            tunnel_id=tunnel.id,
            link=link,
            connector=hashlib.sha256(said.connector.encode()).hexdigest()[:12],
            instance=said.instance,
            fingerprint=fingerprint(said.key),
            since=self._clock.now(),
            bound=bound,
            targets=_targets(said),
            facts=dict(list(said.facts.items())[:16]),
        )
        return served, said.beside

    async def _admit(
        self, entitled: Tunnel | Registration, said: hello.Hello, wanted: str
    ) -> tuple[Tunnel, str | None]:
        """The tunnel that this connector may serve: registered now, or pinned to its key, or open to any key."""
        if isinstance(entitled, Registration):
            return await self._enrolment.register(entitled, said.name, said.key)
        tunnel = entitled
        if tunnel.id != wanted:
            raise Error(
                "registration_refused",
                f"this token belongs to another tunnel than {said.name!r}",
                hint="use the name that the token was made for, or make a token for this one: arrowslit tunnel create",
            )
        await self._enrolment.mark_used(tunnel.id, tunnel.generation)
        if tunnel.key_binding is KeyBinding.NONE:
            return tunnel, None
        if tunnel.connector_key is None:
            log.warning("tunnel %s is now pinned to connector key %s", tunnel.id, fingerprint(said.key))
            return await self._enrolment.pin(tunnel.id, said.key), None
        if tunnel.connector_key != said.key:
            await self._enrolment.remember_refused(tunnel.id, said.key)
            log.warning("tunnel %s: another connector key was refused: %s", tunnel.id, fingerprint(said.key))
            raise Error(
                "key_mismatch",
                f"tunnel {said.name} is pinned to another connector key than {fingerprint(said.key)}",
                hint=f"if this connector is yours, run on the relay: arrowslit tunnel approve {said.name}",
            )
        return tunnel, None

    def _confirm(self, tunnel: Tunnel, token: str, said: hello.Hello) -> None:
        """Ask once more, with nothing awaited between this and the open link: it may have been revoked meanwhile."""
        now = self._enrolment.tunnel_by_token(token)
        if now is None or now.id != tunnel.id:
            raise Error("connector_unauthenticated", "this token was revoked during the handshake")
        if now.key_binding is KeyBinding.PINNED and now.connector_key != said.key:
            raise Error("key_mismatch", "another connector key was approved during the handshake")

    def prove(self, nonce: bytes, certificate: bytes | None) -> tuple[bytes, bytes | None, bytes]:
        """For somebody who saw this certificate: the relay's key, the certificate if it vouches for it (None where it
        does not know), and the signature of both. Raises Error `certificate_mismatch`.
        """
        vouched = certificate if self._check_certificate(certificate) else None
        key = self._identity.key
        return key.public_key().public_bytes_raw(), vouched, key.sign(hello.relay_statement(nonce, vouched))

    def _check_certificate(self, seen: bytes | None) -> bool:
        """Whether the certificate that the other side saw is one of ours; raises Error if it is somebody else's."""
        if not self._identity.certificates or seen is None:
            return False
        if seen not in self._identity.certificates:
            raise Error(
                "certificate_mismatch",
                "the other side saw a TLS certificate that is not this relay's",
                hint="something between the two ends opens the TLS connection; if that is meant, use --public-cert",
            )
        return True

    def _refuse(self, link: Link, error: Error) -> None:
        log.warning("a connector was refused: %s", error)
        refusal = hello.Refusal(code=error.code, message=error.message, hint=error.hint)
        code = _CLOSE.get(error.code, CloseCode.FORBIDDEN)
        link.refuse(hello.encode(refusal), code, error.code)


def _read(payload: bytes, offer: hello.Offer) -> hello.Hello:
    try:
        said = hello.decode(payload, hello.Hello)
    except hello.Disagreement as error:
        raise Error("protocol_error", str(error)) from error
    if said.version not in offer.versions or not set(offer.required) <= set(said.features) <= set(offer.features):
        raise Error(
            "version_unsupported",
            f"this relay speaks versions {offer.versions} with {', '.join(offer.features)}",
            hint="update the older side",
        )
    return said


def _check_proof(said: hello.Hello, transcript: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(said.key).verify(said.proof, transcript)
    except (InvalidSignature, ValueError) as error:
        raise Error("proof_invalid", "the connector did not prove that it holds its key") from error


def _targets(said: hello.Hello) -> dict[str | None, Offered]:
    """The servers that are offered, by name; under None the one of a connector that names none."""
    if not said.targets:
        return {None: Offered(_effects(said.read_only, said.idempotent), said.facts.get("ceiling", "")[:200])}
    offered: dict[str | None, Offered] = {}
    for each in said.targets:
        if check_name(each.name, what="target name") in offered:
            raise Error("protocol_error", "the connector offers two servers of one name")
        offered[each.name] = Offered(_effects(each.read_only, each.idempotent), each.ceiling[:200])
    return offered


def _effects(read_only: Iterable[str], idempotent: Iterable[str]) -> dict[str, Effect]:
    """What the ceiling declares. The stronger claim wins where a tool stands in both lists."""
    return dict.fromkeys(idempotent, Effect.IDEMPOTENT) | dict.fromkeys(read_only, Effect.READ_ONLY)
