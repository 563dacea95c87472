"""A batch costs a number of statements that does not grow with it: that is what a batch is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pandawn_server.domain.jobs import Phase, Requirements
from pandawn_server.domain.nodes import STREAK
from pandawn_server.usecases.brokers import AcquireCall
from pandawn_server.usecases.leasing import Grant
from pandawn_server.usecases.renew_leases import Heartbeat, Renewal, renew_leases
from pandawn_server.usecases.report_jobs import release_jobs, report_jobs
from tests.fixtures.factories import make_inputs
from tests.fixtures.plans import recorded
from tests.fixtures.world import LEASE, World, failure, good, lease_ref, success

OFFER = Requirements(cores=1)


def calls(world: World, number: int, max_jobs: int = 2) -> list[AcquireCall]:
    return [
        AcquireCall(world.pilot(node).pilot_id, world.new_request_id(), max_jobs, OFFER, None)
        for node in range(1, number + 1)
    ]


def leased(world: World, number: int) -> list[Grant]:
    answers = world.ask_all(calls(world, number))
    return [grant for answer in answers for grant in good(answer).grants]


def renewing(world: World, number: int) -> Callable[[], object]:
    beats = [
        Heartbeat(
            world.pilot(node).pilot_id,
            (Renewal(g.job.job_id, g.attempt, g.token, Phase.PAYLOAD),),
            None,
            session=None,
        )
        for node, g in enumerate(leased(world, number), 1)
    ]
    return lambda: renew_leases(world.context, beats)


def acquiring(world: World, number: int) -> Callable[[], object]:
    # The first call of a process reads what is there.
    leased(world, 1)
    batch = calls(world, number)
    return lambda: world.ask_all(batch)


def idling(world: World, number: int) -> Callable[[], object]:
    batch = calls(world, number)
    world.cancel_task(1)
    return lambda: world.ask_all(batch)


def repeating(world: World, number: int) -> Callable[[], object]:
    batch = calls(world, number)
    world.ask_all(batch)
    return lambda: world.ask_all(batch)


def finishing(world: World, number: int) -> Callable[[], object]:
    reports = [success(grant) for grant in leased(world, number)]
    return lambda: report_jobs(world.context, reports)


def failing(world: World, number: int) -> Callable[[], object]:
    """On one node, and too few to suspend it: each node that fails is looked at by itself."""
    grants = world.acquire(world.pilot(number), min(number, STREAK - 1))
    reports = [failure(grant) for grant in grants]
    return lambda: report_jobs(world.context, reports)


def releasing(world: World, number: int) -> Callable[[], object]:
    refs = [lease_ref(grant) for grant in leased(world, number)]
    return lambda: release_jobs(world.context, refs)


def reaping(world: World, number: int) -> Callable[[], object]:
    # The pilots of an earlier batch are lost before, and not now.
    world.pass_time_with_server_up(LEASE * 3)
    world.acquire(world.pilot(number), min(number, STREAK - 1))
    world.pass_time_with_server_up(LEASE * 0.99)
    world.clock.advance(LEASE * 0.02)
    return world.reap


@pytest.mark.parametrize(
    "prepare",
    [acquiring, idling, repeating, renewing, finishing, failing, releasing, reaping],
    ids=lambda prepare: prepare.__name__,
)
def test_a_batch_of_twenty_takes_as_many_statements_as_a_batch_of_two(
    world: World, prepare: Callable[[World, int], Callable[[], object]]
) -> None:
    world.submit(inputs=make_inputs(120))
    counts = []
    for number in (2, 20):
        call = prepare(world, number)
        with recorded(world.db) as statements:
            call()
        counts.append([sql.split("(")[0][:60] for sql, _ in statements.sent])
    assert counts[0] == counts[1]
    assert len(counts[0]) < 30
