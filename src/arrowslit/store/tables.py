"""The tables. What they hold is changed by a migration and here, together; a test compares the two.

Times are Unix seconds. No column holds a secret: tokens and keys are there as keyed hashes.
"""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Double, ForeignKey, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData(
    naming_convention={  # so that a later migration can name what it changes, on either engine
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
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
)

# One row says which root key the hashes above were made with: with another one no credential would be known.
root_key = Table(
    "root_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("check", String(64), nullable=False),
)
