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

RESOURCE_LISTS = frozenset({"resources/list", "resources/templates/list"})
RESOURCE_USES = frozenset({"resources/read", "resources/subscribe", "resources/unsubscribe"})
PROMPT_LISTS, PROMPT_USES = frozenset({"prompts/list"}), frozenset({"prompts/get"})
COMPLETION = "completion/complete"
LIST_METHODS = RESOURCE_LISTS | PROMPT_LISTS | {"tools/list"}


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
    def resources(self) -> Collection[str]:
        """The URIs that a request for resources names, or what it completes."""
        ...

    @property
    def prompt(self) -> str | None:
        """The prompt that it names, or completes; None where there is none."""
        ...

    @property
    def unknown(self) -> str | None:
        """What `subscriptions/listen` wants to hear of and MCP itself does not know; None where there is nothing."""
        ...

    @property
    def tenants(self) -> Collection[str | None]:
        """Everything that a server could take for the tenant of this message; None where it is no string."""
        ...


class Granted(Protocol):
    """What somebody may use of a server: `principal.Grant` and `ceiling.Ceiling` each say it."""

    @property
    def everything(self) -> bool:
        """Whether that is the whole server, methods that nobody has heard of included."""
        ...

    @property
    def any_resource(self) -> bool:
        """Whether any resource, or template, was granted."""
        ...

    @property
    def any_prompt(self) -> bool:
        """Whether any prompt was granted."""
        ...

    def allows(self, tool: str) -> bool:
        """Whether the tool of exactly this name may be used."""
        ...

    def allows_resource(self, uri: str) -> bool:
        """Whether the resource of this URI may be used."""
        ...

    def allows_template(self, template: str) -> bool:
        """Whether the template of exactly this text may be seen."""
        ...

    def allows_prompt(self, prompt: str) -> bool:
        """Whether the prompt of exactly this name may be used."""
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
    match missing(grant, asked):
        case None:
            return ALLOW
        case Missing("tool", name):
            return Deny("tool_not_allowed", f"Unknown tool: {echo(name)}", "tools/list shows what can be called")
        case Missing("resource", name):
            return Deny("resource_not_allowed", f"Unknown resource: {echo(name)}", "resources/list shows what there is")
        case Missing("prompt", name):
            return Deny("prompt_not_allowed", f"Unknown prompt: {echo(name)}", "prompts/list shows what there is")
        case Missing(_, name):
            return Deny(
                "method_not_allowed",
                f"the method {echo(name)} is not allowed here",
                "agents are granted tools, resources and prompts by name: see arrowslit agent show",
            )


@dataclass(frozen=True, slots=True)
class Missing:
    """What a message lacks: `kind` is tool, resource, prompt or method, `name` as the message has it."""

    kind: str
    name: str


def missing(granted: Granted, asked: Asked) -> Missing | None:
    """What of `asked` was not granted; None if all of it was. The one rule, for agents and for ceilings.

    Tasks, and methods and subscriptions that MCP does not know, cannot be granted but with the whole server: nothing in
    them says what they reach.
    """
    method = asked.method
    if method is None or granted.everything:
        return None
    if method == "tools/call":
        return None if may_see(granted, "tools", asked.tool) else Missing("tool", asked.tool or "")
    if method in METHODS:
        if asked.unknown is not None:
            return Missing("method", f"{method} for {asked.unknown}")
        return _missing_resource(granted, asked)  # of subscriptions/listen
    if method in RESOURCE_LISTS and granted.any_resource:
        return None
    if method in PROMPT_LISTS and granted.any_prompt:
        return None
    if (method in RESOURCE_USES or (method == COMPLETION and asked.resources)) and granted.any_resource:
        return _missing_resource(granted, asked) if asked.resources else Missing("resource", "")
    if (method in PROMPT_USES or (method == COMPLETION and asked.prompt is not None)) and granted.any_prompt:
        return None if may_see(granted, "prompts", asked.prompt) else Missing("prompt", asked.prompt or "")
    return Missing("method", method)


def _missing_resource(granted: Granted, asked: Asked) -> Missing | None:
    kinds = ("resources", "resourceTemplates") if asked.method == COMPLETION else ("resources",)
    refused = [uri for uri in asked.resources if not any(may_see(granted, kind, uri) for kind in kinds)]
    return Missing("resource", refused[0]) if refused else None


def may_see(granted: Granted, kind: str, name: str | None) -> bool:
    """Whether the tool, prompt, resource or template of exactly this name was granted: the rule for calls, and for what
    a list shows. `kind` is the member of a result that lists such things (`protocol.lists.LISTS`).
    """
    if name is None:
        return False
    match kind:
        case "tools":
            return granted.allows(name)
        case "prompts":
            return granted.allows_prompt(name)
        case "resourceTemplates":
            return granted.allows_template(name)
        case _:
            return granted.allows_resource(name)


def echo(text: str) -> str:
    """The caller's own words, short and fit for a terminal and a log: what cannot be printed becomes U+FFFD."""
    shown = "".join([character if character.isprintable() else "\ufffd" for character in text[:128]])
    return shown if len(text) <= 128 else shown + "…"
