"""A request that was served by one server and repeated to another, which has no reason to suspect it."""

from __future__ import annotations

import pytest

from pandawn_server.domain.errors import UnavailableError
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import JobState
from pandawn_server.usecases.dispatch.desks import AcquireCall
from tests.fixtures.factories import ANYTHING
from tests.fixtures.world import World, good, job_ids


@pytest.fixture
def pilots(servers: tuple[World, World]) -> tuple[Pilot, Pilot]:
    """Two pilots whose calls the second server has seen before."""
    one, two = servers
    found = one.pilot(1), one.pilot(2)
    for pilot in found:
        assert two.acquire(pilot, request_id="before") == ()
    return found


def calls(pilots: tuple[Pilot, Pilot]) -> list[AcquireCall]:
    """The repeat of the first pilot's request, and a new one of the second's."""
    return [
        AcquireCall(pilot.pilot_id, request_id, 1, ANYTHING, None)
        for pilot, request_id in zip(pilots, ("r", "another"), strict=True)
    ]


def test_among_others_the_repeat_gets_its_leases_where_there_is_no_other_job_for_it(
    servers: tuple[World, World], pilots: tuple[Pilot, Pilot]
) -> None:
    one, two = servers
    one.submit_jobs(1)
    first = one.acquire(pilots[0], request_id="r")
    again, other = (good(answer) for answer in two.ask_all(calls(pilots)))
    assert again.grants == first
    assert other.grants == ()


def test_among_others_the_repeat_undoes_the_batch_and_alone_it_gets_its_leases(
    servers: tuple[World, World], pilots: tuple[Pilot, Pilot]
) -> None:
    one, two = servers
    one.submit_jobs(3)
    first = one.acquire(pilots[0], request_id="r")
    with pytest.raises(UnavailableError) as conflict:
        two.ask_all(calls(pilots))
    assert conflict.value.reason == "DATABASE_CONFLICT"
    assert two.acquire(pilots[0], request_id="r") == first
    other = two.acquire(pilots[1], request_id="another")
    sent = [job.job_id for job in one.jobs() if job.state is JobState.SENT]
    assert sent == sorted(job_ids([*first, *other]))
    assert len(sent) == 2
