"""What the conformance suite found, check by check, and in what two runs of it differ. No I/O but reading files."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = re.compile(r"(?:server-)?(?P<scenario>.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")
MOST = 3  # differences that a limit of stdio itself may explain; one more is a fault of ours


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """One thing that a scenario looked at. `nth` tells apart those that bear the same name: it counts from 1."""

    scenario: str
    id: str
    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.scenario}: {self.id} ({self.name}{f', {self.nth}' if self.nth > 1 else ''})"


Found = Mapping[Check, str]
"""Status of every check: SUCCESS, FAILURE, WARNING, SKIPPED or INFO."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A check that ended otherwise through the tunnel; None where it was not made at all."""

    check: Check
    direct: str | None
    tunnel: str | None

    def __str__(self) -> str:
        return f"{self.check}: {self.direct or 'absent'} directly, {self.tunnel or 'absent'} through the tunnel"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A difference that was looked into: `reason` says which limit explains it."""

    version: str
    scenario: str
    id: str
    direct: str
    tunnel: str
    reason: str

    def explains(self, difference: Difference) -> bool:
        """Whether this is that difference, in the version that it is of."""
        same = (self.scenario, self.id) == (difference.check.scenario, difference.check.id)
        return same and (self.direct, self.tunnel) == (difference.direct or "absent", difference.tunnel or "absent")


def read_results(folder: Path) -> Found:
    """What the suite wrote below `folder`: one folder for each scenario, with its `checks.json`."""
    found: dict[Check, str] = {}
    for path in sorted(folder.glob("**/checks.json")):
        named = _FOLDER.fullmatch(path.parent.name)
        assert named, f"not a folder of the suite: {path.parent.name}"
        seen = Counter[tuple[str, str]]()
        for each in json.loads(path.read_text()):
            seen[each["id"], each["name"]] += 1
            found[Check(named["scenario"], each["id"], each["name"], seen[each["id"], each["name"]])] = each["status"]
    return found


def read_allowed(path: Path) -> list[Allowed]:
    """The differences that `path` lists. Raises ValueError where there are more than `MOST`, or one has no reason."""
    allowed = [Allowed(**each) for each in tomllib.loads(path.read_text()).get("difference", [])]
    if len(allowed) > MOST:
        raise ValueError(f"{path.name} lists {len(allowed)} differences; at most {MOST} can be explained")
    if nameless := [each.id for each in allowed if not each.reason.strip()]:
        raise ValueError(f"{path.name} gives no reason for {', '.join(nameless)}")
    return allowed


def compare(direct: Found, tunnel: Found) -> list[Difference]:
    """Every check that did not end alike, in order."""
    checks = sorted(direct.keys() | tunnel.keys())
    pairs = ((check, direct.get(check), tunnel.get(check)) for check in checks)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def unexplained(differences: Sequence[Difference], listed: Sequence[Allowed]) -> tuple[list[Difference], list[Allowed]]:
    """The differences that nothing explains, and the explanations that explain nothing any more."""
    unknown, idle = [], list(listed)
    for each in differences:
        reason = next((one for one in idle if one.explains(each)), None)
        if reason is None:
            unknown.append(each)
        else:
            idle.remove(reason)  # it explains one, and no other of the same kind
    return unknown, idle


def passed(found: Found) -> int:
    """How many checks succeeded."""
    return sum(status == "SUCCESS" for status in found.values())


def failed(found: Found) -> list[Check]:
    """The checks that failed."""
    return sorted(check for check, status in found.items() if status == "FAILURE")
