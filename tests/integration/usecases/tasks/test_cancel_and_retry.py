from __future__ import annotations

from dataclasses import replace

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import NotFoundError, PandawnError
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Phase
from pandawn_server.domain.tasks.tasks import TaskState
from pandawn_server.storage.tasks import files
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.tasks.read import get_task
from pandawn_server.usecases.tasks.sandboxes import store_sandbox
from tests.fixtures.factories import MIB, make_inputs, payload_error
from tests.fixtures.world import LEASE, STORED_CHECKSUM, World, reason, success

FATAL = payload_error("WORK_DIR_TOO_LARGE")


def submit_build(world: World, runs: int = 2, dataset: str = "d") -> int:
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8bcode"], LOCAL_OPERATOR)
    view = world.submit(
        build=True, sandbox_id=sandbox_id, inputs=make_inputs(runs), dataset=dataset
    )
    return view.task.task_id


def take_build(world: World) -> Grant:
    grant = world.take()
    assert grant.job.kind is JobKind.BUILD
    return grant


def test_a_job_that_no_pilot_has_is_cancelled_at_once(world: World) -> None:
    (job,) = world.submit_jobs(1)
    assert world.cancel(job.job_id).state is JobState.CANCELLED
    assert world.acquire(world.pilot()) == ()
    assert world.told(job_id=job.job_id) == ["JOB_CANCELLED"]


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_job_with_a_pilot_ends_at_its_next_contact(world: World, phase: Phase | None) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    if phase is not None:
        assert not world.renew(pilot, grant, phase).cancel
    job = world.cancel(grant.job.job_id)
    assert job.cancel_requested
    assert job.state not in {JobState.CANCELLED, JobState.ACTIVATED}
    assert world.renew(pilot, grant).cancel
    assert world.fail(grant, payload_error("CANCELLED")) is JobState.CANCELLED
    assert world.job(job.job_id).state is JobState.CANCELLED
    assert world.acquire(world.pilot()) == ()


def test_a_kill_is_aimed_at_the_attempt_that_runs(world: World) -> None:
    """An earlier attempt at the job hears that it is over, and not that it should cancel."""
    world.submit_jobs(1)
    pilot = world.pilot()
    first = world.take(pilot)
    world.fail(first)
    second = world.take(pilot)
    world.cancel(second.job.job_id)
    old, current = world.heartbeat(pilot, first, second).results
    assert reason(old) == "STALE_LEASE"
    assert not isinstance(current, PandawnError)
    assert current.cancel


def test_a_cancelled_job_whose_pilot_vanishes_is_cancelled_when_its_lease_lapses(
    world: World,
) -> None:
    world.submit_jobs(1)
    grant = world.take()
    world.cancel(grant.job.job_id)
    world.pass_time_with_server_up(LEASE * 1.1)
    assert world.job(grant.job.job_id).state is JobState.CANCELLED


def test_a_cancelled_job_that_is_given_back_is_cancelled(world: World) -> None:
    world.submit_jobs(1)
    grant = world.take()
    world.cancel(grant.job.job_id)
    world.release(grant)
    assert world.job(grant.job.job_id).state is JobState.CANCELLED


def test_a_job_that_finished_before_its_pilot_heard_of_the_kill_has_finished(world: World) -> None:
    world.submit_jobs(1)
    grant = world.take()
    world.cancel(grant.job.job_id)
    assert world.finish(grant) is JobState.FINISHED


def test_cancelling_what_has_ended_changes_nothing(world: World) -> None:
    world.submit_jobs(2, max_attempts=1)
    pilot = world.pilot()
    world.finish(world.take(pilot))
    world.fail(world.take(pilot))
    before = world.jobs()
    assert [world.cancel(job.job_id) for job in before] == before
    assert world.jobs() == before


def test_cancelling_twice_is_harmless(world: World) -> None:
    world.submit_jobs(1)
    grant = world.take()
    assert world.cancel(grant.job.job_id) == world.cancel(grant.job.job_id)
    assert world.told().count("JOB_CANCEL_REQUESTED") == 1


def test_cancelling_a_task_tells_what_ended_and_what_is_pending(world: World) -> None:
    task_id = world.submit_jobs(4)[0].task_id
    pilot = world.pilot()
    world.finish(world.take(pilot))
    world.take(pilot)
    done = world.cancel_task(task_id)
    assert (done.cancelled, done.pending) == (2, 1)
    assert done.view.progress.job_counts == {
        JobState.FINISHED: 1,
        JobState.SENT: 1,
        JobState.CANCELLED: 2,
    }
    again = world.cancel_task(task_id)
    assert (again.cancelled, again.pending) == (0, 1)


def test_what_does_not_exist_cannot_be_cancelled_or_retried(world: World) -> None:
    for call in (world.cancel, world.cancel_task, world.retry, world.retry_task):
        with pytest.raises(NotFoundError, match=r"there is no (job|task) 77"):
            call(77)


@pytest.mark.parametrize("checksum", ["adler32:0a1b2c3d", "md5:" + "0" * 32, ""])
def test_a_library_that_is_not_known_by_its_sha256_is_none(world: World, checksum: str) -> None:
    submit_build(world)
    build = take_build(world)
    report = success(build)
    forgeable = [file._replace(checksum=checksum) for file in report.outputs]
    (answer,) = world.report(replace(report, outputs=tuple(forgeable)))
    assert reason(answer) == "OUTPUTS_MISSING"
    assert world.acquire(world.pilot(), 5) == ()


def test_a_listing_of_a_library_makes_it_local_to_nobody(world: World) -> None:
    submit_build(world)
    build = take_build(world)
    world.finish(build)
    pilot = world.pilot(2)
    stored = success(build).outputs[0]
    world.keep(pilot.key, stored)
    grant = world.take(pilot)
    assert grant.match.input_bytes == MIB + stored.size_bytes
    assert grant.match.local_bytes == 0


def test_run_jobs_become_runnable_when_their_library_is_built(world: World) -> None:
    task_id = submit_build(world)
    build = take_build(world)
    assert world.acquire(world.pilot()) == ()
    world.finish(build)
    grants = world.acquire(world.pilot(), 5)
    assert [grant.job.kind for grant in grants] == [JobKind.RUN] * 2
    library = grants[0].library
    assert library is not None
    assert library.lfn == build.outputs[0].lfn
    assert grants[0].inputs[-1] == library
    assert library.version == library.checksum == STORED_CHECKSUM
    assert [world.job(grant.job.job_id).input_bytes for grant in grants] == [
        MIB + library.size_bytes
    ] * 2
    assert "TASK_BUILT" in world.told(task_id=task_id)


def test_run_jobs_fail_with_their_build_job_and_name_it(world: World) -> None:
    task_id = submit_build(world)
    build = take_build(world)
    assert world.fail(build, FATAL) is JobState.FAILED
    jobs = world.jobs(task_id)
    assert [job.state for job in jobs] == [JobState.FAILED] * 3
    errors = [job.error for job in jobs[1:]]
    assert all(e and e.reason == "UPSTREAM_FAILED" for e in errors)
    assert all(e and f"build job {build.job.job_id}" in e.text for e in errors)
    assert get_task(world.context, task_id, LOCAL_OPERATOR).progress.state is TaskState.FAILED


def test_run_jobs_wait_while_their_build_job_is_tried_again(world: World) -> None:
    task_id = submit_build(world)
    assert world.fail(take_build(world)) is JobState.ACTIVATED
    assert world.states(task_id)[1:] == [JobState.WAITING] * 2
    world.finish(take_build(world))
    assert world.states(task_id)[1:] == [JobState.ACTIVATED] * 2


def test_run_jobs_are_cancelled_with_their_build_job_at_once_or_at_its_end(world: World) -> None:
    at_once = submit_build(world, dataset="d1")
    world.cancel(world.jobs(at_once)[0].job_id)
    assert world.states(at_once) == [JobState.CANCELLED] * 3
    later = submit_build(world, dataset="d2")
    build = take_build(world)
    world.cancel(build.job.job_id)
    assert world.states(later)[1:] == [JobState.WAITING] * 2
    world.fail(build)
    assert world.states(later) == [JobState.CANCELLED] * 3


def test_a_failed_build_and_all_that_waited_for_it_are_retried_together(world: World) -> None:
    task_id = submit_build(world)
    world.fail(take_build(world), FATAL)
    new = world.retry_task(task_id)
    assert [world.job(job_id).state for job_id in new] == [
        JobState.ACTIVATED,
        JobState.WAITING,
        JobState.WAITING,
    ]
    world.finish(take_build(world))
    grants = world.acquire(world.pilot(), 5)
    assert [grant.job.job_id for grant in grants] == list(new[1:])
    assert all(grant.library for grant in grants)


def test_a_run_job_is_not_retried_without_the_library_that_it_needs(world: World) -> None:
    task_id = submit_build(world)
    world.fail(take_build(world), FATAL)
    build, run, _ = world.jobs(task_id)
    with pytest.raises(PandawnError) as caught:
        world.retry(run.job_id)
    assert caught.value.reason == "UPSTREAM_FAILED"
    assert f"--task {task_id}" in caught.value.message
    world.retry(build.job_id)
    assert world.retry(run.job_id).state is JobState.WAITING


def test_a_run_job_retried_after_the_build_finds_its_library(world: World) -> None:
    task_id = submit_build(world, runs=1)
    world.finish(take_build(world))
    grant = world.take()
    world.fail(grant, FATAL)
    job = world.retry(grant.job.job_id)
    assert (job.state, job.input_bytes) == (JobState.ACTIVATED, grant.match.input_bytes)
    assert world.take().inputs == grant.inputs
    assert get_task(world.context, task_id, LOCAL_OPERATOR).progress.job_counts == {
        JobState.FINISHED: 1,
        JobState.SENT: 1,
    }


def test_a_retry_is_a_new_job_that_names_its_parent_and_reads_the_same(world: World) -> None:
    world.submit(inputs=make_inputs(2), files_per_job=2, max_attempts=1, priority=5)
    grant = world.take()
    world.fail(grant)
    old = world.job(grant.job.job_id)
    new = world.retry(old.job_id)
    assert world.job(old.job_id).state is JobState.FAILED
    assert world.job(old.job_id).retry_job_id == new.job_id
    assert (new.parent_job_id, new.index, new.priority) == (old.job_id, old.index, 5)
    assert (new.attempt, new.failures, new.state) == (0, 0, JobState.ACTIVATED)
    with world.db.read() as tx:
        read = files.get_inputs(tx, [old.job_id, new.job_id])
    assert read[new.job_id] == read[old.job_id] == list(make_inputs(2))


def test_a_retry_repeated_with_its_request_id_makes_no_more_jobs(world: World) -> None:
    (job,) = world.submit_jobs(1, max_attempts=1)
    world.fail(world.take())
    new = world.retry(job.job_id, "r1")
    world.finish(world.take())
    assert world.retry(job.job_id, "r1").job_id == new.job_id
    with pytest.raises(PandawnError) as caught:
        world.retry_task(job.task_id, "r1")
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert len(world.jobs()) == 2


def test_a_task_retry_repeated_with_its_request_id_returns_the_same_jobs(world: World) -> None:
    task_id = world.submit_jobs(3)[0].task_id
    world.cancel_task(task_id)
    assert world.retry_task(task_id, "r1") == world.retry_task(task_id, "r1")
    assert len(world.jobs()) == 6


@pytest.mark.parametrize("state", [JobState.ACTIVATED, JobState.SENT, JobState.FINISHED])
def test_only_what_failed_or_was_cancelled_is_retried(world: World, state: JobState) -> None:
    (job,) = world.submit_jobs(1)
    if state is not JobState.ACTIVATED:
        grant = world.take()
        if state is JobState.FINISHED:
            world.finish(grant)
    for call, subject in ((world.retry, job.job_id), (world.retry_task, job.task_id)):
        with pytest.raises(PandawnError) as caught:
            call(subject)
        assert caught.value.reason == "NOTHING_TO_RETRY"


def test_a_job_is_retried_once_and_the_error_names_its_successor(world: World) -> None:
    (job,) = world.submit_jobs(1)
    world.cancel(job.job_id)
    new = world.retry(job.job_id)
    with pytest.raises(PandawnError, match=f"retried already, as job {new.job_id}"):
        world.retry(job.job_id)
    world.cancel(new.job_id)
    assert world.retry(new.job_id).parent_job_id == new.job_id


def test_a_retry_counts_for_the_task_in_place_of_what_it_replaces(world: World) -> None:
    task_id = world.submit_jobs(3, max_attempts=1)[0].task_id
    grants = world.acquire(world.pilot(), 3)
    world.report(*(success(grant) for grant in grants[1:]))
    world.fail(grants[0])
    assert get_task(world.context, task_id, LOCAL_OPERATOR).progress.state is TaskState.FAILED
    world.retry_task(task_id)
    progress = get_task(world.context, task_id, LOCAL_OPERATOR).progress
    assert progress.job_counts == {JobState.FINISHED: 2, JobState.ACTIVATED: 1}
    assert progress.state is TaskState.RUNNING


def test_a_waiting_job_that_was_cancelled_and_retried_waits_for_the_build_that_runs(
    world: World,
) -> None:
    task_id = submit_build(world)
    build = take_build(world)
    run = world.jobs(task_id)[1]
    world.cancel(run.job_id)
    assert world.retry_task(task_id)
    assert world.states(task_id)[-1] is JobState.WAITING
    world.finish(build)
    assert world.states(task_id)[-1] is JobState.ACTIVATED
