"""Many at once: whatever the order turns out to be, the sums are right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Session
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import PreconditionError, UnavailableError
from pandawn_server.domain.tasks.jobs import FINAL_STATES, JobState, Phase
from pandawn_server.storage.database import Database
from pandawn_server.usecases.access.sessions import begin_session, refresh_sessions
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.tasks.read import get_job
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.database import OpenDatabase
from tests.fixtures.interleave import at_once
from tests.fixtures.world import World, job_ids

P = ParamSpec("P")
T = TypeVar("T")


def make_servers(database: Database, open_database: OpenDatabase) -> list[World]:
    one = World(database, catalog_on(memory_store()))
    one.queue()
    one.reap()
    return [one, one.beside(open_database())]


def insist(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Repeats a call that lost a race, as clients do; a deadlock is no such thing."""
    while True:
        try:
            return call(*args, **kwargs)
        except UnavailableError as error:
            if error.reason != "DATABASE_CONFLICT":
                raise


def test_pilots_of_two_servers_empty_a_queue_without_sharing_or_losing_a_job(
    database: Database, open_database: OpenDatabase
) -> None:
    servers = make_servers(database, open_database)
    servers[0].submit_jobs(60)

    def drain(world: World, node: int) -> list[int]:
        pilot = world.pilot(node)
        mine: list[int] = []
        while got := job_ids(world.acquire(pilot, 4)):
            mine += got
        return mine

    workers = [partial(drain, world, node) for node, world in enumerate(servers * 2, 1)]
    given = [job_id for future in at_once(*workers) for job_id in future.result()]
    # Whoever found only jobs that others were claiming went home early.
    given += drain(servers[0], 9)
    assert Counter(given) == Counter(range(1, 61))


def test_everything_at_once_ends_every_job_once(
    database: Database, open_database: OpenDatabase
) -> None:
    servers = make_servers(database, open_database)
    for _ in range(3):
        servers[0].submit_jobs(8)

    def pilot(world: World, number: int) -> None:
        rng = random.Random(number)
        ends: list[Callable[[Grant], object]] = [
            world.finish,
            world.finish,
            world.fail,
            world.release,
        ]
        me = insist(world.pilot, number)
        for _ in range(40):
            request_id = world.new_request_id()
            for grant in insist(world.acquire, me, 3, request_id=request_id):
                insist(world.heartbeat, me, grant, phase=rng.choice(list(Phase)))
                insist(rng.choice(ends), grant)

    def user(world: World) -> None:
        rng = random.Random(7)
        for _ in range(10):
            task_id = rng.choice([1, 2, 3])
            if rng.random() < 0.3:
                insist(world.cancel_task, task_id)
            # Nothing may have failed yet.
            with suppress(PreconditionError):
                insist(world.retry_task, task_id)

    one, two = servers
    futures = at_once(
        partial(pilot, one, 1), partial(pilot, two, 2), partial(pilot, one, 3), partial(user, two)
    )
    for future in futures:
        future.result()

    # Jobs that have failed wait for another time.
    one.advance(hours=1)
    one.release_throttled()
    last = one.pilot(9)
    while grants := one.acquire(last, 10):
        for grant in grants:
            one.finish(grant)
    jobs = one.jobs()
    assert {job.state for job in jobs} <= FINAL_STATES
    for job in jobs:
        attempts = get_job(one.context, job.job_id, LOCAL_OPERATOR).attempts
        assert [attempt.attempt for attempt in attempts] == list(range(1, job.attempt + 1))
        outcomes = Counter(attempt.outcome for attempt in attempts)
        assert outcomes[JobState.FINISHED] == (job.state is JobState.FINISHED)
        assert None not in outcomes
        assert job.failures <= job.max_attempts
        told = Counter(one.told(job_id=job.job_id))
        assert told["JOB_FINISHED"] + told["JOB_FAILED"] + told["JOB_CANCELLED"] == 1
        assert (job.parent_job_id is None) == (job.job_id <= 24)
    with one.db.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM leases").scalar() == 0


def test_servers_that_start_at_once_agree_on_the_first_key(
    database: Database, open_database: OpenDatabase
) -> None:
    servers = make_servers(database, open_database)
    for future in at_once(*(partial(refresh_sessions, server.context) for server in servers * 3)):
        future.result()
    session = Session("p", "Q", NodeKey("T3", "wn1"))
    for one, other in (servers, reversed(servers)):
        token, _ = begin_session(one.context, session)
        assert other.context.sessions.open(token, other.clock()).session == session
