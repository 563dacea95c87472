"""The cost of a statement follows what it is about, and not how much else the tables hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import text

from pandawn_server.domain.access.audit import AuditFilter
from pandawn_server.domain.access.lists import SubjectKind
from pandawn_server.domain.tasks.jobs import JobFilter, JobState
from pandawn_server.storage import retention
from pandawn_server.storage.access import audit, limits, lists
from pandawn_server.storage.catalog import pins
from pandawn_server.storage.database import Database, Transaction
from pandawn_server.storage.dispatch import runnable
from pandawn_server.storage.dispatch.runnable import Arrival, Rank
from pandawn_server.storage.leases import attempts, leases, node_history, nodes, pilots
from pandawn_server.storage.monitor import counts, events
from pandawn_server.storage.monitor.events import Scope
from pandawn_server.storage.tasks import files, job_moves, jobs, sandboxes, tasks
from tests.fixtures.clock import NOON
from tests.fixtures.database import TEMPLATE, migrate, open_fast
from tests.fixtures.factories import node_key
from tests.fixtures.plans import plans_of, recorded
from tests.fixtures.postgres import PostgresServer

JOBS = 20_000
TASK_JOBS = 100
NODES = 5_000
FILL = (
    """
    INSERT INTO queues (name) SELECT 'Q' || q FROM generate_series(0, 9) q
    """,
    """
    INSERT INTO tasks ("user", dataset, queue, site, priority, max_attempts, files_per_job, build,
        sandbox_id, command, build_command, outputs, environment, output_url, create_time, close_time)
    SELECT 'user' || t % 50, 'd' || t, 'Q' || t % 10, 'TIER3', 0, 3, 1, false,
        '', '[]', '[]', '[]', '{}', '', now(), CASE WHEN t % 4 = 0 THEN NULL ELSE now() END
    FROM generate_series(1, :jobs / :task_jobs) t
    """,
    # Of each ten: three runnable, four with a pilot, one each waiting, finished and failed. All
    # runnable ones are in Q1, as when one user submits a lot.
    """
    INSERT INTO jobs (task_id, index, kind, state, "user", queue, priority, max_attempts, input_bytes,
        attempt, create_time, state_time)
    SELECT 1 + (j - 1) / :task_jobs, j, 'run',
        (ARRAY['activated', 'activated', 'activated', 'running', 'running', 'running', 'running',
               'waiting', 'finished', 'failed'])[1 + j % 10],
        'user' || (j / :task_jobs) % 50, CASE WHEN j % 10 < 3 THEN 'Q1' ELSE 'Q' || j % 7 END, j % 7, 3, 1000,
        CASE WHEN j % 10 IN (0, 1, 2, 7) THEN 0 ELSE 1 END, now(), now()
    FROM generate_series(1, :jobs) j
    """,
    # A long task near its end.
    """
    INSERT INTO jobs (task_id, index, kind, state, "user", queue, priority, max_attempts, input_bytes,
        create_time, state_time)
    SELECT 4, j, 'run', 'finished', 'anna', 'Q9', 0, 3, 0, now(), now() FROM generate_series(1, 5000) j
    """,
    """
    INSERT INTO attempts (job_id, attempt, task_id, pilot_id, site, node, lease_token, start_time,
        end_time, outcome, locality, rule, match_input_bytes, match_local_bytes, match_candidates,
        match_held, match_waited_s)
    SELECT job_id, 1, task_id, 'p' || job_id % :nodes, 'TIER3', 'wn' || job_id % :nodes, 't' || job_id,
        now(), CASE WHEN state = 'running' THEN NULL ELSE now() - job_id * interval '1 s' END,
        CASE WHEN state = 'running' THEN NULL ELSE state END,
        'known', 'age', 0, 0, 1, 0, 0
    FROM jobs WHERE attempt = 1
    """,
    """
    INSERT INTO leases (job_id, attempt, token, pilot_id, site, node, request_id, ordinal, expire_time,
        duration_s)
    SELECT job_id, 1, 't' || job_id, 'p' || job_id, 'TIER3', 'wn' || job_id % :nodes, 'r' || job_id, 0,
        CAST('2026-03-08 12:00Z' AS timestamptz) + job_id * interval '1 s', 600
    FROM jobs WHERE state = 'running'
    """,
    """
    INSERT INTO job_inputs (job_id, files) SELECT job_id, '[["lfn", 1000, "url"]]' FROM jobs
    """,
    """
    INSERT INTO nodes (site, node, contact_time) SELECT 'TIER3', 'wn' || n, now()
    FROM generate_series(1, :nodes) n
    """,
    """
    INSERT INTO pilots (pilot_id, request_id, queue, site, node, host, pilot_version, batch_id, transports,
        state, register_time, contact_time)
    SELECT 'p' || p, 'r' || p, 'Q' || p % 10, 'TIER3', 'wn' || p, '', '', '', '[]',
        CASE WHEN p % 2 = 0 THEN 'live' ELSE 'ended' END,
        now() - p * interval '1 s', CAST('2026-03-08 12:00Z' AS timestamptz) - p * interval '1 s'
    FROM generate_series(1, :nodes) p
    """,
    """
    INSERT INTO events (event_time, kind, task_id, job_id, attempt, queue, node, pilot_id, "user", text)
    SELECT now() - (100000 - e) * interval '1 s', 'K', 1 + e % 200, e % 20000, 1, '', '', '', '', 'text'
    FROM generate_series(1, :jobs * 2) e
    """,
    """
    INSERT INTO pins (site, node, version, file_count, total_bytes, files, update_time)
    SELECT 'TIER3', 'wn' || n, n, 1, 1, '', now() FROM generate_series(1, :nodes, 500) n
    """,
    # Other tasks, few of them of one user and on one queue.
    """
    INSERT INTO tasks ("user", dataset, queue, site, priority, max_attempts, files_per_job, build,
        sandbox_id, command, build_command, outputs, environment, output_url, create_time, close_time)
    SELECT CASE WHEN t % 500 = 0 THEN 'rare' ELSE 'user' || t % 50 END, 'old' || t,
        CASE WHEN t % 500 = 0 THEN 'Q9' ELSE 'Q' || t % 9 END, 'TIER3', 0, 3, 1, false,
        '', '[]', '[]', '[]', '{}', '', now(), now()
    FROM generate_series(1, 5000) t
    """,
    # One waiting job in twenty waits for its user's limit.
    "UPDATE jobs SET throttled = true WHERE state = 'waiting' AND job_id % 20 = 7",
    """
    INSERT INTO queue_access (queue, kind, subject, effect, granted_by, grant_time, message)
    SELECT 'Q' || e % 10, CASE WHEN e < 20 THEN 'group' ELSE 'user' END, 'u' || e, 'allow', '', now(), ''
    FROM generate_series(1, 5000) e
    """,
    """
    INSERT INTO users ("user", method, subject, groups, seen_time)
    SELECT 'user' || u, 'token', '', '[]', now() FROM generate_series(1, 2000) u
    """,
    """
    INSERT INTO sandboxes (sandbox_id, size_bytes, create_time)
    SELECT 's' || s, 1, now() FROM generate_series(1, 2000) s
    """,
    """
    INSERT INTO sandbox_owners (sandbox_id, "user") SELECT 's' || s, 'user' || s % 50
    FROM generate_series(1, 2000) s
    """,
    """
    INSERT INTO audit (audit_time, "user", subject, method, rule, peer, rpc, task_id, job_id, queue, site,
        node, thing, request_id, code, reason, text, count, denied)
    SELECT now() - (20000 - a) * interval '1 s',
        CASE WHEN a % 1000 = 0 THEN 'rare' ELSE 'user' || a % 50 END, '', 'token', '', '', 'Broker.GetTask',
        a % 4000, 0, CASE WHEN a % 1000 = 0 THEN 'rare' ELSE 'Q' || a % 10 END,
        CASE WHEN a % 1000 = 0 THEN 'rare' ELSE '' END, '', '', '', 'OK', '', '', 1, a % 500 = 0
    FROM generate_series(1, 20000) a
    """,
    "ANALYZE",
)


@pytest.fixture(scope="module")
def full_database(postgres_server: PostgresServer) -> Iterator[Database]:
    postgres_server.prepare_template(TEMPLATE, migrate)
    url = postgres_server.create_database(TEMPLATE)
    database = open_fast(url)
    numbers = {"jobs": JOBS, "task_jobs": TASK_JOBS, "nodes": NODES}
    with database.write() as tx:
        for statement in FILL:
            names = {name: n for name, n in numbers.items() if f":{name}" in statement}
            tx.execute(text(statement), names)
    yield database
    database.dispose()
    postgres_server.drop_database(url)


SMALL_TABLES = {"queues", "pins"}
"""Tables that hold too little here for an index to be of use."""

SOME = range(100, 120)
# Before all but a few have been heard of.
LONG_AGO = NOON - timedelta(seconds=NODES - 50)
KEYS = [node_key(1)._replace(node=f"wn{n}") for n in SOME]


@dataclass(frozen=True)
class Case:
    """A call, and the pages that it may touch: those of what it is about, and of the way to it."""

    call: Callable[[Transaction], object]
    pages: int
    indexes: frozenset[str] = frozenset()


def old(tx: Transaction, kind: str) -> int:
    """Deletes what is older than anything there is."""
    return retention.DELETIONS[kind](tx, NOON.replace(year=2000), 1000)


CASES = {
    "what became runnable last": Case(
        lambda tx: runnable.last_arrival(tx, "Q1"), 20, frozenset({"ix_jobs_arrivals"})
    ),
    "what became runnable since, with its files": Case(
        lambda tx: runnable.arrived_since(tx, "Q1", Arrival(NOON, 700), 20),
        400,
        frozenset({"ix_jobs_arrivals"}),
    ),
    "a first page of runnable jobs": Case(
        lambda tx: runnable.ranked_after(tx, "Q1", None, 20), 60, frozenset({"ix_jobs_activated"})
    ),
    "a later page of runnable jobs": Case(
        lambda tx: runnable.ranked_after(tx, "Q1", Rank(0, 9000), 20),
        60,
        frozenset({"ix_jobs_activated"}),
    ),
    "some runnable jobs with their files": Case(lambda tx: runnable.get_runnable(tx, SOME), 400),
    "which jobs are runnable still": Case(lambda tx: runnable.still_runnable(tx, SOME), 200),
    "nodes that get no jobs": Case(nodes.restricted_nodes, 20, frozenset({"ix_nodes_restricted"})),
    "some jobs": Case(lambda tx: jobs.get_jobs(tx, SOME), 300),
    "inputs of some jobs": Case(lambda tx: files.get_inputs(tx, SOME), 100),
    "inputs of a task": Case(lambda tx: files.task_inputs(tx, 7), 600),
    "nodes with pins": Case(pins.all_pins, 300),
    "pins of some nodes": Case(lambda tx: pins.get_pins(tx, KEYS[:3]), 30),
    "claim": Case(lambda tx: job_moves.claim(tx, SOME, NOON), 500),
    "granted before": Case(
        lambda tx: leases.get_granted(tx, {(f"p{n}", f"r{n}") for n in SOME}), 100
    ),
    "leases of jobs": Case(lambda tx: leases.lock_leases(tx, SOME), 200),
    "leases of a pilot": Case(lambda tx: leases.lock_pilot_leases(tx, ["p103"]), 20),
    "lapsed leases": Case(
        lambda tx: leases.lock_lapsed(tx, NOON, 500), 20, frozenset({"ix_leases_expire_time"})
    ),
    "leases by pilot": Case(lambda tx: leases.count_by_pilot(tx, ["p103", "p113"]), 20),
    "some pilots": Case(lambda tx: pilots.get_pilots(tx, [f"p{n}" for n in SOME]), 100),
    "which of some pilots have ended": Case(
        lambda tx: pilots.ended_among(tx, [f"p{n}" for n in SOME]), 100
    ),
    "live pilots of a queue": Case(
        lambda tx: pilots.live_pilots(tx, "Q2", 20), 60, frozenset({"ix_pilots_state"})
    ),
    "silent pilots of a queue": Case(lambda tx: pilots.silent_pilots(tx, ["Q2"], LONG_AGO, 5), 60),
    "a registration": Case(lambda tx: pilots.find_registration(tx, "r77"), 10),
    "some nodes": Case(lambda tx: nodes.get_nodes(tx, KEYS), 100),
    "use of some nodes": Case(lambda tx: pilots.use_of_nodes(tx, KEYS), 200),
    "a page of nodes": Case(lambda tx: nodes.list_nodes(tx, KEYS[0], 20, ""), 30),
    "contact of some nodes": Case(lambda tx: nodes.record_contact(tx, KEYS, NOON), 300),
    "attempts at some jobs": Case(
        lambda tx: attempts.get_attempts(tx, {(n, 1) for n in SOME}), 100
    ),
    "last attempts of a node": Case(
        lambda tx: node_history.last_ended(tx, KEYS[3], 20, None),
        260,
        frozenset({"ix_attempts_node"}),
    ),
    "how a task did elsewhere": Case(
        lambda tx: node_history.elsewhere(tx, KEYS[3], [7], ()),
        600,
        frozenset({"ix_attempts_failed"}),
    ),
    "jobs whose pauses are over": Case(
        lambda tx: jobs.pauses_over(tx, NOON, 100), 40, frozenset({"ix_jobs_retry"})
    ),
    "progress of a task": Case(
        lambda tx: tasks.get_progress(tx, [7]), 600, frozenset({"ix_jobs_task"})
    ),
    "jobs of a task": Case(lambda tx: jobs.list_jobs(tx, 0, 20, JobFilter(task_id=190)), 300),
    "jobs of a node": Case(lambda tx: jobs.list_jobs(tx, 0, 20, JobFilter(node="wn4007")), 100),
    "jobs of a queue": Case(lambda tx: jobs.list_jobs(tx, 0, 20, JobFilter(queue="Q5")), 300),
    "a page of jobs": Case(lambda tx: jobs.list_jobs(tx, 500, 20, JobFilter()), 200),
    "a page of a user's jobs": Case(
        lambda tx: jobs.list_jobs(tx, 0, 20, JobFilter(user="user49")), 300
    ),
    "jobs of a task in a state": Case(
        lambda tx: jobs.list_task_jobs(tx, 7, [JobState.FAILED]), 100
    ),
    "a build that is open": Case(lambda tx: jobs.has_open_build(tx, 7), 100),
    "waiting jobs of a task": Case(lambda tx: job_moves.activate_built(tx, "Q7", 7, 1, NOON), 300),
    "tasks that have ended": Case(lambda tx: tasks.close_ended(tx, NOON, 500), 400),
    "the dataset of a user": Case(lambda tx: tasks.find_dataset(tx, "user7", "d7"), 10),
    "a page of a user's tasks": Case(
        lambda tx: tasks.list_tasks(tx, 4000, 3, "rare"), 30, frozenset({"ix_tasks_user_task_id"})
    ),
    "a page of a queue's tasks": Case(
        lambda tx: tasks.list_tasks(tx, 4000, 3, "", "Q9"),
        30,
        frozenset({"ix_tasks_queue_task_id"}),
    ),
    "whether somebody is throttled": Case(limits.throttled, 30, frozenset({"ix_jobs_throttled"})),
    "jobs to let go": Case(
        lambda tx: job_moves.release(tx, "Q3", "user3", 5, NOON),
        200,
        frozenset({"ix_jobs_throttled"}),
    ),
    "load of a user on a queue": Case(
        lambda tx: limits.load_of(tx, "Q3", "user3"), 60, frozenset({"ix_jobs_open"})
    ),
    "what lists say of a user": Case(lambda tx: lists.entries_about(tx, ["Q3", "Q4"], "user3"), 60),
    "an entry": Case(lambda tx: lists.get_entry(tx, "Q3", SubjectKind.USER, "u7"), 10),
    "a page of a list": Case(lambda tx: lists.list_entries(tx, "Q3", ("user", "u300"), 20), 60),
    "what was seen of a user": Case(lambda tx: lists.get_identities(tx, ["user3"]), 10),
    "whose a sandbox is": Case(lambda tx: sandboxes.sandboxes_of(tx, "user3", ["s3"]), 10),
    "loads of the users of a queue": Case(
        lambda tx: limits.loads_on(tx, ["Q3"]), 500, frozenset({"ix_jobs_open"})
    ),
    "a page of the audit": Case(lambda tx: audit.list_records(tx, 15_000, 20, AuditFilter()), 40),
    "a page of a user's audit": Case(
        lambda tx: audit.list_records(tx, 15_000, 20, AuditFilter(user="rare")), 80
    ),
    "a page of a task's audit": Case(
        lambda tx: audit.list_records(tx, None, 20, AuditFilter(task_id=7)),
        80,
        frozenset({"ix_audit_task_id_audit_id"}),
    ),
    "a page of a queue's audit": Case(
        lambda tx: audit.list_records(tx, None, 20, AuditFilter(queue="rare")),
        80,
        frozenset({"ix_audit_queue_audit_id"}),
    ),
    "a page of a site's audit": Case(
        lambda tx: audit.list_records(tx, None, 20, AuditFilter(), "rare"),
        80,
        frozenset({"ix_audit_site_audit_id"}),
    ),
    "refusals": Case(
        lambda tx: audit.list_records(tx, None, 20, AuditFilter(denied_only=True)),
        80,
        frozenset({"ix_audit_denied"}),
    ),
    "the audit since a while": Case(
        lambda tx: audit.list_records(
            tx, None, 20, AuditFilter(user="rare", since=NOON.replace(year=2030))
        ),
        20,
    ),
    "old audit": Case(lambda tx: old(tx, "audit lines"), 10),
    "load of queues": Case(
        lambda tx: jobs.queue_loads(tx, ["Q5", "Q6"]), 500, frozenset({"ix_jobs_open"})
    ),
    "counts of a queue": Case(lambda tx: counts.count_jobs(tx, "Q5", ""), 400),
    "new events": Case(lambda tx: events.read_events(tx, 39_900, 100), 20),
    "events of a task": Case(lambda tx: events.read_events(tx, 0, 50, task_id=7), 100),
    "new events of a user and a site": Case(
        lambda tx: events.read_events(
            tx, 39_900, 100, until=40_000, scope=Scope("user3", ["Q3"], ["TIER3"])
        ),
        400,
    ),
    "last events": Case(lambda tx: events.event_before_last(tx, 50), 20),
    "old events": Case(lambda tx: old(tx, "events"), 10),
    "old tasks": Case(lambda tx: old(tx, "tasks"), 30),
}


@pytest.mark.parametrize("name", CASES)
def test_a_statement_touches_only_what_it_is_about(full_database: Database, name: str) -> None:
    case = CASES[name]
    plans = plans_of(full_database, case.call)
    assert plans
    for plan in plans:
        assert plan.pages <= case.pages, plan
        assert not plan.walked - SMALL_TABLES, plan
    assert case.indexes <= {index for plan in plans for index in plan.indexes}


def test_what_is_runnable_is_named_in_the_text_of_its_queries(database: Database) -> None:
    """A plan for all values, which PostgreSQL makes in time, can use the indexes of runnable jobs only then."""
    with recorded(database) as statements, database.read() as tx:
        runnable.last_arrival(tx, "Q1")
        runnable.arrived_since(tx, "Q1", None, 20)
        runnable.arrived_since(tx, "Q1", Arrival(NOON, 700), 20)
        runnable.ranked_after(tx, "Q1", None, 20)
        runnable.ranked_after(tx, "Q1", Rank(0, 9000), 20)
        runnable.get_runnable(tx, SOME)
        runnable.still_runnable(tx, SOME)
    asked = [sql for sql, _ in statements.sent if "FROM jobs" in sql]
    assert len(asked) >= 7
    assert all("jobs.state = 'activated'" in sql for sql in asked)
