"""The audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import BigId, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    names = (
        *("user", "subject", "method", "rule", "peer", "rpc"),
        *("queue", "site", "node", "thing", "request_id", "code", "reason", "text"),
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", BigId, nullable=False),
        sa.Column("audit_time", UtcDateTime(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in names),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("denied", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    for name in ("user", "rpc", "queue", "site", "task_id", "audit_time"):
        op.create_index(op.f(f"ix_audit_{name}_audit_id"), "audit", [name, "audit_id"])
    op.create_index(
        "ix_audit_denied",
        "audit",
        ["audit_id"],
        postgresql_where=sa.text("denied"),
        sqlite_where=sa.text("denied"),
    )
