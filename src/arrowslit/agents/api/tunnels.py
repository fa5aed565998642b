"""/v1/tunnels: official shapes, and beside them our name, status, approval and grace."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.certificates import show_certificate
from arrowslit.agents.api.pages import ArchivableQuery, Position, page
from arrowslit.agents.api.reading import check_label, read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper, Method
from arrowslit.agents.api.schema import ApproveBody, Nothing, RotateBody, TunnelBody
from arrowslit.clock import rfc3339
from arrowslit.ids import RandomBytes
from arrowslit.tunnel import Certificates, Links, Tunnel, TunnelAdmin, fingerprint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TunnelsApi:
    """The handlers. `domain` is the tunnel domain: a tunnel's own is `NAME.domain`."""

    tunnels: TunnelAdmin
    certificates: Certificates
    links: Links
    random: RandomBytes
    domain: str

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        one, absent = "/v1/tunnels/{tunnel_id}", ("tunnel_not_found",)
        return [
            keeper.resource(
                "/v1/tunnels",
                get=Method(self.list, query=ArchivableQuery, answer="TunnelPage"),
                post=Method(self.create, body=TunnelBody, answer="Tunnel", errors=("name_taken",)),
            ),
            keeper.resource(one, get=Method(self.retrieve, answer="Tunnel", errors=absent)),
            keeper.resource(f"{one}/archive", post=Method(self.archive, body=Nothing, answer="Tunnel", errors=absent)),
            keeper.resource(
                f"{one}/reveal_token",
                post=Method(self.reveal_token, body=Nothing, answer="TunnelToken", errors=absent),
            ),
            keeper.resource(
                f"{one}/rotate_token",
                post=Method(self.rotate_token, body=RotateBody, answer="TunnelToken", errors=absent),
            ),
            keeper.resource(
                f"{one}/approve", post=Method(self.approve, body=ApproveBody, answer="Tunnel", errors=absent)
            ),
            keeper.resource(f"{one}/status", get=Method(self.status, answer="TunnelStatus", errors=absent)),
        ]

    async def create(self, request: Request) -> object:
        """Make a tunnel; one without a name gets an unguessable one, as the official API gives."""
        body = await read_body(request, TunnelBody)
        tunnel = await self.tunnels.create(
            body.name if body.name is not None else f"t{self.random(8).hex()}",
            display_name=check_label(body.display_name, "display name"),
            tenant_optional=body.tenant_optional,
            key_binding=body.key_binding,
        )
        return self.show(tunnel)

    async def retrieve(self, request: Request) -> object:
        """The tunnel."""
        return self.show(self.tunnels.read(_id(request)))

    async def list(self, request: Request) -> object:
        """A page of tunnels."""
        query = read_query(request, ArchivableQuery)
        found = [tunnel for tunnel in self.tunnels.every() if query.include_archived or tunnel.archived_at is None]
        return page(request, query, found, _position, self.show)

    async def archive(self, request: Request) -> object:
        """End a tunnel for good."""
        await read_body(request, Nothing)
        return self.show(await self.tunnels.archive(_id(request)))

    async def reveal_token(self, request: Request) -> object:
        """The token to run the tunnel with."""
        await read_body(request, Nothing)
        return _token(_id(request), *await self.tunnels.reveal_token(_id(request)))

    async def rotate_token(self, request: Request) -> object:
        """A new token. Officially the old one opens no new link from now on; `grace_seconds` lets it live on."""
        body = await read_body(request, RotateBody)
        generation, text = await self.tunnels.rotate_token(_id(request), grace=body.grace_seconds, revoke=body.revoke)
        log.info("token of %s rotated to generation %d, reason: %r", _id(request), generation, body.reason)
        return _token(_id(request), generation, text)

    async def approve(self, request: Request) -> object:
        """Pin the connector key that was refused last."""
        body = await read_body(request, ApproveBody)
        return self.show(await self.tunnels.approve(_id(request), body.fingerprint))

    async def status(self, request: Request) -> object:
        """What is known of the tunnel: its token, keys and certificates, and the connectors that serve it now."""
        tunnel, token = self.tunnels.read(_id(request)), self.tunnels.token_state(_id(request))
        return {
            **self.show(tunnel),
            "type": "tunnel_status",
            "connector_key": _fingerprint(tunnel.connector_key),
            "refused_key": _fingerprint(tunnel.refused_key),
            "token": {
                "generation": token.generation,
                "issued_at": rfc3339(token.issued_at),
                "used_at": _time(token.used_at),
                "expires_at": _time(token.expires_at),
                "previous_until": _time(token.previous_until),
            },
            "certificates": [
                show_certificate(each) for each in await self.certificates.of(tunnel.id) if each.archived_at is None
            ],
            **self.links.status(tunnel.id),
        }

    def show(self, tunnel: Tunnel) -> Mapping[str, object]:
        """The official object, with our fields after it."""
        return {
            "id": tunnel.id,
            "type": "tunnel",
            "domain": f"{tunnel.name}.{self.domain}",
            "display_name": tunnel.display_name,
            "created_at": rfc3339(tunnel.created_at),
            "archived_at": _time(tunnel.archived_at),
            "name": tunnel.name,
            "tenant_optional": tunnel.tenant_optional,
            "key_binding": tunnel.key_binding.value,
        }


def _id(request: Request) -> str:
    return str(request.path_params["tunnel_id"])


def _position(tunnel: Tunnel) -> Position:
    return tunnel.created_at, tunnel.id


def _token(tunnel_id: str, generation: int, text: str) -> Mapping[str, object]:
    return {"id": f"{tunnel_id}.{generation}", "type": "tunnel_token", "tunnel_token": text}


def _fingerprint(key: bytes | None) -> str | None:
    return None if key is None else fingerprint(key)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
