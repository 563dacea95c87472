"""Documents are changed together, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pandawn_server.domain.errors import AbortedError, InvalidRequestError, PreconditionError
from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind, Level
from pandawn_server.domain.queues.queues import QueueSettings, QueueStatus
from pandawn_server.domain.queues.revisions import Action, Author
from pandawn_server.usecases.queues.change import (
    Guards,
    Outcome,
    Wanted,
    change_documents,
    preview_documents,
)
from pandawn_server.usecases.queues.configure import (
    export_documents,
    get_origins,
    get_queue,
    list_queues,
)
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import QUEUE
from tests.fixtures.world import World

ANNA = Author("anna", "/CN=Anna", "ipv4:192.0.2.1:4000", "test", "because")


def site(name: str, **settings: Any) -> Wanted:
    return Wanted(DocumentKey(DocumentKind.SITE, name), QueueSettings(**settings), field="s")


def cloud(name: str, **settings: Any) -> Wanted:
    return Wanted(DocumentKey(DocumentKind.CLOUD, name), QueueSettings(**settings), field="c")


def queue(name: str, **settings: Any) -> Wanted:
    return Wanted(DocumentKey(DocumentKind.QUEUE, name), QueueSettings(**settings), field="q")


def deleted(name: str) -> Wanted:
    return Wanted(DocumentKey(DocumentKind.QUEUE, name), delete=True, field="q")


def apply(world: World, *wanted: Wanted, **guards: Any) -> Outcome:
    return change_documents(world.context, wanted, ANNA, Guards(**guards))


def names(world: World) -> list[str]:
    return [q.name for q in list_queues(world.context, "", 100_000, "")]


def many(count: int, **settings: Any) -> list[Wanted]:
    return [queue(f"Q{number:05d}", **settings) for number in range(count)]


def test_a_queue_is_joined_from_cloud_site_and_its_own_document(world: World) -> None:
    outcome = apply(
        world,
        cloud("DE", cores=2, priority_band=5, comment="cloud"),
        site("GRID", cloud="DE", cores=4, comment="site"),
        queue("A", site="GRID", cores=8),
        queue("B", site="GRID"),
    )
    a, b = get_queue(world.context, "A"), get_queue(world.context, "B")
    assert (a.cloud, a.cores, a.comment, a.priority_band) == ("DE", 8, "site", 5)
    assert (b.cores, b.max_queued_pilots) == (4, 0)
    assert a.revision == b.revision == outcome.revision
    _, origins = get_origins(world.context, "A")
    assert {name: origins[name].place.level for name in ("cores", "comment", "cloud")} == {
        "cores": Level.QUEUE,
        "comment": Level.SITE,
        "cloud": Level.SITE,
    }
    assert origins["priority_band"].place.name == "DE"
    by = origins["priority_band"].revision
    assert by is not None
    assert (by.author, by.time) == (ANNA, world.clock.now)
    assert origins["max_queued_pilots"].place.level is Level.DEFAULT


def test_each_value_says_the_revision_that_set_it_and_not_the_last_of_its_document(
    world: World,
) -> None:
    first = apply(world, queue("A", cores=8)).revision
    second = apply(world, queue("A", cores=8, comment="new")).revision
    _, origins = get_origins(world.context, "A")
    assert origins["cores"].place.revision == first
    assert origins["comment"].place.revision == second == first + 1


def test_a_change_of_a_site_is_a_revision_of_all_its_queues(world: World) -> None:
    apply(world, site("GRID", cores=4), queue("A", site="GRID"), queue("B"))
    before = get_queue(world.context, "B")
    changed = apply(world, site("GRID", cores=6)).revision
    assert get_queue(world.context, "A").revision == changed
    assert get_queue(world.context, "B") == before


def test_a_deleted_site_takes_its_values_along_and_is_a_revision(world: World) -> None:
    apply(world, site("GRID", cores=4), queue("A", site="GRID"))
    gone = Wanted(DocumentKey(DocumentKind.SITE, "GRID"), delete=True, field="s")
    revision = apply(world, gone).revision
    assert (get_queue(world.context, "A").cores, get_queue(world.context, "A").revision) == (
        1,
        revision,
    )


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_done(world: World) -> None:
    wrong = [
        queue("A", cores=0, pilot_methods=("magic",), pilot_networks=("192.0.2.1/24",)),
        site("S", site="OTHER"),
        cloud("C", cloud="OTHER"),
        queue("B", pilot_host_pattern="("),
        queue("FINE"),
    ]
    preview = preview_documents(world.context, wrong)
    assert [(f.position, f.key.name, f.violation.field) for f in preview.faults] == [
        (0, "A", "cores"),
        (0, "A", "pilot_methods"),
        (0, "A", "pilot_networks"),
        (1, "S", "site"),
        (2, "C", "cloud"),
        (3, "B", "pilot_host_pattern"),
    ]
    with pytest.raises(InvalidRequestError) as caught:
        apply(world, *wrong)
    assert len(caught.value.violations) == len(preview.faults)
    assert names(world) == [QUEUE]


def test_a_preview_tells_what_an_apply_then_does_and_does_nothing(world: World) -> None:
    wanted = [queue("A", cores=2), queue(QUEUE, cores=4)]
    told = preview_documents(world.context, wanted)
    assert names(world) == [QUEUE]
    done = apply(world, *wanted)
    assert told.changes == done.changes
    assert [change.action for change in done.changes] == [Action.CREATE, Action.CHANGE]
    assert done.revision == told.revision + 1


def test_applying_the_same_again_is_no_revision(world: World) -> None:
    first = apply(world, *many(3, cores=2))
    again = apply(world, *many(3, cores=2))
    assert (again.changes, again.revision) == ([], first.revision)


def test_a_stale_etag_of_one_document_stops_all(world: World) -> None:
    apply(world, queue("A", cores=2))
    stale = Wanted(
        DocumentKey(DocumentKind.QUEUE, "A"), QueueSettings(cores=3), etag="old", field="q"
    )
    with pytest.raises(AbortedError) as caught:
        apply(world, queue("B"), stale)
    assert caught.value.reason == "STALE_ETAG"
    assert names(world) == ["A", QUEUE]


def test_a_configuration_that_moved_on_is_not_written_over(world: World) -> None:
    revision = apply(world, queue("A")).revision
    apply(world, queue("B"), expected_revision=revision)
    with pytest.raises(AbortedError) as caught:
        apply(world, queue("C"), expected_revision=revision)
    assert caught.value.reason == "STALE_REVISION"
    assert caught.value.metadata == {"revision": str(revision + 1)}


def test_more_than_a_quarter_of_the_queues_goes_only_by_number(world: World) -> None:
    apply(world, *many(11))  # with QUEUE they are 12
    three = [deleted(f"Q{n:05d}") for n in range(3)]
    four = [*three, queue("Q00005", status=QueueStatus.OFFLINE)]
    with pytest.raises(PreconditionError, match="4 of 12") as caught:
        apply(world, *four)
    assert caught.value.reason == "TOO_MANY_QUEUES"
    assert caught.value.metadata["removals"] == "4"
    with pytest.raises(PreconditionError):
        apply(world, *four, allowed_removals=3)
    preview = preview_documents(world.context, four)
    assert (preview.removals, preview.removals_limit) == (4, 3)
    apply(world, *three)
    apply(
        world,
        *(queue(f"Q{n:05d}", status=QueueStatus.OFFLINE) for n in range(3, 7)),
        allowed_removals=4,
    )
    assert len(names(world)) == 9


def test_queues_that_go_offline_through_their_site_are_counted(world: World) -> None:
    apply(world, *many(8, site="GRID"))
    with pytest.raises(PreconditionError, match="8 of 9"):
        apply(world, site("GRID", status=QueueStatus.OFFLINE))


def test_a_queue_with_jobs_or_pilots_is_not_deleted(world: World) -> None:
    apply(world, *many(11))
    world.submit_jobs(1)
    with pytest.raises(PreconditionError) as caught:
        apply(world, deleted(QUEUE))
    assert caught.value.reason == "QUEUE_IN_USE"
    assert preview_documents(world.context, [deleted(QUEUE)]).in_use == [QUEUE]
    world.finish(world.take(pilot := world.pilot()))
    with pytest.raises(PreconditionError, match=QUEUE):
        apply(world, deleted(QUEUE))
    world.leave(pilot)
    apply(world, deleted(QUEUE))
    assert QUEUE not in names(world)
    # What ran there is still known.
    assert world.jobs()[0].queue == QUEUE


def test_a_deleted_queue_can_come_back_and_its_revision_goes_on(world: World) -> None:
    apply(world, *many(11))
    apply(world, queue("A", cores=8))
    apply(world, deleted("A"))
    revision = apply(world, queue("A")).revision
    again = get_queue(world.context, "A")
    assert (again.cores, again.revision) == (1, revision)


def test_another_process_knows_a_queue_at_once_and_a_change_after_its_next_look(
    world: World, open_database: OpenDatabase
) -> None:
    other = world.beside(open_database())
    assert get_queue(other.context, QUEUE).cores == 1
    apply(
        world,
        queue("NEW"),
        Wanted(
            DocumentKey(DocumentKind.QUEUE, QUEUE), QueueSettings(cores=8), ("cores",), field="q"
        ),
    )
    assert get_queue(other.context, "NEW").name == "NEW"
    with other.db.read() as tx:
        other.context.config.refresh(tx)
    assert get_queue(other.context, QUEUE).cores == 8
    assert get_queue(other.context, QUEUE) == get_queue(world.context, QUEUE)


def test_what_was_exported_can_be_applied_and_changes_nothing(world: World) -> None:
    apply(
        world,
        cloud("DE", cores=2),
        site("GRID", cloud="DE", environment={"B": "1", "A": "2"}),
        *many(30, site="GRID", releases=("a", "b")),
    )
    revision, documents = export_documents(world.context, list(DocumentKind))
    assert [d.key.kind for d in documents[:2]] == [DocumentKind.CLOUD, DocumentKind.SITE]
    assert len(documents) == 33
    again = apply(world, *(Wanted(d.key, d.settings, etag=d.etag, field="d") for d in documents))
    assert again.revision == revision


def test_every_change_is_told_with_its_reason(world: World) -> None:
    apply(world, queue("A", cores=2))
    with world.db.read() as tx:
        row = tx.exec_driver_sql('SELECT text, "user" FROM events ORDER BY event_id DESC LIMIT 1')
        assert tuple(row.one()) == ("queue A was created (because)", "anna")


def test_changes_of_many_at_once_are_revisions_one_after_the_other(
    world: World, open_database: OpenDatabase
) -> None:
    others = [world.beside(open_database(), seed) for seed in range(1, 5)]

    def change(number: int) -> list[int]:
        return [
            apply(
                others[number], queue(f"Q{number}-{i}"), queue("SHARED", cores=4 * i + number + 1)
            ).revision
            for i in range(5)
        ]

    with ThreadPoolExecutor() as threads:
        made = [r for revisions in threads.map(change, range(4)) for r in revisions]
    base = min(made)
    assert sorted(made) == list(range(base, base + 20))
    with world.db.read() as tx:
        world.context.config.refresh(tx)
    last = get_queue(world.context, "SHARED")
    assert last.revision == max(made)
    number = next(n for n in range(4) if last.revision == made[5 * n + 4])
    assert last.cores == 4 * 4 + number + 1
