"""Trust: whether a server is the relay that ARROWSLIT_RELAY names, by the key that only that one has; and a queue that
is asked nothing before.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import ssl
from collections.abc import Callable
from typing import Any

import httpx2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.protocol.hello import relay_statement
from arrowslit.sandbox.work import Item, Queue

log = logging.getLogger(__name__)

SECONDS = 30.0


class Trust:
    """In one relay. `context` is what clients of it connect with: with a fingerprint, it shakes hands only over
    certificates that the relay has vouched for, or over any if the relay says that it knows of none.
    """

    def __init__(
        self, origin: str, key: str, fingerprint: str | None, *, proxy: str | None, random: RandomBytes
    ) -> None:
        self.context = _context(origin, None if fingerprint is None else self._check)
        self._origin, self._key, self._fingerprint, self._proxy, self._random = origin, key, fingerprint, proxy, random
        self._vouched: set[bytes] = set()
        self._bound = True

    async def prove(self) -> None:
        """Have the relay prove itself, on a connection of its own. Raises Error `relay_not_trusted`, or retryable ones.

        Without a fingerprint nothing is asked.
        """
        if self._fingerprint is None:
            return
        seen: list[bytes] = []
        context = _context(self._origin, seen.append)
        nonce = self._random(32)
        try:
            async with httpx2.AsyncClient(
                base_url=self._origin, verify=context, proxy=self._proxy, trust_env=False, timeout=SECONDS
            ) as http:
                await http.get("/healthz")  # shows the certificate
                body = {"nonce": nonce.hex(), "certificate": seen[0].hex() if seen else None}
                headers = {"authorization": f"Bearer {self._key}"}
                answer = await http.post("/v1/relay/proof", json=body, headers=headers)
        except httpx2.TransportError as error:
            raise _unreachable(self._origin, error) from error
        if answer.status_code == 401:
            raise Error("unauthenticated", "the server does not know this environment key", hint="make another")
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise Error("relay_unreachable", f"{self._origin} answers {answer.status_code}")
        self._believe(answer, nonce, seen)

    def _believe(self, answer: httpx2.Response, nonce: bytes, seen: list[bytes]) -> None:
        key, vouched, signature = _read(answer)
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, relay_statement(nonce, vouched))
            proved = hmac.compare_digest(hashlib.sha256(key).hexdigest(), self._fingerprint or "")
        except (InvalidSignature, ValueError):
            proved = False
        if not proved or (vouched is not None and set(seen) != {vouched}):
            raise Error(
                "relay_not_trusted",
                f"{self._origin} is not the relay that ARROWSLIT_RELAY names, or something in between opens TLS",
                hint="take the address, with its #sha256=…, from the relay you mean",
            )
        self._bound = vouched is not None
        if vouched is not None:
            self._vouched.add(vouched)

    def _check(self, certificate: bytes) -> None:
        if self._bound and certificate not in self._vouched:
            raise ssl.SSLCertVerificationError("the relay has not vouched for this certificate")


class TrustedQueue:
    """Fulfils Queue: before the first question, and after trouble, the relay proves itself."""

    def __init__(self, queue: Queue, trust: Trust) -> None:
        self._queue = queue
        self._trust = trust
        self._proved = False

    async def poll(self) -> Item | None:
        """See Queue."""
        if not self._proved:
            await self._trust.prove()
            self._proved = True
        try:
            return await self._queue.poll()
        except Error:
            self._proved = False  # it may have another certificate now
            raise

    async def ack(self, item: Item) -> None:
        """See Queue."""
        await self._queue.ack(item)

    async def stop(self, item: Item) -> None:
        """See Queue."""
        await self._queue.stop(item)


def _context(origin: str, check: Callable[[bytes], None] | None) -> ssl.SSLContext:
    """What TLS trusts here. `check` hears of each certificate (its SHA-256) before a byte is sent over it."""
    secure = origin.startswith("https:")
    context = ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if check is None:
        return context
    hear = check

    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            hear(hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest())

    context.sslobject_class = Checked
    return context


def _read(answer: httpx2.Response) -> tuple[bytes, bytes | None, bytes]:
    """Key, certificate and signature. Raises Error `relay_not_trusted` for any other answer."""
    try:
        said: Any = answer.json()
        vouched = said["certificate"]
        certificate = None if vouched is None else bytes.fromhex(vouched)
        return bytes.fromhex(said["key"]), certificate, bytes.fromhex(said["signature"])
    except (ValueError, TypeError, KeyError) as error:
        raise Error(
            "relay_not_trusted",
            f"the server answers {answer.status_code}, and no proof that it is the relay that ARROWSLIT_RELAY names",
            hint="check the address; a server that is no arrowslit has no fingerprint",
        ) from error


def _unreachable(origin: str, error: BaseException) -> Error:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Error(
                "relay_not_trusted",
                f"the TLS certificate of {origin} is not trusted: {cause.verify_message}",
                hint="name the certificates of its authority with SSL_CERT_FILE=…",
            )
        cause = cause.__cause__ or cause.__context__
    return Error("relay_unreachable", f"no answer from {origin}: {str(error) or type(error).__name__}")
