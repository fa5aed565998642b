"""From the body of a request to what an agent is, and back to the official object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from msgspec import UNSET, UnsetType

from arrowslit.agent import CANNOT_CONFIRM, Agent, Builtin, Definition, OnUnknown, TurnLimits
from arrowslit.agents.api.reading import check_label, patched
from arrowslit.agents.api.schema import AgentBody, LimitsBody, ModelBody
from arrowslit.agents.api.tools import WEB_TOOLS, AskedTools, read_tools, show_builtin, show_custom
from arrowslit.agents.api.toolsets import Reader, show_server, show_toolset
from arrowslit.clock import rfc3339
from arrowslit.environment import Environments
from arrowslit.errors import Error
from arrowslit.pin import MOST, Pin, PinState

T = TypeVar("T")

MAX_TOOLS = 256  # of one agent, as officially: entries of servers, tools of the sandbox and custom ones


@dataclass(frozen=True, slots=True)
class Definitions:
    """Reads bodies. It knows the tunnels and the environments that they may name."""

    reader: Reader
    environments: Environments

    def revised(self, body: AgentBody, before: Definition) -> Definition:
        """What `before` becomes by a body: an absent field stays, null and empty ones clear.

        Raises Error `validation_error`, `not_supported`, `environment_not_found`, `environment_archived`, or what
        `Reader.toolsets` and `read_tools` raise.
        """
        refuse_unsupported(body)
        asked = None if isinstance(body.tools, UnsetType) else read_tools(body.tools or [])
        servers = UNSET if asked is None else asked.servers
        revised = replace(
            before,
            name=check_label(_given(body.name, before.name), "name"),
            model=before.model if isinstance(body.model, UnsetType) else read_model(body.model),
            description=_given(body.description, before.description) or None,
            system=_given(_system(body), before.system) or None,
            metadata=patched(before.metadata, body.metadata),
            toolsets=self.reader.toolsets(body.mcp_servers, servers, before.toolsets),
            builtin=_builtin(body, asked, before),
            custom=before.custom if asked is None else asked.custom,
            on_unknown=_given(body.on_unknown, before.on_unknown) or OnUnknown.STOP,
            cannot_confirm=_sentence(_given(body.cannot_confirm, before.cannot_confirm) or CANNOT_CONFIRM),
            default_environment=self._environment(body, before),
            limits=before.limits if isinstance(body.limits, UnsetType) else _limits(body.limits),
        )
        _check_tools(revised)
        return revised

    def _environment(self, body: AgentBody, before: Definition) -> str | None:
        """The id of the environment that `sandbox` or `default_environment` name."""
        if not isinstance(body.sandbox, UnsetType) and not isinstance(body.default_environment, UnsetType):
            raise Error("validation_error", "sandbox is another word for default_environment", hint="send one of them")
        named = body.default_environment
        if not isinstance(body.sandbox, UnsetType):
            named = None if body.sandbox is None else body.sandbox.id
        if isinstance(named, UnsetType):
            return before.default_environment
        if named is None:
            return None
        environment = self.environments.named(named)
        if environment.archived_at is not None:
            raise Error("environment_archived", "the agent's environment is archived", hint="name another one")
        return environment.id


def show(agent: Agent, pins: Sequence[Pin]) -> Mapping[str, object]:
    """The official object; `warnings` is ours, and so is what `snapshot` says of ours. `pins` are the agent's."""
    return {
        **snapshot(agent.definition, agent.id, agent.version),
        "metadata": agent.definition.metadata,
        "created_at": rfc3339(agent.created_at),
        "updated_at": rfc3339(agent.updated_at),
        "archived_at": None if agent.archived_at is None else rfc3339(agent.archived_at),
        "warnings": [*_warnings(agent.definition), *_crowded(agent, pins), *_switched_off(agent, pins)],
    }


def snapshot(definition: Definition, agent_id: str, version: int) -> Mapping[str, object]:
    """The agent as a session shows it; the last four fields are ours."""
    limits = definition.limits
    return {
        "id": agent_id,
        "type": "agent",
        "version": version,
        "name": definition.name,
        "description": definition.description,
        "system": definition.system,
        "model": definition.model,
        "tools": [
            *([] if definition.builtin is None else [show_builtin(definition.builtin)]),
            *(show_toolset(each) for each in definition.toolsets),
            *(show_custom(each) for each in definition.custom),
        ],
        "mcp_servers": [show_server(each) for each in definition.toolsets],
        "skills": [],
        "multiagent": None,
        "execution_identity": {"type": "service_account"},
        "on_unknown": definition.on_unknown.value,
        "cannot_confirm": definition.cannot_confirm,
        "default_environment": definition.default_environment,
        "limits": {
            "model_requests": limits.model_requests,
            "tool_calls": limits.tool_calls,
            "output_tokens": limits.output_tokens,
            "seconds": limits.seconds,
        },
    }


def read_model(body: str | ModelBody) -> Mapping[str, object]:
    """The official object for a model that was named in either form."""
    if isinstance(body, str):
        return {"id": body, "speed": "standard"}
    model: dict[str, object] = {"id": body.id, "speed": body.speed or "standard"}
    if body.effort is not None:
        model["effort"] = {"type": body.effort if isinstance(body.effort, str) else body.effort.type}
    if body.inference_geo is not None:
        model["inference_geo"] = body.inference_geo
    return model


def refuse_unsupported(body: AgentBody) -> None:
    """Say so, rather than ignore what was asked for. Null asks for nothing, nor does a list with nothing in it."""
    for name, value in (("skills", body.skills or None), ("multiagent", body.multiagent)):
        if value is not None:
            raise Error("not_supported", f"{name} is not supported", hint="leave it out")
    if body.execution_identity not in (None, {"type": "service_account"}):
        raise Error("not_supported", "agents run as the service account only", hint="leave execution_identity out")


def _warnings(definition: Definition) -> Iterator[str]:
    """What whoever made the agent may not be aware of."""
    for each in definition.toolsets:
        if each.everything:
            name = each.server.name
            yield f"every tool of {name} is allowed, also those that it grows later; so are its resources and prompts"
    if definition.builtin is not None and definition.builtin.enabled:
        yield f"{' and '.join(WEB_TOOLS)} do not run here: they stay off, although the sandbox's other tools are on"


def _crowded(agent: Agent, pins: Sequence[Pin]) -> Iterator[str]:
    """Servers of which no further tool can be pinned, and so none is listed or called."""
    for server in agent.grants():
        if sum(pin.server == server for pin in pins) >= MOST:
            yield f"{MOST} tools of {server} are pinned, which is the most: any others are neither listed nor called"


def _switched_off(agent: Agent, pins: Sequence[Pin]) -> Iterator[str]:
    """Tools that were granted and cannot be used at the moment."""
    grants = agent.grants()
    for pin in pins:
        if pin.state is PinState.PINNED or pin.server not in grants or not grants[pin.server].allows(pin.tool):
            continue
        said = "the server changed its definition" if pin.state is PinState.CHANGED else "its definition is refused"
        said += f", and has shown {len(pin.meanwhile)} more in between" if pin.meanwhile else ""
        command = f"arrowslit agent approve {agent.id} {pin.server} {pin.tool}"
        yield f"{pin.tool} of {pin.server} is off: {said}; see: {command}"


def _system(body: AgentBody) -> str | UnsetType | None:
    if body.system is not UNSET and body.instructions is not UNSET:
        raise Error("validation_error", "instructions is another word for system", hint="send one of them")
    return body.system if body.instructions is UNSET else body.instructions


def _builtin(body: AgentBody, asked: AskedTools | None, before: Definition) -> Builtin | None:
    """The sandbox's tools. Who names a sandbox and says nothing of its tools wants code to run there."""
    builtin = before.builtin if asked is None else asked.builtin
    if builtin is None and not isinstance(body.sandbox, UnsetType) and body.sandbox is not None:
        return Builtin()
    return builtin


def _sentence(text: str) -> str:
    """What an agent says when it cannot confirm: one line, with nothing in braces but `{server}` and `{tool}`."""
    plain = text.replace("{server}", "").replace("{tool}", "")
    if "{" in plain or "}" in plain:
        raise Error(
            "validation_error",
            "cannot_confirm holds braces around something else than server and tool",
            hint="only {server} and {tool} are filled in",
        )
    return check_label(text, "sentence cannot_confirm")


def _limits(body: LimitsBody | None) -> TurnLimits:
    default = TurnLimits()
    if body is None:
        return default
    return TurnLimits(
        model_requests=body.model_requests or default.model_requests,
        tool_calls=body.tool_calls or default.tool_calls,
        output_tokens=body.output_tokens or default.output_tokens,
        seconds=body.seconds or default.seconds,
    )


def _check_tools(definition: Definition) -> None:
    count = sum(len(each.rules) for each in definition.toolsets) + len(definition.custom)
    if definition.builtin is not None:
        count += len(definition.builtin.tools())
    if count > MAX_TOOLS:
        raise Error("validation_error", f"an agent has at most {MAX_TOOLS} tools", hint="make a second agent")


def _given(value: T | UnsetType, before: T) -> T:
    return before if isinstance(value, UnsetType) else value
