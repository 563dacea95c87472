from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.leases.faults import MAX_LOST, SILENCE
from pandawn_server.domain.leases.leases import FIRST_LEASE
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.tasks.jobs import JobError, JobState, Phase
from pandawn_server.storage.leases import pilots
from pandawn_server.usecases.tasks.retry import RETRIABLE
from pandawn_server.workers.loop import JITTER
from tests.fixtures.factories import (
    QUEUE,
    make_input,
    make_inputs,
    node_error,
    node_key,
)
from tests.fixtures.world import LEASE, REAP_INTERVAL, World, reason, success

PAST_LEASE = LEASE * 1.1
LATE = 1 + JITTER
"""The longest pause between two looks of one server, in intervals."""


def error_of(world: World, job_id: int) -> JobError:
    error = world.job(job_id).error
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (Phase.STAGE_IN, "LEASE_LAPSED_IN_STAGE_IN"),
        (Phase.PAYLOAD, "LEASE_LAPSED_IN_PAYLOAD"),
        (Phase.STAGE_OUT, "LEASE_LAPSED_IN_STAGE_OUT"),
    ],
)
def test_a_lapsed_lease_frees_its_job_and_names_the_phase(
    world: World, phase: Phase, expected: str
) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    world.renew(pilot, grant, phase)
    world.pass_time_with_server_up(PAST_LEASE)
    job = world.job(grant.job.job_id)
    assert (job.state, job.failures) == (JobState.ACTIVATED, 0)
    assert job.losses == 1
    assert error_of(world, job.job_id).reason == expected
    assert world.take(world.pilot(2)).attempt == 2


def test_many_leases_that_lapse_together_are_all_ended(world: World) -> None:
    world.submit_jobs(7)
    world.begin(world.pilot(), 7)
    world.pass_time_with_server_up(PAST_LEASE)
    assert world.states() == [JobState.ACTIVATED] * 7


def test_a_live_lease_is_left_alone(world: World) -> None:
    world.submit_jobs(1)
    world.begin()
    world.pass_time_with_server_up(LEASE * 0.9)
    assert world.states() == [JobState.RUNNING]


SECOND = timedelta(seconds=1)
GB = 10**9


def test_a_hand_out_that_nobody_acknowledged_goes_back_within_seconds_and_counts_nothing(
    world: World,
) -> None:
    """The answer went into a connection that a firewall had forgotten, say."""
    world.submit_jobs(1, max_attempts=1)
    grant = world.take()
    assert grant.duration == FIRST_LEASE
    world.clock.advance(FIRST_LEASE - SECOND)
    world.reap()
    assert world.states() == [JobState.SENT]
    world.clock.advance(2 * SECOND)
    world.woken.clear()
    world.reap()
    assert world.woken == {QUEUE}
    (job,) = world.jobs()
    assert (job.state, job.failures) == (JobState.ACTIVATED, 0)
    assert reason(world.report(success(grant))[0]) == "STALE_LEASE"
    assert world.finish(world.take()) is JobState.FINISHED


def test_a_job_that_is_never_acknowledged_is_never_failed(world: World) -> None:
    world.submit_jobs(1, max_attempts=1)
    for _ in range(5):
        world.take()
        world.clock.advance(FIRST_LEASE + SECOND)
        world.reap()
    assert world.states() == [JobState.ACTIVATED]
    assert "JOB_RELEASED" in world.told()


def test_an_acknowledgement_gives_the_whole_lease(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    world.clock.advance(FIRST_LEASE - SECOND)
    assert world.renew(pilot, grant).duration == LEASE
    world.clock.advance(REAP_INTERVAL)
    world.reap()
    assert world.states() == [JobState.RUNNING]


def test_a_report_acknowledges_too(world: World) -> None:
    world.submit_jobs(1)
    grant = world.take()
    world.clock.advance(FIRST_LEASE - SECOND)
    assert world.finish(grant) is JobState.FINISHED


def test_a_database_whose_clock_was_set_back_holds_no_job_of_a_dead_pilot_for_longer(
    world: World,
) -> None:
    world.submit_jobs(2)
    world.begin(max_jobs=1)
    world.take()
    world.reap()
    world.clock.advance(-timedelta(hours=5))
    world.reap()
    world.pass_time_with_server_up(PAST_LEASE)
    assert world.states() == [JobState.ACTIVATED] * 2


def test_pilots_that_could_not_be_heard_are_not_lost_until_they_could(world: World) -> None:
    back, gone = world.pilot(1), world.pilot(2)
    world.advance(hours=5)
    world.reap()
    world.pass_time_with_server_up(LEASE * 0.9)
    world.heartbeat(back)
    world.pass_time_with_server_up(LEASE * 0.2)
    with world.db.read() as tx:
        known = pilots.get_pilots(tx, {back.pilot_id, gone.pilot_id})
    assert known[back.pilot_id].state is PilotState.LIVE
    assert known[gone.pilot_id].state is PilotState.LOST


def test_a_job_whose_pilots_all_vanish_fails_in_the_end(world: World) -> None:
    world.submit_jobs(1, max_attempts=1)
    for node in range(MAX_LOST):
        pilot = world.pilot(node)
        world.renew(pilot, world.take(pilot))
        world.pass_time_with_server_up(PAST_LEASE + SILENCE.longest * 1.5)
        world.release_throttled()
    (job,) = world.jobs()
    assert (job.state, job.failures, job.losses) == (JobState.FAILED, 0, MAX_LOST)
    assert job.state in RETRIABLE


def test_after_a_time_without_servers_pilots_get_one_more_lease_to_come_back(world: World) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    back, gone = world.begin(pilot, 2)
    world.advance(hours=5)
    world.reap()
    assert world.states() == [JobState.RUNNING] * 2
    world.pass_time_with_server_up(LEASE * 0.9)
    world.renew(pilot, back)
    world.pass_time_with_server_up(LEASE * 0.2)
    assert world.job(back.job.job_id).state is JobState.RUNNING
    assert world.job(gone.job.job_id).state is JobState.ACTIVATED


def test_one_reaper_works_at_a_time(world: World) -> None:
    other = world.beside(world.db)
    world.clock.advance(REAP_INTERVAL)
    assert world.reap().was_granted
    assert not other.reap("two").was_granted
    world.clock.advance(REAP_INTERVAL * LATE)
    assert world.reap().was_granted
    assert not other.reap("two").was_granted


def test_the_work_of_a_reaper_that_died_is_taken_over_and_leases_get_no_grace(
    world: World,
) -> None:
    """The other servers were there all the time: pilots could renew, and those that did not are gone."""
    world.submit_jobs(1)
    world.begin()
    world.pass_time_with_server_up(LEASE * 0.95)
    world.clock.advance(REAP_INTERVAL * 0.99)
    granted = []
    for _ in range(3):
        granted.append(world.reap("other").was_granted)
        world.clock.advance(REAP_INTERVAL * LATE)
    assert True in granted
    assert world.states() == [JobState.ACTIVATED]


def test_a_silent_pilot_is_lost_and_one_in_contact_is_not(world: World) -> None:
    silent, talking = world.pilot(1), world.pilot(2)
    for _ in range(5):
        world.pass_time_with_server_up(LEASE / 2)
        world.heartbeat(talking)
    with world.db.read() as tx:
        known = pilots.get_pilots(tx, {silent.pilot_id, talking.pilot_id})
    assert known[silent.pilot_id].state is PilotState.LOST
    assert "without contact" in known[silent.pilot_id].end_reason
    assert known[talking.pilot_id].state is PilotState.LIVE
    assert world.told().count("PILOT_LOST") == 1


def test_a_task_is_closed_once_when_its_last_job_has_ended(world: World) -> None:
    one, two = world.submit_jobs(2)
    world.finish(world.take())
    world.reap()
    assert "TASK_FINISHED" not in world.told(task_id=one.task_id)
    world.finish(world.take())
    world.reap()
    world.reap()
    assert world.told(task_id=two.task_id).count("TASK_FINISHED") == 1


def test_a_task_with_a_failed_job_is_told_as_failed_and_again_after_its_retry(
    world: World,
) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    world.fail(world.take())
    world.reap()
    world.retry_task(job.task_id)
    world.reap()
    world.finish(world.take())
    world.reap()
    told = world.told(task_id=job.task_id)
    assert [kind for kind in told if kind.startswith("TASK_")] == [
        "TASK_SUBMITTED",
        "TASK_FAILED",
        "TASK_RETRIED",
        "TASK_FINISHED",
    ]


def test_a_stale_report_of_a_black_hole_changes_nothing(world: World) -> None:
    world.submit_jobs(1)
    grant = world.take()
    world.pass_time_with_server_up(PAST_LEASE)
    before = world.told()
    assert reason(world.report(success(grant, error=node_error()))[0]) == "STALE_LEASE"
    assert world.told() == before


def test_no_job_is_held_any_longer_for_a_node_whose_pilot_was_lost(world: World) -> None:
    """The dispatch hears of it as soon as it is committed, by whichever use case."""
    world.queue(locality_wait=timedelta(hours=1))
    world.keep(node_key(1), make_input(1, 10 * GB))
    world.pilot(1)
    asker = world.pilot(2)
    world.pass_time_with_server_up(LEASE * 2 - SECOND)
    world.heartbeat(asker)
    world.submit(inputs=make_inputs(1, 10 * GB))
    # The dispatch has just looked which nodes have pilots.
    assert world.acquire(asker) == ()
    world.clock.advance(2 * SECOND)
    assert world.reap().lost_pilots == 1
    assert len(world.acquire(asker)) == 1
