"""The legs of `make conformance`: what the suite is run against, each with processes of its own, side by side."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "clients"))

import programs

from tests.conformance import suite
from tests.conformance.checks import Check, Found
from tests.conformance.client import Through
from tests.harness import Connector, Relay, environment

ROOT = Path(__file__).resolve().parents[2]
WARM = Path(__file__).with_name("warm.py")
SLOW = ("mcp.server.lowlevel", "mcp.server.stdio", "mcp.client.streamable_http", "uvicorn", "tests.harness")
VERSIONS = (suite.LEGACY, suite.MODERN)
DIRECT, HTTP, STDIO = "directly over HTTP", "through the tunnel over HTTP", "through the tunnel over stdio"

LEGS = {("server", DIRECT), ("server", HTTP), ("server", STDIO), ("client", DIRECT), ("client", HTTP)}

Legs = Mapping[str, Mapping[str, Found]]
"""What was found, by way and version."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the fixture: its URL, and the credential that it wants."""

    url: str
    bearer: str | None = None


@contextmanager
def warm(folder: Path) -> Iterator[list[str]]:
    """The command that runs a script of these tests as `python` does, for as long as this is open."""
    place = folder / "warm"
    command = [sys.executable, str(WARM), "serve", str(place), *SLOW]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(PYTHONPATH=str(ROOT))
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield [sys.executable, "-I", "-S", str(WARM), "run", str(place)]
        finally:
            process.kill()


def run(folder: Path, words: Sequence[str] = ()) -> tuple[Legs, Legs]:
    """The legs for servers, and those for clients: all, or only those through the tunnel whose names hold a word.

    Everything starts one after the other (in a new clone each start compiles what the next one needs), and then runs
    side by side.
    """
    wanted = _wanted(words)
    with ExitStack() as stack:
        python = stack.enter_context(warm(folder))
        relay = stack.enter_context(Relay(folder / "relay"))
        ways = {DIRECT: _directly(), HTTP: _over_http(relay), STDIO: _over_stdio(relay, python)}
        relays = {DIRECT: None, HTTP: relay}
        opened = {name: stack.enter_context(way) for name, way in ways.items() if ("server", name) in wanted}
        pool = stack.enter_context(ThreadPoolExecutor())
        servers = {name: pool.submit(_servers, way, folder / name) for name, way in opened.items()}
        clients = {
            name: pool.submit(_clients, python, through, folder / f"clients {name}")
            for name, through in relays.items()
            if ("client", name) in wanted
        }
        return _results(servers), _results(clients)


def _wanted(words: Sequence[str]) -> set[tuple[str, str]]:
    """The legs that have one of `words` in their names, and what they are compared with."""
    chosen = {leg for leg in LEGS if not words or any(word in " ".join(leg).lower() for word in words)}
    return chosen | {(kind, DIRECT) for kind, _ in chosen}


def _results(running: Mapping[str, Future[Mapping[str, Found]]]) -> Legs:
    return {name: leg.result() for name, leg in running.items()}


# ------------------------------------------------------------ servers


@contextmanager
def _directly() -> Iterator[Way]:
    with programs.over_http("everything") as url:
        yield Way(url)


@contextmanager
def _over_http(relay: Relay) -> Iterator[Way]:
    with programs.over_http("everything") as url, _through(relay, "http", url) as way:
        yield way


@contextmanager
def _over_stdio(relay: Relay, python: Sequence[str]) -> Iterator[Way]:
    _, *script = programs.command("everything")
    with _through(relay, "stdio", f"stdio:{shlex.join([*python, *script])}") as way:
        yield way


@contextmanager
def _through(relay: Relay, name: str, target: str) -> Iterator[Way]:
    """A connector in front of `target`, and the key of an agent that may use all of it."""
    tunnel = relay.tunnel(name)
    agent = relay.whole(name, tunnel)
    with Connector(relay, tunnel, target):
        yield Way(f"{relay.url}/mcp/{agent}/{tunnel.name}", relay.key(agent, "acme"))


def _servers(way: Way, folder: Path) -> Mapping[str, Found]:
    """Both versions over one way, one after the other."""
    return {version: suite.run_server(way.url, version, folder / version, bearer=way.bearer) for version in VERSIONS}


# ------------------------------------------------------------ clients


def _clients(python: Sequence[str], relay: Relay | None, folder: Path) -> Mapping[str, Found]:
    """Every scenario for clients in both versions, directly or through a tunnel of its own."""

    def one(number: int, scenario: str, version: str) -> Found:
        more = {} if relay is None else _tunnel(relay, f"client{number}", folder / f"connector{number}")
        return suite.run_client(python, scenario, version, folder / f"{number}", more)

    found: dict[str, dict[Check, str]] = {version: {} for version in VERSIONS}
    scenarios = suite.CLIENT_SCENARIOS
    with ThreadPoolExecutor(max_workers=2) as pool:
        each = pool.map(one, range(len(scenarios)), *zip(*scenarios, strict=True))
        for (_, version), checks in zip(scenarios, each, strict=True):
            found[version] |= checks
    return found


def _tunnel(relay: Relay, name: str, folder: Path) -> Mapping[str, str]:
    """A tunnel that the client itself puts a connector to, and a key; as its environment."""
    tunnel = relay.tunnel(name)
    agent = relay.whole(name, tunnel)
    url, key = f"{relay.url}/mcp/{agent}/{name}", relay.key(agent, "acme")
    return Through(str(relay.address), name, tunnel.token, url, key, str(folder)).to_environment()
