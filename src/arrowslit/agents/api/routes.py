"""All of /v1: the resources, and a last word for every other path."""

from __future__ import annotations

from starlette.routing import Route

from arrowslit.agent import AgentAdmin
from arrowslit.agents.api.agents import AgentsApi
from arrowslit.agents.api.certificates import CertificatesApi
from arrowslit.agents.api.definitions import Definitions
from arrowslit.agents.api.environments import EnvironmentsApi
from arrowslit.agents.api.keys import KeysApi
from arrowslit.agents.api.relay import RelayApi
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.toolsets import Reader
from arrowslit.agents.api.tunnels import TunnelsApi
from arrowslit.agents.api.unsupported import unsupported
from arrowslit.clock import Clock
from arrowslit.edge.auth import Workers, WrongCredentials
from arrowslit.environment import Environments
from arrowslit.ids import RandomBytes
from arrowslit.principal import Grants, KeyAdmin
from arrowslit.tunnel import Certificates, Links, TunnelAdmin


def routes(
    *,
    grants: Grants,
    wrong: WrongCredentials,
    tunnels: TunnelAdmin,
    certificates: Certificates,
    agents: AgentAdmin,
    keys: KeyAdmin,
    environments: Environments,
    workers: Workers,
    links: Links,
    clock: Clock,
    random: RandomBytes,
    cursor_key: bytes,
    relay_fingerprint: str,
    domain: str = "tunnel.localhost",
) -> list[Route]:
    """The routes of /v1. Every one of them, the unknown ones too, asks first who is there.

    `domain` is the tunnel domain, `relay_fingerprint` the SHA-256 of the relay's key in hex; `wrong` counts wrong
    credentials, best together with the other doors. `cursor_key` signs page cursors: 32 bytes, the same at every
    start.
    """
    keeper = Doorkeeper(grants, wrong, workers, random, cursor_key)
    return [
        *TunnelsApi(tunnels, certificates, links, random, domain).routes(keeper),
        *CertificatesApi(certificates).routes(keeper),
        *EnvironmentsApi(environments).routes(keeper),
        *AgentsApi(agents, Definitions(Reader(tunnels, domain), environments)).routes(keeper),
        *KeysApi(keys, agents, clock).routes(keeper),
        *RelayApi(relay_fingerprint, domain).routes(keeper),
        *unsupported(keeper),
        keeper.resource("/v1/{rest:path}"),
    ]
