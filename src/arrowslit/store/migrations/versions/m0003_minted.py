"""Which API key made an API key, so that both end together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take this step."""
    op.add_column("api_keys", sa.Column("minted_by", sa.String(64)))
