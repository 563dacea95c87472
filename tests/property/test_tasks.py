"""Splitting tasks and digesting inventories, for any input."""

from __future__ import annotations

from functools import reduce
from operator import xor
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.domain.catalog.inventory import CachedFile, file_digest, inventory_digest
from pandawn_server.domain.tasks.jobs import FINAL_STATES, JobKind, JobState
from pandawn_server.domain.tasks.tasks import (
    TaskState,
    oversized_jobs,
    run_job_count,
    spec_violations,
    split,
    task_state,
)
from tests.fixtures.factories import make_inputs, make_spec


@given(
    count=st.integers(1, 60),
    files_per_job=st.integers(1, 70),
    build=st.booleans(),
    size=st.integers(0, 2**40),
)
def test_splitting_deals_out_every_input_once_and_in_order(
    count: int, files_per_job: int, build: bool, size: int
) -> None:
    spec = make_spec(inputs=make_inputs(count, size), files_per_job=files_per_job, build=build)
    jobs = split(spec)
    runs = [job for job in jobs if job.kind is JobKind.RUN]
    assert [file for job in runs for file in job.inputs] == list(spec.inputs)
    assert all(len(job.inputs) == files_per_job for job in runs[:-1])
    assert 1 <= len(runs[-1].inputs) <= files_per_job
    assert len(runs) == run_job_count(spec)
    assert [job.index for job in runs] == list(range(1, len(runs) + 1))
    assert [job.kind for job in jobs[: len(jobs) - len(runs)]] == [JobKind.BUILD] * build
    assert {job.state for job in runs} == {JobState.WAITING if build else JobState.ACTIVATED}
    assert sum(job.input_bytes for job in jobs) == count * size


@given(st.integers(1, 200), st.booleans())
def test_a_task_without_input_has_the_jobs_it_asks_for(count: int, build: bool) -> None:
    jobs = split(make_spec(job_count=count, build=build))
    assert len(jobs) == count + build
    assert all(job.inputs == () for job in jobs)


@given(st.lists(st.integers(1, 10), max_size=12))
def test_a_violation_for_each_repeated_lfn_and_none_without(numbers: list[int]) -> None:
    inputs = tuple(make_inputs(10)[number - 1] for number in numbers)
    reason, violations = spec_violations(make_spec(inputs=inputs))
    repeats = len(numbers) - len(set(numbers))
    if not numbers:
        assert reason == "EMPTY_FILE_LIST"
    else:
        assert len(violations) == repeats
        assert (reason == "DUPLICATE_LFN") == (repeats > 0)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 100), st.integers(0, 400))
def test_exactly_the_jobs_above_the_limit_are_named(
    count: int, files_per_job: int, size: int, limit: int
) -> None:
    jobs = split(make_spec(inputs=make_inputs(count, size), files_per_job=files_per_job))
    above = [job for job in jobs if limit and job.input_bytes > limit]
    assert len(oversized_jobs(jobs, limit)) == len(above)


@given(st.dictionaries(st.sampled_from(JobState), st.integers(0, 3)))
def test_a_task_runs_exactly_while_a_job_has_not_ended(counts: dict[JobState, int]) -> None:
    is_open = any(count and state not in FINAL_STATES for state, count in counts.items())
    assert (task_state(counts) is TaskState.RUNNING) == is_open


NAMES = st.text(max_size=20)
FILES = st.lists(
    st.builds(CachedFile, lfn=NAMES, size_bytes=st.integers(0, 2**62), scope=NAMES, version=NAMES),
    max_size=10,
    unique_by=lambda file: (file.scope, file.lfn),
)


@given(FILES, st.integers())
def test_the_digest_of_an_inventory_does_not_depend_on_order(
    files: list[CachedFile], seed: int
) -> None:
    shuffled = list(files)
    Random(seed).shuffle(shuffled)
    assert inventory_digest(shuffled) == inventory_digest(files)


@given(FILES, FILES)
def test_a_digest_follows_adds_and_deletes_without_the_files(
    kept: list[CachedFile], added: list[CachedFile]
) -> None:
    names = {(file.scope, file.lfn) for file in kept}
    new = [file for file in added if (file.scope, file.lfn) not in names]
    change = reduce(xor, (file_digest(f.scope, f.lfn, f.version, f.size_bytes) for f in new), 0)
    assert inventory_digest(kept) ^ change == inventory_digest([*kept, *new])
    assert inventory_digest([*kept, *new]) ^ change == inventory_digest(kept)


@given(NAMES, NAMES, NAMES, st.integers(0, 2**62))
def test_a_digest_is_an_unsigned_64_bit_number_and_has_no_ambiguous_names(
    scope: str, lfn: str, version: str, size: int
) -> None:
    digest = file_digest(scope, lfn, version, size)
    assert 0 <= digest < 2**64
    if scope:
        assert digest != file_digest("", scope + lfn, version, size)
    if version:
        assert digest != file_digest(scope, lfn + version, "", size)
    assert digest != file_digest(scope, lfn, version, size + 1)
