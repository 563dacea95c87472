"""What the server hears of caches when the catalog is late, loses something, or is down."""

from __future__ import annotations

from datetime import datetime, timedelta

from pandawn_server.catalog.lag import GRACE
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.values import RunnableJob
from pandawn_tools.simulate.cluster import Node
from pandawn_tools.simulate.reports import CONTACT_S, Faults, Reports
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_rules
from tests.unit.simulate.factories import make_nodes

KEY = NodeKey("SIMULATED", "node0")
HEALED_S = GRACE.total_seconds() + 2 * CONTACT_S
"""By when what was lost is found out: the next contact, and the one after the grace."""


class Line:
    """A cache, a matchmaker, and what is between them; `believed` are the files that the matchmaker sees."""

    def __init__(self, **faults: object) -> None:
        (self.node,) = make_nodes(1)
        self.matchmaker = Matchmaker(make_rules())
        self.matchmaker.set_live(KEY, live=True)
        pairs: list[tuple[Node, NodeKey]] = [(self.node, KEY)]
        self.reports = Reports(self.matchmaker, pairs, Faults(**faults), 1, _time)  # type: ignore[arg-type]
        jobs = [RunnableJob(file, 0, NOON, [(file, 1)]) for file in range(1, 10)]
        self.matchmaker.add(jobs, NOON)

    def add(self, *files: int, now: float) -> None:
        """The cache takes files in."""
        self.reports.advance(now)
        self.node.cache.update(dict.fromkeys(files, 1))
        self.reports.changed(KEY, files, [], now)

    def believed(self, now: float) -> set[int]:
        """Files that the matchmaker believes to be there."""
        self.reports.advance(now)
        found = set()
        for file in range(1, 10):
            standing = self.matchmaker.standing(file, _time(now))
            if standing is not None and standing.shares:
                found.add(file)
        return found


def _time(now: float) -> datetime:
    return NOON + timedelta(seconds=now)


def test_without_faults_a_change_is_known_at_once() -> None:
    line = Line()
    line.add(1, 2, now=0.0)
    assert line.believed(0.0) == {1, 2}


def test_a_late_change_is_known_later() -> None:
    line = Line(stale_s=30.0)
    line.add(1, now=0.0)
    assert line.believed(29.0) == set()
    assert line.believed(30.0) == {1}


def test_what_was_deleted_late_is_believed_until_then() -> None:
    line = Line(stale_s=30.0)
    line.add(1, now=0.0)
    line.believed(30.0)
    del line.node.cache[1]
    line.reports.changed(KEY, [], [1], 40.0)
    assert line.believed(69.0) == {1}
    assert line.believed(70.0) == set()


def test_a_lost_change_is_made_good_by_the_digest() -> None:
    line = Line(lost=1.0)
    line.add(1, now=0.0)
    assert line.believed(1.0) == set()
    for now in range(0, int(HEALED_S) + 1, 10):
        line.reports.advance(now)
    assert line.believed(HEALED_S) == {1}


def test_a_gap_in_the_changes_is_made_good_by_the_next_one() -> None:
    line = Line()
    line.add(1, now=0.0)
    line.node.cache[2] = 1
    # A change that nobody hears of.
    line.reports._caches[KEY].sequence += 1
    line.add(3, now=1.0)
    assert line.believed(1.0) == {1, 2, 3}


def test_while_the_catalog_is_down_nothing_is_believed_and_afterwards_all_is() -> None:
    line = Line(down=((100.0, 200.0),))
    line.add(1, now=0.0)
    assert line.believed(99.0) == {1}
    assert line.believed(100.0) == set()
    line.add(2, now=150.0)
    assert line.believed(199.0) == set()
    for now in range(200, 200 + int(HEALED_S) + 1, 10):
        line.reports.advance(now)
    assert line.believed(200.0 + HEALED_S) == {1, 2}


def test_a_wiped_cache_is_known_to_be_empty_at_its_first_contact() -> None:
    line = Line()
    line.add(1, now=0.0)
    line.node.cache.clear()
    line.reports.wiped(KEY, 10.0)
    assert line.believed(10.0) == set()
    line.add(2, now=20.0)
    assert line.believed(20.0) == {2}
