"""A database that was put back to an older copy gives no number twice."""

from __future__ import annotations

import random

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import UnauthenticatedError
from pandawn_server.usecases.leases.pilots import Registration, register_pilot
from pandawn_server.usecases.restore import pass_over_lost_numbers
from tests.fixtures.factories import QUEUE
from tests.fixtures.world import World


def test_after_a_restore_no_number_is_given_again_that_the_copy_does_not_know(
    world: World,
) -> None:
    known = world.submit(dataset="known").task.task_id
    jobs = world.jobs(known)
    last = pass_over_lost_numbers(world.db, random.Random(1), world.clock(), count=1000)
    assert last["task"] >= known + 1000
    assert last["job"] >= max(job.job_id for job in jobs) + 1000
    first, second = (world.submit(dataset=name).task.task_id for name in ("after", "later"))
    assert (first, second) == (last["task"] + 1, last["task"] + 2)
    assert min(job.job_id for job in world.jobs(first)) == last["job"] + 1
    events = [event.event_id for event in world.events()]
    assert max(events) > last["event"] > 1000


def test_a_restore_ends_the_sessions_of_pilots_that_know_what_the_copy_does_not(
    world: World,
) -> None:
    registration = Registration("r", QUEUE, "wn1", "host", "1", "", ("file",))
    token = register_pilot(world.context, registration, LOCAL_OPERATOR).session_token
    world.context.sessions.open(token, world.clock())
    pass_over_lost_numbers(world.db, random.Random(1), world.clock(), count=1)
    refreshed = world.beside(world.db)
    with pytest.raises(UnauthenticatedError):
        refreshed.context.sessions.open(token, world.clock())
