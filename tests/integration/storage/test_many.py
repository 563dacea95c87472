"""Lists of any length go to the database: it takes 65,535 parameters (SQLite 32,766), and a task 100,000 jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.domain.tasks.tasks import MAX_JOBS
from pandawn_server.storage.database import Database, Transaction
from pandawn_server.storage.leases import attempts, leases, nodes, pilots
from pandawn_server.storage.queues import documents, revisions
from pandawn_server.storage.tasks import files, job_moves, jobs, sandboxes, tasks
from tests.fixtures.clock import NOON

Call = Callable[[Transaction, Sequence[int], Sequence[str]], Collection[object] | None]

CALLS: dict[str, Call] = {
    "get_jobs": lambda tx, ids, _: jobs.get_jobs(tx, ids),
    "lock_jobs": lambda tx, ids, _: jobs.lock_jobs(tx, ids),
    "claim": lambda tx, ids, _: job_moves.claim(tx, ids, NOON),
    "advance": lambda tx, ids, _: job_moves.advance(tx, dict.fromkeys(ids, JobState.RUNNING), NOON),
    "cancel_queued": lambda tx, ids, _: job_moves.cancel_queued(tx, ids, NOON),
    "request_cancel": lambda tx, ids, _: job_moves.request_cancel(tx, ids),
    "get_inputs": lambda tx, ids, _: [read for read in files.get_inputs(tx, ids).values() if read],
    "get_attempts": lambda tx, ids, _: attempts.get_attempts(tx, {(number, 1) for number in ids}),
    "lock_leases": lambda tx, ids, _: leases.lock_leases(tx, ids),
    "delete_leases": lambda tx, ids, _: leases.delete_leases(tx, ids),
    "get_granted": lambda tx, _, names: leases.get_granted(tx, {(name, name) for name in names}),
    "lock_pilot_leases": lambda tx, _, names: leases.lock_pilot_leases(tx, names),
    "count_by_pilot": lambda tx, _, names: leases.count_by_pilot(tx, names),
    "get_pilots": lambda tx, _, names: pilots.get_pilots(tx, names),
    "record_contact": lambda tx, _, names: pilots.record_contact(tx, names, NOON),
    "get_nodes": lambda tx, _, names: nodes.get_nodes(tx, {NodeKey("S", name) for name in names}),
    "use_of_nodes": lambda tx, _, names: pilots.use_of_nodes(
        tx, [NodeKey("S", name) for name in names]
    ),
    "get_tasks": lambda tx, ids, _: tasks.get_tasks(tx, ids),
    "lock_tasks": lambda tx, ids, _: tasks.lock_tasks(tx, ids),
    "read_overrides": lambda tx, _, names: documents.read_overrides(tx, names),
    "get_revisions": lambda tx, ids, _: revisions.get_revisions(tx, ids),
    "queues_with_jobs": lambda tx, _, names: jobs.queues_with_jobs(tx, names),
    "queues_with_pilots": lambda tx, _, names: pilots.queues_with_pilots(tx, names),
    "silent_pilots": lambda tx, _, names: pilots.silent_pilots(tx, names, NOON, 5),
    "known_sandboxes": lambda tx, _, names: sandboxes.known_sandboxes(tx, names),
}


def test_the_jobs_of_the_largest_task_and_the_pilots_of_the_largest_page_are_not_too_many(
    database: Database,
) -> None:
    ids = range(1, MAX_JOBS + 1)
    names = [f"name{number}" for number in range(1000)]
    for name, call in CALLS.items():
        with database.write() as tx:
            assert not call(tx, ids, names), name


def test_none_at_all_is_fine_too(database: Database) -> None:
    for name, call in CALLS.items():
        with database.write() as tx:
            assert not call(tx, (), ()), name
