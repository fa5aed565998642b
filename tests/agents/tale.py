"""A session whose events are made as the log makes them, without a store, and the agent it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

from arrowslit.agent import Builtin, CustomTool, Definition, Permission, ToolRule, Toolset
from arrowslit.agents.servers.tool import ToolDefinition
from arrowslit.agents.sessions.change import Change, Draft, carry_out, idle
from arrowslit.agents.sessions.state import EMPTY, State
from arrowslit.principal import Tenant
from arrowslit.session import Event, Session
from arrowslit.tunnel import Server

STOCK = Toolset(
    Server("internal", "tnl_internal"),
    "https://internal.tunnel.localhost/mcp",
    (
        ToolRule("check_stock", True, Permission.ALWAYS_ALLOW),
        ToolRule("order", True, Permission.ALWAYS_ASK),
        ToolRule("drop_table", False, Permission.ALWAYS_ALLOW),
    ),
)
NOTIFY = CustomTool("notify", "Tell somebody.", {"type": "object"})
DEFINITION = Definition(
    "inventory", {"id": "m"}, system="Be brief.", toolsets=(STOCK,), builtin=Builtin(), custom=(NOTIFY,)
)
CHECK_STOCK = ToolDefinition("check_stock", "Look stock up.", {"type": "object", "properties": {}})
ORDER = ToolDefinition("order", "Order more.", {"type": "object"})
DROP_TABLE = ToolDefinition("drop_table", "Never granted.", {"type": "object"})


def session(
    definition: Definition = DEFINITION, *, environment_id: str | None = "env_1", tenant: str = "acme"
) -> Session:
    return Session(
        id="sesn_1",
        tenant=Tenant(tenant),
        principal_id="key_1",
        agent_id="agent_1",
        agent_version=1,
        definition=definition,
        environment_id=environment_id,
    )


class Tale:
    """Append, and read what came of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.state: State = EMPTY
        self._ids = (f"sevt_{number}" for number in count(1))
        self._time = count(1_000)

    def append(self, *drafts: Draft) -> list[Event]:
        """The events that this added, those that follow by rule too."""
        done = carry_out(self.state, Change(drafts), float(next(self._time)), self._ids.__next__)
        self.state = done.state
        taken = set(done.processed)
        now = done.events[-1].created_at if done.events else 0.0
        self.events = [replace(each, processed_at=now) if each.id in taken else each for each in self.events]
        self.events += done.events
        return list(done.events)

    def say(self, words: str) -> list[Event]:
        """A message of the user."""
        return self.append(Draft("user.message", {"content": text(words)}, processed=False))

    def ask(self, *drafts: Draft, failed: bool = False) -> list[Event]:
        """A model request and what the model said to it."""
        self.append(Draft("span.model_request_start"))
        return self.append(*drafts, Draft("span.model_request_end", {"is_error": failed}))

    def end(self) -> list[Event]:
        """The end of a turn."""
        return self.append(idle("end_turn"))


def text(words: str) -> list[Mapping[str, object]]:
    return [{"type": "text", "text": words}]


def message(words: str) -> Draft:
    return Draft("agent.message", {"content": text(words)})


def mcp(name: str, id: str, server: str = "internal", verdict: str = "allow") -> Draft:
    body = {"name": name, "mcp_server_name": server, "input": {}, "evaluated_permission": verdict}
    return Draft("agent.mcp_tool_use", body, id)


def sandbox(name: str, id: str) -> Draft:
    return Draft("agent.tool_use", {"name": name, "input": {}, "evaluated_permission": "allow"}, id)


def custom(name: str, id: str) -> Draft:
    return Draft("agent.custom_tool_use", {"name": name, "input": {}}, id)


def mcp_result(id: str, words: str, **more: object) -> Draft:
    return Draft("agent.mcp_tool_result", {"mcp_tool_use_id": id, "content": text(words), **more})


def sandbox_result(id: str, words: str) -> Draft:
    return Draft("user.tool_result", {"tool_use_id": id, "content": text(words)})


def custom_result(id: str, words: str) -> Draft:
    return Draft("user.custom_tool_result", {"custom_tool_use_id": id, "content": text(words)})
