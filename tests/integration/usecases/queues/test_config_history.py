"""Overrides come and go; every change is a revision that can be compared and undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.errors import (
    AbortedError,
    InvalidRequestError,
    NotFoundError,
    PreconditionError,
)
from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind, Level
from pandawn_server.domain.queues.queues import QueueSettings, QueueStatus
from pandawn_server.domain.queues.revisions import Action, Author, Cause
from pandawn_server.usecases.dispatch.explain_job import explain_job
from pandawn_server.usecases.queues.change import Guards, Wanted, change_documents
from pandawn_server.usecases.queues.configure import (
    export_documents,
    get_origins,
    get_queue,
    list_overrides,
)
from pandawn_server.usecases.queues.history import diff_revisions, list_revisions, rollback
from pandawn_server.usecases.queues.overrides import (
    clear_override,
    record_expired,
    set_override,
)
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import QUEUE
from tests.fixtures.world import World

ANNA = Author("anna", message="downtime")
BERTA = Author("berta")
HOUR = timedelta(hours=1)
KEY = DocumentKey(DocumentKind.QUEUE, QUEUE)


def override(world: World, author: Author = ANNA, hours: float = 1, **settings: Any) -> int:
    end = world.clock.now + hours * HOUR
    return set_override(
        world.context, world.new_request_id(), "f", QUEUE, QueueSettings(**settings), end, author
    )[1]


def revisions(world: World, key: DocumentKey | None = None) -> list[tuple[int, Cause]]:
    return [(r.revision, r.cause) for r in list_revisions(world.context, 0, 100, key)]


def apply(world: World, *queues: str, **settings: Any) -> int:
    wanted = [
        Wanted(DocumentKey(DocumentKind.QUEUE, name), QueueSettings(**settings), field="q")
        for name in queues
    ]
    return change_documents(world.context, wanted, BERTA).revision


def test_an_override_goes_before_the_document_until_its_time_and_no_longer(world: World) -> None:
    world.queue(cores=4)
    override(world, cores=16)
    assert get_queue(world.context, QUEUE).cores == 16
    world.queue(cores=5)
    assert get_queue(world.context, QUEUE).cores == 16
    world.advance(minutes=59, seconds=59, milliseconds=999)
    assert get_queue(world.context, QUEUE).cores == 16
    world.advance(milliseconds=1)
    assert get_queue(world.context, QUEUE).cores == 5


def test_a_job_of_a_queue_that_is_paused_for_a_time_knows_until_when(world: World) -> None:
    (job,) = world.submit_jobs()
    override(world, status=QueueStatus.PAUSED)
    (obstacle,) = [
        found
        for found in explain_job(world.context, job.job_id, world.by).obstacles
        if found.predicate == "QUEUE_PAUSED"
    ]
    end = world.clock.now + HOUR
    assert f"set by anna until {end:%Y-%m-%d %H:%M} UTC: downtime" in obstacle.detail


def test_an_override_says_who_set_it_until_when_and_why(world: World) -> None:
    revision = override(world, status=QueueStatus.OFFLINE, state_reason="power cut")
    _, origins = get_origins(world.context, QUEUE)
    place, by = origins["status"].place, origins["status"].revision
    assert (place.level, place.revision) == (Level.OVERRIDE, revision)
    assert place.expire_time == world.clock.now + HOUR
    assert by is not None
    assert by.author == ANNA
    listed = list_overrides(world.context, ("", ""), 10, "")
    assert [o.override.parameter for o in listed] == ["state_reason", "status"]
    rest = list_overrides(world.context, (QUEUE, "state_reason"), 10, QUEUE)
    assert [o.override.parameter for o in rest] == ["status"]


def test_each_parameter_has_its_own_override(world: World) -> None:
    override(world, cores=16, comment="a")
    override(world, BERTA, hours=2, cores=32)
    world.advance(minutes=90)
    queue = get_queue(world.context, QUEUE)
    assert (queue.cores, queue.comment) == (32, "")


def test_the_end_of_an_override_is_a_revision_of_its_own_written_once(
    world: World, open_database: OpenDatabase
) -> None:
    other = world.beside(open_database())
    set_at = override(world, cores=16)
    assert get_queue(other.context, QUEUE).revision == set_at
    world.advance(hours=1)
    assert get_queue(other.context, QUEUE).cores == 1
    for server in (world, other, world):
        with server.db.read() as tx:
            server.context.config.refresh(tx)
        record_expired(server.context)
    assert revisions(world)[0] == (set_at + 1, Cause.EXPIRE)
    assert get_queue(world.context, QUEUE).revision == set_at + 1
    assert get_queue(other.context, QUEUE).revision == set_at + 1
    assert list_overrides(world.context, ("", ""), 10, "") == []


def test_clearing_ends_those_that_are_named_or_all(world: World) -> None:
    override(world, cores=16, comment="a", priority_band=7)
    queue, revision, count = clear_override(world.context, QUEUE, {"cores"}, BERTA)
    assert (queue.cores, queue.comment, count) == (1, "a", 1)
    assert queue.revision == revision
    queue, _, count = clear_override(world.context, QUEUE, (), BERTA)
    assert (queue.comment, queue.priority_band, count) == ("", 100, 2)
    _, same, none = clear_override(world.context, QUEUE, (), BERTA)
    assert (same, none) == (revision + 1, 0)


@pytest.mark.parametrize(
    "settings",
    [{}, {"cores": 0}, {"site": "OTHER"}, {"cloud": "OTHER"}],
    ids=["nothing", "out of bounds", "site", "cloud"],
)
def test_what_may_not_be_overridden_is_refused(world: World, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        override(world, **settings)


def test_an_override_ends_in_the_future_and_within_a_year(world: World) -> None:
    for hours in (0, -1, 24 * 367):
        with pytest.raises(InvalidRequestError, match="expire_time"):
            override(world, hours=hours, cores=2)


def test_a_queue_that_is_not_there_has_no_overrides(world: World) -> None:
    with pytest.raises(NotFoundError):
        set_override(
            world.context, "r", "f", "NONE", QueueSettings(cores=2), world.clock.now + HOUR, ANNA
        )
    with pytest.raises(NotFoundError):
        clear_override(world.context, "NONE", (), ANNA)


def test_revisions_are_listed_from_the_newest_by_pages_and_by_document(world: World) -> None:
    first = apply(world, "A", "B")
    second = apply(world, "A", cores=2)
    third = override(world, cores=3)
    a = DocumentKey(DocumentKind.QUEUE, "A")
    assert revisions(world, a) == [(second, Cause.APPLY), (first, Cause.APPLY)]
    assert revisions(world, KEY)[0] == (third, Cause.OVERRIDE)
    page = list_revisions(world.context, 0, 2, None)
    assert [r.revision for r in page] == [third, second]
    assert [r.revision for r in list_revisions(world.context, second, 1, None)] == [first]
    (made,) = list_revisions(world.context, second, 1, None)
    assert (made.author, made.created, made.changed, made.deleted) == (BERTA, 2, 0, 0)


def test_a_difference_leaves_out_what_came_back_and_goes_both_ways(world: World) -> None:
    base = apply(world, "A", cores=2)
    apply(world, "A", cores=4)
    apply(world, "B", cores=1)
    last = apply(world, "A", cores=2)
    newer, changes = diff_revisions(world.context, base, 0)
    assert newer == last
    assert [(c.key.name, c.action) for c in changes] == [("B", Action.CREATE)]
    _, back = diff_revisions(world.context, last, base)
    assert [(c.key.name, c.action) for c in back] == [("B", Action.DELETE)]
    _, one = diff_revisions(world.context, base, base + 1)
    assert [(c.parameters, c.old, c.new) for c in one] == [
        (("cores",), QueueSettings(cores=2), QueueSettings(cores=4))
    ]


def test_a_revision_that_does_not_exist_is_told_so(world: World) -> None:
    for older, newer in ((0, 99), (99, 0)):
        with pytest.raises(NotFoundError) as caught:
            diff_revisions(world.context, older, newer)
        assert caught.value.reason == "REVISION_NOT_FOUND"
    with pytest.raises(NotFoundError):
        rollback(world.context, 99, ANNA, Guards(), validate_only=False)


def test_a_rollback_is_a_new_revision_with_the_documents_of_then(world: World) -> None:
    apply(world, *(f"Q{n}" for n in range(8)), cores=2)
    base = apply(world, "A", cores=2)
    _, before = export_documents(world.context, list(DocumentKind))
    apply(world, "A", cores=4, comment="x")
    apply(world, "B")
    change_documents(
        world.context, [Wanted(DocumentKey(DocumentKind.QUEUE, "Q1"), delete=True)], BERTA
    )
    preview = rollback(world.context, base, ANNA, Guards(), validate_only=True)
    assert get_queue(world.context, "A").cores == 4
    outcome = rollback(world.context, base, ANNA, Guards(), validate_only=False)
    assert outcome.changes == preview.changes
    _, after = export_documents(world.context, list(DocumentKind))
    assert {d.key: d.settings for d in after} == {d.key: d.settings for d in before}
    assert diff_revisions(world.context, base, 0)[1] == []
    assert revisions(world)[0] == (outcome.revision, Cause.ROLLBACK)
    assert rollback(world.context, base, ANNA, Guards(), validate_only=False).changes == []


def test_a_rollback_leaves_overrides_as_they_are(world: World) -> None:
    base = apply(world, "A", cores=2)
    override(world, cores=16)
    world.queue(comment="later")
    rollback(world.context, base, ANNA, Guards(), validate_only=False)
    queue = get_queue(world.context, QUEUE)
    assert (queue.cores, queue.comment) == (16, "")


def test_a_rollback_is_guarded_as_any_change(world: World) -> None:
    base = apply(world, "A")
    apply(world, *(f"Q{n}" for n in range(8)))
    with pytest.raises(PreconditionError, match="8 of 10") as caught:
        rollback(world.context, base, ANNA, Guards(), validate_only=False)
    assert caught.value.reason == "TOO_MANY_QUEUES"
    with pytest.raises(AbortedError):
        rollback(world.context, base, ANNA, Guards(expected_revision=base), validate_only=False)
    rollback(world.context, base, ANNA, Guards(allowed_removals=8), validate_only=False)
