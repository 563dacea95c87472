"""What becomes of jobs whose attempts ended badly: counted by whose fault it was, tried again later and elsewhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.leases.faults import MAX_LOST
from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError, JobState, Phase, Requirements
from tests.fixtures.factories import node_error, node_key, payload_error
from tests.fixtures.world import LEASE, World, success

SECOND = timedelta(seconds=1)


def pilot_says(reason: str) -> JobError:
    return JobError(ErrorComponent.PILOT, 1, reason, "as the pilot saw it")


def leave_with_a_job(world: World, node: int) -> None:
    pilot = world.pilot(node)
    world.take(pilot)
    assert world.leave(pilot) == 1


def release(world: World) -> None:
    world.advance(seconds=2)
    world.release_throttled()


def wait_for_retry(world: World, job_id: int) -> timedelta:
    """Lets a job's pause pass; returns how long it was."""
    job = world.job(job_id)
    assert job.state is JobState.WAITING
    assert job.retry_time is not None
    pause = job.retry_time - world.clock()
    world.advance(seconds=pause.total_seconds() - 1)
    world.release_throttled()
    assert world.job(job_id).state is JobState.WAITING
    release(world)
    assert world.job(job_id).state is JobState.ACTIVATED
    return pause


def test_a_failed_payload_is_tried_again_after_pauses_that_grow(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=3)
    pauses = []
    for node in (1, 2):
        assert world.fail(world.take(world.pilot(node)), payload_error()) is JobState.WAITING
        pauses.append(wait_for_retry(world, job.job_id))
    assert pauses == [5 * SECOND, 20 * SECOND]
    assert world.fail(world.take(world.pilot(3)), payload_error()) is JobState.FAILED
    assert world.job(job.job_id).failures == 3


def test_why_tells_until_when_a_job_waits_and_where_it_is_not_tried(world: World) -> None:
    (job,) = world.submit_jobs(1)
    world.fail(world.take(world.pilot(1)), payload_error(text="exit status 7"))
    said = world.why(job.job_id).summary
    assert "tried again after 12:00:05 UTC" in said
    assert f"not on {node_key(1).node}" in said
    assert "exit status 7" in said
    assert "1 of 3 attempts failed" in said


def test_a_job_can_be_cancelled_in_its_pause(world: World) -> None:
    (job,) = world.submit_jobs(1)
    world.fail(world.take(), payload_error())
    assert world.cancel(job.job_id).state is JobState.CANCELLED
    world.advance(minutes=1)
    release(world)
    assert world.job(job.job_id).state is JobState.CANCELLED


@pytest.mark.parametrize("reason", ["NO_ACCOUNT", "NO_WORK_DIR", "LOCAL_DISK_FAILED"])
def test_what_only_the_node_can_be_blamed_for_is_no_failure_of_the_job(
    world: World, reason: str
) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    assert world.fail(world.take(world.pilot(1)), pilot_says(reason)) is JobState.ACTIVATED
    found = world.job(job.job_id)
    assert (found.failures, found.losses, found.avoided) == (0, 1, (node_key(1).node,))
    assert world.finish(world.take(world.pilot(2))) is JobState.FINISHED


def test_a_job_that_fills_or_does_not_fit_a_nodes_disk_has_failed_and_goes_elsewhere(
    world: World,
) -> None:
    (one,) = world.submit_jobs(1, max_attempts=2)
    pilot = world.pilot(1)
    assert world.fail(world.take(pilot), pilot_says("NO_LOCAL_SPACE")) is JobState.ACTIVATED
    found = world.job(one.job_id)
    assert (found.failures, found.losses, found.avoided) == (1, 0, (node_key(1).node,))


def test_a_job_that_lost_its_pilots_is_not_failed_by_that(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    for node in range(1, 4):
        pilot = world.pilot(node)
        world.renew(pilot, world.take(pilot))
        world.pass_time_with_server_up(LEASE * 1.1 + 240 * SECOND)
        # No time passes here: to a reaper that was not there for a while, no lease has lapsed.
        world.release_throttled()
    found = world.job(job.job_id)
    assert (found.state, found.failures, found.losses) == (JobState.ACTIVATED, 0, 3)
    assert world.finish(world.take(world.pilot(4))) is JobState.FINISHED


def test_a_job_that_is_lost_again_and_again_fails_in_the_end(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    for node in range(1, MAX_LOST + 1):
        leave_with_a_job(world, node)
        world.advance(minutes=11)
        release(world)
    found = world.job(job.job_id)
    assert (found.state, found.losses) == (JobState.FAILED, MAX_LOST)
    assert f"failed after {MAX_LOST} attempts" in world.why(job.job_id).summary


def test_a_pilot_that_leaves_with_its_job_costs_no_failure(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    leave_with_a_job(world, 1)
    assert (world.job(job.job_id).failures, world.job(job.job_id).losses) == (0, 1)


def test_a_job_that_its_pilot_never_acknowledged_counts_nothing(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    world.take()
    world.pass_time_with_server_up(LEASE * 1.1)
    found = world.job(job.job_id)
    assert (found.state, found.failures, found.losses) == (JobState.ACTIVATED, 0, 0)


def test_a_storage_that_is_read_only_for_a_minute_costs_no_job(world: World) -> None:
    jobs = world.submit_jobs(3, max_attempts=1)
    begin = world.clock()
    while world.clock() - begin < timedelta(minutes=1):
        for grant in world.acquire(world.pilot(1), 3):
            world.fail(grant, pilot_says("STORAGE_READ_ONLY"))
        release(world)
    assert all(world.job(job.job_id).losses <= 5 for job in jobs)
    for _ in range(120):
        for grant in world.acquire(world.pilot(2), 3):
            world.finish(grant)
        release(world)
    assert world.states() == [JobState.FINISHED] * 3


def test_an_unreadable_input_is_final_after_two_nodes_said_so(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=5)
    world.fail(world.take(world.pilot(1)), pilot_says("INPUT_MISSING"))
    wait_for_retry(world, job.job_id)
    assert world.fail(world.take(world.pilot(1)), pilot_says("INPUT_MISSING")) is JobState.WAITING
    wait_for_retry(world, job.job_id)
    assert world.fail(world.take(world.pilot(2)), pilot_says("INPUT_MISSING")) is JobState.FAILED


def test_a_program_that_one_node_lacks_fails_no_job(world: World) -> None:
    world.submit_jobs(12, max_attempts=2)
    good, bad = world.pilot(1), world.pilot(2)
    grant = world.take(good)
    world.renew(good, grant, Phase.PAYLOAD)
    for _ in range(3):
        for failing in world.acquire(bad, 12):
            world.fail(failing, payload_error("PAYLOAD_NOT_FOUND"))
        world.advance(minutes=1)
        release(world)
        world.renew(good, grant, Phase.PAYLOAD)
    assert JobState.FAILED not in world.states()
    assert all(job.failures == 0 for job in world.jobs())


def test_a_program_that_two_nodes_lack_is_not_looked_for_at_a_third(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=5)
    missing = payload_error("PAYLOAD_NOT_FOUND")
    assert world.fail(world.take(world.pilot(1)), missing) is JobState.ACTIVATED
    assert world.fail(world.take(world.pilot(2)), missing) is JobState.FAILED
    assert "on 2 nodes for the same reason" in world.events(job_id=job.job_id)[-1].event.text


def test_a_job_whose_pilot_ran_out_of_time_goes_to_one_with_more(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    short = Requirements(wall_time=timedelta(minutes=10))
    for _ in range(2):
        grants = world.acquire(world.pilot(1), offer=short)
        if grants:
            spent = {Phase.PAYLOAD: timedelta(minutes=9)}
            error = pilot_says("PILOT_OUT_OF_TIME")
            world.report(success(grants[0], error=error, phase_times=spent))
    found = world.job(job.job_id)
    assert (found.state, found.attempt, found.failures, found.losses) == (
        JobState.ACTIVATED,
        1,
        0,
        0,
    )
    assert found.requirements.wall_time == timedelta(minutes=13.5)
    assert "WALL_TIME" in {o.predicate for o in world.why(job.job_id).obstacles}
    (grant,) = world.acquire(world.pilot(2), offer=Requirements(wall_time=timedelta(minutes=15)))
    assert world.finish(grant) is JobState.FINISHED


def test_what_a_pilot_says_about_who_failed_is_not_asked(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    lie = JobError(ErrorComponent.PAYLOAD, 1, "NO_WORK_DIR", "it was the user")
    world.fail(world.take(), lie)
    assert world.job(job.job_id).losses == 1


@pytest.mark.parametrize("reason", ["LEASE_LAPSED_IN_PAYLOAD", "PILOT_ENDED", "FOREIGN_TROUBLE"])
def test_a_reason_that_a_pilot_may_not_give_or_that_is_not_known_counts(
    world: World, reason: str
) -> None:
    world.submit_jobs(1, max_attempts=1)
    assert world.fail(world.take(), pilot_says(reason)) is JobState.FAILED


def test_failures_on_a_node_that_came_under_suspicion_are_not_held_against_a_job(
    world: World,
) -> None:
    (job,) = world.submit_jobs(1, max_attempts=2)
    world.fail(world.take(world.pilot(1)), node_error())
    world.suspend(1)
    assert world.fail(world.take(world.pilot(2)), node_error()) is not JobState.FAILED
    assert world.job(job.job_id).failures == 2


def test_a_job_is_tried_again_on_another_node_and_why_says_so(world: World) -> None:
    (job,) = world.submit_jobs(1)
    failed, other = world.pilot(1), world.pilot(2)
    world.fail(world.take(failed), node_error())
    assert world.acquire(failed) == ()
    obstacles = {o.predicate: o.excluded for o in world.why(job.job_id).obstacles}
    assert obstacles == {"FAILED_THERE_BEFORE": {node_key(1).node}}
    assert world.finish(world.take(other)) is JobState.FINISHED


def test_a_job_is_tried_again_on_its_node_where_the_others_get_no_jobs(world: World) -> None:
    world.submit_jobs(1)
    failed = world.pilot(1)
    world.pilot(2)
    world.fail(world.take(failed), node_error())
    world.suspend(2)
    assert world.finish(world.take(failed)) is JobState.FINISHED
