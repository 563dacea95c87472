"""Pins are kept in the database of each engine, and every server process comes to know of them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.catalog.inventory import CachedFile, Delta, FileRef, NodeKey
from pandawn_server.domain.errors import ExhaustedError, NotFoundError, UnavailableError
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.storage.database import Database
from pandawn_server.storage.leases import nodes
from pandawn_server.usecases.catalog.files import flush_cache, get_cache, list_files, locate_files
from pandawn_server.usecases.catalog.pins import (
    MAX_PINS,
    list_pins,
    pin_files,
    pinned_files,
    refresh_pins,
    unpin_files,
)
from pandawn_server.usecases.context import Context
from tests.fixtures.catalog import NODE, catalog_on, make_file, make_files, memory_store, ref
from tests.fixtures.clock import SettableClock
from tests.fixtures.database import OpenDatabase
from tests.fixtures.factories import make_cached, make_input, make_inputs, node_key
from tests.fixtures.interleave import COMMIT, interleave
from tests.fixtures.world import World

OTHER = NodeKey(NODE.site, "wn02.example.org")
SILENCE = timedelta(days=30)


def server_on(database: Database, clock: SettableClock | None = None, seed: int = 1) -> Context:
    """A server process with a catalog and a book of pins of its own."""
    catalog = catalog_on(memory_store())
    catalog.pins.silence = SILENCE
    return Context(database, catalog, clock or SettableClock(), random.Random(seed))


@pytest.fixture
def context(database: Database) -> Context:
    return server_on(database)


def holds(context: Context, file: CachedFile, key: NodeKey = NODE) -> bool:
    answer = context.catalog.holdings([(key, [ref(file)])])[0]
    return answer is not None and answer[0] is not None


def test_pinned_files_are_counted_listed_and_located(context: Context) -> None:
    pinned = pin_files(context, NODE, make_files(3, 1))
    assert (pinned.changed, pinned.file_count, pinned.total_bytes) == (2, 2, 2004)
    pinned = pin_files(context, NODE, make_files(1, 2))
    assert (pinned.changed, pinned.file_count) == (1, 3)

    assert pinned_files(context, NODE) == list(make_files(1, 2, 3))
    found = locate_files(context, NODE.site, [ref(make_file(2)), ref(make_file(9))])
    assert found == [{NODE.node: 1002}, {}]
    ((listed, believed),) = list_pins(context, None, 9, "")
    assert (listed.key, listed.file_count, listed.total_bytes) == (NODE, 3, 3006)
    assert believed


def test_a_file_pinned_again_gets_the_new_guid(context: Context) -> None:
    pin_files(context, NODE, make_files(1))
    again = replace(make_file(1), guid="other-guid")

    assert pin_files(context, NODE, [again]).changed == 0
    assert pinned_files(context, NODE) == [again]
    by_guid = [FileRef(guid=make_file(1).guid), FileRef(guid="other-guid")]
    assert context.catalog.holdings([(NODE, by_guid)]) == [[None, 1001]]


def test_versions_of_a_name_are_pinned_and_unpinned_each_by_itself(context: Context) -> None:
    one, other = make_file(1), replace(make_file(1), version="site")
    assert pin_files(context, NODE, [one, other]).file_count == 2
    assert pinned_files(context, NODE) == [one, other]

    assert unpin_files(context, NODE, [ref(other)]).file_count == 1
    assert pinned_files(context, NODE) == [one]
    pin_files(context, NODE, [other])
    assert unpin_files(context, NODE, [FileRef(one.lfn, one.scope)]).file_count == 0


def test_of_pinned_files_of_unknown_version_a_name_has_the_last_one(context: Context) -> None:
    first, last = (replace(make_file(1), version="", size_bytes=size) for size in (5, 7))
    pin_files(context, NODE, [first])
    assert pin_files(context, NODE, [last, make_file(1)]).file_count == 2
    assert pinned_files(context, NODE) == [last, make_file(1)]


def test_unpinning_takes_away_by_lfn_by_guid_or_all(context: Context) -> None:
    pin_files(context, NODE, make_files(1, 2, 3, 4))

    left = unpin_files(context, NODE, [ref(make_file(1)), FileRef(guid=make_file(2).guid)])
    assert (left.changed, left.file_count) == (2, 2)
    assert not holds(context, make_file(1))
    assert holds(context, make_file(3))
    left = unpin_files(context, NODE, [ref(make_file(9))])
    assert (left.changed, left.file_count) == (0, 2)
    left = unpin_files(context, NODE, None)
    assert (left.changed, left.file_count) == (2, 0)
    assert list_pins(context, None, 9, "") == []
    assert not holds(context, make_file(3))


def test_unpinning_where_nothing_is_pinned_is_an_error(context: Context) -> None:
    with pytest.raises(NotFoundError, match=r"no file is pinned on node 'wn01\.example\.org'"):
        unpin_files(context, NODE, None)


def test_a_file_without_guid_is_not_taken_for_one_with(context: Context) -> None:
    pin_files(context, NODE, [CachedFile("a", 1), CachedFile("b", 2)])
    assert unpin_files(context, NODE, [FileRef("a")]).file_count == 1


def test_too_many_pins_are_refused_and_change_nothing(context: Context) -> None:
    pin_files(context, NODE, make_files(1))
    many = [CachedFile(f"f{number}", 1) for number in range(MAX_PINS)]

    with pytest.raises(ExhaustedError, match="unpin others first"):
        pin_files(context, NODE, many)
    assert pinned_files(context, NODE) == list(make_files(1))


def test_pins_survive_a_restart_and_the_loss_of_the_catalog(database: Database) -> None:
    pin_files(server_on(database), NODE, make_files(1))

    restarted = server_on(database, seed=2)
    assert not holds(restarted, make_file(1))
    assert refresh_pins(restarted) == 1
    assert holds(restarted, make_file(1))
    assert refresh_pins(restarted) == 0


def test_other_server_processes_learn_of_each_change(database: Database) -> None:
    one, other = server_on(database), server_on(database, seed=2)
    pin_files(one, NODE, make_files(1))
    pin_files(one, OTHER, make_files(2))
    assert refresh_pins(other) == 2
    unpin_files(one, NODE, [ref(make_file(1))])
    pin_files(one, OTHER, make_files(3))
    assert refresh_pins(other) == 2

    assert not holds(other, make_file(1))
    assert holds(other, make_file(2), OTHER)
    assert holds(other, make_file(3), OTHER)


def test_all_pins_taken_away_and_pinned_anew_are_noticed(database: Database) -> None:
    one, other = server_on(database), server_on(database, seed=2)
    pin_files(one, NODE, make_files(1))
    refresh_pins(other)
    unpin_files(one, NODE, None)
    pin_files(one, NODE, make_files(2))

    refresh_pins(other)
    assert not holds(other, make_file(1))
    assert holds(other, make_file(2))


def test_pins_of_a_node_that_is_silent_for_too_long_are_not_believed_until_it_is_back(
    database: Database,
) -> None:
    clock = SettableClock()
    context = server_on(database, clock)
    pin_files(context, NODE, make_files(1))
    clock.advance(SILENCE)
    refresh_pins(context)
    assert holds(context, make_file(1))

    clock.advance(timedelta(seconds=1))
    assert refresh_pins(context) == 1
    assert not holds(context, make_file(1))
    assert [believed for _, believed in list_pins(context, None, 9, "")] == [False]
    with database.write() as tx:
        nodes.record_contact(tx, [NODE], clock())
    assert refresh_pins(context) == 1
    assert holds(context, make_file(1))


def test_a_flush_of_the_cache_leaves_pins_and_a_listing_shows_both(context: Context) -> None:
    context.catalog.apply([Delta(NODE, 0, 0, added=make_files(1, 2))], context.clock())
    pin_files(context, NODE, make_files(2, 3))

    shown = list_files(context, NODE, None, 9)
    assert shown == [(make_file(1), False), (make_file(2), True), (make_file(3), True)]
    assert list_files(context, NODE, None, 9, pinned_only=True) == shown[1:]
    after = make_file(2).file_id
    assert list_files(context, NODE, None, 2) + list_files(context, NODE, after, 2) == shown
    forgotten, _ = flush_cache(context, NODE, "r", LOCAL_OPERATOR)
    assert forgotten == 2
    assert list_files(context, NODE, None, 9) == shown[1:]


def test_a_node_with_nothing_but_pins_has_no_cache_to_flush(context: Context) -> None:
    pin_files(context, NODE, make_files(1))
    assert get_cache(context, NODE).pinned_count == 1
    with pytest.raises(NotFoundError):
        flush_cache(context, NODE, "r", LOCAL_OPERATOR)
    with pytest.raises(NotFoundError):
        list_files(context, OTHER, None, 9)


def test_pages_of_nodes_with_pins_come_in_order_and_by_site(context: Context) -> None:
    keys = [NodeKey(site, node) for site in ("A", "B") for node in ("wn1", "wn2")]
    for key in reversed(keys):
        pin_files(context, key, make_files(1))

    first = list_pins(context, None, 3, "")
    rest = list_pins(context, first[-1][0].key, 3, "")
    assert [one.key for one, _ in first + rest] == keys
    assert [one.key for one, _ in list_pins(context, None, 9, "B")] == keys[2:]


@pytest.mark.parametrize("first", [True, False], ids=["first pins", "more pins"])
def test_two_who_pin_at_once_lose_nothing(
    database: Database, open_database: OpenDatabase, *, first: bool
) -> None:
    one, other = server_on(database), server_on(open_database(), seed=2)
    if not first:
        pin_files(one, NODE, make_files(9))

    def pin_other() -> None:
        try:
            pin_files(other, NODE, make_files(2))
        except UnavailableError:
            # As clients do: the error asks for a retry.
            pin_files(other, NODE, make_files(2))

    both = interleave(lambda: pin_files(one, NODE, make_files(1)), database, COMMIT, pin_other)
    for call in both:
        call.result()
    expected = make_files(1, 2) if first else make_files(1, 2, 9)
    assert pinned_files(one, NODE) == list(expected)


def test_a_job_goes_to_the_node_on_which_its_file_is_pinned(world: World) -> None:
    task = world.submit(inputs=make_inputs(3)).task
    third = world.jobs(task.task_id)[2]
    wanted = make_input(3)
    pinned = make_cached(wanted)
    pilot = world.pilot(1)
    pin_files(world.context, node_key(1), [pinned])

    grant = world.take(pilot)
    assert grant.job.job_id == third.job_id
    assert grant.match.rule is MatchRule.LOCAL_BYTES
