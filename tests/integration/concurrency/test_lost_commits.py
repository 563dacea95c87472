"""The answer to a commit is lost while a call that waits gets a job: the job is its pilot's, or nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from pandawn_server.domain.errors import OutcomeUnknownError, PandawnError, UnavailableError
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.storage.database import Database
from pandawn_server.usecases.dispatch.desks import AcquireCall
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.cutting import CuttingRelay, cutting_relay
from tests.fixtures.database import open_fast
from tests.fixtures.factories import ANYTHING
from tests.fixtures.world import World, good, job_ids


@pytest.fixture
def relay(postgres_database: Database) -> Iterator[CuttingRelay]:
    port = postgres_database.engine.url.port
    assert port
    with cutting_relay(port) as found:
        yield found


@pytest.fixture
def servers(postgres_database: Database, relay: CuttingRelay) -> Iterator[tuple[World, World]]:
    """A server whose connections are relayed, and one whose are not."""
    url = postgres_database.engine.url.set(port=relay.port)
    database = open_fast(url.render_as_string(hide_password=False))
    direct = World(postgres_database, catalog_on(memory_store()))
    direct.queue()
    direct.reap()
    yield direct.beside(database), direct
    database.dispose()


def wait(world: World, pilot: Pilot) -> AcquireCall:
    """A pilot asks, gets nothing, and waits."""
    call = AcquireCall(pilot.pilot_id, world.new_request_id(), 1, ANYTHING, cache=None, waits=True)
    assert good(world.ask_all([call])[0]).grants == ()
    return call


def test_a_job_whose_hand_out_was_committed_unheard_goes_to_the_call_that_waited(
    servers: tuple[World, World], relay: CuttingRelay
) -> None:
    relayed, direct = servers
    call = wait(relayed, relayed.pilot(1))
    (job,) = direct.submit_jobs(1)
    relay.cut, relay.cuts_left = "after", 1
    ((key, answer),) = relayed.serve_polls()
    assert (key, job_ids(answer.grants)) == (call.key, [job.job_id])
    assert direct.states() == [JobState.SENT]
    assert direct.finish(answer.grants[0]) is JobState.FINISHED


def test_a_job_whose_hand_out_was_not_committed_is_given_to_who_waits_next_time(
    servers: tuple[World, World], relay: CuttingRelay
) -> None:
    relayed, direct = servers
    call = wait(relayed, relayed.pilot(1))
    (job,) = direct.submit_jobs(1)
    relay.cut, relay.cuts_left = "before", 1
    with pytest.raises(OutcomeUnknownError):
        relayed.serve_polls()
    assert direct.states() == [JobState.ACTIVATED]
    ((key, answer),) = relayed.serve_polls()
    assert (key, job_ids(answer.grants)) == (call.key, [job.job_id])
    assert answer.grants[0].attempt == 1


def test_where_nobody_can_tell_who_waited_hears_of_it_and_gets_the_job_by_asking_again(
    servers: tuple[World, World], relay: CuttingRelay
) -> None:
    relayed, direct = servers
    pilot, other = relayed.pilot(1), relayed.pilot(2)
    call = wait(relayed, pilot)
    (job,) = direct.submit_jobs(1)
    relay.cut, relay.cuts_left, relay.closes = "after", 1, True
    with pytest.raises(OutcomeUnknownError):
        relayed.serve_polls()
    ((key, answer),) = relayed.deliveries
    assert key == call.key
    assert isinstance(answer, PandawnError)
    assert answer.retry_after
    relay.closes = False
    # The database is back. Others get what there is, and nobody's call is in their way.
    (second,) = direct.submit_jobs(1)
    relayed.clock.advance(timedelta(seconds=2))
    assert job_ids(relayed.acquire(other)) == [second.job_id]
    assert job_ids(relayed.acquire(pilot, request_id=call.request_id)) == [job.job_id]


def test_a_call_that_was_served_elsewhere_is_answered_and_stops_nobody_for_longer_than_a_round(
    servers: tuple[World, World],
) -> None:
    """Its connection broke unnoticed, and its repeat went to another server: as long as it waits, each round fails."""
    relayed, direct = servers
    pilot = relayed.pilot(1)
    call = wait(relayed, pilot)
    (job,) = direct.submit_jobs(1)
    assert job_ids(direct.acquire(pilot, request_id=call.request_id)) == [job.job_id]
    (second,) = direct.submit_jobs(1)
    with pytest.raises(UnavailableError, match="first"):
        relayed.serve_polls()
    ((key, answer),) = relayed.deliveries
    assert (key, job_ids(good(answer).grants)) == (call.key, [job.job_id])
    assert job_ids(relayed.acquire(relayed.pilot(2))) == [second.job_id]
