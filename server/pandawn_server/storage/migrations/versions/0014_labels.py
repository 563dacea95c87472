"""Labels of tasks, with an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column and the table."""
    op.add_column("tasks", sa.Column("labels", sa.JSON(), nullable=True))
    op.create_table(
        "task_labels",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.task_id"], name="fk_task_labels_task_id_tasks"
        ),
        sa.PrimaryKeyConstraint("name", "value", "task_id", name="pk_task_labels"),
    )
    op.create_index("ix_task_labels_task_id", "task_labels", ["task_id"], unique=False)
