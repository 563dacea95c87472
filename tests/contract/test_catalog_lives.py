"""What becomes of nodes that are renamed, imaged anew, or away for a week, on each kind of store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.domain.catalog.inventory import (
    NO_DRIFT,
    CachedFile,
    Delta,
    DeltaResult,
    Drift,
    FileRef,
    NodeKey,
)
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    ManualClock,
    Opener,
    adding,
    catalog_on,
    deleting,
    held,
    inventory,
    is_known,
    make_file,
    make_files,
    memory_store,
    ref,
    state,
    talk,
)
from tests.fixtures.memcached import MemcachedServer

NEW_NAME = NodeKey(NODE.site, "wn01-new.example.org")
NEXT_EPOCH = EPOCH + 1
WEEK = timedelta(days=7)
LATER = NOW + WEEK
# Too many for the head alone: heads and parts die.
FILES = make_files(*range(300))


@dataclass(frozen=True)
class Aging:
    """A catalog whose nodes can be silent for longer than is believed."""

    catalog: Catalog
    a_week_passes: Callable[[], None]


@pytest.fixture(params=["memory", "memcached"])
def aging(request: pytest.FixtureRequest, opened: Opener) -> Aging:
    """The clock of memcached cannot be turned: there every value is given a life that is over."""
    if request.param == "memory":
        clock = ManualClock()
        return Aging(catalog_on(memory_store(clock), clock), lambda: clock.advance(WEEK))
    server: MemcachedServer = request.getfixturevalue("memcached")

    def end_all_lives() -> None:
        for line in talk(server, "lru_crawler metadump all", "END\r\n").splitlines()[:-1]:
            key = line.split()[0].removeprefix("key=")
            assert talk(server, f"touch {key} -1", "\r\n") == "TOUCHED"

    return Aging(opened([server]), end_all_lives)


def outcome(catalog: Catalog, delta: Delta) -> DeltaResult:
    return catalog.apply([delta], LATER)[0].result


def test_a_node_back_after_a_week_is_unknown_and_healed_by_one_exchange(aging: Aging) -> None:
    catalog = aging.catalog
    catalog.replace(inventory(5, FILES), NOW)
    aging.a_week_passes()

    assert catalog.holdings([(NODE, [ref(FILES[0])])]) == [None]
    # Its cache is as it was, and goes on with its own numbers.
    assert catalog.touch([(NODE, state(5, FILES))], LATER) == [True]
    assert catalog.replace(inventory(5, FILES), LATER) == NO_DRIFT
    assert held(catalog, FILES) == [file.size_bytes for file in FILES]
    assert catalog.touch([(NODE, state(5, FILES))], LATER) == [False]
    assert outcome(catalog, adding(6, make_file(999))) is DeltaResult.APPLIED


def test_a_delta_of_a_node_back_after_a_week_is_answered_with_a_request(aging: Aging) -> None:
    catalog = aging.catalog
    catalog.replace(inventory(5, FILES), NOW)
    aging.a_week_passes()

    assert outcome(catalog, adding(6, make_file(999))) is DeltaResult.INVENTORY_REQUESTED
    assert outcome(catalog, deleting(6, ref(FILES[0]))) is DeltaResult.INVENTORY_REQUESTED
    assert not is_known(catalog)


def test_a_node_under_a_new_name_is_another_node_and_the_old_one_dies(aging: Aging) -> None:
    catalog = aging.catalog
    catalog.replace(inventory(5, FILES), NOW)

    # The same cache with the same epoch, told by the new name.
    assert catalog.touch([(NEW_NAME, state(5, FILES))], NOW) == [True]
    assert catalog.replace(inventory(5, FILES, key=NEW_NAME), NOW) == NO_DRIFT
    catalog.apply([adding(6, make_file(999), key=NEW_NAME)], NOW)
    assert held(catalog, [make_file(999)]) == [None]
    aging.a_week_passes()
    assert not is_known(catalog, NODE)


def test_an_operator_may_forget_the_old_name_at_once(catalog: Catalog) -> None:
    catalog.replace(inventory(5, FILES), NOW)
    catalog.replace(inventory(5, FILES, key=NEW_NAME), NOW)

    assert catalog.flush(NODE, NEXT_EPOCH, NOW) == len(FILES)
    assert held(catalog, FILES[:1]) == [None]
    assert held(catalog, FILES[:1], key=NEW_NAME) == [1000]


def test_a_node_imaged_anew_is_empty_from_its_first_word_on(catalog: Catalog) -> None:
    catalog.replace(inventory(5, FILES), NOW)

    # The new cache is asked at once, and what it says makes an end of the old one.
    assert catalog.touch([(NODE, state(0, [], epoch=NEXT_EPOCH))], NOW) == [True]
    drift = catalog.replace(inventory(0, [], epoch=NEXT_EPOCH), NOW)
    assert drift == Drift(len(FILES), sum(file.size_bytes for file in FILES))
    assert held(catalog, FILES[:2]) == [None, None]


def test_what_the_image_before_had_sent_late_changes_nothing(catalog: Catalog) -> None:
    catalog.replace(inventory(5, FILES), NOW)
    first = adding(1, make_file(7), epoch=NEXT_EPOCH)
    assert outcome(catalog, first) is DeltaResult.APPLIED

    late = adding(6, make_file(999))
    assert outcome(catalog, late) is DeltaResult.INVENTORY_REQUESTED
    assert outcome(catalog, deleting(6, ref(make_file(7)))) is DeltaResult.INVENTORY_REQUESTED
    assert held(catalog, [make_file(7), make_file(999), FILES[0]]) == [1007, None, None]
    assert catalog.touch([(NODE, state(1, make_files(7), epoch=NEXT_EPOCH))], NOW) == [False]


def test_a_cache_restored_from_a_backup_heals_though_its_numbers_went_back(
    catalog: Catalog,
) -> None:
    catalog.replace(inventory(9, FILES), NOW)
    old = state(4, FILES[:10])

    assert outcome(catalog, adding(5, make_file(999))) is DeltaResult.REPEATED
    catalog.touch([(NODE, old)], NOW)
    assert catalog.touch([(NODE, old)], NOW + timedelta(hours=1)) == [True]
    catalog.replace(inventory(4, FILES[:10]), LATER)
    assert held(catalog, [FILES[0], FILES[50]]) == [1000, None]
    assert outcome(catalog, adding(5, make_file(999))) is DeltaResult.APPLIED


@pytest.mark.parametrize("order", [(2, 3, 4), (4, 3, 2), (3, 2, 4), (2, 4, 3), (2, 2, 3, 3, 4)])
def test_deltas_in_any_order_heal_in_one_exchange(catalog: Catalog, order: tuple[int, ...]) -> None:
    catalog.replace(inventory(1, FILES[:5]), NOW)
    by_number = {
        2: adding(2, make_file(600)),
        3: deleting(3, ref(FILES[0])),
        4: adding(4, make_file(700)),
    }
    results = [outcome(catalog, by_number[number]) for number in order]
    truth = [*FILES[1:5], make_file(600), make_file(700)]
    if DeltaResult.INVENTORY_REQUESTED in results:
        catalog.replace(inventory(4, truth), LATER)
    assert catalog.touch([(NODE, state(4, truth))], LATER) == [False]
    assert held(catalog, [*truth, FILES[0]]) == [*(file.size_bytes for file in truth), None]


NAMES = [
    "a/b",
    "a//b",
    "a b",
    "a\tb",
    "a\\b",
    "a:b",
    "a b ",
    "a\u00a0b",
    "a\u2044b",
    "A/B",
    "ä",
    "a\u0308",
]


def test_names_that_differ_only_by_separators_or_form_are_different_names(catalog: Catalog) -> None:
    files = [CachedFile(name, size) for size, name in enumerate(NAMES, start=1)]
    catalog.apply([adding(1, *files)], NOW)
    refs = [FileRef(name) for name in NAMES]
    assert catalog.holdings([(NODE, refs)]) == [list(range(1, len(NAMES) + 1))]

    catalog.apply([deleting(2, *refs[::2])], NOW)
    left = [None if number % 2 == 0 else number + 1 for number in range(len(NAMES))]
    assert catalog.holdings([(NODE, refs)]) == [left]
    for name in NAMES:
        catalog.apply([adding(1, make_file(len(name)), key=NodeKey("SITE", name))], NOW)
    assert all(is_known(catalog, NodeKey("SITE", name)) for name in NAMES)
