"""Queues become documents with a history; attempts say under which revision they ran, tasks whether they test.

What was set of queues is kept, as revision 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SETTINGS = {
    "site": "site",
    "cloud": "cloud",
    "status": "status",
    "max_input_bytes": "max_input_bytes",
    "max_work_dir_bytes": "max_work_dir_bytes",
    "max_wall_time": "max_wall_time_s",
    "memory_bytes": "memory_bytes",
    "cores": "cores",
    "storage_root": "storage_root",
    "lease_duration": "lease_duration_s",
    "locality_wait": "locality_wait_s",
    "priority_band": "priority_band",
}
"""Columns by the parameters that they held."""


def upgrade() -> None:
    """Makes the tables, moves what is known of queues, and drops the columns that had it."""
    head, documents, revisions, changes = _make_tables()
    op.add_column(
        "attempts",
        sa.Column("queue_revision", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column(
        "tasks", sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    known = _known_queues()
    op.bulk_insert(head, [{"head_id": 1, "revision": 1 if known else 0}])
    if known:
        op.bulk_insert(revisions, [_revision(len(known))])
        op.bulk_insert(documents, [_document(row) for row in known])
        op.bulk_insert(
            changes,
            [
                {
                    "revision": 1,
                    "kind": "queue",
                    "name": row["name"],
                    "of_overrides": False,
                    "old": sa.null(),
                    "new": _settings(row),
                }
                for row in known
            ],
        )
    for name in (*_SETTINGS.values(), "etag", "update_time"):
        op.drop_column("queues", name)


def _make_tables() -> tuple[sa.Table, sa.Table, sa.Table, sa.Table]:
    head = op.create_table(
        "config_head",
        sa.Column("head_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("head_id", name=op.f("pk_config_head")),
    )
    documents = op.create_table(
        "config_documents",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("since", sa.JSON(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("override_revision", sa.BigInteger(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_config_documents")),
    )
    op.create_index("ix_config_documents_revision", "config_documents", ["revision"])
    op.create_index(
        "ix_config_documents_override_revision", "config_documents", ["override_revision"]
    )
    op.create_table(
        "config_overrides",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("parameter", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("expire_time", UtcDateTime(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "parameter", name=op.f("pk_config_overrides")),
    )
    op.create_index("ix_config_overrides_expire_time", "config_overrides", ["expire_time"])
    revisions = op.create_table(
        "config_revisions",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("change_time", UtcDateTime(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("cause", "author", "subject", "peer", "tool", "message")
        ),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("created_count", "changed_count", "deleted_count")
        ),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_config_revisions")),
    )
    changes = op.create_table(
        "config_changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("of_overrides", sa.Boolean(), nullable=False),
        sa.Column("old", sa.JSON(), nullable=True),
        sa.Column("new", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["revision"],
            ["config_revisions.revision"],
            name=op.f("fk_config_changes_revision_config_revisions"),
        ),
        sa.PrimaryKeyConstraint("revision", "kind", "name", name=op.f("pk_config_changes")),
    )
    op.create_index(
        "ix_config_changes_kind_name_revision", "config_changes", ["kind", "name", "revision"]
    )
    return head, documents, revisions, changes


def _known_queues() -> list[dict[str, Any]]:
    columns = ", ".join(("name", *_SETTINGS.values(), "etag", "update_time"))
    query = sa.text(f"SELECT {columns} FROM queues ORDER BY name").columns(  # noqa: S608 (our names)
        update_time=UtcDateTime()
    )
    return [dict(row) for row in op.get_bind().execute(query).mappings()]


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[column] for name, column in _SETTINGS.items() if row[column] is not None}


def _document(row: dict[str, Any]) -> dict[str, Any]:
    settings = _settings(row)
    return {
        "kind": "queue",
        "name": row["name"],
        "settings": settings,
        "since": dict.fromkeys(settings, 1),
        "etag": row["etag"],
        "revision": 1,
        "override_revision": 0,
        "update_time": row["update_time"],
        "is_deleted": False,
    }


def _revision(count: int) -> dict[str, Any]:
    return {
        "revision": 1,
        "change_time": datetime.now(UTC),
        "cause": "migration",
        "author": "",
        "subject": "",
        "peer": "",
        "tool": "pandawn-server migrate",
        "message": "queues as they were before the configuration had a history",
        "created_count": count,
        "changed_count": 0,
        "deleted_count": 0,
    }
