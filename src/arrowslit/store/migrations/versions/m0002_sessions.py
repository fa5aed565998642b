"""What agents work with: environments and their keys, sessions and their events, work; certificates of tunnels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take this step."""
    op.create_table(
        "environments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("archived_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_environments"),
    )
    op.create_table(
        "environment_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("environment_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255)),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_environment_keys"),
        sa.UniqueConstraint("hash", name="uq_environment_keys_hash"),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name="fk_environment_keys_environment_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128)),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("agent_version", sa.Integer, nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("environment_id", sa.String(64)),
        sa.Column("title", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("usage", sa.JSON, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("runnable", sa.Boolean, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("archived_at", sa.Double),
        sa.Column("had_work", sa.Boolean, nullable=False),
        sa.Column("lease_epoch", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_created_at", "sessions", ["created_at", "id"])
    op.create_index("ix_sessions_environment_id", "sessions", ["environment_id", "status"])
    op.create_index("ix_sessions_runnable", "sessions", ["runnable", "updated_at"])
    op.create_table(
        "session_events",
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("processed_at", sa.Double),
        sa.Column("body", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name="pk_session_events"),
        sa.UniqueConstraint("id", name="uq_session_events_id"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_session_events_session_id"),
    )
    op.create_table(
        "dispatched_calls",
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "event_id", name="pk_dispatched_calls"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_dispatched_calls_session_id"),
    )
    op.create_table(
        "work",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("environment_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("delivered_at", sa.Double),
        sa.Column("acknowledged_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("heartbeat", sa.String(64)),
        sa.Column("previous_heartbeat", sa.String(64)),
        sa.Column("heartbeat_at", sa.Double),
        sa.Column("beat_by", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("stop_requested_at", sa.Double),
        sa.Column("stopped_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_work"),
        sa.ForeignKeyConstraint(["environment_id"], ["environments.id"], name="fk_work_environment_id"),
    )
    op.create_index("ix_work_environment_id", "work", ["environment_id", "state", "created_at"])
    op.create_index("ix_work_lease_until", "work", ["state", "lease_until"])
    unfinished = sa.text("state <> 'stopped'")
    op.create_index(
        "uq_work_subject", "work", ["subject"], unique=True, sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.create_table(
        "work_tokens",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("work_id", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("late_at", sa.Double),
        sa.PrimaryKeyConstraint("hash", name="pk_work_tokens"),
        sa.ForeignKeyConstraint(["work_id"], ["work.id"], name="fk_work_tokens_work_id"),
    )
    op.create_index("ix_work_tokens_work_id", "work_tokens", ["work_id"])
    op.create_table(
        "tunnel_certificates",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tunnel_id", sa.String(80), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("pem", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("archived_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_tunnel_certificates"),
        sa.ForeignKeyConstraint(["tunnel_id"], ["tunnels.id"], name="fk_tunnel_certificates_tunnel_id"),
    )
    op.create_index("ix_tunnel_certificates_tunnel_id", "tunnel_certificates", ["tunnel_id"])
