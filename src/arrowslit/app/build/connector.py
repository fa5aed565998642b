"""The private side: what `arrowslit connect` runs."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from arrowslit import __version__
from arrowslit.app import state
from arrowslit.app.config import ConnectConfig
from arrowslit.clock import Clock, SystemClock
from arrowslit.connector.dial import Dialled, Dialler, Identity
from arrowslit.connector.serve import Server
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.stdio import Stdio, read_command
from arrowslit.connector.targets.target import Target
from arrowslit.connector.targets.upstream.address import read_endpoint, read_place
from arrowslit.credential import CredentialKind, kind_of
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.link import websocket
from arrowslit.policy import ceiling as policy
from arrowslit.protocol import hello
from arrowslit.tunnel import fingerprint


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector that is ready to dial. `fingerprint` is that of its key."""

    fingerprint: str
    dialler: Dialler
    target: Target
    server: Server
    ceiling: policy.Ceiling


@asynccontextmanager
async def open_connector(
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


def _identity(name: str, folder: Path, random: RandomBytes) -> Identity:
    return Identity(
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
