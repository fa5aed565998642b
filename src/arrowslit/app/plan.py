"""What a connector is to offer: a Plan, read from the command line or from a connector.toml."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from arrowslit.app.config import ConnectConfig
from arrowslit.connector.offer import MAX_CALLS
from arrowslit.connector.targets.sse import SseEndpoint, read_url
from arrowslit.connector.targets.stdio import MOST_PROCESSES, Command, read_command, runnable
from arrowslit.connector.targets.upstream.address import Endpoint, read_place
from arrowslit.errors import Error
from arrowslit.policy import ceiling as policy
from arrowslit.policy.ceiling import Ceiling


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One target: a command to run or an endpoint to reach, and the ceiling over it.

    `authorization` is the value of the Authorization header for the endpoint.
    """

    name: str | None
    where: Command | Endpoint | SseEndpoint
    ceiling: Ceiling
    calls: int = MAX_CALLS
    processes: int = MOST_PROCESSES
    authorization: str | None = field(default=None, repr=False)

    def runs_like(self, other: TargetPlan) -> bool:
        """Whether what runs for the one is good for the other: they differ in what passes, if in anything."""
        mine, theirs = (
            (each.name, each.where, each.processes, each.authorization, each.ceiling.hosts) for each in (self, other)
        )
        return mine == theirs

    @property
    def shown(self) -> str:
        """Where it is, for the owner of this machine: the words of the command, or the URL without its query."""
        if isinstance(self.where, Command):
            return shlex.join(self.where.argv)
        return str(self.where).partition("?")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tunnel and what is offered through it."""

    name: str
    targets: Sequence[TargetPlan]


def of_flags(config: ConnectConfig) -> Plan:
    """What `--target` and the options about it say. Raises Error `target_invalid` or `ceiling_invalid`."""
    limits = _ceiling(config)
    return Plan(config.name, [TargetPlan(None, _where(config), limits)])


def check_places(limits: Ceiling) -> None:
    """Raises Error `target_invalid` unless every one of the ceiling's `hosts` can be read as a place."""
    for each in sorted(limits.hosts):
        read_place(each)


def _ceiling(config: ConnectConfig) -> Ceiling:
    if config.ceiling is None:
        return policy.of_tools(config.allow) if config.allow else policy.OPEN
    try:
        text = config.ceiling.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = f"{config.ceiling} cannot be read: {error}"
        raise Error("ceiling_invalid", why, hint="nothing was started") from error
    limits = policy.parse(text)
    check_places(limits)
    return limits


def _where(config: ConnectConfig) -> Command | Endpoint | SseEndpoint:
    kind, _, rest = config.target.partition(":")
    match kind:
        case "stdio":
            given = config.environment
            return runnable(read_command(rest, python=config.python, environment=given, pass_env=config.pass_env))
        case "http" | "https" | "sse+http" | "sse+https":
            return read_url(config.target)
        case _:
            raise Error(
                "target_invalid",
                f"{config.target!r} is no target",
                hint="a target is stdio:COMMAND, http://host:port/path or sse+http://host:port/path",
            )
