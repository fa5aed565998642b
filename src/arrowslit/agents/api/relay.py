"""/v1/relay, ours: who this relay is, and its proof of that for a sandbox worker. (A connector has it on its link.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.agents.api.reading import read_body
from arrowslit.agents.api.resource import WORKERS, Doorkeeper, Method
from arrowslit.agents.api.schema import ProofBody

Prove = Callable[[bytes, bytes | None], tuple[bytes, bytes | None, bytes]]
"""The other's nonce and the certificate that it saw -> our key, the certificate if we vouch for it, the signature."""


@dataclass(frozen=True, slots=True)
class RelayApi:
    """The handlers. `fingerprint` is the SHA-256 of the relay's public key in hex, `domain` the tunnel domain."""

    fingerprint: str
    domain: str
    prove: Prove

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        post = Method(self.proof, WORKERS, body=ProofBody, answer="RelayProof", errors=("certificate_mismatch",))
        return [
            keeper.resource("/v1/relay", get=Method(self.retrieve, answer="Relay")),
            keeper.resource("/v1/relay/proof", post=post),
        ]

    async def proof(self, request: Request) -> Mapping[str, object]:
        """That whoever answers holds the relay's key."""
        body = await read_body(request, ProofBody)
        seen = None if body.certificate is None else bytes.fromhex(body.certificate)
        key, vouched, signature = self.prove(bytes.fromhex(body.nonce), seen)
        return {
            "type": "relay_proof",
            "key": key.hex(),
            "certificate": None if vouched is None else vouched.hex(),
            "signature": signature.hex(),
        }

    async def retrieve(self, _: Request) -> Mapping[str, object]:
        """Who this relay is."""
        return {
            "type": "relay",
            "version": __version__,
            "fingerprint": self.fingerprint,
            "tunnel_domain": self.domain,
        }
