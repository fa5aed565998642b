"""All of /v1: the resources, and a last word for every other path."""

from __future__ import annotations

from starlette.routing import Route

from arrowslit.agent import AgentAdmin
from arrowslit.agents.api.agents import AgentsApi
from arrowslit.agents.api.calls import CallsApi
from arrowslit.agents.api.certificates import CertificatesApi
from arrowslit.agents.api.definitions import Definitions
from arrowslit.agents.api.environments import EnvironmentsApi
from arrowslit.agents.api.events import EventsApi
from arrowslit.agents.api.files import FilesApi
from arrowslit.agents.api.keys import KeysApi
from arrowslit.agents.api.openapi import OpenApi
from arrowslit.agents.api.pins import PinsApi
from arrowslit.agents.api.records import RecordsApi
from arrowslit.agents.api.relay import Prove, RelayApi
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.sessions import SessionsApi
from arrowslit.agents.api.stream import StreamApi
from arrowslit.agents.api.toolsets import Reader
from arrowslit.agents.api.tunnels import TunnelsApi
from arrowslit.agents.api.unsupported import SessionParts, unsupported
from arrowslit.agents.api.work import WorkApi
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.work.polling import Polling
from arrowslit.agents.work.reaper import Reaper
from arrowslit.clock import Clock
from arrowslit.edge.auth import WrongCredentials
from arrowslit.environment import Environments
from arrowslit.file import Files
from arrowslit.ids import RandomBytes
from arrowslit.pin import Pins
from arrowslit.principal import Credentials, KeyAdmin
from arrowslit.record import CallRecords, Ledger, Seal, WorkerChains
from arrowslit.tunnel import Certificates, Links, TunnelAdmin
from arrowslit.work import WorkQueue


def routes(
    *,
    credentials: Credentials,
    wrong: WrongCredentials,
    tunnels: TunnelAdmin,
    certificates: Certificates,
    agents: AgentAdmin,
    pins: Pins,
    keys: KeyAdmin,
    environments: Environments,
    queue: WorkQueue,
    files: Files,
    chains: WorkerChains,
    seal: Seal,
    log: Log,
    polling: Polling,
    reaper: Reaper,
    ledger: Ledger,
    calls: CallRecords,
    links: Links,
    clock: Clock,
    random: RandomBytes,
    cursor_key: bytes,
    relay_fingerprint: str,
    prove: Prove,
    domain: str = "tunnel.localhost",
) -> list[Route]:
    """The routes of /v1. Every one of them, the unknown ones too, asks first who is there.

    `domain` is the tunnel domain, `relay_fingerprint` the SHA-256 of the relay's key in hex; `prove` shows that it has
    that key. `wrong` counts wrong credentials, best together with the other doors. `cursor_key` signs page cursors: 32
    bytes, the same at every start.
    """
    keeper = Doorkeeper(credentials, wrong, queue, random, cursor_key)
    served = [
        *TunnelsApi(tunnels, certificates, links, random, domain).routes(keeper),
        *CertificatesApi(certificates).routes(keeper),
        *EnvironmentsApi(environments).routes(keeper),
        *AgentsApi(agents, Definitions(Reader(tunnels, links, domain), environments), pins).routes(keeper),
        *PinsApi(agents, pins, ledger, clock).routes(keeper),
        *SessionsApi(log, agents, environments, clock, random).routes(keeper),
        *StreamApi(log, clock).routes(keeper),
        *EventsApi(log, ledger, clock).routes(keeper),
        *FilesApi(log, files, ledger, clock).routes(keeper),
        *SessionParts(log).routes(keeper),
        *WorkApi(environments, queue, polling, log, reaper, clock, random).routes(keeper),
        *RecordsApi(chains, ledger, seal).routes(keeper),
        *CallsApi(calls).routes(keeper),
        *KeysApi(keys, agents, clock).routes(keeper),
        *RelayApi(relay_fingerprint, domain, prove).routes(keeper),
    ]
    served += OpenApi(served).routes(keeper)
    return [
        *served,
        *unsupported(keeper),
        keeper.resource("/v1/{rest:path}"),
    ]
