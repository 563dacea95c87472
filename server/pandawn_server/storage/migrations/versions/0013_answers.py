"""Stored answers of all kinds, by user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Renames the column of numbers."""
    with op.batch_alter_table("requests") as table:
        table.alter_column("job_ids", new_column_name="numbers", existing_type=sa.JSON())
