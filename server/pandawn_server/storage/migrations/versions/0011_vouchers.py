"""What pilots showed when they registered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; of pilots that are there nothing is known, and they show it again in time."""
    op.add_column("pilots", sa.Column("credential", sa.Text(), nullable=True))
    op.add_column("pilots", sa.Column("node_key", sa.Text(), nullable=False, server_default=""))
