"""What is old goes, in lots; what refers to it stays right."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Table, func, select

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.retention import ANSWERS_KEPT
from pandawn_server.storage import requests, retention
from pandawn_server.storage.leases import pilots
from pandawn_server.storage.leases.schema import attempts, nodes
from pandawn_server.storage.requests import RequestKey
from pandawn_server.storage.tasks import sandboxes
from pandawn_server.storage.tasks.schema import job_files, job_inputs, jobs, sandbox_chunks, tasks
from pandawn_server.usecases.monitor import read
from pandawn_server.usecases.retain import count_old
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import make_inputs
from tests.fixtures.interleave import interleave
from tests.fixtures.world import KEPT, World

GZIP = b"\x1f\x8bcode"
DAY = timedelta(days=1)


def rows(world: World, *tables: Table) -> list[int]:
    with world.db.read() as tx:
        return [tx.execute(select(func.count()).select_from(t)).scalar_one() for t in tables]


def let_age(world: World, age: timedelta) -> None:
    world.reap()
    world.clock.advance(age + DAY)
    # Servers were up all the time, and people submit: the newest task always stays.
    world.submit_jobs(1)


def end(world: World, number: int = 1) -> None:
    for _ in range(number):
        world.finish(world.take())


def test_an_ended_task_goes_with_all_that_was_its_own(world: World) -> None:
    world.submit(inputs=make_inputs(2), files_per_job=1)
    end(world, 2)
    let_age(world, KEPT.tasks)
    assert rows(world, tasks, jobs, job_inputs, attempts) == [2, 3, 2, 2]
    assert count_old(world.db, world.clock, KEPT)["tasks"] == 1
    world.retain()
    assert rows(world, tasks, jobs, job_inputs, attempts, job_files) == [1, 1, 0, 0, 0]
    assert count_old(world.db, world.clock, KEPT)["tasks"] == 0


def test_a_task_that_is_young_or_open_stays(world: World) -> None:
    world.submit_jobs(1)
    world.submit_jobs(2)
    end(world, 2)
    world.reap()
    world.clock.advance(KEPT.tasks * 2)
    # Its last job ends only now.
    end(world)
    let_age(world, KEPT.tasks - 2 * DAY)
    world.retain()
    (first, *_) = world.jobs()
    assert first.job_id == 2, "the first task ended long ago"
    assert rows(world, tasks) == [2]


def test_a_task_of_many_jobs_goes_lot_by_lot_and_nobody_retries_what_is_left(world: World) -> None:
    (first, *_) = world.submit_jobs(7, max_attempts=1)
    for _ in range(7):
        world.fail(world.take())
    let_age(world, KEPT.tasks)
    before = world.clock.now - KEPT.tasks
    with world.db.write() as tx:
        assert retention.delete_tasks(tx, before, 3) == 3
    assert rows(world, tasks, jobs) == [2, 5]
    with pytest.raises(NotFoundError):
        world.retry_task(first.task_id)
    with pytest.raises(NotFoundError):
        world.retry(first.job_id + 6)
    world.retain()
    assert rows(world, tasks, jobs) == [1, 1]


def test_numbers_of_tasks_are_never_given_again(world: World) -> None:
    (job,) = world.submit_jobs(1)
    end(world)
    world.reap()
    world.clock.advance(KEPT.tasks + DAY)
    world.retain()
    (new,) = world.submit_jobs(1)
    assert new.task_id > job.task_id


def test_the_dataset_of_a_task_that_went_may_be_written_again(world: World) -> None:
    world.submit(dataset="user.anna.again")
    end(world)
    let_age(world, KEPT.tasks)
    world.retain()
    assert world.submit(dataset="user.anna.again").task.task_id == 3


def test_a_sandbox_stays_as_long_as_a_task_uses_it(world: World) -> None:
    shared, _ = store_sandbox(world.context, [GZIP], LOCAL_OPERATOR)
    unused, _ = store_sandbox(world.context, [GZIP + b"!"], LOCAL_OPERATOR)
    world.submit(sandbox_id=shared)
    world.submit(sandbox_id=shared, dataset="user.anna.two")
    end(world)
    let_age(world, KEPT.tasks)
    world.retain()
    # Of two tasks one has gone.
    with world.db.read() as tx:
        assert sandboxes.known_sandboxes(tx, [shared, unused]) == {shared}
    end(world)
    let_age(world, KEPT.tasks)
    world.retain()
    world.retain()
    assert rows(world, sandbox_chunks) == [0]


def test_a_sandbox_that_is_uploaded_again_is_as_good_as_new(world: World) -> None:
    sandbox_id, _ = store_sandbox(world.context, [GZIP], LOCAL_OPERATOR)
    world.clock.advance(KEPT.sandboxes)
    store_sandbox(world.context, [GZIP], LOCAL_OPERATOR)
    world.clock.advance(DAY)
    world.retain()
    assert world.submit(sandbox_id=sandbox_id).task.spec.sandbox_id == sandbox_id


@pytest.mark.parametrize("first", ["submission", "deletion"])
def test_a_sandbox_is_not_deleted_under_who_is_just_submitting_a_task_for_it(
    world: World, open_database: OpenDatabase, first: str
) -> None:
    sandbox_id, _ = store_sandbox(world.context, [GZIP], LOCAL_OPERATOR)
    world.clock.advance(KEPT.sandboxes + DAY)
    other = world.beside(open_database())
    if first == "submission":
        interleave(
            lambda: world.submit(sandbox_id=sandbox_id), world.db, "INSERT INTO job", other.retain
        )
    else:
        interleave(
            world.retain,
            world.db,
            "DELETE FROM sandbox_chunks",
            lambda: other.submit(sandbox_id=sandbox_id),
        )
    with world.db.read() as tx:
        is_there = bool(sandboxes.known_sandboxes(tx, [sandbox_id]))
    assert is_there == bool(world.jobs()), "a task never lacks its code"


def test_pilots_that_ended_long_ago_and_nodes_nobody_heard_of_go(world: World) -> None:
    gone, live = world.pilot(1), world.pilot(2)
    held = world.pilot(3)
    world.suspend(3)
    world.leave(gone)
    world.leave(held)
    for _ in range(4):
        world.clock.advance(KEPT.nodes / 3)
        world.heartbeat(live)
    world.retain()
    with world.db.read() as tx:
        assert set(pilots.get_pilots(tx, {gone.pilot_id, live.pilot_id})) == {live.pilot_id}
    left = {view.node.key.node for view in read.list_nodes(world.context, None, 10, "")}
    assert left == {live.key.node, held.key.node}, "what an operator said of a node stays"
    assert rows(world, nodes) == [2]


def test_old_events_and_answers_are_forgotten(world: World) -> None:
    world.submit("r1")
    world.clock.advance(KEPT.events + timedelta(hours=1))
    world.submit_jobs(1)
    world.retain()
    assert "QUEUE_APPLIED" not in world.told()
    assert world.told().count("TASK_SUBMITTED") == 1
    assert KEPT.events > ANSWERS_KEPT
    with world.db.read() as tx:
        assert requests.get_answer(tx, RequestKey("", "r1", "")) is None
