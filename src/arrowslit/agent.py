"""Agent: a model, instructions and the tools it was granted, in versions; the port AgentAdmin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from arrowslit.outcome import Effect
from arrowslit.principal import Grant
from arrowslit.tunnel import Server


class Permission(StrEnum):
    """Whether the agent loop asks a person before it calls a tool. A direct MCP client is itself that person."""

    ALWAYS_ALLOW = "always_allow"
    ALWAYS_ASK = "always_ask"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class ToolRule:
    """What somebody said about one tool of one server. `effect` is the operator's own declaration."""

    name: str
    enabled: bool
    permission: Permission = Permission.ALWAYS_ASK
    effect: Effect = Effect.WRITE


@dataclass(frozen=True, slots=True)
class Toolset:
    """One server of an agent and the rules for its tools. A tool without a rule is not usable.

    `everything` grants the whole server, for an operator who wants just that. `deadline` is in seconds. `resources` are
    URIs or templates; they and `prompts` are for MCP clients, the agent loop uses tools alone.
    """

    server: Server
    url: str
    rules: tuple[ToolRule, ...] = ()
    permission: Permission = Permission.ALWAYS_ASK
    everything: bool = False
    deadline: float | None = None
    resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


SANDBOX_TOOLS = ("bash", "read", "write", "edit", "glob", "grep")
"""The tools of `agent_toolset_20260401` that a sandbox worker runs. Those that fetch from the web are never enabled."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """The sandbox's tools (`agent_toolset_20260401`). Officially all are enabled, and none asks, where nobody says."""

    enabled: bool = True
    permission: Permission = Permission.ALWAYS_ALLOW
    rules: tuple[ToolRule, ...] = ()

    def tools(self) -> Mapping[str, Permission]:
        """The enabled ones and whether each asks, in the order of SANDBOX_TOOLS."""
        said = {rule.name: rule for rule in self.rules}
        default = ToolRule("", self.enabled, self.permission)
        found = {name: said.get(name, default) for name in SANDBOX_TOOLS}
        return {name: rule.permission for name, rule in found.items() if rule.enabled}


@dataclass(frozen=True, slots=True)
class CustomTool:
    """A tool that the application runs itself. `input_schema` is a JSON Schema of type object."""

    name: str
    description: str
    input_schema: Mapping[str, object]


class OnUnknown(StrEnum):
    """What follows when nobody knows what became of a tool call: the platform says so, or the model is told."""

    STOP = "stop"
    TELL = "tell"


CANNOT_CONFIRM = "I can't confirm that right now: there is no certain answer from {tool} on {server}."
"""What an agent says by default instead of guessing. `{server}` and `{tool}` are filled in."""


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Where a turn ends at the latest. `seconds` is from the message that began it, tokens are the model's output."""

    model_requests: int = 50
    tool_calls: int = 200
    output_tokens: int = 200_000
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Definition:
    """What a version of an agent says. `model` is `{"id": …}` with `speed`, `effort`, `inference_geo` where given.

    `default_environment` is the id of the environment of a session that names none. `cannot_confirm` is the sentence
    that ends a turn with `on_unknown` "stop".
    """

    name: str
    model: Mapping[str, object]
    description: str | None = None
    system: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    toolsets: tuple[Toolset, ...] = ()
    builtin: Builtin | None = None
    custom: tuple[CustomTool, ...] = ()
    on_unknown: OnUnknown = OnUnknown.STOP
    cannot_confirm: str = CANNOT_CONFIRM
    default_environment: str | None = None
    limits: TurnLimits = TurnLimits()


@dataclass(frozen=True, slots=True)
class Agent:
    """One version of an agent. Names are for people and may repeat; ids do not. Times are Unix seconds."""

    id: str
    version: int
    definition: Definition
    created_at: float
    updated_at: float
    archived_at: float | None = None

    def grants(self) -> Mapping[str, Grant]:
        """What this version may do, by the name of the server."""
        return {each.server.name: self._grant(each) for each in self.definition.toolsets}

    def _grant(self, toolset: Toolset) -> Grant:
        return Grant(
            agent_id=self.id,
            agent_name=self.definition.name,
            agent_version=self.version,
            server=toolset.server,
            tools=frozenset(rule.name for rule in toolset.rules if rule.enabled),
            effects={rule.name: rule.effect for rule in toolset.rules},
            deadline=toolset.deadline,
            everything=toolset.everything,
            resources=frozenset(toolset.resources),
            prompts=frozenset(toolset.prompts),
        )


class AgentAdmin(Protocol):
    """What an administrator does with agents. Raises Error `agent_not_found`, and `archived` where that forbids it."""

    async def create(self, definition: Definition) -> Agent:
        """A new agent, version 1."""
        ...

    def read(self, agent_id: str) -> Agent:
        """Its current version, archived or not."""
        ...

    def named(self, text: str) -> Agent:
        """The agent of that id, or the only one of that name that is not archived."""
        ...

    def every(self) -> Sequence[Agent]:
        """The current versions of all agents, archived ones too, newest first."""
        ...

    async def update(
        self, agent_id: str, revise: Callable[[Definition], Definition], *, version: int | None = None
    ) -> Agent:
        """The agent as `revise` makes it of the current version: one version more, unless nothing changed.

        Raises Error `version_conflict` if `version` is given and is not the current one.
        """
        ...

    async def archive(self, agent_id: str) -> Agent:
        """End it for good. Again: the same answer."""
        ...

    async def versions(self, agent_id: str) -> Sequence[Agent]:
        """Every version, newest first."""
        ...
