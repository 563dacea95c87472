"""Pairs of transactions in the one order that goes wrong if a lock is missing."""

from __future__ import annotations

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.tasks.jobs import FINAL_STATES, JobState
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.factories import make_inputs, payload_error
from tests.fixtures.interleave import COMMIT, interleave
from tests.fixtures.world import World, job_ids, reason, success

FATAL = payload_error("WORK_DIR_TOO_LARGE")


def submit_build(world: World) -> Grant:
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8bcode"], LOCAL_OPERATOR)
    world.submit(build=True, sandbox_id=sandbox_id, inputs=make_inputs(2))
    return world.take()


def test_a_kill_that_comes_while_a_failure_is_written_is_not_lost(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    one.submit_jobs(1)
    grant = one.take()
    failed, killed = interleave(
        lambda: one.fail(grant), one.db, "UPDATE jobs", lambda: two.cancel(grant.job.job_id)
    )
    failed.result()
    killed.result()
    assert one.job(grant.job.job_id).state is JobState.CANCELLED


def test_a_kill_that_comes_while_a_job_is_given_back_is_not_lost(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    one.submit_jobs(1)
    grant = one.take()
    killed, released = interleave(
        lambda: one.cancel(grant.job.job_id),
        one.db,
        "cancel_requested=",
        lambda: two.release(grant),
    )
    killed.result()
    released.result()
    assert one.job(grant.job.job_id).state is JobState.CANCELLED


def test_a_kill_that_comes_while_a_job_is_leased_reaches_its_pilot(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    (job,) = one.submit_jobs(1)
    pilot = two.pilot()
    leased, killed = interleave(
        lambda: one.acquire(pilot), one.db, COMMIT, lambda: two.cancel(job.job_id)
    )
    killed.result()
    grants = leased.result()
    if grants:
        assert one.renew(pilot, grants[0]).cancel
    else:
        assert one.job(job.job_id).state is JobState.CANCELLED


@pytest.mark.parametrize("build_finishes", [True, False])
def test_a_retry_while_the_build_job_ends_leaves_no_job_waiting_for_ever(
    servers: tuple[World, World], build_finishes: bool
) -> None:
    one, two = servers
    build = submit_build(one)
    run = one.jobs(build.job.task_id)[1]
    one.cancel(run.job_id)
    ended, retried = interleave(
        lambda: one.finish(build) if build_finishes else one.fail(build, FATAL),
        one.db,
        COMMIT,
        lambda: two.retry_task(run.task_id),
    )
    assert ended.result() in FINAL_STATES
    retried.result()
    states = [job.state for job in one.jobs(run.task_id) if job.job_id in retried.result()]
    if JobState.WAITING in states:
        # It waits for the build job that was retried with it.
        assert JobState.ACTIVATED in states
        assert not build_finishes


def test_a_build_that_ends_while_a_job_is_retried_takes_the_new_job_along(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    build = submit_build(one)
    run = one.jobs(build.job.task_id)[1]
    one.cancel(run.job_id)
    retried, ended = interleave(
        lambda: one.retry(run.job_id), one.db, COMMIT, lambda: two.finish(build)
    )
    assert ended.result() is JobState.FINISHED
    assert one.job(retried.result().job_id).state is JobState.ACTIVATED


def test_a_request_that_overtakes_its_own_repeat_leaks_no_job(
    servers: tuple[World, World],
) -> None:
    """The repeat may come back empty or be sent again; asked once more, it has the same leases."""
    one, two = servers
    one.submit_jobs(1)
    pilot = one.pilot()
    first, repeat = interleave(
        lambda: one.acquire(pilot, request_id="r"),
        one.db,
        COMMIT,
        lambda: two.acquire(pilot, request_id="r"),
    )
    if repeat.exception() is None:
        assert repeat.result() in ((), first.result())
    assert two.acquire(pilot, request_id="r") == first.result()
    assert len(first.result()) == 1


def test_a_request_and_its_repeat_never_lease_two_sets_of_jobs(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    one.submit_jobs(6)
    pilot = one.pilot()
    first, repeat = interleave(
        lambda: one.acquire(pilot, 2, request_id="r"),
        one.db,
        COMMIT,
        lambda: two.acquire(pilot, 2, request_id="r"),
    )
    for answer in (first, repeat):
        error = answer.exception()
        assert error is None or reason(error) == "DATABASE_CONFLICT"
    again = two.acquire(pilot, 2, request_id="r")
    assert len(again) == 2
    assert [job.job_id for job in one.jobs() if job.state is JobState.SENT] == job_ids(again)


def test_two_servers_that_claim_at_once_share_no_job(servers: tuple[World, World]) -> None:
    one, two = servers
    one.submit_jobs(4)
    pilots = [one.pilot(1), one.pilot(2)]
    first, second = interleave(
        lambda: one.acquire(pilots[0], 2), one.db, COMMIT, lambda: two.acquire(pilots[1], 2)
    )
    given = job_ids(first.result()) + job_ids(second.result())
    assert len(set(given)) == len(given)
    given += job_ids(one.acquire(pilots[0], 4))
    assert sorted(given) == [1, 2, 3, 4]


def test_a_report_and_its_repeat_at_once_get_the_same_answer(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    one.submit_jobs(1)
    grant = one.take()
    first, repeat = interleave(lambda: one.finish(grant), one.db, COMMIT, lambda: two.finish(grant))
    assert first.result() is repeat.result() is JobState.FINISHED
    assert one.told().count("JOB_FINISHED") == 1


def test_a_report_and_the_reaper_end_an_attempt_once(servers: tuple[World, World]) -> None:
    one, two = servers
    one.submit_jobs(1)
    grant = one.take()
    one.pass_time_with_server_up(grant.duration * 0.95)
    one.advance(minutes=2)
    reported, reaped = interleave(lambda: one.finish(grant), one.db, COMMIT, two.reap)
    assert reported.result() is JobState.FINISHED
    assert not reaped.result().ended.states
    assert one.job(grant.job.job_id).failures == 0


def test_the_reaper_and_a_report_end_an_attempt_once(servers: tuple[World, World]) -> None:
    one, two = servers
    one.submit_jobs(1)
    grant = one.take()
    one.pass_time_with_server_up(grant.duration * 0.95)
    one.advance(minutes=2)
    reaped, reported = interleave(one.reap, one.db, COMMIT, lambda: two.report(success(grant)))
    assert reaped.result().ended.states
    assert reason(reported.result()[0]) == "STALE_LEASE"
    assert one.job(grant.job.job_id).state is JobState.ACTIVATED


def test_a_submission_and_its_repeat_at_once_submit_once(servers: tuple[World, World]) -> None:
    one, two = servers
    first, repeat = interleave(lambda: one.submit("r"), one.db, COMMIT, lambda: two.submit("r"))
    error = repeat.exception()
    if error is not None:
        assert isinstance(error, UnavailableError)
        # Busy: where the machine stands still for so long that the wait for the lock ends first.
        assert error.reason in {"DATABASE_CONFLICT", "DATABASE_BUSY"}
    assert two.submit("r") == first.result()
    assert len(one.jobs()) == 1


def test_two_submissions_of_one_dataset_at_once_make_one_task(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    first, second = interleave(lambda: one.submit("r1"), one.db, COMMIT, lambda: two.submit("r2"))
    first.result()
    assert second.exception() is not None
    assert len(one.jobs()) == 1


def test_a_retry_and_its_repeat_at_once_make_one_job(servers: tuple[World, World]) -> None:
    one, two = servers
    (job,) = one.submit_jobs(1)
    one.cancel(job.job_id)
    first, repeat = interleave(
        lambda: one.retry(job.job_id, "r"), one.db, COMMIT, lambda: two.retry(job.job_id, "r")
    )
    assert repeat.result() == first.result()
    assert len(one.jobs()) == 2


def test_a_registration_and_its_repeat_at_once_make_one_pilot(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    first, repeat = interleave(
        lambda: one.pilot(request_id="r"), one.db, COMMIT, lambda: two.pilot(request_id="r")
    )
    assert repeat.exception() is not None or repeat.result() == first.result()
    assert two.pilot(request_id="r") == first.result()


def test_a_pilot_that_leaves_while_it_reports_keeps_its_result(
    servers: tuple[World, World],
) -> None:
    one, two = servers
    one.submit_jobs(2)
    pilot = one.pilot()
    done, left = one.acquire(pilot, 2)
    reported, goodbye = interleave(
        lambda: one.finish(done), one.db, COMMIT, lambda: two.leave(pilot)
    )
    assert reported.result() is JobState.FINISHED
    assert goodbye.result() == 1
    assert one.job(left.job.job_id).state is JobState.ACTIVATED
