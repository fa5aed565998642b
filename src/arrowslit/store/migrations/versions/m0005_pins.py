"""What each agent knows of the definitions of its tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take this step."""
    op.create_table(
        "tool_pins",
        sa.Column("agent_id", sa.String(64), nullable=False),
        sa.Column("server", sa.String(255), nullable=False),
        sa.Column("tool", sa.String(256), nullable=False),
        sa.Column("approved", sa.JSON),
        sa.Column("offered", sa.JSON),
        sa.Column("approved_by", sa.String(255)),
        sa.PrimaryKeyConstraint("agent_id", "server", "tool", name="pk_tool_pins"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_tool_pins_agent_id"),
    )
