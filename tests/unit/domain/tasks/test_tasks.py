from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pandawn_server.domain.catalog.file_version import source_mark
from pandawn_server.domain.tasks.jobs import JobKind, JobState
from pandawn_server.domain.tasks.tasks import (
    MAX_JOBS,
    File,
    FileRole,
    NewJob,
    Task,
    TaskState,
    output_directory,
    oversized_jobs,
    planned_outputs,
    spec_violations,
    split,
    task_state,
    with_unique_names,
)
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_input, make_inputs, make_spec


def reason_of(**spec: Any) -> str:
    reason, violations = spec_violations(make_spec(**spec))
    assert violations
    return reason


@pytest.mark.parametrize(
    ("command", "files", "is_refused"),
    [
        (("ls", "%IN"), 1500, False),
        (("ls", "--in=%IN"), 1500, True),
        (("ls", "--in=%IN"), 1200, False),
        (("ls",), 100_000, False),
        (("ls", "%IN"), 70_000, True),
        (("ls", "%IN", "%IN"), 50_000, True),
    ],
)
def test_a_command_that_no_program_could_be_given_is_refused_and_the_way_out_named(
    command: tuple[str, ...], files: int, *, is_refused: bool
) -> None:
    inputs = tuple(File(f"{number:06d}.{'x' * 88}.root", 1, "file:///f") for number in range(files))
    reason, found = spec_violations(
        make_spec(command=command, inputs=inputs, files_per_job=100_000)
    )
    assert bool(found) is is_refused
    if is_refused:
        assert reason == "INVALID_REQUEST"
        assert "PANDAWN_INPUTS_FILE" in found[0].description


def test_a_sound_task_has_no_violations() -> None:
    assert not spec_violations(make_spec())[1]
    assert not spec_violations(make_spec(job_count=10))[1]
    assert not spec_violations(make_spec(build=True, sandbox_id="a" * 64))[1]


def test_a_task_without_input_and_without_job_count_is_an_error() -> None:
    assert reason_of(inputs=()) == "EMPTY_FILE_LIST"


def test_input_and_job_count_exclude_each_other() -> None:
    assert reason_of(inputs=make_inputs(2), job_count=2) == "INVALID_REQUEST"


def test_each_repeated_lfn_is_named_with_both_places() -> None:
    inputs = (make_input(1), make_input(2), make_input(1), make_input(2))
    reason, violations = spec_violations(make_spec(inputs=inputs))
    assert reason == "DUPLICATE_LFN"
    assert [v.field for v in violations] == ["task.inputs[2].file.lfn", "task.inputs[3].file.lfn"]
    assert "input 0" in violations[0].description


def test_one_lfn_in_two_scopes_is_two_files() -> None:
    inputs = (make_input(1, scope="mc"), make_input(1, scope="data"))
    assert not spec_violations(make_spec(inputs=inputs))[1]


def test_the_limit_of_jobs_is_said_and_counts_the_build_job() -> None:
    assert not spec_violations(make_spec(job_count=MAX_JOBS))[1]
    reason, violations = spec_violations(
        make_spec(job_count=MAX_JOBS, build=True, sandbox_id="a" * 64)
    )
    assert reason == "TOO_MANY_JOBS"
    assert "100,000" in violations[0].description


def test_many_files_are_few_jobs_with_enough_files_each() -> None:
    spec = make_spec(inputs=make_inputs(11), files_per_job=5)
    assert [len(job.inputs) for job in split(spec)] == [5, 5, 1]


def test_a_build_job_needs_code() -> None:
    assert reason_of(build=True) == "INVALID_REQUEST"


def test_run_jobs_wait_for_the_build_job() -> None:
    jobs = split(make_spec(build=True, sandbox_id="a" * 64, job_count=2))
    assert [(job.kind, job.state) for job in jobs] == [
        (JobKind.BUILD, JobState.ACTIVATED),
        (JobKind.RUN, JobState.WAITING),
        (JobKind.RUN, JobState.WAITING),
    ]


def test_a_job_with_more_input_than_the_queue_takes_is_named() -> None:
    jobs = split(make_spec(inputs=make_inputs(4, size_bytes=100), files_per_job=3))
    (violation,) = oversized_jobs(jobs, 299)
    assert "run job 1" in violation.description
    assert "299" in violation.description
    assert not oversized_jobs(jobs, 300)


def test_a_limit_of_zero_is_none() -> None:
    assert not oversized_jobs(split(make_spec(inputs=make_inputs(1, 2**50))), 0)


def test_outputs_lie_under_storage_year_user_and_dataset() -> None:
    assert output_directory("file:///s/", "anna", "d", NOON) == "file:///s/2026/anna/d"
    assert (
        output_directory("file:///s", "anna", "d", datetime(2027, 1, 1, tzinfo=UTC))
        == "file:///s/2027/anna/d"
    )


def make_task(**spec: Any) -> Task:
    return Task(1, make_spec(**spec), "Q", "S", "file:///s/2026/anna/d", NOON)


def test_a_retried_job_fills_the_gap_that_its_parent_left() -> None:
    task = make_task(dataset="d", outputs=("a.root", "b.root"))
    first, retried = (
        [(p.name, p.lfn) for p in planned_outputs(task, JobKind.RUN, 7, job_id, 1)][:2]
        for job_id in (10, 20)
    )
    assert first == retried == [("a.root", "d.1._000007.a.root"), ("b.root", "d.1._000007.b.root")]


def test_outputs_are_named_by_user_and_task() -> None:
    names = {
        (plan.scope, plan.lfn)
        for user in ("anna", "ben")
        for task_id in (1, 2)
        for plan in planned_outputs(
            replace(make_task(user=user), task_id=task_id), JobKind.RUN, 1, 5, 1
        )
        if plan.role is FileRole.OUTPUT
    }
    assert len(names) == 4
    assert ("user.ben", "user.anna.zmumu.2._000001.hist.root") in names


def test_a_task_from_before_outputs_carried_its_identifier_keeps_its_names() -> None:
    old = replace(make_task(dataset="d"), named_by_task=False)
    assert planned_outputs(old, JobKind.RUN, 7, 10, 1)[0].lfn == "d._000007.hist.root"


def test_names_are_enough_where_the_queue_says_so_and_a_word_taken_back_counts_no_more() -> None:
    url = "file:///atlas/data25/a.root"
    file = File("a.root", 1, url, "data25", checksum="adler32:0a1b2c3d", version="adler32:...")
    job = NewJob(1, JobKind.RUN, JobState.ACTIVATED, (file, file._replace(scope="mine")))
    (known,) = with_unique_names([job], ["data25=file:///atlas/data25"])
    assert [one.version for one in known.inputs] == ["site", "adler32:..."]
    (again,) = with_unique_names([known], [])
    assert again.inputs[0].version == f"adler32:0a1b2c3d@{source_mark(url)}"


def test_each_attempt_has_a_log_of_its_own_and_it_comes_last() -> None:
    plans = [planned_outputs(make_task(), JobKind.RUN, 1, 5, attempt)[-1] for attempt in (1, 2)]
    assert all(plan.role is FileRole.LOG for plan in plans)
    assert plans[0].lfn != plans[1].lfn


def test_a_build_job_makes_a_library_and_none_of_the_outputs() -> None:
    library, log = planned_outputs(make_task(), JobKind.BUILD, 1, 5, 1)
    assert library.lfn == "user.anna.zmumu.lib.5.tar.gz"
    assert log.role is FileRole.LOG


def test_every_output_has_another_url() -> None:
    task = make_task(outputs=("a", "b"))
    urls = [
        plan.url
        for kind, index, job_id in ((JobKind.BUILD, 1, 1), (JobKind.RUN, 1, 2), (JobKind.RUN, 2, 3))
        for attempt in (1, 2)
        for plan in planned_outputs(task, kind, index, job_id, attempt)
        if plan.role is FileRole.LOG or attempt == 1
    ]
    assert len(set(urls)) == len(urls)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({}, TaskState.FINISHED),
        ({JobState.FINISHED: 2}, TaskState.FINISHED),
        ({JobState.FINISHED: 2, JobState.FAILED: 1}, TaskState.FAILED),
        ({JobState.CANCELLED: 1, JobState.FAILED: 1}, TaskState.FAILED),
        ({JobState.FINISHED: 2, JobState.CANCELLED: 1}, TaskState.CANCELLED),
        ({JobState.FAILED: 2, JobState.WAITING: 1}, TaskState.RUNNING),
        ({JobState.FINISHED: 2, JobState.HOLDING: 1}, TaskState.RUNNING),
        ({JobState.FINISHED: 2, JobState.FAILED: 0}, TaskState.FINISHED),
    ],
)
def test_a_task_stands_where_its_jobs_stand(counts: dict[JobState, int], state: TaskState) -> None:
    assert task_state(counts) is state


def test_the_input_of_a_job_is_the_sum_of_its_files() -> None:
    (job,) = split(make_spec(inputs=(File("a", 3, "u"), File("b", 4, "u")), files_per_job=2))
    assert job.input_bytes == 7
