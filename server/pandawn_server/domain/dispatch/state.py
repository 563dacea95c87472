"""The state of a queue's matchmaker: waiting jobs by band and by file, nodes, and waiting requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from pandawn_server.domain.dispatch.avoiding import AvoidingJobs
from pandawn_server.domain.dispatch.band import Band
from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.fairness import Usage
from pandawn_server.domain.dispatch.files import Files
from pandawn_server.domain.dispatch.holdings import Holdings
from pandawn_server.domain.dispatch.idle import Asking, IdlePool
from pandawn_server.domain.dispatch.matching import Rules, band, too_large
from pandawn_server.domain.dispatch.nodes import Node

NOMINATED: Final = 6
"""Waiting jobs examined when a node gets new files: bounds the work of a match. Others that read the
files are found when the node's list is empty."""

TENTATIVE: Final = 10_000
"""Assignments that can still be revoked; older ones were claimed long ago."""


class State:
    """The shared state, and the operations that keep its parts consistent."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.files = Files()
        self.holdings = Holdings(self.files)
        self.jobs: dict[int, Entry] = {}
        self.too_large: dict[int, Entry] = {}
        # By band number, then by user. Each user has a band object of their own, with its own order by age
        # and its own lists; `usage` decides whose turn it is.
        self.levels: dict[int, dict[str, Band]] = {}
        # The band numbers, highest first.
        self.order: list[int] = []
        # Jobs that avoid nodes are kept here, and in no band.
        self.avoiding = AvoidingJobs()
        self.usage = Usage()
        self.asked: list[Asking] = []
        self.idle = IdlePool()
        # Changes that waiting requests have not seen: new jobs, and nodes with new files or listed jobs.
        self.fresh: list[Entry] = []
        self.dirty: dict[Node, None] = {}
        self._ordinal = self._first_ordinal = 0
        # An OrderedDict, because a dict finds its first key slowly after many deletions at the front.
        self._tentative: OrderedDict[int, tuple[Entry, Node, list[int]]] = OrderedDict()

    def band_of(self, entry: Entry) -> Band:
        """The band that holds the job."""
        return self.levels[self._number(entry)][entry.user]

    def _number(self, entry: Entry) -> int:
        return band(entry.priority, self.rules.priority_band)

    def has_others(self, avoided: frozenset[str]) -> bool:
        """Whether there are live nodes other than `avoided`."""
        return any(node.live and node.key.node not in avoided for node in self.holdings)

    def bands(self) -> Iterator[Band]:
        """All bands, highest priority first."""
        for number in self.order:
            yield from self.levels[number].values()

    def enter(self, entry: Entry, at: float) -> None:
        """Adds a job at the end of its band, or to `too_large`."""
        if too_large(entry.total, self.rules):
            self.too_large[entry.job_id] = entry
            return
        if entry.avoids:
            self.jobs[entry.job_id] = entry
            self.avoiding.add(entry, self._number(entry))
            return
        self._ordinal += 1
        self._announce(entry, self._band_for(entry).add(entry, self._ordinal, at))

    def enter_again(self, given: Entry, at: float, *, anywhere: bool = False) -> None:
        """Adds a job at the head of its band: its assignment was revoked, or it no longer avoids nodes."""
        files = self.files.of({file.number: file.size for file in given.files})
        entry = given.again(files, anywhere=anywhere)
        if entry.avoids or too_large(entry.total, self.rules):
            self.enter(entry, at)
            return
        self._first_ordinal -= 1
        self._announce(entry, self._band_for(entry).put_back(entry, self._first_ordinal, at))

    def _band_for(self, entry: Entry) -> Band:
        self.jobs[entry.job_id] = entry
        self.files.add(entry)
        number = self._number(entry)
        level = self.levels.get(number)
        if level is None:
            level = self.levels[number] = {}
            self.order = sorted(self.levels, reverse=True)
        found = level.get(entry.user)
        if found is None:
            found = level[entry.user] = Band(self.holdings, self.rules, number)
        return found

    def _announce(self, entry: Entry, best: Iterable[Node]) -> None:
        if self.idle:
            self.fresh.append(entry)
            for node in best:
                if node.idle:
                    self.dirty[node] = None

    def take(self, entry: Entry, *, given: bool) -> None:
        """Takes out a job that was given to a node, or else removed."""
        del self.jobs[entry.job_id]
        if entry.avoids:
            entry.alive, entry.removed = False, not given
            self.avoiding.remove(entry, self._number(entry))
            return
        mine = self.band_of(entry)
        mine.take(entry, given=given)
        self.files.remove(entry)
        if not mine.count:
            level = self.levels[mine.number]
            del level[entry.user]
            if not level:
                del self.levels[mine.number]
                self.order.remove(mine.number)

    def give(self, entry: Entry, node: Node, at: float) -> None:
        """Gives a job to a node, and records its files as on their way there."""
        mine = None if entry.avoids else self.band_of(entry)
        self.take(entry, given=True)
        if mine is not None:
            mine.turn(at)
        self.usage.record(entry.user, entry.asked.cores, at)
        node.record_grant(at)
        came = self.holdings.expect(node, [file.number for file in entry.files], at)
        if came:
            self.nominate(node, came, NOMINATED)
        tentative = self._tentative
        tentative[entry.job_id] = (entry, node, came)
        if len(tentative) > TENTATIVE:
            tentative.popitem(last=False)

    def revoke(self, job_id: int) -> Entry | None:
        """Undoes `give`; returns None if that assignment is no longer kept."""
        known = self._tentative.pop(job_id, None)
        if known is None:
            return None
        entry, node, files = known
        self.holdings.unexpect(node, files)
        return entry

    def free_promised(self, node: Node) -> None:
        """Releases the jobs that are held for a node, because it will not take them."""
        if node.promised:
            for mine in self.bands():
                freed = mine.free_promised(node)
                if self.idle:
                    self.fresh += freed

    def nominate(self, node: Node, files: Iterable[int], limit: int) -> bool:
        """Lists about `limit` jobs that read some of the files at the node; returns whether there were any."""
        if not node.live:
            return False
        entries = self.files.wanting(files, limit)
        for entry in entries:
            self.band_of(entry).nominate(node, entry)
            if node.idle:
                self.dirty[node] = None
        return bool(entries)
