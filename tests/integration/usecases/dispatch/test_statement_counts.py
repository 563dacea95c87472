"""A batch costs a number of statements that does not grow with it: that is what a batch is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.domain.queues.revisions import Author
from pandawn_server.domain.tasks.jobs import Phase, Requirements
from pandawn_server.usecases.dispatch.desks import AcquireCall
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.leases.renew import Heartbeat, Renewal, renew_leases
from pandawn_server.usecases.leases.report import release_jobs, report_jobs
from pandawn_server.usecases.queues.change import Wanted, change_documents
from pandawn_server.usecases.queues.configure import get_queue
from pandawn_server.usecases.queues.overrides import set_override
from tests.fixtures.factories import QUEUE, make_inputs
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
    # The first call of a process begins to follow what becomes runnable.
    world.ask_all(calls(world, 1))
    return lambda: world.ask_all(batch)


def repeating(world: World, number: int) -> Callable[[], object]:
    batch = calls(world, number)
    world.ask_all(batch)
    return lambda: world.ask_all(batch)


def finishing(world: World, number: int) -> Callable[[], object]:
    reports = [success(grant) for grant in leased(world, number)]
    return lambda: report_jobs(world.context, reports)


def failing(world: World, number: int) -> Callable[[], object]:
    """On one node: each node that fails is looked at by itself."""
    grants = world.acquire(world.pilot(number), min(number, 4))
    reports = [failure(grant) for grant in grants]
    return lambda: report_jobs(world.context, reports)


def releasing(world: World, number: int) -> Callable[[], object]:
    refs = [lease_ref(grant) for grant in leased(world, number)]
    return lambda: release_jobs(world.context, refs)


def reaping(world: World, number: int) -> Callable[[], object]:
    # The pilots of an earlier batch are lost before, and not now.
    world.pass_time_with_server_up(LEASE * 3)
    world.acquire(world.pilot(number), min(number, 4))
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


def beating(world: World) -> Callable[[], object]:
    beats = [Heartbeat(world.pilot(node).pilot_id, (), None, None) for node in range(1, 5)]
    return lambda: renew_leases(world.context, beats)


def asking(world: World) -> Callable[[], object]:
    batch = calls(world, 4)
    world.ask_all(calls(world, 1))
    return lambda: world.ask_all(batch)


def registering(world: World) -> Callable[[], object]:
    return lambda: world.pilot(7)


def showing(world: World) -> Callable[[], object]:
    return lambda: get_queue(world.context, QUEUE)


@pytest.mark.parametrize(
    "prepare", [beating, asking, registering, showing], ids=lambda prepare: prepare.__name__
)
def test_no_statement_of_what_pilots_call_reads_queues(
    world: World, prepare: Callable[[World], Callable[[], object]]
) -> None:
    world.submit_jobs(10)
    set_override(world.context, "r", "f", QUEUE, QueueSettings(cores=2), LEASE, Author("anna"))
    call = prepare(world)
    with recorded(world.db) as statements:
        call()
    assert [sql for sql, _ in statements.sent if "config" in sql or "queues" in sql] == []


def test_a_look_for_changes_is_one_tiny_statement_where_there_are_none(world: World) -> None:
    get_queue(world.context, QUEUE)
    with recorded(world.db) as statements, world.db.read() as tx:
        world.context.config.refresh(tx)
    (sql,) = (sql for sql, _ in statements.sent if sql.startswith("SELECT"))
    assert "config_head" in sql


def test_many_documents_are_applied_by_as_many_statements_as_few(world: World) -> None:
    counts = []
    for number in (2, 1000):
        wanted = [
            Wanted(DocumentKey(DocumentKind.QUEUE, f"Q{number}-{i}"), QueueSettings(cores=i + 1))
            for i in range(number)
        ]
        with recorded(world.db) as statements:
            change_documents(world.context, wanted, Author("anna"))
        counts.append([sql.split("(")[0][:60] for sql, _ in statements.sent])
    assert counts[0] == counts[1]
    assert len(counts[0]) < 20
