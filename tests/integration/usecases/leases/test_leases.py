from __future__ import annotations

from dataclasses import replace

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import InvalidRequestError, NotFoundError
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import JobState, Phase, ResourceUse
from pandawn_server.domain.tasks.tasks import File, FileRole
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.leases.renew import Heartbeat, Renewal, renew_leases
from pandawn_server.usecases.leases.report import Reported
from pandawn_server.usecases.tasks.read import get_job
from tests.fixtures.factories import node_error, payload_error
from tests.fixtures.world import (
    LEASE,
    World,
    failure,
    good,
    lease_ref,
    reason,
    success,
)


@pytest.fixture
def grant(world: World) -> Grant:
    world.submit_jobs(1)
    return world.take()


def test_a_job_moves_on_with_its_phases_and_never_back(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    seen = []
    for phase in (Phase.STAGE_IN, Phase.PAYLOAD, Phase.STAGE_OUT, Phase.PAYLOAD):
        world.renew(pilot, grant, phase)
        job = world.job(grant.job.job_id)
        seen.append((job.state, job.phase))
    assert seen == [
        (JobState.RUNNING, Phase.STAGE_IN),
        (JobState.RUNNING, Phase.PAYLOAD),
        (JobState.HOLDING, Phase.STAGE_OUT),
        (JobState.HOLDING, Phase.PAYLOAD),
    ]


def test_a_renewed_lease_holds_for_its_length_from_now(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    (grant,) = world.begin(pilot)
    for _ in range(5):
        world.pass_time_with_server_up(LEASE * 0.9)
        assert world.renew(pilot, grant).duration == LEASE
    assert world.job(grant.job.job_id).state is JobState.RUNNING


def test_a_pilot_that_may_be_killed_at_any_moment_gets_the_short_lease_that_it_asks_for(
    world: World,
) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    short, long = world.acquire(pilot, 2)
    (answer,) = world.heartbeat(pilot, short, longest=LEASE / 10).results
    assert good(answer).duration == LEASE / 10
    (answer,) = world.heartbeat(pilot, long, longest=LEASE * 10).results
    assert good(answer).duration == LEASE, "no more than the queue gives"
    world.pass_time_with_server_up(LEASE * 0.2)
    assert world.job(short.job.job_id).state is JobState.ACTIVATED
    assert world.job(long.job.job_id).state is JobState.RUNNING


@pytest.mark.parametrize("wrong", ["attempt", "token"])
def test_a_lease_is_renewed_and_reported_only_with_its_attempt_and_token(
    world: World, grant: Grant, wrong: str
) -> None:
    forged = replace(grant, token="0" * 32)
    if wrong == "attempt":
        forged = replace(grant, job=replace(grant.job, attempt=2))
    pilot = world.pilot()
    assert reason(world.heartbeat(pilot, forged).results[0]) == "STALE_LEASE"
    assert reason(world.report(success(forged))[0]) == "STALE_LEASE"
    assert reason(world.release(forged)[0]) == "STALE_LEASE"
    assert world.job(grant.job.job_id).state is JobState.SENT


def test_each_lease_of_a_heartbeat_has_its_own_answer(world: World) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    one, two = world.acquire(pilot, 2)
    world.finish(one)
    stale, renewed = world.heartbeat(pilot, one, two).results
    assert reason(stale) == "STALE_LEASE"
    assert good(renewed).duration == LEASE


def test_heartbeats_of_many_pilots_are_answered_in_order(world: World) -> None:
    world.submit_jobs(2)
    pilots = [world.pilot(node) for node in (1, 2)]
    beats = []
    for pilot in pilots:
        g = world.take(pilot)
        renewal = Renewal(g.job.job_id, g.attempt, g.token, Phase.PAYLOAD)
        beats.append(Heartbeat(pilot.pilot_id, (renewal,), None, session=None))
    beats.insert(1, Heartbeat("nobody", (), None, session=None))
    first, unknown, second = renew_leases(world.context, beats)
    assert reason(unknown) == "PILOT_NOT_FOUND"
    assert [len(good(answer).results) for answer in (first, second)] == [1, 1]


def test_a_pilot_without_jobs_may_send_heartbeats(world: World) -> None:
    answer = world.heartbeat(world.pilot())
    assert (answer.results, answer.drain) == ((), None)


def test_pilots_of_an_offline_queue_are_told_to_drain(world: World, grant: Grant) -> None:
    pilot = world.pilot()
    world.queue(status=QueueStatus.OFFLINE)
    answer = world.heartbeat(pilot, grant)
    assert answer.drain
    assert good(answer.results[0]).cancel is False


def test_the_server_keeps_what_a_forgotten_pilot_renews(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    renewal = Renewal(grant.job.job_id, grant.attempt, grant.token, Phase.PAYLOAD)
    (answer,) = renew_leases(
        world.context, [Heartbeat("forgotten", (renewal,), None, session=None)]
    )
    assert reason(answer) == "PILOT_NOT_FOUND"
    assert world.job(grant.job.job_id).state is JobState.RUNNING


def test_a_finished_job_keeps_its_outputs_use_and_times(world: World, grant: Grant) -> None:
    log = File(grant.outputs[-1].lfn, 7, grant.outputs[-1].url, checksum="adler32:2")
    use = ResourceUse(cpu_seconds=3.5, max_rss_bytes=2**31, work_dir_bytes=12)
    times = {Phase.STAGE_IN: LEASE / 10, Phase.PAYLOAD: LEASE / 2}
    report = success(
        grant, log=log, use=use, phase_times=times, input_bytes=100, bytes_from_cache=60
    )
    assert good(world.report(report)[0]).state is JobState.FINISHED
    view = get_job(world.context, grant.job.job_id, LOCAL_OPERATOR)
    assert view.job.state is JobState.FINISHED
    assert view.job.bytes_from_cache == 60
    (attempt,) = view.attempts
    assert (attempt.outcome, attempt.exit_code, attempt.use) == (JobState.FINISHED, 0, use)
    assert attempt.phase_times == times
    assert (attempt.input_bytes, attempt.bytes_from_cache) == (100, 60)
    stored = {(role, f.lfn): f.size_bytes for role, f in view.files if f.checksum}
    assert stored == {
        (FileRole.OUTPUT, grant.outputs[0].lfn): 1000,
        (FileRole.LOG, grant.outputs[1].lfn): 7,
    }


def test_a_job_that_says_it_finished_without_its_outputs_is_refused_and_may_report_again(
    world: World, grant: Grant
) -> None:
    (answer,) = world.report(success(grant, outputs=()))
    assert isinstance(answer, InvalidRequestError)
    assert answer.reason == "OUTPUTS_MISSING"
    assert grant.outputs[0].lfn in answer.message
    unchecked = tuple(File(p.lfn, 1, p.url) for p in grant.outputs[:1])
    assert reason(world.report(success(grant, outputs=unchecked))[0]) == "OUTPUTS_MISSING"
    assert world.job(grant.job.job_id).state is JobState.SENT
    assert world.finish(grant) is JobState.FINISHED


def test_a_report_repeated_gets_the_answer_it_got_before_and_changes_nothing(
    world: World, grant: Grant
) -> None:
    assert world.fail(grant) is JobState.ACTIVATED
    again = world.take()
    assert world.fail(grant) is JobState.ACTIVATED
    job = world.job(grant.job.job_id)
    assert (job.state, job.attempt, job.failures) == (JobState.SENT, 2, 1)
    assert world.finish(again) is JobState.FINISHED
    assert world.fail(grant) is JobState.ACTIVATED


def test_a_success_reported_twice_is_counted_once(world: World, grant: Grant) -> None:
    assert [world.finish(grant), world.finish(grant)] == [JobState.FINISHED] * 2
    assert world.told().count("JOB_FINISHED") == 1


def test_the_same_report_twice_in_one_batch_is_one_report(world: World, grant: Grant) -> None:
    one, two = world.report(success(grant), success(grant))
    assert one == two == Reported(JobState.FINISHED)


def test_of_two_contradicting_reports_the_first_counts(world: World, grant: Grant) -> None:
    assert world.finish(grant) is JobState.FINISHED
    assert world.fail(grant) is JobState.FINISHED
    assert world.job(grant.job.job_id).failures == 0


def test_a_late_report_of_a_lapsed_lease_is_stale_and_changes_nothing(
    world: World, grant: Grant
) -> None:
    world.pass_time_with_server_up(LEASE * 1.1)
    assert world.job(grant.job.job_id).state is JobState.ACTIVATED
    assert reason(world.report(success(grant))[0]) == "STALE_LEASE"
    second = world.take()
    assert reason(world.report(success(grant))[0]) == "STALE_LEASE"
    assert world.finish(second) is JobState.FINISHED
    assert reason(world.report(failure(grant))[0]) == "STALE_LEASE"


def test_a_lapsed_lease_cannot_be_renewed_once_the_reaper_has_seen_it(
    world: World, grant: Grant
) -> None:
    world.pass_time_with_server_up(LEASE * 1.1)
    assert reason(world.heartbeat(world.pilot(), grant).results[0]) == "STALE_LEASE"


def test_a_report_that_comes_before_the_reaper_saves_a_lapsed_lease(
    world: World, grant: Grant
) -> None:
    world.advance(minutes=11)
    assert world.finish(grant) is JobState.FINISHED


def test_a_failure_is_told_with_its_error_and_tried_again(world: World, grant: Grant) -> None:
    error = payload_error(text="exit status 9: no such branch")
    assert world.fail(grant, error) is JobState.WAITING
    job = world.job(grant.job.job_id)
    assert (job.error, job.failures) == (error, 1)
    world.advance(seconds=6)
    world.release_throttled()
    world.finish(world.take())
    assert world.job(grant.job.job_id).error is None


def test_a_poison_job_stops_after_max_attempts(world: World) -> None:
    world.submit_jobs(1, max_attempts=3)
    states = []
    for _ in range(3):
        states.append(world.fail(world.take()))
        world.advance(seconds=60)
        world.release_throttled()
    assert states == [JobState.ACTIVATED, JobState.WAITING, JobState.FAILED]
    assert world.acquire(world.pilot()) == ()
    (job,) = world.jobs()
    assert (job.attempt, job.failures, job.error) == (3, 3, node_error())


def test_an_error_that_would_come_again_is_final_at_once(world: World, grant: Grant) -> None:
    assert world.fail(grant, payload_error("INPUT_TOO_LARGE")) is JobState.FAILED


def test_a_job_given_back_is_runnable_and_counts_no_failure(world: World, grant: Grant) -> None:
    assert good(world.release(grant)[0]).state is JobState.ACTIVATED
    job = world.job(grant.job.job_id)
    assert (job.state, job.attempt, job.failures) == (JobState.ACTIVATED, 1, 0)
    assert reason(world.release(grant)[0]) == "STALE_LEASE"
    assert reason(world.report(success(grant))[0]) == "STALE_LEASE"
    assert world.take().attempt == 2


def test_jobs_given_back_for_ever_are_never_failed(world: World) -> None:
    world.submit_jobs(1, max_attempts=1)
    for _ in range(6):
        world.release(world.take())
    assert world.finish(world.take()) is JobState.FINISHED


def test_the_jobs_of_a_pilot_that_leaves_go_to_others_at_once(world: World) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    grants = world.acquire(pilot, 2)
    assert world.leave(pilot) == 2
    assert world.leave(pilot) == 0
    assert world.states() == [JobState.ACTIVATED] * 2
    job = world.job(grants[0].job.job_id)
    assert job.error is not None
    assert job.error.reason == "PILOT_ENDED"
    assert reason(world.report(success(grants[0]))[0]) == "STALE_LEASE"
    assert world.told().count("PILOT_ENDED") == 1


def test_a_pilot_that_never_was_cannot_leave(world: World) -> None:
    pilot = replace(world.pilot(), pilot_id="nobody")
    with pytest.raises(NotFoundError):
        world.leave(pilot)


def test_reports_of_many_jobs_are_answered_in_order(world: World) -> None:
    world.submit_jobs(4)
    a, b, c, d = world.acquire(world.pilot(), 4)
    answers = world.report(
        success(c),
        failure(a, payload_error("WORK_DIR_TOO_LARGE")),
        success(d, outputs=()),
        failure(b),
    )
    states = [a.state if isinstance(a, Reported) else a.reason for a in answers]
    assert states == [JobState.FINISHED, JobState.FAILED, "OUTPUTS_MISSING", JobState.ACTIVATED]
    assert lease_ref(a).job_id == a.job.job_id
