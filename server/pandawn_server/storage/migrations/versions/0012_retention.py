"""A mark for tasks that are being deleted, and indexes to find old tasks and those of a sandbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column and the indexes."""
    op.add_column("tasks", sa.Column("remove_time", UtcDateTime(), nullable=True))
    op.create_index("ix_tasks_close_time", "tasks", ["close_time"], unique=False)
    op.create_index("ix_tasks_sandbox_id", "tasks", ["sandbox_id"], unique=False)
