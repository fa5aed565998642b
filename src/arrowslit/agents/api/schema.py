"""The shapes of requests to /v1. Where the official API has a shape it is that one; our own fields say so."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from arrowslit.agent import OnUnknown, Permission
from arrowslit.outcome import Effect
from arrowslit.principal import Scope
from arrowslit.tunnel import KeyBinding

Label = Annotated[str, Meta(min_length=1, max_length=255)]
Moment = Annotated[datetime, Meta(tz=True)]

_ROUNDED = 0.0005  # seconds; times are shown to the nearest millisecond, and found by what was shown


def start_of(moment: datetime | None) -> float | None:
    """The first point in time that is shown as `moment`, in Unix seconds."""
    return None if moment is None else moment.timestamp() - _ROUNDED


def end_of(moment: datetime | None) -> float | None:
    """The last one."""
    return None if moment is None else moment.timestamp() + _ROUNDED


class Strict(Struct, forbid_unknown_fields=True):
    """A request's object: a field that nobody declared is refused, and so is a value of another type."""


class Nothing(Strict):
    """For requests that say everything by their path."""


# ------------------------------------------------------------ tunnels


class TunnelBody(Strict):
    """POST /v1/tunnels. `name`, `tenant_optional` and `key_binding` are ours; without a name one is made up."""

    display_name: Label | None = None
    name: str | None = None
    tenant_optional: bool = False
    key_binding: KeyBinding = KeyBinding.PINNED


class RotateBody(Strict):
    """POST /v1/tunnels/{id}/rotate_token. `grace_seconds` and `revoke` are ours."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None
    grace_seconds: Annotated[float, Meta(ge=0, le=7 * 86400)] = 0
    revoke: bool = False


class ApproveBody(Strict):
    """POST /v1/tunnels/{id}/approve, ours. `fingerprint` says which key is meant."""

    fingerprint: str | None = None


class CertificateBody(Strict):
    """POST /v1/tunnels/{id}/certificates."""

    ca_certificate_pem: str


class ApproveDefinitionBody(Strict):
    """POST /v1/agents/{id}/definitions/approve, ours. `digest` says which definition is meant, `meanwhile` the digests
    of what else was looked at: with it, nothing is approved if the server has shown something else by then.
    """

    server: str
    tool: str
    digest: str
    meanwhile: list[str] | None = None


# ------------------------------------------------------------ environments


class SelfHostedBody(Strict):
    """The configuration of an environment that your own workers serve: that is all of it."""

    type: Literal["self_hosted"]


class EnvironmentBody(Strict):
    """POST /v1/environments."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    config: dict[str, object] | None = None
    description: Annotated[str, Meta(max_length=2048)] | None = None
    metadata: dict[str, str | None] | None = None
    scope: Literal["organization", "account"] | None = None


class EnvironmentUpdateBody(Strict):
    """POST /v1/environments/{id}. An absent field differs from a null one."""

    name: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    config: dict[str, object] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=2048)] | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET
    scope: Literal["organization", "account"] | None = None


class EnvironmentKeyBody(Strict):
    """POST /v1/environments/{id}/keys, ours."""

    name: Label | None = None


# ------------------------------------------------------------ keys, ours


class KeyBody(Strict):
    """POST /v1/keys: an API key for `agents` (ids or names), or with `register` a registration token."""

    agents: list[str] = []
    tenant: str | None = None
    scopes: list[Scope] | None = None
    register: str | None = None
    expires_at: Moment | None = None
    name: Label | None = None


# ------------------------------------------------------------ agents


class PolicyBody(Strict):
    """`{"type": "always_allow" | "always_ask" | "auto"}`."""

    type: Permission


class DefaultBody(Strict):
    """What holds for a tool without an entry of its own."""

    enabled: bool | None = None
    permission_policy: PolicyBody | None = None


class ToolBody(Strict):
    """One tool. `effect` is ours: what the operator declares about it."""

    name: str
    enabled: bool | None = None
    permission_policy: PolicyBody | None = None
    effect: Effect = Effect.WRITE


Names = Annotated[list[str], Meta(max_length=256)]


class ToolsetBody(Strict):
    """The tools of one server. What comes after `configs` is ours; `resources` (URIs or templates) and `prompts` are
    for MCP clients.
    """

    type: Literal["mcp_toolset"]
    mcp_server_name: str
    default_config: DefaultBody | None = None
    configs: Annotated[list[ToolBody], Meta(max_length=256)] = []
    allow_everything: bool = False
    deadline_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None = None
    resources: Names = []
    prompts: Names = []


SandboxTool = Literal["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"]


class BuiltinToolBody(Strict):
    """One tool of the sandbox. The last five fields belong to the tools that fetch from the web, which we never run."""

    name: SandboxTool
    type: SandboxTool | None = None
    enabled: bool | None = None
    permission_policy: PolicyBody | None = None
    allowed_domains: object = None
    blocked_domains: object = None
    max_content_tokens: object = None
    url_sources: object = None
    user_location: object = None


class BuiltinBody(Strict):
    """The tools of the sandbox."""

    type: Literal["agent_toolset_20260401"]
    default_config: DefaultBody | None = None
    configs: Annotated[list[BuiltinToolBody], Meta(max_length=8)] = []


class ObjectSchema(Struct):
    """A JSON Schema of type object. Whatever else it says is for the model."""

    type: Literal["object"]
    properties: dict[str, object] | None = None
    required: list[str] | None = None


class CustomBody(Strict):
    """A tool that the application runs."""

    type: Literal["custom"]
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    description: Annotated[str, Meta(min_length=1, max_length=16_384)]
    input_schema: dict[str, object]


class UrlServer(Strict, tag="url"):
    """A server by its URL."""

    name: str
    url: Annotated[str, Meta(max_length=2048)]


class ListedTool(Strict):
    """One tool of the short form; `confirm` for one that asks a person first."""

    name: str
    confirm: bool = False


class TunnelServer(Strict, tag="tunnel"):
    """A server by its tunnel: the short form, ours. `server` is its name at a connector that offers several. Without a
    name it gets that one, or the tunnel's.
    """

    tunnel_id: str
    server: str | None = None
    name: str | None = None
    tool_allowlist: Annotated[list[str | ListedTool], Meta(max_length=256)] | None = None
    resources: Names | None = None
    prompts: Names | None = None
    allow_everything: bool = False


class EffortBody(Strict):
    """How hard a model works on each call."""

    type: Literal["low", "medium", "high", "xhigh", "max"]


class ModelBody(Strict):
    """The model and how it is used."""

    id: Label
    effort: EffortBody | Literal["low", "medium", "high", "xhigh", "max"] | None = None
    speed: Literal["standard", "fast"] | None = None
    inference_geo: Label | None = None


class ProofBody(Strict):
    """POST /v1/relay/proof, ours. `nonce` is 32 bytes of chance, `certificate` the SHA-256 of the one that was seen."""

    nonce: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    certificate: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)] | None = None


class SandboxBody(Strict):
    """Where an agent's code runs: the short form, ours. `id` is an environment's id or name."""

    type: Literal["self_hosted"]
    id: Label


class LimitsBody(Strict):
    """Where a turn ends at the latest, ours. What is absent gets its default."""

    model_requests: Annotated[int, Meta(ge=1, le=1000)] | None = None
    tool_calls: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    output_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    seconds: Annotated[float, Meta(ge=1, le=86_400)] | None = None


Servers = Annotated[list[UrlServer | TunnelServer], Meta(max_length=20)]
KINDS_OF_TOOLS = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in (ToolsetBody, BuiltinBody, CustomBody)]
Tools = Annotated[list[dict[str, object]], Meta(max_length=256, extra_json_schema={"items": {"anyOf": KINDS_OF_TOOLS}})]
Text = Annotated[str, Meta(max_length=100_000)]


class AgentBody(Strict):
    """POST /v1/agents. An absent field differs from a null one.

    Ours are `instructions`, the short form of `system`, `sandbox`, and what comes after it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    model: Label | ModelBody | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=2048)] | UnsetType | None = UNSET
    system: Text | UnsetType | None = UNSET
    instructions: Text | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET
    mcp_servers: Servers | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET
    # official, and not there: refused unless empty
    skills: list[object] | None = None
    multiagent: object = None
    execution_identity: object = None
    sandbox: SandboxBody | UnsetType | None = UNSET
    on_unknown: OnUnknown | UnsetType | None = UNSET
    cannot_confirm: Annotated[str, Meta(min_length=1, max_length=1000)] | UnsetType | None = UNSET
    default_environment: Label | UnsetType | None = UNSET
    limits: LimitsBody | UnsetType | None = UNSET


class AgentUpdateBody(AgentBody):
    """POST /v1/agents/{id}. `version` is the one that was read; without it the update holds whatever came between."""

    version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET


class NarrowerBody(Strict):
    """What a session may say of its agent: each field replaces the agent's, and grants no more than the agent has."""

    model: Label | ModelBody | UnsetType = UNSET
    system: Text | UnsetType | None = UNSET
    mcp_servers: Annotated[list[UrlServer], Meta(max_length=20)] | UnsetType | None = UNSET
    tools: Tools | UnsetType | None = UNSET
    skills: list[object] | None = None
