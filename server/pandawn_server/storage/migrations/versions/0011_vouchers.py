"""The credentials of pilots at their registration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; existing pilots have no credential stored until they register again."""
    op.add_column("pilots", sa.Column("credential", sa.Text(), nullable=True))
    op.add_column("pilots", sa.Column("node_key", sa.Text(), nullable=False, server_default=""))
