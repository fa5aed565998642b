"""What a server has shown of a tool between what was approved and what it shows now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take this step."""
    op.add_column("tool_pins", sa.Column("meanwhile", sa.JSON))
