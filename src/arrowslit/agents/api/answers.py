"""The shapes of answers of /v1, for its documentation: what handlers return is held to them by a test."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from arrowslit.agent import OnUnknown
from arrowslit.agents.api.schema import Tools, UrlServer
from arrowslit.file import Purpose
from arrowslit.pin import PinState
from arrowslit.principal import Scope
from arrowslit.session import SessionStatus
from arrowslit.tunnel import KeyBinding
from arrowslit.work import WorkKind, WorkState

When = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Shape(Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer's object: exactly these fields, and all of them."""


class Tunnel(Shape):
    """A tunnel. From `name` on the fields are ours."""

    id: str
    type: Literal["tunnel"]
    domain: str
    display_name: str | None
    created_at: When
    archived_at: When | None
    name: str
    tenant_optional: bool
    key_binding: KeyBinding


class TunnelToken(Shape):
    """What a connector opens its tunnel with."""

    id: str
    type: Literal["tunnel_token"]
    tunnel_token: str


class Certificate(Shape):
    """A certificate of a tunnel. `enforced` and `ca` are ours."""

    id: str
    type: Literal["tunnel_certificate"]
    tunnel_id: str
    fingerprint: str
    created_at: When
    expires_at: When | None
    archived_at: When | None
    enforced: Literal[False]
    ca: bool


class TokenState(Shape):
    """What may be shown of a tunnel's token."""

    generation: int
    issued_at: When
    used_at: When | None
    expires_at: When | None
    previous_until: When | None


class TunnelStatus(Struct, kw_only=True):
    """What is known of a tunnel, ours. There is more of it while connectors serve it."""

    id: str
    type: Literal["tunnel_status"]
    name: str
    connector_key: str | None
    refused_key: str | None
    token: TokenState
    certificates: list[Certificate]
    connected: bool
    connectors: list[dict[str, object]]


class Relay(Shape):
    """Who the relay is, ours."""

    type: Literal["relay"]
    version: str
    fingerprint: str
    tunnel_domain: str


class RelayProof(Shape):
    """What shows that the relay holds its key, ours: all in hex."""

    type: Literal["relay_proof"]
    key: str
    certificate: str | None
    signature: str


class SeenDefinition(Shape):
    """A tool's definition as its server showed it. `refused` says why it cannot be approved."""

    digest: str
    definition: dict[str, object]
    at: When
    refused: str | None


class PassedDefinition(SeenDefinition):
    """One that the server no longer shows; `definition` is empty if it was too long to keep, or could not be read."""

    diff: list[str]


class ToolDefinition(Shape):
    """What was seen of one tool of an agent; ours. While something is `offered` the tool is off.

    `meanwhile` is what else the server has shown since `approved`. Each `diff` is between `approved` and that one.
    """

    type: Literal["tool_definition"]
    agent_id: str
    server: str
    tool: str
    state: PinState
    approved: SeenDefinition | None
    approved_by: str | None
    offered: SeenDefinition | None
    diff: list[str]
    meanwhile: list[PassedDefinition]


class Environment(Shape):
    """A work queue that your own workers serve."""

    id: str
    type: Literal["environment"]
    name: str
    description: str | None
    config: dict[str, str]
    metadata: dict[str, str]
    scope: Literal["organization"]
    created_at: When
    updated_at: When
    archived_at: When | None


class EnvironmentKey(Shape):
    """A worker's key, without the key; ours."""

    id: str
    type: Literal["environment_key"]
    environment_id: str
    name: str | None
    last_four: str
    created_at: When
    revoked_at: When | None


class NewEnvironmentKey(EnvironmentKey):
    """A worker's key, this once with the key."""

    environment_key: str


class Key(Struct, kw_only=True):
    """An API key, with its scopes, agents and tenant, or a registration token, with its pattern; ours."""

    id: str
    type: Literal["api_key", "registration_token"]
    name: str | None
    last_four: str
    created_at: When
    expires_at: When | None
    revoked_at: When | None
    scopes: list[Scope] = []
    agents: list[str] = []
    tenant: str | None = None
    minted_by: str | None = None
    register: str | None = None


class NewKey(Key, kw_only=True):
    """A key, this once with its text."""

    key: str


class Limits(Shape):
    """Where a turn ends at the latest."""

    model_requests: int
    tool_calls: int
    output_tokens: int
    seconds: float


class SessionAgent(Shape):
    """An agent as a session has it. The last four fields are ours."""

    id: str
    type: Literal["agent"]
    version: Annotated[int, Meta(ge=1)]
    name: str
    description: str | None
    system: str | None
    model: dict[str, object]
    tools: Tools
    mcp_servers: list[UrlServer]
    skills: list[object]
    multiagent: None
    execution_identity: dict[str, str]
    on_unknown: OnUnknown
    cannot_confirm: str
    default_environment: str | None
    limits: Limits


class Agent(SessionAgent):
    """An agent in one of its versions. `warnings` is ours."""

    metadata: dict[str, str]
    created_at: When
    updated_at: When
    archived_at: When | None
    warnings: list[str]


class Session(Shape):
    """A conversation with an agent."""

    id: str
    type: Literal["session"]
    status: SessionStatus
    agent: SessionAgent
    environment_id: str | None
    title: str | None
    metadata: dict[str, str]
    resources: list[object]
    vault_ids: list[object]
    outcome_evaluations: list[object]
    stats: dict[str, float]
    usage: dict[str, object]
    budget: None
    deployment_id: None
    created_at: When
    updated_at: When
    archived_at: When | None


class Event(Struct):
    """One event of a session. Each type has fields of its own beside these."""

    id: str
    type: str
    processed_at: When | None


class SessionPart(Struct):
    """A thread or a resource. No session has one here."""

    id: str
    type: str


class SentEvents(Shape):
    """The events that were sent, as they are stored."""

    data: list[Event]


class Call(Struct):
    """What became of one call of a tool, ours."""

    id: str
    type: Literal["call"]
    agent: str
    server: str
    outcome: str | None


class WorkData(Shape):
    """What an item is about."""

    type: WorkKind
    id: str


class Work(Shape):
    """One item of an environment's queue. `secret` is null but in what `poll` answers."""

    id: str
    type: Literal["work"]
    environment_id: str
    state: WorkState
    data: WorkData
    metadata: dict[str, str]
    secret: str | None
    created_at: When
    acknowledged_at: When | None
    started_at: When | None
    latest_heartbeat_at: When | None
    stop_requested_at: When | None
    stopped_at: When | None


class DeliveredWork(Work):
    """An item, and in `secret` the token to serve it with, in base64."""

    secret: str


class Heartbeat(Shape):
    """Whether a lease goes on. `last_heartbeat` is to be sent back as it is."""

    type: Literal["work_heartbeat"]
    last_heartbeat: str
    lease_extended: bool
    state: WorkState
    ttl_seconds: float


class WorkRecords(Shape):
    """How far the relay now has what the worker of a delivery says; ours. `stored` of the records sent were new."""

    type: Literal["work_records"]
    stored: int
    last_seq: int


class File(Shape):
    """A file of a session. `session_id`, `purpose` and `sha256` are ours; `filename` is a relative path."""

    id: str
    type: Literal["file"]
    session_id: str
    filename: str
    purpose: Purpose
    mime_type: str
    size_bytes: int
    sha256: str
    created_at: When
    downloadable: Literal[True]


class WorkStats(Shape):
    """How much waits in an environment's queue."""

    type: Literal["work_queue_stats"]
    depth: int
    pending: int
    oldest_queued_at: When | None
    workers_polling: int | None


NULLABLE = frozenset({"DeliveredWork"})
"""Of these there may be none: then the answer is null."""


class Deleted(Shape):
    """What was deleted."""

    id: str
    type: str


class Details(Struct):
    """For programs: the code, what to do next, and further facts."""

    error_code: str
    hint: str | None


class Problem(Shape):
    """What went wrong. `type` is the official kind of error."""

    type: str
    message: str
    details: Details


class Error(Shape):
    """The one shape of every answer that is not a success."""

    type: Literal["error"]
    error: Problem
    request_id: str | None


class OpenApiDocument(Struct):
    """This document."""

    openapi: str
    info: dict[str, object] = field(default_factory=dict)
    paths: dict[str, object] = field(default_factory=dict)
