"""Access lists of queues, limits, and the owners of sandboxes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, and the columns of jobs and tasks about limits."""
    op.create_table(
        "queue_access",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("max_running", sa.Integer()),
        sa.Column("max_waiting", sa.Integer()),
        sa.Column("priority_offset", sa.Integer()),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("grant_time", UtcDateTime(), nullable=False),
        sa.Column("expire_time", UtcDateTime()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "kind", "subject", name=op.f("pk_queue_access")),
    )
    op.create_table(
        "users",
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("seen_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("user", name=op.f("pk_users")),
    )
    op.create_table(
        "sandbox_owners",
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"],
            ["sandboxes.sandbox_id"],
            name=op.f("fk_sandbox_owners_sandbox_id_sandboxes"),
        ),
        sa.PrimaryKeyConstraint("sandbox_id", "user", name=op.f("pk_sandbox_owners")),
    )
    op.add_column(
        "jobs",
        sa.Column("throttled", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )
    op.create_index(
        "ix_jobs_throttled",
        "jobs",
        ["queue", "user", sa.text("priority DESC"), "job_id"],
        unique=False,
        postgresql_where=sa.text("throttled"),
        sqlite_where=sa.text("throttled"),
    )
    op.add_column("tasks", sa.Column("passed_over", sa.Text(), nullable=False, server_default=""))
    op.create_index(op.f("ix_tasks_user_task_id"), "tasks", ["user", "task_id"], unique=False)
    op.create_index(op.f("ix_tasks_queue_task_id"), "tasks", ["queue", "task_id"], unique=False)
