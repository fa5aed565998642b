"""The legs of `make conformance`: what the suite is run against, each with processes of its own, side by side."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
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
    """The legs for servers, and those for clients: all, or only those through the tunnel whose names hold a word."""
    with warm(folder) as python, Relay(folder / "relay") as relay, ThreadPoolExecutor() as pool:
        jobs: dict[tuple[str, str], Callable[[], Mapping[str, Found]]] = {
            ("server", DIRECT): lambda: _servers(_directly(), folder / "direct"),
            ("server", HTTP): lambda: _servers(_over_http(relay), folder / "http"),
            ("server", STDIO): lambda: _servers(_over_stdio(relay, python), folder / "stdio"),
            ("client", DIRECT): lambda: _clients(python, None, folder / "clients"),
            ("client", HTTP): lambda: _clients(python, relay, folder / "clients-http"),
        }
        wanted = [key for key in jobs if not words or any(word in " ".join(key).lower() for word in words)]
        wanted += [(kind, DIRECT) for kind, _ in wanted]
        running = {key: pool.submit(jobs[key]) for key in jobs if key in wanted}
        found = {key: job.result() for key, job in running.items()}
    return _of("server", found), _of("client", found)


def _of(kind: str, found: Mapping[tuple[str, str], Mapping[str, Found]]) -> Legs:
    return {name: legs for (its, name), legs in found.items() if its == kind}


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


def _servers(way: AbstractContextManager[Way], folder: Path) -> Mapping[str, Found]:
    """Both versions over one way, one after the other."""
    with way as there:
        return {
            version: suite.run_server(there.url, version, folder / version, bearer=there.bearer) for version in VERSIONS
        }


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
