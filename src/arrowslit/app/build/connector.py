"""The private side: what `arrowslit connect` runs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from arrowslit import __version__
from arrowslit.app import connector_file, state
from arrowslit.app.build.targets import Targets
from arrowslit.app.config import ConnectConfig
from arrowslit.app.plan import Plan, of_flags
from arrowslit.clock import Clock, SystemClock
from arrowslit.connector.dial import Dialled, Dialler, Identity
from arrowslit.connector.offer import Offer, Offers
from arrowslit.connector.serve import Server
from arrowslit.credential import CredentialKind, kind_of
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.link import websocket
from arrowslit.protocol import hello
from arrowslit.tunnel import fingerprint


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector that is ready to dial. `fingerprint` is that of its key."""

    fingerprint: str
    dialler: Dialler
    server: Server
    targets: Targets

    async def offer(self, plan: Plan) -> None:
        """Offer what `plan` says from now on. Calls that run are not cut.

        Raises Error, with nothing changed, for another tunnel, and for a target that cannot be started.
        """
        if plan.name != self.dialler.name:
            hint = f"keep name = {self.dialler.name!r}, or stop this connector and start it anew"
            raise Error("config_invalid", "the name of the tunnel cannot change while a connector runs", hint=hint)
        self.server.offers = Offers(await self.targets.apply(plan.targets))
        self.dialler.renew()


@asynccontextmanager
async def open_connector(
    config: ConnectConfig,
    clock: Clock | None = None,
    random: RandomBytes = os.urandom,
    on_open: Callable[[hello.Welcome], None] = lambda _: None,
) -> AsyncIterator[Connector]:
    """Everything of `arrowslit connect`, its targets running. Raises Error for what would not work or not be safe.

    `on_open` hears of every link that was agreed on.
    """
    clock = clock or SystemClock()
    config.check()
    plan = read_plan(config)
    folder = state.folder(config.state)
    with state.lock(folder):
        token = _Token(config.token, folder / "tunnel.token")
        identity = _identity(config.name, folder, random)

        def opened(welcome: hello.Welcome) -> None:
            if welcome.token is not None:
                token.registered(welcome.token)
            on_open(welcome)

        async with _running(plan, folder, clock, random) as (targets, offers):
            server = Server(offers)
            dialler = Dialler(
                identity=identity,
                dial=_dial(config, token),
                relay_fingerprint=config.relay.fingerprint,
                server=server,
                facts={"software": f"arrowslit {__version__}"},
                clock=clock,
                random=random,
                on_open=opened,
            )
            yield Connector(fingerprint(identity.public_key), dialler, server, targets)


def read_plan(config: ConnectConfig) -> Plan:
    """What is to be offered, from the command line or the file that it names. Raises Error."""
    if config.file is None:
        return of_flags(config)
    return connector_file.load(config.file, environment=config.environment, python=config.python)


@asynccontextmanager
async def _running(
    plan: Plan, folder: Path, clock: Clock, random: RandomBytes
) -> AsyncIterator[tuple[Targets, list[Offer]]]:
    """The targets, until the block ends. Raises Error for one that cannot be started."""
    failure: Error | None = None
    async with asyncio.TaskGroup() as tasks:
        targets = Targets(tasks, clock, random, folder)
        try:
            offers = await targets.apply(plan.targets)
        except Error as error:  # of its own, and not of a group
            failure = error
        else:
            try:
                yield targets, offers
            finally:
                targets.end()
    if failure is not None:
        raise failure


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
