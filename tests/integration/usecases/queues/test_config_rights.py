"""Administrators change what touches their own sites only, whichever document does it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.queues.layers import DocumentKey, DocumentKind
from pandawn_server.domain.queues.queues import QueueSettings
from pandawn_server.domain.queues.revisions import Author
from pandawn_server.usecases.queues.change import Guards, Wanted, change_documents
from pandawn_server.usecases.queues.history import rollback
from pandawn_server.usecases.queues.overrides import clear_override, set_override
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.world import World

ROSA = Author("rosa", sites=frozenset({SITE}))
OTTO = Author("otto", sites=frozenset({"FAR"}))
BOTH = Author("both", sites=frozenset({SITE, "FAR"}))
NONE = Author("anna", sites=frozenset())
OPERATOR = Author("olga")
FAR = "ANALY_FAR"
K = DocumentKind


def want(kind: DocumentKind, name: str, *, delete: bool = False, **settings: object) -> Wanted:
    given = QueueSettings(**settings)  # type: ignore[arg-type]
    return Wanted(DocumentKey(kind, name), given, tuple(given), delete=delete, field="x")


def apply(world: World, author: Author, *wanted: Wanted) -> int:
    return change_documents(world.context, wanted, author).revision


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(ForbiddenError) as caught:
        act()
    assert caught.value.reason == "SITE_ADMIN_REQUIRED"
    return caught.value.message


@pytest.fixture
def two(world: World) -> World:
    """A queue at each of two sites, both in one cloud."""
    world.queue(QUEUE, cloud="DE")
    world.queue(FAR, site="FAR", cloud="DE")
    return world


def test_a_queue_is_changed_created_and_deleted_by_its_site_s_administrators(two: World) -> None:
    for change in (
        want(K.QUEUE, QUEUE, cores=8),
        want(K.QUEUE, "NEW", site=SITE),
        want(K.QUEUE, SITE, cores=2),
        want(K.QUEUE, QUEUE, delete=True),
        want(K.SITE, SITE, cores=4),
    ):
        for author in (OTTO, NONE):
            assert SITE in refused(lambda c=change, a=author: apply(two, a, c))  # type: ignore[misc]
        apply(two, ROSA, change)


def test_a_queue_is_moved_by_who_administers_both_sites(two: World) -> None:
    move = want(K.QUEUE, QUEUE, site="FAR")
    assert "site FAR" in refused(lambda: apply(two, ROSA, move))
    assert f"site {SITE}" in refused(lambda: apply(two, OTTO, move))
    apply(two, BOTH, move)
    # From now on it is theirs.
    apply(two, OTTO, want(K.QUEUE, QUEUE, cores=2))
    refused(lambda: apply(two, ROSA, want(K.QUEUE, QUEUE, cores=3)))


def test_one_foreign_document_among_many_refuses_all(two: World) -> None:
    refused(lambda: apply(two, ROSA, want(K.QUEUE, QUEUE, cores=8), want(K.QUEUE, FAR, cores=8)))
    assert two.queue(QUEUE).cores == 1


def test_a_document_that_changes_nothing_is_nobody_s_harm(two: World) -> None:
    apply(two, ROSA, want(K.QUEUE, FAR, cloud="DE"), want(K.QUEUE, QUEUE, cores=8))


def test_a_cloud_is_for_who_administers_all_its_sites(two: World) -> None:
    cloud = want(K.CLOUD, "DE", cores=3)
    assert "site FAR" in refused(lambda: apply(two, ROSA, cloud))
    apply(two, BOTH, cloud)
    assert "operator" in refused(lambda: apply(two, BOTH, want(K.CLOUD, "FR", cores=3)))
    apply(two, OPERATOR, want(K.CLOUD, "FR", cores=3))


def test_a_cloud_that_a_site_s_document_names_counts_too(two: World) -> None:
    two.queue("THIRD", site="THIRD")
    apply(two, OPERATOR, want(K.SITE, "THIRD", cloud="DE"))
    assert "site THIRD" in refused(lambda: apply(two, BOTH, want(K.CLOUD, "DE", cores=3)))


def test_a_rollback_takes_all_sites_that_it_touches(two: World) -> None:
    base = apply(two, OPERATOR, want(K.QUEUE, QUEUE, cores=2))
    apply(two, ROSA, want(K.QUEUE, QUEUE, cores=4))

    def back(author: Author) -> object:
        return rollback(two.context, base, author, Guards(), validate_only=False)

    refused(lambda: back(OTTO))
    back(ROSA)
    apply(two, ROSA, want(K.QUEUE, QUEUE, cores=4))
    apply(two, OTTO, want(K.QUEUE, FAR, cores=4))
    assert "site FAR" in refused(lambda: back(ROSA))
    back(BOTH)


def test_overrides_are_set_and_cleared_by_the_site_s_administrators(two: World) -> None:
    settings, end = QueueSettings(cores=2), two.clock.now + timedelta(hours=1)
    refused(lambda: set_override(two.context, "r", "f", QUEUE, settings, end, OTTO))
    set_override(two.context, "r", "f", QUEUE, settings, end, ROSA)
    refused(lambda: clear_override(two.context, QUEUE, (), OTTO))
    clear_override(two.context, QUEUE, (), ROSA)
