"""The tables of pilots, leases, attempts and worker nodes."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.types import UtcDateTime

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", BigInteger, ForeignKey("jobs.job_id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("task_id", BigInteger, nullable=False),
    Column("pilot_id", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("node", Text, nullable=False),
    # Kept after the lease ends, to authenticate a repeated report.
    Column("lease_token", Text, nullable=False),
    Column("start_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    Column("outcome", Text),
    # The job's state after the report; set only if the pilot itself reported the end.
    Column("reported_state", Text),
    Column("exit_code", Integer),
    Column("error_component", Text),
    Column("error_code", Integer),
    Column("error_reason", Text),
    Column("error_text", Text),
    Column("cpu_seconds", Float, nullable=False, server_default="0"),
    Column("max_rss_bytes", BigInteger, nullable=False, server_default="0"),
    Column("work_dir_bytes", BigInteger, nullable=False, server_default="0"),
    Column("input_bytes", BigInteger, nullable=False, server_default="0"),
    Column("bytes_from_cache", BigInteger, nullable=False, server_default="0"),
    Column("stage_in_s", Float),
    Column("payload_s", Float),
    Column("stage_out_s", Float),
    # Revision of the queue when the job was handed out.
    Column("queue_revision", BigInteger, nullable=False, server_default="0"),
    # The explanation of the match.
    Column("locality", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("match_input_bytes", BigInteger, nullable=False),
    Column("match_local_bytes", BigInteger, nullable=False),
    Column("match_candidates", Integer, nullable=False),
    Column("match_held", Integer, nullable=False),
    Column("match_waited_s", Float, nullable=False),
    # The last attempts on a node: to detect black holes, and to list its jobs.
    Index("ix_attempts_node", "node", "site", "end_time"),
    # The failures of a task on other nodes.
    Index(
        "ix_attempts_failed",
        "task_id",
        "end_time",
        postgresql_where=text("outcome = 'failed'"),
        sqlite_where=text("outcome = 'failed'"),
    ),
)

leases = Table(
    "leases",
    metadata,
    # One row a job: the database itself rejects a second live lease.
    Column("job_id", BigInteger, ForeignKey("jobs.job_id"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("token", Text, nullable=False),
    Column("pilot_id", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("expire_time", UtcDateTime, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("phase", Text),
    # If two calls with the same request_id race, the database rejects the second insert.
    Index(None, "pilot_id", "request_id", "ordinal", unique=True),
    Index(None, "expire_time"),
)

pilots = Table(
    "pilots",
    metadata,
    Column("pilot_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False, unique=True),
    Column("queue", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pilot_version", Text, nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("transports", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("end_reason", Text, nullable=False, server_default=""),
    Column("register_time", UtcDateTime, nullable=False),
    Column("contact_time", UtcDateTime, nullable=False),
    # The credential at registration, and a digest of the key that only this machine's processes know.
    Column("credential", Text),
    Column("node_key", Text, nullable=False, server_default=""),
    # What the pilot last offered to jobs, for `why`; NULL: not stated.
    Column("offer_memory_bytes", BigInteger),
    Column("offer_cores", Integer),
    Column("offer_disk_bytes", BigInteger),
    Column("offer_wall_time_s", Float),
    Index("ix_pilots_state", "state", "queue", "contact_time"),
    Index("ix_pilots_node", "site", "node"),
    Index(None, "register_time", "pilot_id"),
)


nodes = Table(
    "nodes",
    metadata,
    Column("site", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("contact_time", UtcDateTime, nullable=False),
    Column("suspended_until", UtcDateTime),
    Column("suspend_reason", Text, nullable=False, server_default=""),
    # open, suspended or drained. A node on probation is suspended, and `suspended_until` is past.
    Column("state", Text, nullable=False, server_default="open"),
    Column("changed_by", Text, nullable=False, server_default=""),
    Column("change_time", UtcDateTime),
    Column("good_probes", Integer, nullable=False, server_default="0"),
    Column("suspensions", Integer, nullable=False, server_default="0"),
    Column("judged_since", UtcDateTime),
    Column("evidence", JSON(none_as_null=True)),
    # Each round of dispatch reads the few nodes that are not open.
    Index(
        "ix_nodes_restricted",
        "state",
        postgresql_where=text("state <> 'open'"),
        sqlite_where=text("state <> 'open'"),
    ),
)
