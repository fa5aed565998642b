"""The tables. What they hold is changed by a migration and here, together; a test compares the two.

Times are Unix seconds. No column holds a secret: tokens and keys are there as keyed hashes.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={  # so that a later migration can name what it changes, on either engine
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

registration_tokens = Table(
    "registration_tokens",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255)),
    Column("pattern", String(63), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("last_four", String(4), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

# An archived tunnel keeps its row for ever: that is why its name cannot be issued again.
tunnels = Table(
    "tunnels",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("display_name", String(255)),
    Column("tenant_optional", Boolean, nullable=False),
    Column("key_binding", String(16), nullable=False),
    Column("connector_key", LargeBinary(32)),
    Column("refused_key", LargeBinary(32)),
    Column("registration_id", String(64), ForeignKey("registration_tokens.id")),
    Column("token_generation", Integer, nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("token_issued_at", Double, nullable=False),
    Column("token_used_at", Double),
    Column("previous_hash", String(64)),
    Column("previous_until", Double),
    Column("created_at", Double, nullable=False),
    Column("archived_at", Double),
)

agents = Table(
    "agents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("archived_at", Double),
)

agent_versions = Table(
    "agent_versions",
    metadata,
    Column("agent_id", String(64), ForeignKey("agents.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_at", Double, nullable=False),
    Column("definition", JSON, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255)),
    Column("tenant", String(128)),
    Column("scopes", JSON, nullable=False),
    Column("agents", JSON, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("last_four", String(4), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("minted_by", String(64)),  # the id of an API key
)

environments = Table(
    "environments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("archived_at", Double),
)

environment_keys = Table(
    "environment_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("environment_id", String(64), ForeignKey("environments.id"), nullable=False),
    Column("name", String(255)),
    Column("hash", String(64), nullable=False, unique=True),
    Column("last_four", String(4), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

# `environment_id` refers to nothing: a session outlives its environment once it can no longer go on. `had_work` says
# whether a worker was ever offered it. The lease is whoever's epoch is `lease_epoch`, until `lease_until`.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(128)),
    Column("principal_id", Text, nullable=False),
    Column("agent_id", String(64), nullable=False),
    Column("agent_version", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("environment_id", String(64)),
    Column("title", Text),
    Column("metadata", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("usage", JSON, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("runnable", Boolean, nullable=False),
    Column("due", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("archived_at", Double),
    Column("had_work", Boolean, nullable=False),
    Column("lease_epoch", Integer, nullable=False),
    Column("lease_until", Double),
    Index("ix_sessions_created_at", "created_at", "id"),
    Index("ix_sessions_environment_id", "environment_id", "status"),
    Index("ix_sessions_runnable", "runnable", "updated_at"),
)

session_events = Table(
    "session_events",
    metadata,
    Column("session_id", String(64), ForeignKey("sessions.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("type", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("processed_at", Double),
    Column("body", JSON, nullable=False),
)

# Calls that may have left, so that after a crash none is made twice.
dispatched_calls = Table(
    "dispatched_calls",
    metadata,
    Column("session_id", String(64), ForeignKey("sessions.id"), primary_key=True),
    Column("event_id", String(64), primary_key=True),
    Column("call_id", String(64), nullable=False),
)

# The bytes are in a folder, under the id.
session_files = Table(
    "session_files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("session_id", String(64), ForeignKey("sessions.id"), nullable=False),
    Column("name", String(1024), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("session_id", "purpose", "name"),
)

work = Table(
    "work",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("environment_id", String(64), ForeignKey("environments.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double),
    Column("acknowledged_at", Double),
    Column("started_at", Double),
    Column("heartbeat", String(64)),
    Column("previous_heartbeat", String(64)),
    Column("heartbeat_at", Double),
    Column("beat_by", Integer, nullable=False),
    Column("lease_until", Double),
    Column("stop_requested_at", Double),
    Column("stopped_at", Double),
    Index("ix_work_environment_id", "environment_id", "state", "created_at"),
    Index("ix_work_lease_until", "state", "lease_until"),
    Index(  # a session has at most one item that is not stopped
        "uq_work_subject",
        "subject",
        unique=True,
        sqlite_where=text("state <> 'stopped'"),
        postgresql_where=text("state <> 'stopped'"),
    ),
)

# One for each delivery. From `late_at` on it is no longer the one that holds the item. `chain_*` is the end of what its
# worker said of itself, as far as it has come; null before the first record.
work_tokens = Table(
    "work_tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("work_id", String(64), ForeignKey("work.id"), nullable=False, index=True),
    Column("generation", Integer, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("late_at", Double),
    Column("chain_seq", Integer),
    Column("chain_hash", String(64)),
    Column("chain_bytes", Integer),
)

# `approved` and `offered` are definitions as `pin.Seen` has them, `meanwhile` is a list of such.
tool_pins = Table(
    "tool_pins",
    metadata,
    Column("agent_id", String(64), ForeignKey("agents.id"), primary_key=True),
    Column("server", String(255), primary_key=True),
    Column("tool", String(256), primary_key=True),
    Column("approved", JSON),
    Column("offered", JSON),
    Column("approved_by", String(255)),
    Column("meanwhile", JSON),
)

tunnel_certificates = Table(
    "tunnel_certificates",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tunnel_id", String(80), ForeignKey("tunnels.id"), nullable=False, index=True),
    Column("fingerprint", String(64), nullable=False),
    Column("pem", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("archived_at", Double),
)

# One row says which root key the hashes above were made with: with another one no credential would be known.
root_key = Table(
    "root_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("check", String(64), nullable=False),
)
