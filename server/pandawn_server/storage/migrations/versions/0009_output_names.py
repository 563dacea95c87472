"""Outputs are named by their tasks; tasks that have begun keep the names that they had.

Files of jobs get versions in the rows that they lie in; of those that lie there already none is known. So it is with
pinned files, whose packed form has versions from now on and is read in both forms.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column(
        "tasks",
        sa.Column("named_by_task", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
