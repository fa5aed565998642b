"""All of /v1: the resources, and a last word for every other path."""

from __future__ import annotations

from starlette.routing import Route

from arrowslit.agent import AgentAdmin
from arrowslit.agents.api.agents import AgentsApi
from arrowslit.agents.api.keys import KeysApi
from arrowslit.agents.api.relay import RelayApi
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.toolsets import Reader
from arrowslit.agents.api.tunnels import TunnelsApi
from arrowslit.clock import Clock
from arrowslit.edge.auth import Workers, WrongCredentials
from arrowslit.ids import RandomBytes
from arrowslit.principal import Grants, KeyAdmin
from arrowslit.tunnel import Links, TunnelAdmin
from arrowslit.work import Worker


class NoWorkers:
    """Nobody is a worker."""

    async def worker(self, token: str) -> Worker | None:
        """Nobody."""
        return None


def routes(
    *,
    grants: Grants,
    wrong: WrongCredentials,
    tunnels: TunnelAdmin,
    agents: AgentAdmin,
    keys: KeyAdmin,
    links: Links,
    clock: Clock,
    random: RandomBytes,
    relay_fingerprint: str,
    workers: Workers | None = None,
    cursor_key: bytes | None = None,
    domain: str = "tunnel.localhost",
) -> list[Route]:
    """The routes of /v1. Every one of them, the unknown ones too, asks first who is there.

    `domain` is the tunnel domain, `relay_fingerprint` the SHA-256 of the relay's key in hex; `wrong` counts wrong
    credentials, best together with the other doors. `cursor_key` signs page cursors; with one of its own, a process
    knows those of no other. Without `workers` there are none.
    """
    keeper = Doorkeeper(grants, wrong, workers or NoWorkers(), random, cursor_key or random(32))
    return [
        *TunnelsApi(tunnels, links, random, domain).routes(keeper),
        *AgentsApi(agents, Reader(tunnels, domain)).routes(keeper),
        *KeysApi(keys, agents, clock).routes(keeper),
        *RelayApi(relay_fingerprint, domain).routes(keeper),
        keeper.resource("/v1/{rest:path}"),
    ]
