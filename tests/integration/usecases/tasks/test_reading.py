from __future__ import annotations

from typing import Any

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import NotFoundError
from pandawn_server.domain.leases.pilots import PilotFilter
from pandawn_server.domain.tasks.jobs import JobCount, JobFilter, JobState
from pandawn_server.domain.tasks.tasks import FileRole
from pandawn_server.usecases.monitor import read
from pandawn_server.usecases.tasks.read import get_job, get_task, list_jobs, list_tasks
from tests.fixtures.factories import QUEUE, SITE, make_inputs, node_key
from tests.fixtures.world import LEASE, World, failure, success


def test_tasks_come_newest_first_in_pages_without_gaps(world: World) -> None:
    for number in range(5):
        world.submit(dataset=f"d{number}", user="anna" if number % 2 else "berta")
    first = list_tasks(world.context, None, 2, "", {}, LOCAL_OPERATOR)
    rest = list_tasks(world.context, first[-1].task.task_id, 10, "", {}, LOCAL_OPERATOR)
    assert [view.task.spec.dataset for view in first + rest] == ["d4", "d3", "d2", "d1", "d0"]
    assert [
        v.task.spec.dataset for v in list_tasks(world.context, None, 9, "anna", {}, LOCAL_OPERATOR)
    ] == ["d3", "d1"]


def test_jobs_come_by_identifier_in_pages_and_by_each_filter(world: World) -> None:
    world.queue("OTHER")
    world.submit_jobs(2)
    world.submit_jobs(2, user="berta")
    world.submit_jobs(1, queue="OTHER")
    world.take(world.pilot(7))

    def ids(after: int = 0, limit: int = 100, **wanted: Any) -> list[int]:
        found = list_jobs(world.context, after, limit, JobFilter(**wanted), LOCAL_OPERATOR)
        return [job.job_id for job in found]

    assert ids(limit=3) + ids(after=3) == [1, 2, 3, 4, 5]
    assert ids(task_id=1) == [1, 2]
    assert ids(user="berta") == [3, 4]
    assert ids(queue="OTHER") == [5]
    assert ids(states=(JobState.SENT,)) == [1]
    assert ids(states=(JobState.SENT, JobState.ACTIVATED), user="anna") == [1, 2, 5]
    assert ids(node=node_key(7).node) == [1]
    assert ids(node="nowhere") == []


def test_a_job_shows_its_inputs_and_what_it_is_going_to_store(world: World) -> None:
    world.submit(inputs=make_inputs(2), files_per_job=2)
    view = get_job(world.context, 1, LOCAL_OPERATOR)
    roles = [(role, file.lfn) for role, file in view.files]
    assert roles == [
        (FileRole.INPUT, "data.000001.root"),
        (FileRole.INPUT, "data.000002.root"),
        (FileRole.OUTPUT, "user.anna.zmumu.1._000001.hist.root"),
        (FileRole.LOG, "user.anna.zmumu.job1.1.log.tar.gz"),
    ]
    assert view.attempts == []


def test_a_job_shows_each_attempt_with_where_and_why(world: World) -> None:
    world.submit_jobs(1)
    for node in (1, 2):
        world.fail(world.take(world.pilot(node)))
        world.advance(seconds=10)
    attempts = get_job(world.context, 1, LOCAL_OPERATOR).attempts
    assert [(a.attempt, a.node, a.outcome) for a in attempts] == [
        (1, node_key(1).node, JobState.FAILED),
        (2, node_key(2).node, JobState.FAILED),
    ]
    assert attempts[0].end_time is not None
    assert attempts[0].end_time < attempts[1].start_time


def test_what_does_not_exist_is_not_found(world: World) -> None:
    with pytest.raises(NotFoundError, match="no task 9"):
        get_task(world.context, 9, LOCAL_OPERATOR)
    with pytest.raises(NotFoundError, match="no job 9"):
        get_job(world.context, 9, LOCAL_OPERATOR)
    with pytest.raises(NotFoundError, match="no job 9"):
        world.why(9)


def test_the_progress_of_a_task_counts_what_its_finished_jobs_read(world: World) -> None:
    task = world.submit(inputs=make_inputs(3), max_attempts=1).task
    a, b, _ = world.acquire(world.pilot(), 3)
    world.report(
        success(a, input_bytes=100, bytes_from_cache=60),
        failure(b, input_bytes=50, bytes_from_cache=50),
    )
    progress = get_task(world.context, task.task_id, LOCAL_OPERATOR).progress
    assert (progress.input_bytes, progress.bytes_from_cache) == (100, 60)
    assert progress.job_counts == {JobState.FINISHED: 1, JobState.FAILED: 1, JobState.SENT: 1}
    assert progress.last_state_time == world.clock.now


def test_job_counts_leave_out_what_a_retry_replaced(world: World) -> None:
    (one, _) = world.submit_jobs(2)
    world.cancel(one.job_id)
    world.retry(one.job_id)
    world.submit_jobs(1, user="berta")
    assert read.count_jobs(world.context, None, "", "", LOCAL_OPERATOR) == [
        JobCount(QUEUE, JobState.ACTIVATED, "anna", 2),
        JobCount(QUEUE, JobState.ACTIVATED, "berta", 1),
    ]
    assert len(read.count_jobs(world.context, None, QUEUE, "berta", LOCAL_OPERATOR)) == 1
    assert read.count_jobs(world.context, None, "OTHER", "", LOCAL_OPERATOR) == []


def test_pilots_come_last_registered_first_with_the_jobs_they_hold(world: World) -> None:
    world.submit_jobs(3)
    pilots = []
    for node in (1, 2, 3):
        pilots.append(world.pilot(node))
        world.advance(seconds=1)
    world.acquire(pilots[0], 2)
    first = read.list_pilots(world.context, None, 2, PilotFilter())
    last = first[-1][0]
    rest = read.list_pilots(world.context, (last.register_time, last.pilot_id), 9, PilotFilter())
    assert [(p.key, held) for p, held in first + rest] == [
        (node_key(3), 0),
        (node_key(2), 0),
        (node_key(1), 2),
    ]


def test_pilots_that_registered_at_one_moment_are_all_listed(world: World) -> None:
    pilots = {world.pilot(node).pilot_id for node in range(1, 8)}
    seen: list[str] = []
    before = None
    while page := read.list_pilots(world.context, before, 2, PilotFilter()):
        seen += [pilot.pilot_id for pilot, _ in page]
        before = (page[-1][0].register_time, page[-1][0].pilot_id)
    assert sorted(seen) == sorted(pilots)


def test_pilots_that_have_ended_are_shown_if_asked_for(world: World) -> None:
    world.leave(world.pilot(1), "drained")
    world.pilot(2)
    assert len(read.list_pilots(world.context, None, 9, PilotFilter())) == 1
    everyone = read.list_pilots(world.context, None, 9, PilotFilter(include_ended=True))
    assert sorted(pilot.end_reason for pilot, _ in everyone) == ["", "drained"]
    assert read.list_pilots(world.context, None, 9, PilotFilter(queue="OTHER")) == []


def test_nodes_come_by_name_with_their_pilots_and_jobs(world: World) -> None:
    world.queue("ELSEWHERE", site="OTHER")
    world.submit_jobs(2)
    world.acquire(world.pilot(2), 2)
    world.pilot(2)
    world.pilot(1)
    world.pilot(1, "ELSEWHERE")
    views = read.list_nodes(world.context, None, 10, "")
    assert [(v.node.key, v.use.pilots, v.use.jobs) for v in views] == [
        (node_key(1, "OTHER"), 1, 0),
        (node_key(1), 1, 0),
        (node_key(2), 2, 2),
    ]
    assert [v.node.key for v in read.list_nodes(world.context, node_key(1), 9, "")] == [node_key(2)]
    assert len(read.list_nodes(world.context, None, 9, SITE)) == 2
    assert all(view.cache is None and view.catalog_answered for view in views)


def test_a_node_shows_when_it_was_heard_of_last(world: World) -> None:
    pilot = world.pilot()
    world.advance(minutes=3)
    world.heartbeat(pilot)
    (view,) = read.list_nodes(world.context, None, 1, "")
    assert view.node.contact_time == world.clock.now


def test_events_are_streamed_from_any_place_and_by_task_or_job(world: World) -> None:
    world.submit_jobs(1)
    world.submit_jobs(1)
    world.finish(world.take())
    everything = world.events(0, 100)
    ids = [event.event_id for event in everything]
    assert ids == sorted(ids)
    assert read.last_event_id(world.context) == ids[-1]
    after = world.events(ids[2], 2)
    assert [event.event_id for event in after] == ids[3:5]
    assert world.told(job_id=1) == ["JOB_SENT", "JOB_FINISHED"]
    assert world.told(task_id=2) == ["TASK_SUBMITTED"]


def test_a_stream_may_begin_with_the_last_few_events(world: World) -> None:
    world.submit_jobs(1)
    for _ in range(3):
        world.release(world.take())
    last = read.last_event_id(world.context)

    def begin(after: int, tail: int, job_id: int = 0) -> int:
        return read.first_event_to_send(
            world.context, after, tail, task_id=0, job_id=job_id, by=LOCAL_OPERATOR
        )

    assert begin(4, 0) == 4
    assert begin(0, 2) == last - 2
    assert begin(last - 1, 2) == last - 1
    assert begin(0, 1000) == 0
    of_job = world.events(begin(0, 2, job_id=1), 9, job_id=1)
    assert [numbered.event.kind for numbered in of_job] == ["JOB_SENT", "JOB_RELEASED"]


def test_a_life_is_told_from_submission_to_end(world: World) -> None:
    (job,) = world.submit_jobs(1)
    world.fail(world.take())
    world.begin()
    world.pass_time_with_server_up(LEASE * 1.1)
    world.release_throttled()
    world.finish(world.take())
    world.reap()
    assert [k for k in world.told(task_id=job.task_id) if not k.startswith("PILOT")] == [
        "TASK_SUBMITTED",
        "JOB_SENT",
        "JOB_RETRIED",
        "JOB_SENT",
        "JOB_RETRIED",
        "JOB_SENT",
        "JOB_FINISHED",
        "TASK_FINISHED",
    ]


def test_a_node_of_another_site_is_another_node(world: World) -> None:
    world.pilot(1)
    assert read.list_nodes(world.context, NodeKey("ZZZ", ""), 9, "") == []
