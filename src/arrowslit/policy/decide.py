"""The one question: may this agent, for this tenant, do that? Asked for calls, and for each line of a list."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from arrowslit.principal import Grant, Tenant
from arrowslit.tunnel import Tunnel

METHODS = frozenset(
    {
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        "ping",
        "server/discover",
        "subscriptions/listen",
        "tools/call",
        "tools/list",
    }
)
"""What somebody may use who was granted tools and nothing else. All but `tools/call` counts as read-only."""


class Asked(Protocol):
    """What policy looks at of a message; `protocol.mcp.Asked` is one."""

    @property
    def method(self) -> str | None:
        """The method, None for a response that a client posts to a server's question."""
        ...

    @property
    def tool(self) -> str | None:
        """The tool of a `tools/call`; None for any other method."""
        ...

    @property
    def tenants(self) -> Collection[str | None]:
        """Everything that a server could take for the tenant of this message; None where it is no string."""
        ...


@dataclass(frozen=True, slots=True)
class Allow:
    """It may. There is nothing more to say: what is allowed is what was asked."""


@dataclass(frozen=True, slots=True)
class Deny:
    """It may not. `code` is the registry's, `message` and `hint` are for the caller and tell nothing that is hidden."""

    code: str
    message: str
    hint: str


ALLOW = Allow()


def decide(grant: Grant, tunnel: Tunnel, tenant: Tenant | None, asked: Asked | None) -> Allow | Deny:
    """Whether `asked` passes, which is None for an exchange without a message (GET, DELETE)."""
    if tenant is None and not tunnel.tenant_optional:
        return Deny(
            "tenant_required",
            "this tunnel serves callers with a tenant only",
            "use a key of a tenant: arrowslit key create --agent AGENT --tenant TENANT",
        )
    if asked is None or asked.method is None:
        return ALLOW
    if asked.method not in METHODS:
        return Deny(
            "method_not_allowed",
            f"the method {echo(asked.method)} is not allowed here",
            "agents are granted tools: use tools/list and tools/call",
        )
    if asked.method == "tools/call" and not may_see(grant, asked.tool):
        return Deny(
            "tool_not_allowed", f"Unknown tool: {echo(asked.tool or '')}", "tools/list shows what can be called"
        )
    return ALLOW


def may_see(grant: Grant, tool: str | None) -> bool:
    """Whether the tool of exactly this name was granted: the rule for calls, and for what a list shows."""
    return tool is not None and grant.allows(tool)


def echo(text: str) -> str:
    """The caller's own words, short and fit for a terminal and a log: what cannot be printed becomes U+FFFD."""
    shown = "".join([character if character.isprintable() else "\ufffd" for character in text[:128]])
    return shown if len(text) <= 128 else shown + "…"
