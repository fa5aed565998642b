"""The seal on MCP session ids: an id handed to a client is good for the agent, tunnel, tenant and principal that got
it.

Stateless, so it survives a restart of the relay: the id that a client sees is the server's own, the connector that
holds the session, and a keyed hash of both with the caller. Anything else is answered like a random id.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass

from arrowslit.credential import Mac
from arrowslit.errors import Error
from arrowslit.principal import Grant, Principal

HEADER = "mcp-session-id"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,1024}")  # MCP 2025-11-25, Streamable HTTP, session management
_TAG_BYTES = 18


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the target knows it, and the connector it lives with."""

    id: str
    connector: str


class Seal:
    """Seals and opens session ids with a key derived from the root key."""

    def __init__(self, key: bytes) -> None:
        self._mac = Mac(key)

    def close(self, session: Session, principal: Principal, grant: Grant) -> str:
        """The id for the client: `<target's id>.<connector>.<tag>`."""
        body = f"{session.id}.{session.connector}"
        return f"{body}.{self._tag(body, principal, grant)}"

    def open(self, text: str, principal: Principal, grant: Grant) -> Session:
        """The session behind a client's id. Raises Error `session_not_found` for any that this caller was not given."""
        body, _, tag = text.rpartition(".")
        inner, _, connector = body.rpartition(".")
        if (
            not inner
            or not _VISIBLE.fullmatch(inner)
            or not hmac.compare_digest(tag.encode("utf-8", "replace"), self._tag(body, principal, grant).encode())
        ):
            raise Error("session_not_found", "no such session", hint="send initialize again, without a session id")
        return Session(inner, connector)

    def _tag(self, body: str, principal: Principal, grant: Grant) -> str:
        owner = "\0".join(
            (grant.agent_id, grant.server.name, grant.server.tunnel_id, principal.tenant or "", principal.id, body)
        )
        digest = self._mac(owner.encode("utf-8", "replace"))
        return base64.urlsafe_b64encode(digest[:_TAG_BYTES]).decode()
