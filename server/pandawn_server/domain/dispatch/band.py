"""The waiting jobs of one user in one priority band: by the node that holds their files, and by age."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from operator import le, lt
from typing import Final

from pandawn_server.domain.dispatch.entries import Block, Entry, NeedsClass, Pick
from pandawn_server.domain.dispatch.files import shares as shares_of
from pandawn_server.domain.dispatch.holdings import Holdings
from pandawn_server.domain.dispatch.lane import MOVED, Lane
from pandawn_server.domain.dispatch.matching import (
    Needs,
    Rules,
    fits,
    held_s,
    overtaken_s,
    put_off_s,
)
from pandawn_server.domain.dispatch.node_queue import WORTH, NodeQueue
from pandawn_server.domain.dispatch.nodes import Node
from pandawn_server.domain.leases.attempts import MatchRule

NOMINEES: Final = 8
"""How many of the best nodes list a job; others find it by age, or when they scan their files. Bounds the
memory of a job that a hundred nodes hold."""

COMPARED: Final = 2 * NOMINEES
"""Nodes from which those are chosen: bounds the work of adding a job whose files are in many places."""

HOLD_ODDS: Final = 3.0
"""Hold a job for a node if the node's mean wait for its next free slot is within this factor of the time left.
At 3, one in four such holds ends in time by chance alone, and a failed hold costs only time."""

_PUT_OFF_AT_ONCE: Final = 16
"""Jobs to put off at most, before one is found that any node may take: bounds the work of a match."""

SWEEP: Final = 1024
"""Sweep the lists when the jobs taken out exceed those still waiting by this many."""

SWEPT_AT_ONCE: Final = 4
"""Nodes whose lists are swept with each job taken out: sweeping all at once would be a pause."""

AskedLane = tuple[Lane, Needs | None]
"""A lane with jobs that may fit an offer; the offer is given if each job must be checked against it."""


class Band:
    """Waiting jobs of one user in priority band `number`."""

    def __init__(self, holdings: Holdings, rules: Rules, number: int = 0) -> None:
        self.number = number
        self.count = 0
        self._holdings = holdings
        self._wait_s = rules.locality_wait.total_seconds()
        self._lanes: dict[NeedsClass, Lane] = {}
        # By class of offer, until a lane comes or goes: lanes whose jobs all fit, and lanes to check.
        self._admitting: dict[NeedsClass, tuple[list[AskedLane], list[Lane]]] = {}
        self._queues: dict[int, NodeQueue] = {}
        # Jobs in order of arrival whose turn by age has not come, including those already given.
        self._arrivals: deque[Entry] = deque()
        self._now = 0.0
        # Jobs taken out since the last sweep began, and nodes whose lists it has not reached.
        self._taken = 0
        self._unswept: list[int] = []
        # How many of the arrivals were removed.
        self._removed = 0
        # No job is overdue before this time.
        self._due_at = math.inf

    @property
    def held_count(self) -> int:
        """Number of jobs held for nodes."""
        return sum(lane.held_count for lane in self._lanes.values())

    def admitting(self, offer: Needs) -> list[AskedLane]:
        """The lanes with jobs that may fit an offer."""
        kin = NeedsClass.of(offer)
        known = self._admitting.get(kin)
        if known is None:
            known = self._admitting[kin] = self._admitted(kin)
        fitting, others = known
        if not others:
            return fitting
        found = [*fitting]
        for lane in others:
            if fits(lane.most, offer):
                found.append((lane, None))
            elif fits(lane.least, offer):
                found.append((lane, offer))
        return found

    def _admitted(self, offer: NeedsClass) -> tuple[list[AskedLane], list[Lane]]:
        fitting: list[AskedLane] = []
        others: list[Lane] = []
        for kin, lane in self._lanes.items():
            if all(map(lt, kin, offer)):
                fitting.append((lane, None))
            elif all(map(le, kin, offer)):
                others.append(lane)
        return fitting, others

    def add(self, entry: Entry, ordinal: int, now: float) -> list[Node]:
        """Adds a job; returns the nodes that list it."""
        self._now = now
        entry.ordinal = ordinal
        self._arrivals.append(entry)
        return self._file(entry)

    def put_back(self, entry: Entry, ordinal: int, now: float) -> list[Node]:
        """Adds a job whose assignment was revoked; the next request gets it."""
        self._now = now
        entry.ordinal, entry.deadline = ordinal, now
        entry.turn = entry.is_late = True
        best = self._file(entry)
        self._lanes[entry.kin].turned(entry)
        self._due_at = min(self._due_at, entry.deadline)
        return best

    def _file(self, entry: Entry) -> list[Node]:
        lane, needs = self._lanes.get(entry.kin), entry.needs
        if lane is None:
            lane = self._lanes[entry.kin] = Lane(entry.kin, needs, self._found)
            self._admitting.clear()
        else:
            lane.widen(needs)
        lane.count += 1
        self.count += 1
        shares = shares_of(entry.files)
        most = max(shares.values(), default=0)
        if most and most >= WORTH * entry.total:
            return self._enter(entry, shares, most)
        lane.add_nowhere(entry)
        return []

    def take(self, entry: Entry, *, given: bool) -> None:
        """Takes out a job that was given to a node, or else removed."""
        entry.alive = False
        entry.removed = not given
        entry.block = None
        lane = self._lanes[entry.kin]
        lane.unpromise(entry)
        lane.count -= 1
        self.count -= 1
        if not lane.count:
            del self._lanes[entry.kin]
            self._admitting.clear()
        if entry.removed and not entry.turn:
            self._removed += 1
            if self._removed > SWEEP and 2 * self._removed > len(self._arrivals):
                self._arrivals = deque([entry for entry in self._arrivals if not entry.removed])
                self._removed = 0
        self._taken += 1
        if self._unswept:
            self._sweep_some()
        elif self._taken > self.count + SWEEP:
            self._taken = 0
            self._unswept = list(self._queues)
            for lane in self._lanes.values():
                lane.sweep()

    def _sweep_some(self) -> None:
        """Drops jobs that no longer wait from the lists of some nodes."""
        for number in self._unswept[-SWEPT_AT_ONCE:]:
            queue = self._queues.get(number)
            if queue is not None and not queue.sweep():
                del self._queues[number]
        del self._unswept[-SWEPT_AT_ONCE:]

    def turn(self, now: float) -> None:
        """Records that one more job was given, and passes the turn by age to the next arrival."""
        self._now = now
        arrivals = self._arrivals
        while arrivals:
            entry = arrivals.popleft()
            if entry.removed:
                self._removed -= 1
                continue
            if entry.alive:
                self._turned(entry, now)
            return

    def _turned(self, entry: Entry, now: float) -> None:
        entry.turn = True
        entry.deadline = now + overtaken_s(now - entry.since, self._wait_s)
        self._lanes[entry.kin].turned(entry)
        self._due_at = min(self._due_at, entry.deadline)
        block = entry.block
        if block is None:
            shares = shares_of(entry.files)
            most = max(shares.values(), default=0)
            if most and most >= WORTH * entry.total:
                for node in self._best(shares, most):
                    self._queue(node).push(entry, most, 0)
        elif block.owner is not None:
            self._queue(block.owner).push(entry, 0, 0)

    # By the node that holds the files.

    def nominate(self, node: Node, entry: Entry) -> None:
        """Lists a job at a node that got some of its files, if the node holds enough of it."""
        self._queue(node).nominate(entry)

    def _queue(self, node: Node) -> NodeQueue:
        queue = self._queues.get(node.number)
        if queue is None:
            queue = self._queues[node.number] = NodeQueue(node)
        return queue

    def _best(self, shares: dict[int, int], most: int) -> list[Node]:
        numbers = [number for number, held in shares.items() if held == most]
        if len(numbers) > COMPARED:
            # The start depends on the files, so that no node is always left out.
            start = most % len(numbers)
            numbers = (numbers + numbers)[start : start + COMPARED]
        nodes = self._holdings.by_number
        best = [nodes[number] for number in numbers]
        if len(best) > NOMINEES:
            best.sort(key=lambda node: (-node.idle, node.promised))
            del best[NOMINEES:]
        return best

    def _found(self, entry: Entry) -> bool:
        """Whether the files of a job are on some node by now; if so, lists it there."""
        shares = shares_of(entry.files)
        most = max(shares.values(), default=0)
        if most and most >= WORTH * entry.total:
            self._enter(entry, shares, most)
            return True
        return False

    def _enter(self, entry: Entry, shares: dict[int, int], most: int) -> list[Node]:
        best = self._best(shares, most)
        for node in best:
            self._queue(node).push(entry, most, 0)
        lane = self._lanes[entry.kin]
        until = entry.since + held_s(most, self._wait_s)
        left = until - self._now
        is_overdue = entry.turn and entry.deadline <= self._now
        if left > 0 and not is_overdue:
            needs = entry.needs
            waits = [
                (node.expected_wait_s(self._now), number)
                for number, node in enumerate(best)
                if node.may_run(needs)
            ]
            wait, number = min(waits, default=(math.inf, 0))
            if waits and (best[number].idle or wait <= HOLD_ODDS * left):
                lane.hold(entry, best[number], until)
                return best
        lane.release(entry)
        return best

    def best_here(self, node: Node, offer: Needs) -> Pick | None:
        """The best listed job for a node, see `NodeQueue.best`."""
        queue = self._queues.get(node.number)
        return None if queue is None else queue.best(offer)

    # By age.

    def overdue(self, lanes: Iterable[AskedLane], now: float) -> Pick | None:
        """The job that was overtaken for too long; any node may take it."""
        if now < self._due_at:
            return None
        found: Entry | None = None
        for lane, offer in lanes:
            entry = self._next_overdue(lane, offer, now) if lane.due else None
            if entry is not None and (found is None or entry.ordinal < found.ordinal):
                found = entry
        if found is None:
            heads = [lane.due[0][0] for lane in self._lanes.values() if lane.due]
            self._due_at = min(heads, default=math.inf)
            return None
        return Pick(-1, 0, found.ordinal, found, MatchRule.AGE)

    def _next_overdue(self, lane: Lane, offer: Needs | None, now: float) -> Entry | None:
        for _ in range(_PUT_OFF_AT_ONCE):
            entry = lane.overdue(offer, now)
            if entry is None or entry.is_late:
                return entry
            longer_s = put_off_s(now - entry.since, self._wait_s)
            homes = self._homes(entry) if longer_s else []
            if not homes:
                return entry
            lane.put_off(entry, now + longer_s)
            for node in homes:
                self._queue(node).push_late(entry)
        return None

    def _homes(self, entry: Entry) -> list[Node]:
        """The nodes that hold most of a job and could run it, else the owner of its block."""
        needs, block = entry.needs, entry.block
        shares = shares_of(entry.files)
        most = max(shares.values(), default=0)
        homes: list[Node] = []
        if most and most >= WORTH * entry.total:
            homes = self._best(shares, most)
        elif block is not None and block.owner is not None and block.owner.live:
            homes = [block.owner]
        return [node for node in homes if node.may_run(needs)]

    def by_age(self, node: Node, lanes: Iterable[AskedLane], now: float) -> Pick | None:
        """A job for a node that holds most of none: the oldest whose files are on no node.

        Failing that, the oldest whose files are elsewhere and that is not held.
        """
        self._now = now
        queue = self._queues.get(node.number)
        if queue is not None and queue.block is not None:
            begun = self._rest_of(queue.block, lanes)
            if begun is not None:
                return Pick(2, 0, begun.ordinal, begun, MatchRule.NEIGHBOUR)
            queue.block = None
        found = self._oldest(lanes, Lane.oldest_nowhere)
        if found is not None:
            return Pick(2, 0, found.ordinal, found, MatchRule.AGE)
        for lane, _ in lanes:
            lane.expire_holds(now)
        found = self._oldest(lanes, Lane.oldest_free)
        if found is None:
            # Those found to be elsewhere are all held; there may be others behind them.
            again = any(lane.moved >= MOVED for lane, _ in lanes)
            return self.by_age(node, lanes, now) if again else None
        shares = shares_of(found.files)
        here = shares.get(node.number, 0)
        rule = MatchRule.SPREAD if shares else MatchRule.AGE
        if here and here == max(shares.values()):
            rule = MatchRule.LOCAL_BYTES
        return Pick(2, 0, found.ordinal, found, rule)

    @staticmethod
    def _oldest(
        lanes: Iterable[AskedLane], oldest: Callable[[Lane, Needs | None], Entry | None]
    ) -> Entry | None:
        found: Entry | None = None
        for lane, offer in lanes:
            entry = oldest(lane, offer)
            if entry is not None and (found is None or entry.ordinal < found.ordinal):
                found = entry
        return found

    @staticmethod
    def _rest_of(block: Block, lanes: Iterable[AskedLane]) -> Entry | None:
        for lane, offer in lanes:
            if lane.kin == block.kin:
                return lane.first_of(block, offer)
        return None

    def first_held(self, offer: Needs) -> Pick | None:
        """A held job for an offer that would otherwise get a job of a lower band."""
        found: Entry | None = None
        for lane, asked in self.admitting(offer):
            entry = lane.first_held(asked) if lane.held_count else None
            if entry is not None and (found is None or entry.held_until < found.held_until):
                found = entry
        return None if found is None else Pick(2, 0, found.ordinal, found, MatchRule.PRIORITY)

    def begin(self, node: Node, entry: Entry) -> None:
        """Records that a node takes a job of a block: others leave the rest to that node for a while."""
        block = entry.block
        if block is not None and block.owner is None and len(block.entries) > block.head + 1:
            block.owner = node
            self._queue(node).block = block

    def ahead_of(self, entry: Entry) -> int:
        """How many jobs precede this one by age alone; less exact the more there are."""
        if entry.turn:
            return 0
        first = next((job for job in self._arrivals if not job.removed), entry)
        return min(max(entry.ordinal - first.ordinal, 0), self.count - 1)

    def expire_holds(self, now: float) -> list[Entry]:
        """Releases the jobs whose hold has ended; returns them."""
        return [entry for lane in self._lanes.values() for entry in lane.expire_holds(now)]

    def free_promised(self, node: Node) -> list[Entry]:
        """Releases the jobs in a node's list that are held for it; returns them."""
        queue = self._queues.get(node.number)
        if queue is None:
            return []
        freed = []
        for _, _, entry in [*queue.due, *queue.fresh]:
            if entry.alive and entry.promised_to is node:
                self._lanes[entry.kin].free_held(entry)
                freed.append(entry)
        return freed

    def next_hold_end(self) -> float | None:
        """When the next hold ends; None if no job is held."""
        heads = [lane.held[0][0] for lane in self._lanes.values() if lane.held]
        return min(heads, default=None)
