"""What a status of a queue means to tasks, jobs, and pilots that ask, wait and run."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import PandawnError
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.queues.queues import QueueSettings, QueueStatus
from pandawn_server.domain.queues.revisions import Author
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.dispatch.watch_queues import watch_queues
from pandawn_server.usecases.queues.overrides import set_override
from pandawn_server.usecases.tasks.read import get_job
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import ANYTHING, QUEUE
from tests.fixtures.world import World, good, job_ids

HOUR = timedelta(hours=1)


def wait(world: World, pilot: Pilot) -> AcquireCall:
    """A pilot asks, gets nothing, and waits."""
    call = AcquireCall(pilot.pilot_id, world.new_request_id(), 1, ANYTHING, cache=None, waits=True)
    assert good(world.ask_all([call])[0]).grants == ()
    return call


def test_offline_tells_running_pilots_to_drain_at_their_next_renewal(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    before = world.heartbeat(pilot, grant)
    assert not before.drain
    queue = world.queue(status=QueueStatus.OFFLINE)
    after = world.heartbeat(pilot, grant)
    assert after.drain
    assert after.queue_revision == queue.revision > before.queue_revision


def test_offline_sends_those_who_wait_away_at_once(world: World) -> None:
    calls = [wait(world, world.pilot(node)) for node in (1, 2)]
    world.queue(status=QueueStatus.OFFLINE, state_reason="cooling is broken")
    delivered = dict(world.serve_polls())
    assert set(delivered) == {call.key for call in calls}
    for answer in delivered.values():
        assert answer.drain
        assert answer.grants == ()
        assert "cooling is broken" in answer.idle_reason
    assert world.serve_polls() == []
    assert not world.context.desks.has_polls(QUEUE)


def test_offline_by_another_server_process_is_known_after_the_next_look(
    world: World, open_database: OpenDatabase
) -> None:
    other = world.beside(open_database())
    call = wait(world, world.pilot())
    other.queue(status=QueueStatus.OFFLINE)
    watch_queues(world.context)
    assert [key for key, answer in world.serve_polls() if answer.drain] == [call.key]


def test_paused_keeps_jobs_and_pilots_waiting_until_it_ends(world: World) -> None:
    world.queue(status=QueueStatus.PAUSED, state_reason="storage moves")
    (job,) = world.submit_jobs(1)
    pilot = world.pilot()
    answer = world.ask(pilot)
    assert answer.grants == ()
    assert not answer.drain
    assert "storage moves" in answer.idle_reason
    call = wait(world, pilot)
    assert world.serve_polls() == []
    world.queue(status=QueueStatus.ONLINE)
    ((key, delivered),) = world.serve_polls()
    assert key == call.key
    assert job_ids(delivered.grants) == [job.job_id]


def test_paused_lets_running_jobs_go_on(world: World) -> None:
    world.submit_jobs(1)
    pilot = world.pilot()
    grant = world.take(pilot)
    world.queue(status=QueueStatus.PAUSED)
    assert not world.heartbeat(pilot, grant).drain
    world.finish(grant)


def test_test_takes_test_tasks_only_even_by_name(world: World) -> None:
    world.queue(status=QueueStatus.TEST)
    with pytest.raises(PandawnError) as caught:
        world.submit()
    assert caught.value.reason == "QUEUE_TEST"
    assert world.submit(test=True).task.spec.test
    assert world.submit(test=True, queue="", dataset="other").task.queue == QUEUE


def test_test_gives_out_test_jobs_only_however_many_others_wait(world: World) -> None:
    others = job_ids_of(world, 600)
    world.queue(status=QueueStatus.TEST)
    pilot = world.pilot()
    call = wait(world, pilot)
    (test,) = world.submit_jobs(1, test=True)
    ((key, answer),) = world.serve_polls()
    assert key == call.key
    assert job_ids(answer.grants) == [test.job_id]
    assert world.acquire(pilot) == ()
    call = wait(world, pilot)
    world.queue(status=QueueStatus.ONLINE)
    ((key, answer),) = world.serve_polls()
    assert key == call.key
    assert set(job_ids(answer.grants)) <= set(others)


def job_ids_of(world: World, count: int) -> list[int]:
    return [job.job_id for job in world.submit_jobs(count)]


def test_an_online_queue_takes_test_tasks_too(world: World) -> None:
    (job,) = world.submit_jobs(1, test=True)
    assert job_ids(world.acquire(world.pilot())) == [job.job_id]


def test_an_override_of_the_status_ends_at_its_very_time(world: World) -> None:
    end = world.clock.now + HOUR
    offline = QueueSettings(status=QueueStatus.OFFLINE)
    set_override(world.context, "r", "f", QUEUE, offline, end, Author("anna"))
    with pytest.raises(PandawnError, match="offline"):
        world.pilot()
    world.advance(minutes=59, seconds=59)
    with pytest.raises(PandawnError, match="offline"):
        world.pilot()
    world.advance(seconds=1)
    world.pilot()


def test_a_job_knows_the_revision_of_the_queue_that_it_was_given_out_under(world: World) -> None:
    world.submit_jobs(2)
    pilot = world.pilot()
    request_id = world.new_request_id()
    first = world.take(pilot, request_id=request_id)
    newer = world.queue(cores=4)
    assert world.take(pilot, request_id=request_id).queue_revision == first.queue_revision
    second = world.take(pilot)
    assert second.queue_revision == newer.revision > first.queue_revision > 0
    for grant in (first, second):
        (attempt,) = get_job(world.context, grant.job.job_id, LOCAL_OPERATOR).attempts
        assert attempt.queue_revision == grant.queue_revision


def test_a_pilot_of_a_queue_that_went_offline_may_begin_its_session_again(world: World) -> None:
    pilot = world.pilot(request_id="the same")
    world.queue(status=QueueStatus.OFFLINE)
    assert world.pilot(request_id="the same") == pilot
    with pytest.raises(PandawnError, match="takes no pilots"):
        world.pilot(request_id="another")
