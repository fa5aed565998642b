"""The wiring: every part is made here by a plain constructor call, and handed the ports that it asks for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arrowslit import __version__
from arrowslit.app import state
from arrowslit.app.address import certificate
from arrowslit.app.config import ConnectConfig, RelayConfig
from arrowslit.clock import Clock, SystemClock
from arrowslit.connector.dial import Dialled, Dialler
from arrowslit.connector.dial import Identity as ConnectorIdentity
from arrowslit.connector.serve import Server
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.stdio import Stdio, read_command
from arrowslit.connector.targets.target import Target
from arrowslit.connector.targets.upstream.address import read_endpoint, read_place
from arrowslit.credential import CredentialKind, RootKey, kind_of
from arrowslit.edge import guard
from arrowslit.edge.auth import WrongCredentials, authenticate
from arrowslit.edge.door import Gate, Upgrade
from arrowslit.edge.problem import v1_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.ledger.disk import FileDisk
from arrowslit.ledger.writer import Keys, open_ledger
from arrowslit.link import websocket
from arrowslit.policy import ceiling as policy
from arrowslit.principal import Change, KeyRevoked
from arrowslit.protocol import hello
from arrowslit.relay.accept import Accept
from arrowslit.relay.accept import Identity as RelayIdentity
from arrowslit.relay.admission import Admission, Bounds
from arrowslit.relay.calls import Calls
from arrowslit.relay.endpoint import Endpoint
from arrowslit.relay.hub import Hub
from arrowslit.relay.records import Denials
from arrowslit.relay.sessions import Seal
from arrowslit.tunnel import Headers, KeyBinding, TokenRevoked, TunnelArchived, TunnelChanged, fingerprint

if TYPE_CHECKING:
    from arrowslit.store.open import Store


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that is ready to listen: what the door needs, and what has to be told when it stops."""

    app: Starlette
    gate: Gate
    hub: Hub
    endpoint: Endpoint
    fingerprint: str
    admin_key_path: Path


@asynccontextmanager
async def relay(
    config: RelayConfig, clock: Clock | None = None, random: RandomBytes = os.urandom
) -> AsyncIterator[Relay]:
    """Everything behind the door of `arrowslit serve`. Raises Error for a state folder or certificate of no use."""
    from arrowslit.store.open import Store  # half of the time that a start takes; a connector has no use for it

    clock = clock or SystemClock()
    config.check()
    folder = state.folder(config.state)
    root = RootKey(state.secret(folder / "root.key", random))
    identity = RelayIdentity(state.signing_key(folder / "relay.key", random), _certificates(config))
    ledger_keys = Keys(state.signing_key(folder / "ledger.key", random), root.derive("ledger-digest"))
    url = config.database or f"sqlite:///{folder / 'arrowslit.db'}"
    async with AsyncExitStack() as stack:  # what is entered last is left first
        disk = stack.enter_context(FileDisk(folder / "ledger", folder / "ledger.head"))
        ledger = await stack.enter_async_context(open_ledger(disk, ledger_keys, clock, sync=config.ledger_sync))
        store = await stack.enter_async_context(Store.open(url, root=root, clock=clock, random=random))
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
            clock=clock,
            random=random,
        )
        endpoint = Endpoint(await stack.enter_async_context(calls), store.keys.live, clock)
        stack.callback(hub.close)
        stack.callback(tasks.create_task(endpoint.watch_expiry()).cancel)
        store.on_change(lambda change: _obey(change, store, hub, endpoint))
        accept = Accept(hub, store.tunnels, identity, clock, random)
        yield Relay(
            app=Starlette(
                routes=[*_health(hub), *_v1(config, store, wrong, hub, identity, clock, random, root)],
                exception_handlers={404: _nothing_there, 405: _no_such_method},
            ),
            gate=Gate(
                authenticate=lambda headers, query, address: authenticate(
                    headers, store.grants, wrong, query=query, address=address
                ),
                mcp=endpoint.serve,
                admit=_admission(accept, wrong, tasks),
                rules=_rules(config),
            ),
            hub=hub,
            endpoint=endpoint,
            fingerprint=_digest(identity),
            admin_key_path=await _admin_key(store, folder),
        )


def _v1(
    config: RelayConfig,
    store: Store,
    wrong: WrongCredentials,
    hub: Hub,
    identity: RelayIdentity,
    clock: Clock,
    random: RandomBytes,
    root: RootKey,
) -> list[Route]:
    from arrowslit.agents.api.routes import routes  # nor for this

    return routes(
        grants=store.grants,
        wrong=wrong,
        tunnels=store.tunnels,
        certificates=store.certificates,
        agents=store.agents,
        keys=store.keys,
        environments=store.environments,
        workers=store.work,
        cursor_key=root.derive("page-cursors"),
        links=hub,
        clock=clock,
        random=random,
        domain=config.tunnel_domain,
        relay_fingerprint=_digest(identity),
    )


def _digest(identity: RelayIdentity) -> str:
    """The fingerprint that stands in ARROWSLIT_RELAY."""
    return hashlib.sha256(identity.key.public_key().public_bytes_raw()).hexdigest()


def _obey(change: Change, store: Store, hub: Hub, endpoint: Endpoint) -> None:
    """What was revoked is cut at once (P11)."""
    match change:
        case KeyRevoked():
            endpoint.cut(change.key_id)
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
        token = next((value for name, value in headers if name == "authorization"), "")
        token = token.removeprefix("Bearer ").strip()
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
    return guard.Rules(hosts=None, suffixes=(suffix,), proxies=config.proxies)


def _health(hub: Hub) -> list[Route]:
    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def readyz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "streams": hub.streams})

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


# ---------------------------------------------------------------- the private side


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector that is ready to dial. `fingerprint` is that of its key."""

    fingerprint: str
    dialler: Dialler
    target: Target
    server: Server
    ceiling: policy.Ceiling


@asynccontextmanager
async def connector(
    config: ConnectConfig,
    clock: Clock | None = None,
    random: RandomBytes = os.urandom,
    on_open: Callable[[hello.Welcome], None] = lambda _: None,
) -> AsyncIterator[Connector]:
    """Everything of `arrowslit connect`, its target running. Raises Error for what would not work or not be safe.

    `on_open` hears of every link that was agreed on.
    """
    clock = clock or SystemClock()
    config.check()
    limits = _ceiling(config)
    folder = state.folder(config.state)
    with state.lock(folder):
        token = _Token(config.token, folder / "tunnel.token")
        identity = _identity(config.name, folder, random)

        def opened(welcome: hello.Welcome) -> None:
            if welcome.token is not None:
                token.registered(welcome.token)
            on_open(welcome)

        async with _target(config, limits, clock, random, state.folder(folder / "sessions")) as target:
            server = Server(target, limits)
            dialler = Dialler(
                identity=identity,
                dial=_dial(config, token),
                relay_fingerprint=config.relay.fingerprint,
                server=server,
                ceiling=limits,
                facts={"software": f"arrowslit {__version__}", "ceiling": limits.source.value},
                clock=clock,
                random=random,
                on_open=opened,
            )
            yield Connector(fingerprint(identity.public_key), dialler, target, server, limits)


class _Token:
    """The token in use. A registration token is good for once: the tunnel's own replaces it, in a file as well."""

    def __init__(self, given: str | None, path: Path) -> None:
        held = path.read_text().strip() if path.exists() else None
        registers = given is not None and kind_of(given) is CredentialKind.REGISTRATION_TOKEN
        text = held if held is not None and (given is None or registers) else given
        if text is None:
            raise Error(
                "usage",
                "there is no tunnel token",
                hint="set ARROWSLIT_TUNNEL_TOKEN to what `arrowslit tunnel create NAME` prints on the relay",
            )
        self.text = text
        self._path = path

    def registered(self, text: str) -> None:
        """Use the tunnel's own token from now on, after a restart too. One that was not asked for is ignored."""
        asked = kind_of(self.text) is CredentialKind.REGISTRATION_TOKEN
        if asked and kind_of(text) is CredentialKind.TUNNEL_TOKEN:
            state.write(self._path, text + "\n")
            self.text = text


def _identity(name: str, folder: Path, random: RandomBytes) -> ConnectorIdentity:
    return ConnectorIdentity(
        name=name,
        key=state.signing_key(folder / "connector.key", random),
        connector=state.secret(folder / "connector.id", random, 8).hex(),
        instance=random(8).hex(),
    )


def _dial(config: ConnectConfig, token: _Token) -> Callable[[], Awaitable[Dialled]]:
    tls = ssl.create_default_context() if config.relay.scheme == "https" else None
    address = websocket.Address(config.relay.websocket, config.proxy, tls)

    async def dial() -> Dialled:
        pipe = await websocket.connect(address, [("Authorization", f"Bearer {token.text}")])
        return Dialled(pipe, pipe.certificate)

    return dial


def _ceiling(config: ConnectConfig) -> policy.Ceiling:
    if config.ceiling is None:
        return policy.of_tools(config.allow) if config.allow else policy.OPEN
    try:
        text = config.ceiling.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = f"{config.ceiling} cannot be read: {error}"
        raise Error("ceiling_invalid", why, hint="nothing was started") from error
    return policy.parse(text)


def _target(config: ConnectConfig, limits: policy.Ceiling, clock: Clock, random: RandomBytes, sessions: Path) -> Target:
    kind, _, rest = config.target.partition(":")
    match kind:
        case "stdio":
            command = read_command(rest, python=config.python, environment=config.environment, pass_env=config.pass_env)
            return Facade(Stdio(command), clock=clock, random=random, state=sessions)
        case "http" | "https":
            allowed = [read_place(each) for each in sorted(limits.hosts)]
            return HttpTarget(read_endpoint(config.target), clock, allowed=allowed)
        case _:
            raise Error(
                "target_invalid",
                f"{config.target!r} is no target",
                hint="a target is stdio:COMMAND or http://host:port/path",
            )
