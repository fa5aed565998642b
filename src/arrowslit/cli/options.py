"""Words that several commands read: durations, and the names or ids of things."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from arrowslit.errors import Error
from arrowslit.ids import is_id, tunnel_id

if TYPE_CHECKING:
    from arrowslit.client.api import Api

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`500ms`, `30s`, `10m`, `1h`, `7d` in seconds. Raises Error `usage`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Error("usage", f"{text!r} is not a duration", hint="write a number and a unit: 30s, 10m, 1h, 7d")
    return float(match[1]) * _UNITS[match[2]]


def tunnel(text: str) -> str:
    """The id of the tunnel that is named so, or has that id. Raises Error `validation_error`."""
    return text if is_id("tnl", text) else tunnel_id(text)


def agent(client: Api, text: str) -> str:
    """The id of the agent that is named so, or has that id. Raises Error `agent_not_found`, `validation_error`."""
    return text if is_id("agent", text) else _named(client, "agents", text, "agent")


def environment(client: Api, text: str) -> str:
    """The same for an environment. Raises Error `environment_not_found`, `validation_error`."""
    return text if is_id("env", text) else _named(client, "environments", text, "environment")


def _named(client: Api, path: str, text: str, what: str) -> str:
    found = [each["id"] for each in client.every(path) if each["name"] == text]
    if len(found) > 1:
        raise Error("validation_error", f"{len(found)} {what}s have the name {text!r}", hint="name it by its id")
    if not found:
        raise Error(f"{what}_not_found", f"there is no {what} {text!r}", hint=f"see: arrowslit {what} list")
    return str(found[0])
