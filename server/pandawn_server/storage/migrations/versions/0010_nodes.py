"""Conditions of nodes that get no jobs, or one at a time, with the reasons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; suspended nodes stay suspended."""
    op.drop_index("ix_nodes_suspended", table_name="nodes")
    op.add_column("nodes", sa.Column("state", sa.Text(), nullable=False, server_default="open"))
    op.add_column("nodes", sa.Column("changed_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("change_time", UtcDateTime(), nullable=True))
    for name in ("good_probes", "suspensions"):
        op.add_column("nodes", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("judged_since", UtcDateTime(), nullable=True))
    op.add_column("nodes", sa.Column("evidence", sa.JSON(), nullable=True))
    op.execute("UPDATE nodes SET state = 'suspended' WHERE suspended_until IS NOT NULL")
    op.create_index(
        "ix_nodes_restricted",
        "nodes",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state <> 'open'"),
        sqlite_where=sa.text("state <> 'open'"),
    )
    op.create_index(
        "ix_attempts_failed",
        "attempts",
        ["task_id", "end_time"],
        unique=False,
        postgresql_where=sa.text("outcome = 'failed'"),
        sqlite_where=sa.text("outcome = 'failed'"),
    )
