"""Of a user no more jobs run than a limit allows; the others wait, and go when there is room."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.access.lists import SubjectKind
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.tasks.jobs import JobKind, JobState
from pandawn_server.usecases.access.limits import release_throttled, throttle_excess
from pandawn_server.usecases.access.lists import (
    revoke_access,
)
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.access import grant, submit
from tests.fixtures.factories import QUEUE
from tests.fixtures.principals import ADMIN, ANNA, BEN
from tests.fixtures.world import World

K, WAITING, ACTIVATED = SubjectKind, JobState.WAITING, JobState.ACTIVATED
LOOK = timedelta(seconds=1)


def refused(act: Any) -> PandawnError:
    with pytest.raises(PandawnError) as caught:
        act()
    return caught.value


def states(world: World, task_id: int) -> list[JobState]:
    return world.states(task_id)


def look(world: World, owner: str = "one") -> frozenset[str]:
    world.woken.clear()
    release_throttled(world.context, owner, LOOK)
    return frozenset(world.woken)


def test_no_more_jobs_of_a_user_run_than_the_limit_allows(world: World) -> None:
    grant(world, K.USER, "anna", max_running=2)
    world.by = ANNA
    task_id = submit(world, 4)
    assert states(world, task_id) == [ACTIVATED, ACTIVATED, WAITING, WAITING]
    pilots = [world.pilot(n) for n in range(1, 5)]
    (one,), (two,) = (world.acquire(pilot) for pilot in pilots[:2])
    assert world.acquire(pilots[2]) == ()
    assert look(world) == frozenset()
    world.finish(one)
    assert look(world) == {QUEUE}
    (three,) = world.acquire(pilots[2])
    assert world.acquire(pilots[3]) == ()
    # A job that is tried again keeps its place.
    world.fail(two)
    assert look(world) == frozenset()
    world.finish(three)
    assert look(world) == {QUEUE}
    assert states(world, task_id).count(WAITING) == 0


def test_others_jobs_go_on_beside_a_throttled_user_s(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1, priority_offset=1000)
    world.by = ANNA
    submit(world, 3)
    world.by = BEN
    submit(world, 2)
    users = [world.take(world.pilot(n)).job.user for n in range(1, 4)]
    assert users == ["anna", "ben", "ben"]


def test_throttled_jobs_go_by_priority_and_age(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    first = submit(world, 2)
    urgent = submit(world, 1, priority=10)
    world.finish(world.take())
    look(world)
    assert states(world, urgent) == [ACTIVATED]
    assert states(world, first)[1] is WAITING


def test_a_limit_that_is_lifted_lets_all_go(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    task_id = submit(world, 5)
    revoke_access(world.context, QUEUE, K.USER, "anna", ADMIN)
    assert look(world) == {QUEUE}
    assert set(states(world, task_id)) == {ACTIVATED}


def test_why_names_the_limit(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    submit(world, 2)
    assert world.why(2).summary == (
        f"waits because anna has 1 job on {QUEUE} runnable or running, and the limit is 1; "
        "it becomes runnable when one of them ends"
    )


def test_a_limit_that_is_lowered_holds_for_what_is_runnable_already(world: World) -> None:
    world.by = ANNA
    first, last = submit(world, 3), submit(world, 3, priority=5)
    grant(world, K.USER, "anna", max_running=2)
    running = world.take()
    assert throttle_excess(world.context, "one", LOOK) == 4
    assert states(world, last) == [JobState.SENT, ACTIVATED, WAITING]
    assert set(states(world, first)) == {WAITING}
    assert throttle_excess(world.context, "one", LOOK) == 0
    # The matchmaker in memory knows of them still, and gives none out.
    assert [g.job.job_id for g in world.acquire(world.pilot(), 5)] == [5]
    world.finish(running)
    look(world)
    assert [g.job.job_id for g in world.acquire(world.pilot(), 5)] == [6]
    revoke_access(world.context, QUEUE, K.USER, "anna", ADMIN)
    look(world)
    assert [g.job.job_id for g in world.acquire(world.pilot(), 5)] == [1, 2, 3]


def test_without_limits_there_is_nothing_to_hold_back(world: World) -> None:
    world.by = ANNA
    submit(world, 3)
    grant(world, K.USER, "anna", max_running=0, max_waiting=3)
    assert throttle_excess(world.context, "one", LOOK) == 0


def test_one_process_at_a_time_looks(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    submit(world, 3)
    look(world, "one")
    world.cancel(1)
    assert look(world, "two") == frozenset()
    world.advance(seconds=2)
    assert look(world, "two") == {QUEUE}


def test_a_cancelled_throttled_job_takes_no_place(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    task_id = submit(world, 3)
    world.cancel(2)
    world.cancel(1)
    look(world)
    assert states(world, task_id) == [JobState.CANCELLED, JobState.CANCELLED, ACTIVATED]


def test_retries_count_against_the_limits(world: World) -> None:
    world.by = ANNA
    task_id = submit(world, 3)
    world.cancel_task(task_id)
    grant(world, K.USER, "anna", max_running=1, max_waiting=2)
    assert refused(lambda: world.retry_task(task_id)).reason == "WAITING_LIMIT_REACHED"
    grant(world, K.USER, "anna", max_running=1)
    world.retry_task(task_id)
    assert states(world, task_id)[3:] == [ACTIVATED, WAITING, WAITING]


def test_jobs_that_waited_for_their_build_are_throttled_then(world: World) -> None:
    grant(world, K.USER, "anna", max_running=2)
    world.by = ANNA
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8bx"], ANNA)
    task_id = submit(world, 3, build=True, sandbox_id=sandbox_id)
    build = world.take()
    assert build.job.kind is JobKind.BUILD
    assert look(world) == frozenset()
    world.finish(build)
    assert states(world, task_id)[1:] == [ACTIVATED, ACTIVATED, WAITING]
    world.finish(world.take())
    look(world)
    assert states(world, task_id)[1:].count(WAITING) == 0


def test_a_build_above_the_limit_waits_and_its_jobs_for_it(world: World) -> None:
    grant(world, K.USER, "anna", max_running=1)
    world.by = ANNA
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8bx"], ANNA)
    submit(world, 1)
    task_id = submit(world, 2, build=True, sandbox_id=sandbox_id)
    assert set(states(world, task_id)) == {WAITING}
    world.finish(world.take())
    look(world)
    assert states(world, task_id) == [ACTIVATED, WAITING, WAITING]
    world.cancel(2)
    assert set(states(world, task_id)) == {JobState.CANCELLED}


def test_the_queue_s_own_limits_hold_for_all_whom_no_entry_gives_others(world: World) -> None:
    world.queue(QUEUE, max_running_per_user=1, max_waiting_per_user=3)
    grant(world, K.USER, "anna", max_running=0, max_waiting=0)
    world.by = ANNA
    assert set(states(world, submit(world, 9))) == {ACTIVATED}
    world.by = BEN
    assert refused(lambda: submit(world, 4)).reason == "WAITING_LIMIT_REACHED"
    task_id = submit(world, 3)
    assert states(world, task_id) == [ACTIVATED, WAITING, WAITING]
    world.queue(QUEUE, max_running_per_user=2)
    look(world)
    assert states(world, task_id) == [ACTIVATED, ACTIVATED, WAITING]
