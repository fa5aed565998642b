"""`make conformance`: the official suite directly, and through the tunnel; every check has to end alike.

One line for each leg; `make conformance ARGS=stdio` leaves out the others through the tunnel. Exits 1 if the fixture
fails a check directly, or if a check differs that `differences.toml` does not explain.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "clients"))

import programs

from tests.conformance import checks, suite
from tests.conformance.checks import Allowed, Found
from tests.harness import Connector, Relay

LEAST = {suite.LEGACY: 84, suite.MODERN: 152}  # checks that a server with everything passes
DIRECT, STDIO = "directly over HTTP", "through the tunnel over stdio"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the fixture: its URL, and the credential that it wants."""

    url: str
    bearer: str | None = None


@contextmanager
def directly() -> Iterator[Way]:
    """The fixture itself."""
    with programs.over_http("everything") as url:
        yield Way(url)


@contextmanager
def over_http(relay: Relay) -> Iterator[Way]:
    """Through the tunnel to the fixture over HTTP."""
    with programs.over_http("everything") as url, through(relay, "http", url) as way:
        yield way


@contextmanager
def over_stdio(relay: Relay) -> Iterator[Way]:
    """Through the tunnel to the fixture over stdio."""
    with through(relay, "stdio", f"stdio:{shlex.join(programs.command('everything'))}") as way:
        yield way


@contextmanager
def through(relay: Relay, name: str, target: str) -> Iterator[Way]:
    """Relay and connector in front of `target`, and a key of an agent that may use all of it."""
    tunnel = relay.tunnel(name)
    agent = relay.whole(name, tunnel)
    with Connector(relay, tunnel, target):
        yield Way(f"{relay.url}/mcp/{agent}/{tunnel.name}", relay.key(agent, "acme"))


def run_legs(way: AbstractContextManager[Way], folder: Path) -> dict[str, Found]:
    """Both versions of the suite over one way."""
    with way as open_way:
        return {
            version: suite.run_server(open_way.url, version, folder / version, bearer=open_way.bearer)
            for version in LEAST
        }


def run(folder: Path, words: Sequence[str] = ()) -> Mapping[str, Mapping[str, Found]]:
    """The legs whose names hold one of `words`, by way and version; all without any. The ways run side by side: each
    has a fixture of its own.
    """
    with Relay(folder / "relay") as relay, ThreadPoolExecutor() as pool:
        ways: dict[str, AbstractContextManager[Way]] = {
            DIRECT: directly(),
            "through the tunnel over HTTP": over_http(relay),
            STDIO: over_stdio(relay),
        }
        wanted = [name for name in ways if name == DIRECT or not words or any(word in name.lower() for word in words)]
        legs = {name: pool.submit(run_legs, ways[name], folder / name) for name in wanted}
        return {name: leg.result() for name, leg in legs.items()}


def judge(found: Mapping[str, Mapping[str, Found]], allowed: list[Allowed], say: Callable[[str], None]) -> bool:
    """Say a line for each leg, and below it what is wrong; returns whether nothing is."""
    good = True
    for version, least in LEAST.items():
        direct = found[DIRECT][version]
        for name, legs in found.items():
            leg, wrong = legs[version], list[str]()
            said = f"{version} {name}: {checks.passed(leg)} passed, {len(checks.failed(leg))} failed"
            if name == DIRECT:
                wrong += [f"failed: {check}" for check in checks.failed(leg)]
                wrong += [f"at least {least} should pass"] if checks.passed(leg) < least else []
            else:
                differences = checks.compare(direct, leg)
                explained = allowed if name == STDIO else []
                unknown, idle = checks.unexplained(version, differences, explained)
                wrong += [f"differs: {each}" for each in unknown]
                wrong += [f"no longer differs, so do not list it: {each.scenario}: {each.id}" for each in idle]
                said += f", {len(differences)} of {len(direct)} checks differ"
                said += f" ({len(differences) - len(unknown)} explained)" if len(differences) > len(unknown) else ""
            say(said)
            for line in wrong:
                say(f"    {line}")
            good = good and not wrong
    return good


def main() -> int:
    """Run everything; returns the exit status."""
    allowed = checks.read_allowed(suite.HERE / "differences.toml")
    with tempfile.TemporaryDirectory(prefix="arrowslit-conformance-") as folder:
        return 0 if judge(run(Path(folder), sys.argv[1:]), allowed, print) else 1


if __name__ == "__main__":
    sys.exit(main())
