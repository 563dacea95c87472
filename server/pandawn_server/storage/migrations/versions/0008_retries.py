"""Counts of lost attempts beside failed ones, and when and where a job is retried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns and their index."""
    op.add_column("jobs", sa.Column("losses", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("retry_time", UtcDateTime(), nullable=True))
    op.add_column("jobs", sa.Column("avoided", sa.JSON(), nullable=True))
    op.create_index(
        "ix_jobs_retry",
        "jobs",
        ["retry_time"],
        unique=False,
        postgresql_where=sa.text("retry_time IS NOT NULL"),
        sqlite_where=sa.text("retry_time IS NOT NULL"),
    )
