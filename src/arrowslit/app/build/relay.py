"""The public side: what is behind the door of `arrowslit serve`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.agents.api.routes import routes
from arrowslit.agents.sessions.log import Log
from arrowslit.app import state
from arrowslit.app.address import certificate
from arrowslit.app.build.agents import Agents, open_agents
from arrowslit.app.config import RelayConfig
from arrowslit.clock import Clock, SystemClock
from arrowslit.credential import RootKey
from arrowslit.edge import guard
from arrowslit.edge.auth import Identities, WrongCredentials, connector_token, identify
from arrowslit.edge.door import Gate, Upgrade
from arrowslit.edge.problem import v1_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.ledger.chain import seal
from arrowslit.ledger.disk import FileDisk
from arrowslit.ledger.find import CallFinder
from arrowslit.ledger.writer import Keys, open_ledger
from arrowslit.link import websocket
from arrowslit.principal import Change, Credentials, KeyRevoked
from arrowslit.relay.accept import Accept, Identity
from arrowslit.relay.admission import Admission, Bounds
from arrowslit.relay.calls import Calls
from arrowslit.relay.endpoint import Endpoint
from arrowslit.relay.hub import Hub
from arrowslit.relay.records import Denials
from arrowslit.relay.sessions import Seal
from arrowslit.store.open import Store
from arrowslit.tunnel import Headers, KeyBinding, TokenRevoked, TunnelArchived, TunnelChanged, fingerprint


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that is ready to listen: what the door needs, and what has to be told when it stops."""

    app: Starlette
    gate: Gate
    hub: Hub
    endpoint: Endpoint
    calls: Calls
    log: Log
    fingerprint: str
    admin_key_path: Path

    def end_streams(self) -> None:
        """The relay is stopping: end what would stay open for ever, so that the rest can finish."""
        self.endpoint.end_streams()
        self.log.close()


@asynccontextmanager
async def open_relay(
    config: RelayConfig, clock: Clock | None = None, random: RandomBytes = os.urandom
) -> AsyncIterator[Relay]:
    """Everything behind the door of `arrowslit serve`. Raises Error for a state folder or certificate of no use."""
    clock = clock or SystemClock()
    config.check()
    folder = state.folder(config.state)
    root = RootKey(state.secret(folder / "root.key", random))
    identity = Identity(state.signing_key(folder / "relay.key", random), _certificates(config))
    ledger_keys = Keys(state.signing_key(folder / "ledger.key", random), root.derive("ledger-digest"))
    url = config.database or f"sqlite:///{folder / 'arrowslit.db'}"
    async with AsyncExitStack() as stack:  # what is entered last is left first
        disk = stack.enter_context(FileDisk(folder / "ledger", folder / "ledger.head"))
        ledger = await stack.enter_async_context(open_ledger(disk, ledger_keys, clock, sync=config.ledger_sync))
        store = await stack.enter_async_context(
            Store.open(url, files=folder / "files", root=root, clock=clock, random=random)
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        hub, wrong = Hub(clock), WrongCredentials(clock)
        calls = Calls(
            grants=store.grants,
            tunnels=store.grants,
            hub=hub,
            ledger=ledger,
            admission=Admission(Bounds()),
            seal=Seal(root.derive("session-seal")),
            denials=Denials(),
            pins=store.pins,
            clock=clock,
            random=random,
        )
        endpoint = Endpoint(
            await stack.enter_async_context(calls),
            store.keys.live,
            clock,
            hosts=store.grants,
            domain=config.tunnel_domain,
        )
        credentials = await stack.enter_async_context(_credentials(config, store, clock))
        agents = await stack.enter_async_context(open_agents(config, store, calls, ledger, clock, random))
        stack.callback(hub.close)
        stack.callback(tasks.create_task(endpoint.watch_expiry()).cancel)
        store.on_change(lambda change: _obey(change, store, hub, endpoint, agents))
        accept = Accept(hub, store.tunnels, identity, clock, random)
        yield Relay(
            app=Starlette(
                routes=[
                    *_health(hub, agents),
                    *routes(
                        credentials=credentials,
                        wrong=wrong,
                        tunnels=store.tunnels,
                        certificates=store.certificates,
                        agents=store.agents,
                        pins=store.pins,
                        keys=store.keys,
                        environments=store.environments,
                        queue=store.work,
                        files=store.files,
                        chains=store.chains,
                        seal=seal,
                        log=agents.log,
                        polling=agents.polling,
                        reaper=agents.reaper,
                        ledger=ledger,
                        calls=CallFinder(folder / "ledger"),
                        links=hub,
                        clock=clock,
                        random=random,
                        cursor_key=root.derive("page-cursors"),
                        domain=config.tunnel_domain,
                        relay_fingerprint=_digest(identity),
                        prove=accept.prove,
                    ),
                ],
                exception_handlers={404: _nothing_there, 405: _no_such_method},
            ),
            gate=Gate(
                identify=lambda credential, address: identify(credential, credentials, wrong, address),
                mcp=endpoint.serve,
                admit=_admission(accept, wrong, tasks),
                rules=_rules(config),
            ),
            hub=hub,
            endpoint=endpoint,
            calls=calls,
            log=agents.log,
            fingerprint=_digest(identity),
            admin_key_path=await _admin_key(store, folder),
        )


@asynccontextmanager
async def _credentials(config: RelayConfig, store: Store, clock: Clock) -> AsyncIterator[Credentials]:
    """API keys, and the tokens of other issuers where some are believed."""
    if not config.issuers:
        yield store.grants
        return
    from arrowslit.edge.oidc.issuers import open_issuers  # it brings in an HTTP client

    async with open_issuers(config.issuers, store.grants.agent_id, clock) as issuers:
        yield Identities(store.grants, issuers)


def _digest(identity: Identity) -> str:
    """The fingerprint that stands in ARROWSLIT_RELAY."""
    return hashlib.sha256(identity.key.public_key().public_bytes_raw()).hexdigest()


def _obey(change: Change, store: Store, hub: Hub, endpoint: Endpoint, agents: Agents) -> None:
    """What was revoked is cut at once (P11)."""
    match change:
        case KeyRevoked():
            endpoint.cut(change.key_id)
            agents.log.cut(change.key_id)
            agents.runner.revoked(change.key_id)
        case TunnelArchived():
            hub.cut(change.tunnel_id, "the tunnel was archived")
        case TokenRevoked():
            hub.cut(change.tunnel_id, "the tunnel's token was revoked")
        case TunnelChanged():
            tunnel = store.grants.get(change.tunnel_id)
            if tunnel is not None and tunnel.key_binding is KeyBinding.PINNED and tunnel.connector_key is not None:
                hub.cut_others(tunnel.id, fingerprint(tunnel.connector_key))
        case _:
            return


def _admission(accept: Accept, wrong: WrongCredentials, tasks: asyncio.TaskGroup) -> Callable[[Headers, str], Upgrade]:
    """What the door asks when a connector dials in."""

    def admit(headers: Headers, address: str) -> Upgrade:
        token = connector_token(headers)
        try:
            accept.authenticate(token)
        except Error:
            if token:
                wrong.count(address)
            raise

        def take_over(transport: asyncio.Transport, key: bytes) -> None:
            pipe = websocket.accept(transport, key)
            tasks.create_task(accept.serve(pipe, token))

        return take_over

    return admit


def _rules(config: RelayConfig) -> guard.Rules:
    """A page cannot rebind its name to a listener with TLS, nor to one that only a proxy reaches."""
    suffix = f".{config.tunnel_domain}".encode()
    if config.listen.is_loopback and not config.proxies and config.tls_cert is None:
        return guard.Rules(suffixes=(suffix,))
    return guard.Rules(hosts=None, suffixes=(suffix,), proxies=config.proxies, schemes=frozenset({b"https"}))


def _health(hub: Hub, agents: Agents) -> list[Route]:
    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(_: Request) -> JSONResponse:
        model = None if agents.model is None else dict(agents.model.facts)
        return JSONResponse({"status": "ok", "streams": hub.streams, "model": model})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _nothing_there(_: Request, __: Exception) -> Response:
    return _problem(Error("not_found", "there is nothing at this path"))


async def _no_such_method(_: Request, refused: Exception) -> Response:
    allow = getattr(refused, "headers", None) or {}
    return _problem(Error("method_not_supported", "this path has no such method"), **allow)


def _problem(error: Error, **headers: str) -> Response:
    said = v1_problem(error)
    return Response(said.body, said.status, dict(said.headers) | headers)


async def _admin_key(store: Store, folder: Path) -> Path:
    """Write the first administrator's key where its owner finds it."""
    path = folder / "admin.key"
    held = path.read_text().strip() if path.exists() else None
    made = await store.ensure_admin_key(held)
    if made is not None:
        state.write(path, made + "\n")
    return path


def _certificates(config: RelayConfig) -> frozenset[bytes]:
    """SHA-256 of the certificates that connectors may see: ours, and that of whatever ends TLS before us."""
    return frozenset(_certificate(path) for path in (config.tls_cert, config.public_cert) if path is not None)


def _certificate(path: Path) -> bytes:
    return hashlib.sha256(certificate(path).public_bytes(Encoding.DER)).digest()
