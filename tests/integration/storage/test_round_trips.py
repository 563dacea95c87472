"""What goes into the database comes out as it was, on both engines."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.leases.attempts import AttemptEnd, NewAttempt
from pandawn_server.domain.tasks.jobs import (
    ErrorComponent,
    JobError,
    JobKind,
    JobState,
    Phase,
    Requirements,
    ResourceUse,
)
from pandawn_server.domain.tasks.tasks import File, NewJob, TaskSpec
from pandawn_server.storage.database import Database, Transaction
from pandawn_server.storage.leases import attempts, nodes
from pandawn_server.storage.queues import queues
from pandawn_server.storage.tasks import files, jobs, tasks
from pandawn_server.storage.tasks.files import pack, unpack
from tests.fixtures.clock import NOON
from tests.fixtures.database import empty
from tests.fixtures.factories import QUEUE, make_match, make_spec, node_key

# As the wire lets them in: no control characters, and no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)
SIZES = st.integers(0, 2**60)
FILES = st.builds(
    File, lfn=TEXT, size_bytes=SIZES, url=TEXT, scope=TEXT, guid=TEXT, checksum=TEXT, version=TEXT
)
REQUIREMENTS = st.builds(
    Requirements,
    memory_bytes=st.none() | SIZES,
    cores=st.none() | st.integers(0, 100_000),
    disk_bytes=st.none() | SIZES,
    wall_time=st.none() | st.timedeltas(timedelta(0), timedelta(days=30)),
)
SPECS = st.builds(
    make_spec,
    user=TEXT,
    dataset=TEXT,
    command=st.lists(TEXT, max_size=3).map(tuple),
    build_command=st.lists(TEXT, max_size=2).map(tuple),
    outputs=st.lists(TEXT, max_size=3).map(tuple),
    environment=st.dictionaries(TEXT, TEXT, max_size=3),
    requirements=REQUIREMENTS,
    priority=st.integers(-1000, 1000),
    max_attempts=st.integers(1, 100),
    build=st.booleans(),
    sandbox_id=TEXT,
    files_per_job=st.integers(1, 1000),
    inputs=st.lists(FILES, max_size=3).map(tuple),
)
ON_BOTH = settings(
    max_examples=settings().max_examples // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def store(tx: Transaction, spec: TaskSpec) -> tuple[int, int]:
    """Stores a task with one job that reads all its inputs; returns both."""
    queues.add_queues(tx, [QUEUE])
    task_id = tasks.insert_task(tx, spec, QUEUE, "TIER3", "file:///s/ä", "", NOON)
    new = NewJob(1, JobKind.RUN, JobState.ACTIVATED, spec.inputs)
    (job_id,) = jobs.insert_jobs(tx, task_id, spec, QUEUE, [new], NOON)
    files.insert_inputs(tx, [(job_id, spec.inputs)])
    return task_id, job_id


@given(FILES)
def test_a_file_is_packed_and_unpacked(file: File) -> None:
    assert unpack(pack(file)) == file


@ON_BOTH
@given(spec=SPECS)
def test_a_task_and_its_inputs_come_back_as_they_were_submitted(
    database: Database, spec: TaskSpec
) -> None:
    empty(database)
    with database.write() as tx:
        task_id, job_id = store(tx, spec)
    with database.read() as tx:
        task = tasks.get_tasks(tx, [task_id])[task_id]
        job = jobs.get_jobs(tx, [job_id])[job_id]
        read = files.get_inputs(tx, [job_id])[job_id]
    assert tuple(read) == spec.inputs
    for name in ("user", "dataset", "command", "build_command", "outputs", "environment"):
        assert getattr(task.spec, name) == getattr(spec, name)
    for name in (
        "requirements",
        "priority",
        "max_attempts",
        "build",
        "sandbox_id",
        "files_per_job",
    ):
        assert getattr(task.spec, name) == getattr(spec, name)
    assert task.create_time == NOON
    assert (job.user, job.requirements) == (spec.user, spec.requirements)
    assert (job.create_time, job.state_time) == (NOON, NOON)
    assert job.input_bytes == sum(file.size_bytes for file in spec.inputs)


@ON_BOTH
@given(
    error=st.none()
    | st.builds(JobError, st.sampled_from(ErrorComponent), st.integers(0, 9999), TEXT, TEXT),
    use=st.builds(ResourceUse, st.floats(0, 1e9), SIZES, SIZES),
    times=st.dictionaries(st.sampled_from(Phase), st.timedeltas(timedelta(0), timedelta(days=9))),
    sizes=st.tuples(SIZES, SIZES),
    exit_code=st.none() | st.integers(-255, 255),
)
def test_the_end_of_an_attempt_comes_back_as_it_was_reported(
    database: Database,
    error: JobError | None,
    use: ResourceUse,
    times: dict[Phase, timedelta],
    sizes: tuple[int, int],
    exit_code: int | None,
) -> None:
    empty(database)
    match = make_match()
    end = AttemptEnd(
        1, 1, JobState.FAILED, JobState.ACTIVATED, exit_code, error, use, *sizes, times
    )
    with database.write() as tx:
        task_id, job_id = store(tx, make_spec(job_count=1))
        assert job_id == 1
        new = NewAttempt(job_id, 1, task_id, "pilot", node_key(), "token", match)
        attempts.insert_attempts(tx, [new], NOON)
        attempts.end_attempts(tx, [end], NOON + timedelta(hours=1))
    with database.read() as tx:
        (stored,) = attempts.list_attempts(tx, job_id)
    assert stored.match == match
    assert (stored.pilot_id, stored.node, stored.lease_token) == ("pilot", node_key().node, "token")
    assert (stored.start_time, stored.end_time) == (NOON, NOON + timedelta(hours=1))
    assert (stored.outcome, stored.reported_state) == (JobState.FAILED, JobState.ACTIVATED)
    assert (stored.exit_code, stored.error, stored.use) == (exit_code, error, use)
    assert (stored.input_bytes, stored.bytes_from_cache) == sizes
    assert stored.phase_times.keys() == times.keys()
    for phase, time in times.items():
        assert abs(stored.phase_times[phase] - time) < timedelta(microseconds=10)


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "{a,b}", "a b", "NULL", "null", "", "'", "é", "a,b", '\\"', "%s", ":x"]
)
def test_a_name_is_found_among_others_whatever_it_is_made_of(database: Database, name: str) -> None:
    with database.write() as tx:
        nodes.record_contact(tx, [NodeKey("S", name), NodeKey("S", "other")], NOON)
        found = nodes.get_nodes(tx, [NodeKey("S", name)])
    assert list(found) == [NodeKey("S", name)]
