"""Calls that wait for jobs: who gets what becomes runnable, and what happens when it goes wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.storage.database import Database
from pandawn_server.storage.dispatch import handout
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.leases.pilots import deregister_pilot
from tests.fixtures.factories import ANYTHING, QUEUE, make_input, make_inputs, node_key
from tests.fixtures.world import World, good, job_ids

GB = 10**9
WAIT = timedelta(minutes=10)


@pytest.fixture
def world(sqlite_database: Database, catalog: Catalog) -> World:
    """A server with one queue, on each kind of catalog in turn."""
    world = World(sqlite_database, catalog)
    world.queue()
    world.reap()
    return world


def wait(world: World, pilot: Pilot) -> AcquireCall:
    """A pilot asks, gets nothing, and waits."""
    call = AcquireCall(pilot.pilot_id, world.new_request_id(), 1, ANYTHING, cache=None, waits=True)
    assert good(world.ask_all([call])[0]).grants == ()
    return call


def test_a_new_job_goes_to_the_one_of_those_who_wait_whose_node_holds_its_files(
    world: World,
) -> None:
    world.keep(node_key(2), make_input(1, GB))
    calls = [wait(world, world.pilot(node)) for node in (1, 2, 3)]
    world.submit(inputs=make_inputs(1, GB))
    ((key, answer),) = world.serve_polls()
    assert key == calls[1].key
    assert answer.grants[0].match.local_bytes == GB
    assert answer.grants[0].match.rule in {MatchRule.LOCAL_BYTES, MatchRule.ONLY_CANDIDATE}


def test_those_who_wait_are_given_jobs_when_others_ask(world: World) -> None:
    call = wait(world, world.pilot(1))
    world.submit_jobs(2)
    assert len(world.acquire(world.pilot(2))) == 1
    assert [key for key, _ in world.deliveries] == [call.key]


def test_who_has_got_a_job_waits_no_longer(world: World) -> None:
    wait(world, world.pilot(1))
    world.submit_jobs(2)
    assert len(world.serve_polls()) == 1
    assert world.serve_polls() == []
    assert world.context.desks.poll_counts() == {}


def test_a_call_that_was_withdrawn_gets_nothing(world: World) -> None:
    call = wait(world, world.pilot(1))
    assert world.context.desks.cancel(call)
    assert not world.context.desks.cancel(call)
    world.submit_jobs(1)
    assert world.serve_polls() == []
    assert len(world.acquire(world.pilot(2))) == 1


def test_a_call_that_does_not_wait_leaves_nothing_behind(world: World) -> None:
    assert world.acquire(world.pilot(1)) == ()
    world.submit_jobs(1)
    assert world.serve_polls() == []


def test_a_pilot_that_ended_while_it_waited_gets_nothing_and_the_job_goes_on(world: World) -> None:
    pilot = world.pilot(1)
    wait(world, pilot)
    deregister_pilot(world.context, pilot.pilot_id, "the batch slot is over", LOCAL_OPERATOR)
    (job,) = world.submit_jobs(1)
    assert world.serve_polls() == []
    assert job_ids(world.acquire(world.pilot(2))) == [job.job_id]


def test_a_node_that_was_suspended_while_it_waited_gets_nothing(world: World) -> None:
    wait(world, world.pilot(1))
    world.suspend(1)
    world.submit_jobs(1)
    ((_, answer),) = world.serve_polls()
    assert answer.grants == ()
    assert "a broken disk" in answer.idle_reason


def test_a_job_held_for_a_node_goes_to_who_waits_when_its_time_is_over(world: World) -> None:
    world.queue(locality_wait=WAIT)
    size = 50 * GB // 4
    world.keep(node_key(2), make_input(1, size))
    world.pilot(2)
    world.submit(inputs=make_inputs(1, size))
    call = wait(world, world.pilot(1))
    assert world.serve_polls() == []
    world.advance(minutes=11)
    assert [key for key, _ in world.serve_polls()] == [call.key]


def test_after_a_failed_transaction_jobs_and_callers_wait_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = wait(world, world.pilot(1))
    (job,) = world.submit_jobs(1)
    # The database goes away between the match and the claim.
    monkeypatch.setattr(handout, "_in_steps", _goes_away)
    with pytest.raises(ConnectionError):
        world.serve_polls()
    monkeypatch.undo()
    ((key, answer),) = world.serve_polls()
    assert (key, job_ids(answer.grants)) == (call.key, [job.job_id])


def _goes_away(*_: object) -> None:
    raise ConnectionError("the server closed the connection unexpectedly")


def test_jobs_that_another_server_gave_out_or_cancelled_are_not_given_again(
    world: World, sqlite_database: Database
) -> None:
    other = world.beside(sqlite_database)
    jobs = world.submit_jobs(6)
    assert len(world.acquire(world.pilot(1))) == 1
    given = job_ids(other.acquire(other.pilot(2), 3))
    open_jobs = [job.job_id for job in jobs if world.job(job.job_id).state is JobState.ACTIVATED]
    other.cancel(open_jobs[0])
    assert job_ids(world.acquire(world.pilot(3), 6)) == open_jobs[1:]
    assert not set(given) & set(open_jobs)


def test_work_of_another_server_is_found_in_a_second(
    world: World, sqlite_database: Database
) -> None:
    call = wait(world, world.pilot(1))
    world.beside(sqlite_database).submit_jobs(1)
    world.advance(seconds=1)
    assert [key for key, _ in world.serve_polls()] == [call.key]


def test_a_job_that_came_late_with_an_old_time_is_found_in_a_second(
    world: World, sqlite_database: Database
) -> None:
    """A transaction that was long, or a server whose clock is late."""
    other = world.beside(sqlite_database)
    world.submit_jobs(2)
    assert len(world.acquire(world.pilot(1))) == 1
    world.clock.advance(timedelta(minutes=-1))
    (late,) = other.submit_jobs(1, priority=1000)
    world.clock.advance(timedelta(minutes=1, seconds=1))
    assert job_ids(world.acquire(world.pilot(1))) == [late.job_id]


def test_the_queue_of_who_waits_is_known_to_the_monitor(world: World) -> None:
    wait(world, world.pilot(1))
    assert world.context.desks.poll_counts() == {QUEUE: 1}
