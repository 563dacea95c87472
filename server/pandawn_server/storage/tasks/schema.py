"""The tables of tasks, jobs, their files and sandboxes."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)

from pandawn_server.domain.tasks.jobs import FINAL_STATES, JobState
from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import BigId, UtcDateTime

_states = ", ".join(f"'{state.value}'" for state in JobState)
_final = ", ".join(f"'{state.value}'" for state in sorted(FINAL_STATES, key=lambda s: s.value))

task_labels = Table(
    "task_labels",
    metadata,
    # For searches by label; the row of the task has all its labels.
    Column("name", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("task_id", BigInteger, ForeignKey("tasks.task_id"), primary_key=True),
    Index(None, "task_id"),
)

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("sandbox_id", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)

sandbox_owners = Table(
    "sandbox_owners",
    metadata,
    # Users who uploaded the archive.
    Column("sandbox_id", Text, ForeignKey("sandboxes.sandbox_id"), primary_key=True),
    Column("user", Text, primary_key=True),
)

sandbox_chunks = Table(
    "sandbox_chunks",
    metadata,
    # In chunks, so that a thousand downloads at once hold a thousand chunks in memory, not whole archives.
    Column("sandbox_id", Text, ForeignKey("sandboxes.sandbox_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("chunk", LargeBinary, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", BigId, primary_key=True),
    Column("user", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("queue", Text, ForeignKey("queues.name"), nullable=False),
    Column("site", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("files_per_job", Integer, nullable=False),
    Column("build", Boolean, nullable=False),
    # Whether it tests a queue.
    Column("test", Boolean, nullable=False, server_default=false()),
    Column("sandbox_id", Text, nullable=False),
    Column("command", JSON, nullable=False),
    Column("build_command", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("environment", JSON, nullable=False),
    # NULL: none.
    Column("labels", JSON(none_as_null=True)),
    Column("memory_bytes", BigInteger),
    Column("cores", Integer),
    Column("disk_bytes", BigInteger),
    Column("wall_time_s", Float),
    Column("output_url", Text, nullable=False),
    # Whether the names of its outputs contain its identifier; false for old tasks.
    Column("named_by_task", Boolean, nullable=False, server_default=false()),
    # Queues that brokerage skipped, and why; empty if the user named one.
    Column("passed_over", Text, nullable=False, server_default=""),
    Column("create_time", UtcDateTime, nullable=False),
    # Library of the build job, NULL until it has finished.
    Column("library_lfn", Text),
    Column("library_url", Text),
    Column("library_bytes", BigInteger),
    Column("library_checksum", Text),
    # Set by the reaper when the last job has ended, for the event; reads derive it from the jobs.
    Column("close_time", UtcDateTime),
    # Set when its deletion starts: from then on no jobs are added.
    Column("remove_time", UtcDateTime),
    Index(None, "user", "dataset", unique=True),
    # Pages of a user's tasks, and of those of a site's queues.
    Index(None, "user", "task_id"),
    Index(None, "queue", "task_id"),
    Index(None, "close_time"),
    Index(None, "sandbox_id"),
    Index(
        "ix_tasks_open",
        "task_id",
        postgresql_where=text("close_time IS NULL"),
        sqlite_where=text("close_time IS NULL"),
    ),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigId, primary_key=True),
    Column("task_id", BigInteger, ForeignKey("tasks.task_id"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False),
    Column("input_bytes", BigInteger, nullable=False),
    Column("memory_bytes", BigInteger),
    Column("cores", Integer),
    Column("disk_bytes", BigInteger),
    Column("wall_time_s", Float),
    Column("bytes_from_cache", BigInteger, nullable=False, server_default="0"),
    Column("error_component", Text),
    Column("error_code", Integer),
    Column("error_reason", Text),
    Column("error_text", Text),
    Column("parent_job_id", BigInteger),
    Column("retry_job_id", BigInteger),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("create_time", UtcDateTime, nullable=False),
    Column("state_time", UtcDateTime, nullable=False),
    # It waits because its user has reached a limit on the queue; false in other states.
    Column("throttled", Boolean, nullable=False, server_default=text("false")),
    # Attempts that ended through no fault of the job.
    Column("losses", Integer, nullable=False, server_default="0"),
    # When a waiting job is retried.
    Column("retry_time", UtcDateTime),
    # Names of nodes on which it is not retried while there are other nodes.
    Column("avoided", JSON(none_as_null=True)),
    CheckConstraint(f"state IN ({_states})", name="state"),
    # Runnable jobs of a queue by priority and age, page by page.
    Index(
        "ix_jobs_activated",
        "queue",
        text("priority DESC"),
        "job_id",
        postgresql_where=text("state = 'activated'"),
        sqlite_where=text("state = 'activated'"),
    ),
    # Jobs that became runnable last: the matchmaker reads only these.
    Index(
        "ix_jobs_arrivals",
        "queue",
        "state_time",
        "job_id",
        postgresql_where=text("state = 'activated'"),
        sqlite_where=text("state = 'activated'"),
    ),
    # Throttled jobs: none, unless there are limits.
    Index(
        "ix_jobs_throttled",
        "queue",
        "user",
        text("priority DESC"),
        "job_id",
        postgresql_where=text("throttled"),
        sqlite_where=text("throttled"),
    ),
    # Jobs that wait for their next attempt: usually few.
    Index(
        "ix_jobs_retry",
        "retry_time",
        postgresql_where=text("retry_time IS NOT NULL"),
        sqlite_where=text("retry_time IS NOT NULL"),
    ),
    # Counts of a task.
    Index("ix_jobs_task", "task_id", "state"),
    # Counts of the monitor: few jobs are open, while a million end each day.
    Index(
        "ix_jobs_open",
        "queue",
        "state",
        "user",
        postgresql_where=text(f"state NOT IN ({_final})"),
        sqlite_where=text(f"state NOT IN ({_final})"),
    ),
    # Pages of jobs by each of the usual filters.
    Index(None, "task_id", "job_id"),
    Index(None, "user", "job_id"),
    Index(None, "queue", "job_id"),
    # So that SQLite exposes the last number used, and never reuses one.
    sqlite_autoincrement=True,
)

job_inputs = Table(
    "job_inputs",
    metadata,
    # Not in `jobs`, whose rows are rewritten at each change of state: these never change.
    Column("job_id", BigInteger, ForeignKey("jobs.job_id"), primary_key=True, autoincrement=False),
    Column("files", JSON, nullable=False),
)

job_files = Table(
    "job_files",
    metadata,
    # Outputs and logs that were stored.
    Column("job_id", BigInteger, ForeignKey("jobs.job_id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("lfn", Text, nullable=False),
    Column("guid", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("url", Text, nullable=False),
)
