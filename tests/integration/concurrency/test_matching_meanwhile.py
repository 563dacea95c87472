"""One process matches a batch while another of its batches is claimed: nobody gets what is being given."""

from __future__ import annotations

import pytest

from pandawn_server.storage.database import Database
from pandawn_server.storage.dispatch import handout
from pandawn_server.usecases.dispatch.desks import AcquireCall
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.factories import ANYTHING
from tests.fixtures.interleave import COMMIT, interleave
from tests.fixtures.world import World, good, job_ids

CLAIM = "SKIP LOCKED"


@pytest.fixture
def world(postgres_database: Database) -> World:
    """One server process on PostgreSQL, where transactions run beside each other."""
    world = World(postgres_database, catalog_on(memory_store()))
    world.queue()
    world.reap()
    return world


@pytest.mark.parametrize("at", [CLAIM, COMMIT])
def test_what_is_being_claimed_is_given_to_nobody_else(world: World, at: str) -> None:
    ids = [job.job_id for job in world.submit_jobs(3)]
    first, second = world.pilot(1), world.pilot(2)
    world.release(world.take(first))
    # So that what is runnable is read page by page again.
    world.advance(seconds=2)
    # The second reads what is runnable from the database, which shows what the first is getting.
    one, two = interleave(
        lambda: world.acquire(first), world.db, at, lambda: world.acquire(second, 3)
    )
    assert sorted(job_ids(one.result()) + job_ids(two.result())) == ids


def test_the_repeat_of_a_call_that_is_being_answered_gets_the_same_leases(world: World) -> None:
    world.submit_jobs(3)
    pilot = world.pilot()
    one, two = interleave(
        lambda: world.ask(pilot, request_id="r1"),
        world.db,
        COMMIT,
        lambda: world.ask(pilot, request_id="r1"),
    )
    (grant,) = one.result().grants
    (again,) = two.result().grants
    assert (grant.job.job_id, grant.token) == (again.job.job_id, again.token)


def test_a_call_that_is_withdrawn_while_it_gets_a_job_hears_of_it_first(world: World) -> None:
    pilot = world.pilot(1)
    call = AcquireCall(pilot.pilot_id, "r1", 1, ANYTHING, cache=None, waits=True)
    assert good(world.ask_all([call])[0]).grants == ()
    world.submit_jobs(1)

    def withdraw() -> tuple[bool, list[tuple[str, str]]]:
        was_waiting = world.context.desks.cancel(call)
        return was_waiting, [key for key, _ in world.deliveries]

    served, withdrawn = interleave(world.serve_polls, world.db, COMMIT, withdraw)
    served.result()
    assert withdrawn.result() == (False, [call.key])


def test_jobs_whose_claim_failed_are_given_to_who_asks_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = world.submit_jobs(1)
    monkeypatch.setattr(handout, "_at_once", _goes_away)
    with pytest.raises(ConnectionError):
        world.acquire(world.pilot(1))
    monkeypatch.undo()
    assert job_ids(world.acquire(world.pilot(2))) == [job.job_id]


def _goes_away(*_: object) -> None:
    raise ConnectionError("the server closed the connection unexpectedly")
