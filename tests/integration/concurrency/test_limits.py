"""Limits of a user hold while submissions, pilots and the periodic look go on at once, on two servers."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from functools import partial

from pandawn_server.domain.access.lists import SubjectKind
from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import ExhaustedError
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.storage.access import limits
from pandawn_server.storage.access.limits import Load
from pandawn_server.storage.database import Database
from pandawn_server.usecases.access.limits import release_throttled
from tests.fixtures.access import grant, submit
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import QUEUE
from tests.fixtures.interleave import at_once
from tests.fixtures.principals import ANNA
from tests.fixtures.world import World
from tests.integration.concurrency.test_at_once import insist, make_servers

RUNNING, WAITING = 3, 12


def load(world: World) -> Load:
    with world.db.read() as tx:
        return limits.load_of(tx, QUEUE, "anna")


def test_no_limit_is_exceeded_and_no_job_forgotten(
    database: Database, open_database: OpenDatabase
) -> None:
    servers = make_servers(database, open_database)
    grant(
        servers[0],
        SubjectKind.USER,
        "anna",
        by=LOCAL_OPERATOR,
        max_running=RUNNING,
        max_waiting=WAITING,
    )
    for world in servers:
        world.by = ANNA
    done = threading.Event()
    refusals: list[str] = []

    def user(world: World, seed: int) -> int:
        rng = random.Random(seed)
        submitted = 0
        for _ in range(25):
            number = rng.randint(1, 4)
            try:
                insist(submit, world, number)
                submitted += number
            except ExhaustedError as error:
                refusals.append(error.reason)
            assert load(world).waiting <= WAITING
        return submitted

    def pilot(world: World, node: int) -> int:
        me = insist(world.pilot, node)
        finished = 0
        while not done.is_set():
            for lease in insist(world.acquire, me, 2):
                found = load(world)
                assert found.running <= RUNNING
                assert found.active <= RUNNING
                insist(world.finish, lease)
                finished += 1
        return finished

    def look(world: World) -> None:
        while not done.is_set():
            insist(release_throttled, world.context, "one", timedelta(seconds=1))

    def users() -> int:
        try:
            return sum(
                f.result() for f in at_once(*(partial(user, w, n) for n, w in enumerate(servers)))
            )
        finally:
            done.set()

    one, two = servers
    submitted, *_, first, second = (
        future.result()
        for future in at_once(
            users, partial(look, two), partial(pilot, one, 1), partial(pilot, two, 2)
        )
    )
    assert set(refusals) <= {"WAITING_LIMIT_REACHED"}
    finished = (first or 0) + (second or 0)
    me = one.pilot(9)
    while load(one).waiting:
        release_throttled(one.context, "one", timedelta(seconds=1))
        for lease in one.acquire(me, 5):
            one.finish(lease)
            finished += 1
    assert finished == submitted
    assert {job.state for job in one.jobs()} == {JobState.FINISHED}
