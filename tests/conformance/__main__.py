"""`make conformance`: the official suite directly, and through the tunnel; every check has to end alike.

One line for each leg; `make conformance ARGS=stdio` runs only those through the tunnel that have the word in their
names. Exits 1 if a check fails directly, or if a check differs that `differences.toml` does not explain.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import checks, legs, suite
from tests.conformance.checks import Found
from tests.conformance.legs import Legs

LEAST = {suite.LEGACY: 84, suite.MODERN: 152}  # checks that a server with everything passes


def main(words: Sequence[str]) -> int:
    """Run the legs that `words` name, all without any, and print what came of them; returns the exit status."""
    allowed = checks.read_allowed(suite.HERE / "differences.toml")
    with tempfile.TemporaryDirectory(prefix="arrowslit-conformance-") as folder:
        servers, clients = legs.run(Path(folder), words)
    lines = [*judge("server", servers, allowed, LEAST), *judge("client", clients, [], {})]
    print("\n".join(lines) or "no leg has such a name")
    return int(not lines or any(line.startswith(" ") for line in lines))


def judge(kind: str, found: Legs, allowed: list[checks.Allowed], least: dict[str, int]) -> list[str]:
    """A line for each leg, and below it, indented, what is wrong with it."""
    lines: list[str] = []
    for version, direct in found.get(legs.DIRECT, {}).items():
        for name, results in found.items():
            title = f"{version} {kind} {name}"
            if name == legs.DIRECT:
                lines += _direct(title, direct, least.get(version, 0))
            else:
                lines += _tunnel(title, direct, results[version], _for(name, version, allowed))
    return lines


def _direct(title: str, direct: Found, least: int) -> list[str]:
    wrong = [f"    failed: {check}" for check in checks.failed(direct)]
    if checks.passed(direct) < least:
        wrong.append(f"    at least {least} should pass")
    return [_title(title, direct), *wrong]


def _tunnel(title: str, direct: Found, tunnel: Found, listed: list[checks.Allowed]) -> list[str]:
    differences = checks.compare(direct, tunnel)
    unknown, idle = checks.unexplained(differences, listed)
    explained = len(differences) - len(unknown)
    return [
        f"{_title(title, tunnel)}, {len(differences)} of {len(direct)} checks differ"
        + (f" ({explained} explained)" if explained else ""),
        *(f"    differs: {each}" for each in unknown),
        *(f"    no longer differs, so do not list it: {each.scenario}: {each.id}" for each in idle),
    ]


def _title(title: str, found: Found) -> str:
    return f"{title}: {checks.passed(found)} passed, {len(checks.failed(found))} failed"


def _for(name: str, version: str, allowed: list[checks.Allowed]) -> list[checks.Allowed]:
    """Only stdio has limits of its own."""
    return [each for each in allowed if each.version == version] if name == legs.STDIO else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
