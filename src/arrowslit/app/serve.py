"""Listen, drain, stop: the life of `arrowslit serve` and of the connector's health port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette

from arrowslit.app import address, state
from arrowslit.app.build.relay import Relay, open_relay
from arrowslit.app.config import ADDRESS_FILE, Listen, RelayConfig
from arrowslit.app.signals import signals
from arrowslit.clock import SystemClock
from arrowslit.edge import guard
from arrowslit.edge.door import HEAD_TIME, Door, Gate
from arrowslit.errors import Error

log = logging.getLogger(__name__)

KEEP_ALIVE = 75  # seconds an idle connection is kept: longer than the usual 60 s of balancers in front
BACKLOG = 4096  # a storm of reconnects after a restart is to be accepted, not refused
DESCRIPTORS = 1 << 16  # open files: more connections than one relay serves
CALLS_FINISH = 20.0  # seconds that running calls have after SIGTERM; tunnels drain afterwards
TUNNELS_DRAIN = 5.0


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end the process before the ledger is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn's own does, but a TLS handshake has no more time than a head: a minute is its default."""
        loop = asyncio.get_running_loop()
        config, made = self.config, cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        self.servers = [
            await loop.create_server(
                partial(made, config, self.server_state, {}, loop),
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=None if config.ssl is None else HEAD_TIME,
            )
            for listener in sockets or ()
        ]
        self.started = True


async def serve(config: RelayConfig, ready: Callable[[Relay, Listen], None]) -> None:
    """Run a relay until SIGTERM or SIGINT, or until cancelled. `ready` hears once where it listens.

    Raises Error `listen_failed`, and what `open_relay` raises.
    """
    config.check()
    tls = _tls(config)
    _take_descriptors()
    with _bind(config.listen) as listener:
        async with open_relay(config) as relay:
            server = _Server(
                _config(
                    relay.app,
                    relay.gate,
                    tls,
                    timeout_keep_alive=KEEP_ALIVE,
                    timeout_graceful_shutdown=int(CALLS_FINISH),
                    backlog=BACKLOG,
                )
            )
            with signals(partial(_stop, server, relay)):
                running = asyncio.create_task(server.serve(sockets=[listener]))
                await _started(server, running)
                listen = Listen(config.listen.host, listener.getsockname()[1])
                near = address.for_this_machine(config, listen, relay.fingerprint)
                state.write(config.state / ADDRESS_FILE, f"{near}\n")
                ready(relay, listen)
                try:
                    await running
                finally:
                    await _drain(server, running, relay)


async def serve_health(app: Starlette, listen: Listen) -> None:
    """Serve the connector's own /healthz, /readyz and /metrics until cancelled. Raises Error `listen_failed`."""
    gate = Gate.none(guard.Rules() if listen.is_loopback else guard.Rules(hosts=None))
    with _bind(listen) as listener:
        await _Server(_config(app, gate, None, timeout_keep_alive=5)).serve(sockets=[listener])


def _config(app: Starlette, gate: Gate, tls: ssl.SSLContext | None, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Door, gate=gate),  # type: ignore[arg-type]  # uvicorn calls it, and asks no more
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        **more,
    )


def _take_descriptors() -> None:
    """Let this process have as many open files as it may: each connection is one, and 1,024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says; then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tls(config: RelayConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    address.certificate(config.tls_cert)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        tls.load_cert_chain(config.tls_cert, config.tls_key, password="")  # without one OpenSSL would ask the terminal
    except OSError as error:  # ssl.SSLError is one
        raise Error(
            "certificate_unusable",
            f"{config.tls_key} cannot be used with {config.tls_cert}: {error}",
            hint="--tls-key is the certificate's own key, in PEM and without a passphrase",
        ) from error
    return tls


@contextlib.contextmanager
def _bind(listen: Listen) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Error("listen_failed", f"cannot listen on {listen}: {error}") from error
    with contextlib.closing(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            hint = "choose another port with --listen HOST:PORT, or stop what listens there"
            raise Error("listen_failed", f"cannot listen on {listen}: {error.strerror}", hint=hint) from error
        yield listener


async def _started(server: uvicorn.Server, running: asyncio.Task[Any]) -> None:
    while not server.started:  # uvicorn sets it a few loop turns later, and has no event for it
        if running.done():
            running.result()
            raise Error("listen_failed", "the server stopped before it listened")
        await asyncio.sleep(0)


def _stop(server: uvicorn.Server, relay: Relay) -> None:
    """First SIGTERM: finish what runs. Second: stop now."""
    server.force_exit = server.should_exit
    server.should_exit = True
    relay.end_streams()


async def _drain(server: uvicorn.Server, running: asyncio.Task[Any], relay: Relay) -> None:
    """Calls finished first (uvicorn saw to that, or a cancellation cut them short); now the tunnels."""
    if not running.done():
        server.should_exit = server.force_exit = True
        running.cancel()
    relay.hub.drain()
    clock = SystemClock()
    until = clock.monotonic() + TUNNELS_DRAIN
    while relay.hub.streams and not server.force_exit and clock.monotonic() < until:
        await clock.sleep(0.05)  # a matter of seconds, once in a life
