from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import JobKind, JobState, Requirements
from pandawn_server.domain.tasks.tasks import FileRole, TaskState
from pandawn_server.storage.database import Database
from pandawn_server.usecases.tasks.read import get_job, get_task
from pandawn_server.usecases.tasks.sandboxes import MAX_SANDBOX_BYTES, read_chunk, store_sandbox
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.factories import MIB, QUEUE, make_input, make_inputs
from tests.fixtures.world import World

GZIP = b"\x1f\x8b"


def refused(call: Callable[[], object]) -> PandawnError:
    with pytest.raises(PandawnError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("spec", "reason", "said"),
    [
        ({"inputs": ()}, "EMPTY_FILE_LIST", "no input files"),
        ({"inputs": (make_input(1), make_input(1))}, "DUPLICATE_LFN", "data.000001.root"),
        ({"job_count": 100_001}, "TOO_MANY_JOBS", "100,000"),
        (
            {"inputs": make_inputs(3, 6000 * MIB), "files_per_job": 3},
            "INPUT_TOO_LARGE",
            "fewer files",
        ),
        ({"queue": "NOWHERE"}, "QUEUE_NOT_FOUND", "'NOWHERE'"),
        ({"queue": "", "site": "MOON"}, "SITE_NOT_FOUND", "'MOON'"),
        ({"site": "MOON"}, "NO_QUEUE_AVAILABLE", "belongs to site 'TIER3'"),
        ({"sandbox_id": "a" * 64}, "SANDBOX_NOT_FOUND", "upload it first"),
    ],
)
def test_a_task_that_cannot_run_is_refused_with_its_reason_and_leaves_nothing(
    world: World, spec: dict[str, Any], reason: str, said: str
) -> None:
    error = refused(lambda: world.submit(**spec))
    assert error.reason == reason
    assert said in error.message
    assert world.jobs() == []
    assert "TASK_SUBMITTED" not in world.told()


def test_an_offline_queue_takes_no_task(world: World) -> None:
    world.queue(status=QueueStatus.OFFLINE)
    assert refused(world.submit).reason == "QUEUE_OFFLINE"
    assert refused(lambda: world.submit(queue="")).reason == "NO_QUEUE_AVAILABLE"


@pytest.mark.parametrize("status", [QueueStatus.PAUSED, QueueStatus.BROKEROFF])
def test_a_queue_in_brokeroff_or_paused_takes_tasks_that_name_it_and_no_others(
    world: World, status: QueueStatus
) -> None:
    world.queue(status=status)
    error = refused(lambda: world.submit(queue=""))
    assert error.reason == "NO_QUEUE_AVAILABLE"
    assert status.value in error.message
    assert world.submit().task.queue == QUEUE


def test_a_queue_without_storage_has_no_place_for_outputs(world: World) -> None:
    world.queue(storage_root=None)
    assert refused(world.submit).reason == "NO_STORAGE_ROOT"


def test_one_dataset_is_written_by_one_task_of_a_user(world: World) -> None:
    first = world.submit(dataset="d")
    error = refused(lambda: world.submit(dataset="d"))
    assert error.reason == "DATASET_EXISTS"
    assert error.metadata == {"task_id": str(first.task.task_id)}
    assert world.submit(user="berta", dataset="d").task.task_id != first.task.task_id


def test_a_submission_repeated_with_the_same_request_id_submits_once(world: World) -> None:
    first = world.submit("r1")
    world.advance(hours=3)
    again = world.submit("r1")
    assert again == first
    assert len(world.jobs()) == 1
    assert world.told().count("TASK_SUBMITTED") == 1


def test_a_request_id_of_another_task_is_refused(world: World) -> None:
    world.submit("r1")
    assert refused(lambda: world.submit("r1", dataset="other")).reason == "REQUEST_ID_REUSED"


def test_a_refused_submission_leaves_its_request_id_free(world: World) -> None:
    assert refused(lambda: world.submit("r1", queue="NOWHERE")).reason == "QUEUE_NOT_FOUND"
    world.queue("NOWHERE")
    assert world.submit("r1", queue="NOWHERE").task.queue == "NOWHERE"


def test_a_task_becomes_a_build_job_and_run_jobs_with_their_inputs(world: World) -> None:
    sandbox_id, _ = store_sandbox(world.context, [GZIP, b"code"], LOCAL_OPERATOR)
    task = world.submit(
        build=True, sandbox_id=sandbox_id, inputs=make_inputs(5), files_per_job=2
    ).task
    jobs = world.jobs(task.task_id)
    assert [(job.kind, job.state, job.index, job.input_bytes) for job in jobs] == [
        (JobKind.BUILD, JobState.ACTIVATED, 1, 0),
        (JobKind.RUN, JobState.WAITING, 1, 2 * MIB),
        (JobKind.RUN, JobState.WAITING, 2, 2 * MIB),
        (JobKind.RUN, JobState.WAITING, 3, MIB),
    ]
    files = get_job(world.context, jobs[2].job_id, LOCAL_OPERATOR).files
    inputs = [file for role, file in files if role is FileRole.INPUT]
    assert inputs == list(make_inputs(5)[2:4])


def test_what_was_submitted_is_what_is_stored(world: World) -> None:
    view = world.submit(
        environment={"A": "ä b"},
        command=("run", "--x", "1"),
        outputs=("a", "b"),
        priority=-7,
        max_attempts=5,
    )
    spec = get_task(world.context, view.task.task_id, LOCAL_OPERATOR).task.spec
    assert spec.environment == {"A": "ä b"}
    assert (spec.command, spec.outputs) == (("run", "--x", "1"), ("a", "b"))
    assert (spec.priority, spec.max_attempts) == (-7, 5)
    assert view.progress.state is TaskState.RUNNING
    assert view.progress.job_counts == {JobState.ACTIVATED: 1}


def test_names_are_versions_where_the_queue_declares_a_scope_immutable(world: World) -> None:
    world.queue(immutable_scopes=("data25=file:///atlas/data25",))
    below = make_input(1, scope="data25", url="file:///atlas/data25/aa/data.000001.root")
    elsewhere = make_input(2, scope="data25", url="file:///home/eve/data.000002.root")
    world.submit(inputs=(below, elsewhere), files_per_job=2)
    grant = world.take(world.pilot(1))
    assert grant.inputs == (below._replace(version="site"), elsewhere)


def test_with_no_queue_named_the_one_with_the_least_work_for_each_pilot_gets_the_task(
    world: World,
) -> None:
    world.queue("BUSY")
    world.submit_jobs(10, queue="BUSY")
    world.pilot(1, "BUSY")
    world.pilot(2, QUEUE)
    assert world.submit(queue="", dataset="d1").task.queue == QUEUE
    for node in range(3, 20):
        world.pilot(node, "BUSY")
    assert world.submit(queue="", dataset="d2").task.queue == "BUSY"


def test_a_site_narrows_the_choice_of_queues(world: World) -> None:
    world.queue("ELSEWHERE", site="OTHER")
    assert world.submit(queue="", site="OTHER").task.queue == "ELSEWHERE"


def test_a_task_is_brokered_to_a_queue_whose_limits_it_keeps(world: World) -> None:
    world.queue(min_memory_bytes=4 * MIB, max_wall_time=timedelta(hours=1))
    small, long = Requirements(memory_bytes=MIB), Requirements(wall_time=timedelta(hours=2))
    for asked in (small, long):
        error = refused(lambda asked=asked: world.submit(queue="", requirements=asked))  # type: ignore[misc]
        assert error.reason == "NO_QUEUE_AVAILABLE"
    world.queue("HUGE", min_wall_time=timedelta(minutes=90))
    assert world.submit(queue="", requirements=long).task.queue == "HUGE"


def test_without_any_queue_the_error_tells_how_to_make_one(database: Database) -> None:
    world = World(database, catalog_on(memory_store()))
    error = refused(lambda: world.submit(queue=""))
    assert error.reason == "NO_QUEUE_AVAILABLE"
    assert "pandawn queues apply" in error.message


def test_code_is_stored_once_under_its_digest_and_comes_back_in_pieces(world: World) -> None:
    chunks = [GZIP + b"a" * 10, b"b" * 10]
    sandbox_id, size = store_sandbox(world.context, chunks, LOCAL_OPERATOR)
    assert size == 22
    assert store_sandbox(world.context, chunks, LOCAL_OPERATOR)[0] == sandbox_id
    assert store_sandbox(world.context, [b"".join(chunks)], LOCAL_OPERATOR)[0] == sandbox_id
    assert [read_chunk(world.context, sandbox_id, n) for n in range(3)] == [*chunks, None]


def test_code_that_is_no_gzip_archive_or_too_large_is_refused(world: World) -> None:
    assert (
        refused(lambda: store_sandbox(world.context, [], LOCAL_OPERATOR)).reason
        == "INVALID_REQUEST"
    )
    assert (
        refused(lambda: store_sandbox(world.context, [b"PK"], LOCAL_OPERATOR)).reason
        == "INVALID_REQUEST"
    )
    pieces = [GZIP, *[b"x" * MIB] * (MAX_SANDBOX_BYTES // MIB)]
    assert (
        refused(lambda: store_sandbox(world.context, pieces, LOCAL_OPERATOR)).reason
        == "SANDBOX_TOO_LARGE"
    )
