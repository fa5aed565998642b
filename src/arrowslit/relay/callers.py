"""Callers: who calls which server, and on what ground. Both are asked for with each request; what follows from the
answers alone is worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from arrowslit.errors import Error
from arrowslit.principal import Grant, Grants, Principal
from arrowslit.relay.definitions import Definitions
from arrowslit.relay.hub import Hub
from arrowslit.relay.sessions import Seal, Session
from arrowslit.tunnel import Tunnel, Tunnels

TENANT, CALL_ID = "tenant", "call-id"  # in `_meta`, below protocol.mcp.NAMESPACE
MOST = 4096  # callers that are remembered; after as many everything is worked out once more


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and on the ground of what. `seal` makes the id of a session into one that is good for this caller
    alone; `on_change` is called when the server says that its tools are others now.
    """

    principal: Principal
    grant: Grant
    tunnel: Tunnel
    seal: Callable[[Session], str]
    on_change: Callable[[], None]

    def facts(self, call_id: str) -> Mapping[str, str]:
        """What the relay says in a request, below NAMESPACE."""
        tenant = self.principal.tenant
        return {CALL_ID: call_id} if tenant is None else {CALL_ID: call_id, TENANT: tenant}


class Callers:
    """Finds them."""

    def __init__(self, grants: Grants, tunnels: Tunnels, hub: Hub, seal: Seal, definitions: Definitions) -> None:
        self._grants = grants
        self._tunnels = tunnels
        self._hub = hub
        self._seal = seal
        self._definitions = definitions
        self._known: dict[tuple[str, str, str], Caller] = {}

    def find(self, principal: Principal, agent: str, server: str) -> Caller:
        """The caller, as it stands now. Raises Error for an agent or server that is not there, or not the principal's,
        and for a server that could be one of several.
        """
        grant = self._grants.find(principal, agent, server)
        tunnel = self._tunnels.get(grant.server.tunnel_id)
        if tunnel is None:
            raise Error("server_not_found", "the tunnel of this server is gone", hint="grant the agent another server")
        self._hub.check(grant.server)
        key = principal.id, grant.agent_id, grant.server.name
        known = self._known.get(key)
        if known is None or known.principal is not principal or known.grant is not grant or known.tunnel is not tunnel:
            known = self._remember(key, principal, grant, tunnel)
        return known

    def _remember(self, key: tuple[str, str, str], principal: Principal, grant: Grant, tunnel: Tunnel) -> Caller:
        if len(self._known) >= MOST:
            self._known.clear()
        caller = self._known[key] = Caller(
            principal,
            grant,
            tunnel,
            seal=lambda session: self._seal.close(session, principal, grant),
            on_change=partial(self._definitions.server_changed, grant.server),
        )
        return caller

    def session(self, caller: Caller, text: str) -> Session:
        """The session of that id. Raises Error `session_not_found` for an id that this caller was not given."""
        return self._seal.open(text, caller.principal, caller.grant)
