"""/v1/relay, ours: what a connector has to know about this relay before it trusts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.agents.api.resource import Doorkeeper, Method


@dataclass(frozen=True, slots=True)
class RelayApi:
    """The handler. `fingerprint` is the SHA-256 of the relay's public key in hex, `domain` the tunnel domain."""

    fingerprint: str
    domain: str

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of this resource."""
        return [keeper.resource("/v1/relay", get=Method(self.retrieve, answer="Relay"))]

    async def retrieve(self, _: Request) -> Mapping[str, object]:
        """Who this relay is."""
        return {
            "type": "relay",
            "version": __version__,
            "fingerprint": self.fingerprint,
            "tunnel_domain": self.domain,
        }
