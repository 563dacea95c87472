"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pandawn_server.storage.types import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "claims",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("run_time", UtcDateTime(), nullable=False),
        sa.Column("expire_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_claims")),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("event_time", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_event_time"), ["event_time"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_events_job_id_event_id"), ["job_id", "event_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_events_task_id_event_id"), ["task_id", "event_id"], unique=False
        )

    op.create_table(
        "nodes",
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("contact_time", UtcDateTime(), nullable=False),
        sa.Column("suspended_until", UtcDateTime(), nullable=True),
        sa.Column("suspend_reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("site", "node", name=op.f("pk_nodes")),
    )
    op.create_table(
        "pilots",
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pilot_version", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("transports", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("end_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("register_time", UtcDateTime(), nullable=False),
        sa.Column("contact_time", UtcDateTime(), nullable=False),
        sa.Column("offer_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("offer_cores", sa.Integer(), nullable=True),
        sa.Column("offer_disk_bytes", sa.BigInteger(), nullable=True),
        sa.Column("offer_wall_time_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pilot_id", name=op.f("pk_pilots")),
        sa.UniqueConstraint("request_id", name=op.f("uq_pilots_request_id")),
    )
    with op.batch_alter_table("pilots", schema=None) as batch_op:
        batch_op.create_index("ix_pilots_node", ["site", "node"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_pilots_register_time_pilot_id"),
            ["register_time", "pilot_id"],
            unique=False,
        )
        batch_op.create_index("ix_pilots_state", ["state", "queue", "contact_time"], unique=False)

    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=True),
        sa.Column("cloud", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("max_input_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_work_dir_bytes", sa.BigInteger(), nullable=True),
        sa.Column("max_wall_time_s", sa.Float(), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cores", sa.Integer(), nullable=True),
        sa.Column("storage_root", sa.Text(), nullable=True),
        sa.Column("lease_duration_s", sa.Float(), nullable=True),
        sa.Column("locality_wait_s", sa.Float(), nullable=True),
        sa.Column("priority_band", sa.Integer(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("update_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("job_ids", sa.JSON(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    op.create_table(
        "sandboxes",
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sandbox_id", name=op.f("pk_sandboxes")),
    )
    op.create_table(
        "sandbox_chunks",
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("chunk", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sandbox_id"],
            ["sandboxes.sandbox_id"],
            name=op.f("fk_sandbox_chunks_sandbox_id_sandboxes"),
        ),
        sa.PrimaryKeyConstraint("sandbox_id", "position", name=op.f("pk_sandbox_chunks")),
    )
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("files_per_job", sa.Integer(), nullable=False),
        sa.Column("build", sa.Boolean(), nullable=False),
        sa.Column("sandbox_id", sa.Text(), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("build_command", sa.JSON(), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cores", sa.Integer(), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.Column("wall_time_s", sa.Float(), nullable=True),
        sa.Column("output_url", sa.Text(), nullable=False),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("library_lfn", sa.Text(), nullable=True),
        sa.Column("library_url", sa.Text(), nullable=True),
        sa.Column("library_bytes", sa.BigInteger(), nullable=True),
        sa.Column("library_checksum", sa.Text(), nullable=True),
        sa.Column("close_time", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["queue"], ["queues.name"], name=op.f("fk_tasks_queue_queues")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_tasks")),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_tasks_open",
            ["task_id"],
            unique=False,
            postgresql_where=sa.text("close_time IS NULL"),
            sqlite_where=sa.text("close_time IS NULL"),
        )
        batch_op.create_index(batch_op.f("ix_tasks_user_dataset"), ["user", "dataset"], unique=True)

    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("input_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cores", sa.Integer(), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.Column("wall_time_s", sa.Float(), nullable=True),
        sa.Column("bytes_from_cache", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error_component", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error_reason", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("parent_job_id", sa.BigInteger(), nullable=True),
        sa.Column("retry_job_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "cancel_requested", sa.Boolean(), server_default=sa.text("(false)"), nullable=False
        ),
        sa.Column("create_time", UtcDateTime(), nullable=False),
        sa.Column("state_time", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'activated', 'sent', 'running', 'holding', "
            "'finished', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name=op.f("fk_jobs_task_id_tasks")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_activated",
            ["queue", sa.text("priority DESC"), "job_id"],
            unique=False,
            postgresql_where=sa.text("state = 'activated'"),
            sqlite_where=sa.text("state = 'activated'"),
        )
        batch_op.create_index(
            "ix_jobs_open",
            ["queue", "state", "user"],
            unique=False,
            postgresql_where=sa.text("state NOT IN ('cancelled', 'failed', 'finished')"),
            sqlite_where=sa.text("state NOT IN ('cancelled', 'failed', 'finished')"),
        )
        batch_op.create_index(batch_op.f("ix_jobs_queue_job_id"), ["queue", "job_id"], unique=False)
        batch_op.create_index("ix_jobs_task", ["task_id", "state"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_jobs_task_id_job_id"), ["task_id", "job_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_jobs_user_job_id"), ["user", "job_id"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=False),
        sa.Column("start_time", UtcDateTime(), nullable=False),
        sa.Column("end_time", UtcDateTime(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reported_state", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("error_component", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error_reason", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("cpu_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("max_rss_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("work_dir_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("input_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_from_cache", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stage_in_s", sa.Float(), nullable=True),
        sa.Column("payload_s", sa.Float(), nullable=True),
        sa.Column("stage_out_s", sa.Float(), nullable=True),
        sa.Column("locality", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("match_input_bytes", sa.BigInteger(), nullable=False),
        sa.Column("match_local_bytes", sa.BigInteger(), nullable=False),
        sa.Column("match_candidates", sa.Integer(), nullable=False),
        sa.Column("match_held", sa.Integer(), nullable=False),
        sa.Column("match_waited_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_attempts_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_attempts")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index("ix_attempts_node", ["node", "site", "end_time"], unique=False)

    op.create_table(
        "job_files",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("lfn", sa.Text(), nullable=False),
        sa.Column("guid", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_job_files_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "role", "position", name=op.f("pk_job_files")),
    )
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.job_id"], name=op.f("fk_job_inputs_job_id_jobs")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_inputs")),
    )
    op.create_table(
        "leases",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("pilot_id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("expire_time", UtcDateTime(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_leases_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_leases")),
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leases_expire_time"), ["expire_time"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_leases_pilot_id_request_id_ordinal"),
            ["pilot_id", "request_id", "ordinal"],
            unique=True,
        )
