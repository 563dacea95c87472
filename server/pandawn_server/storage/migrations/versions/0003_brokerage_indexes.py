"""Indexes for the reads of the in-memory matchmaker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the indexes."""
    op.create_index(
        "ix_jobs_arrivals",
        "jobs",
        ["queue", "state_time", "job_id"],
        unique=False,
        postgresql_where=sa.text("state = 'activated'"),
        sqlite_where=sa.text("state = 'activated'"),
    )
    op.create_index(
        "ix_nodes_suspended",
        "nodes",
        ["suspended_until"],
        unique=False,
        postgresql_where=sa.text("suspended_until IS NOT NULL"),
        sqlite_where=sa.text("suspended_until IS NOT NULL"),
    )
