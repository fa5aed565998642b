"""The files of sessions; and of each delivery, up to where the relay has what its worker said of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take this step."""
    op.create_table(
        "session_files",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(1024), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session_files"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_session_files_session_id"),
        sa.UniqueConstraint("session_id", "purpose", "name", name="uq_session_files_session_id"),
    )
    op.add_column("work_tokens", sa.Column("chain_seq", sa.Integer))
    op.add_column("work_tokens", sa.Column("chain_hash", sa.String(64)))
    op.add_column("work_tokens", sa.Column("chain_bytes", sa.Integer))
