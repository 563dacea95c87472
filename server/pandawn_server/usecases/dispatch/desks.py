"""The desks of this process, one per queue: a matchmaker, its polls, and how far each source was read.

They hold a view in memory that can be rebuilt at any time. The database has the jobs, the catalog the
inventories, and a claim in the database decides who gets a job.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pandawn_server.catalog.contents import Contents, Version
from pandawn_server.catalog.store import Pulse
from pandawn_server.domain.catalog.inventory import CacheState, NodeKey
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.matching import Rules
from pandawn_server.domain.dispatch.values import Limits, Request
from pandawn_server.domain.leases.nodes import DOUBT
from pandawn_server.domain.queues.queues import Queue, QueueStatus
from pandawn_server.domain.tasks.jobs import Requirements
from pandawn_server.storage.dispatch.runnable import Arrival, Rank

CallKey = tuple[str, str]
"""Identifies a call for jobs: pilot identifier and request identifier."""


class AcquireCall(NamedTuple):
    """A call of a pilot for up to `max_jobs` jobs; `cache` is None for a node without a cache.

    `waits` is set if the caller keeps waiting for a while when there is no job now.
    """

    pilot_id: str
    request_id: str
    max_jobs: int
    offer: Requirements
    cache: CacheState | None
    waits: bool = False

    @property
    def key(self) -> CallKey:
        """Identifies the call; a repeat has the same key."""
        return self.pilot_id, self.request_id


class Caller(NamedTuple):
    """A call with its pilot's node and the identifier of its request in the matchmaker."""

    call: AcquireCall
    node: NodeKey
    name: str

    @classmethod
    def of(cls, call: AcquireCall, node: NodeKey) -> Caller:
        """Makes the caller for a call from a node."""
        return cls(call, node, request_name(call.key))


@dataclass(slots=True)
class KnownNode:
    """What was last read of a node; `state` is the cache's state when cache and catalog were last compared."""

    version: Version
    state: CacheState | None
    # When it was last read, and when cache and catalog were last compared.
    time: datetime
    met: datetime


class Doubts:
    """Users whose jobs fail on one node but not elsewhere, as far as this process knows. Entries expire.

    Such a node gets only other users' jobs: if those fail too, the node is at fault, otherwise the user's jobs.
    """

    def __init__(self) -> None:
        self._of: dict[NodeKey, tuple[datetime, frozenset[str]]] = {}

    def record(self, found: Mapping[NodeKey, frozenset[str]], now: datetime) -> None:
        """Records the users that recent failures put in doubt."""
        for key, users in found.items():
            self._of[key] = now + DOUBT, users

    def of(self, key: NodeKey) -> frozenset[str]:
        """The users in doubt on a node."""
        return self._of[key][1] if key in self._of else frozenset()

    def expire(self, now: datetime) -> None:
        """Drops expired entries."""
        if self._of and min(until for until, _ in self._of.values()) <= now:
            self._of = {key: kept for key, kept in self._of.items() if kept[0] > now}


@dataclass(slots=True)
class Desk:
    """The matchmaker of one queue, its polls, and how far jobs and nodes were read."""

    matchmaker: Matchmaker
    doubts: Doubts
    # Whether it holds jobs of test tasks only, because the queue gives out no others.
    tests_only: bool = False
    # The newest job read, by the time it became runnable. Older ones are read page by page in order of rank,
    # over and over.
    newest: Arrival | None = None
    page: Rank | None = None
    is_begun: bool = False
    # Whether every job that was runnable at the start has been read.
    is_complete: bool = False
    page_time: datetime | None = None
    nodes_time: datetime | None = None
    nodes: dict[NodeKey, KnownNode] = field(default_factory=dict)
    live: set[NodeKey] = field(default_factory=set)
    # When the catalog may have lost data: what was read of nodes before must be compared again.
    suspect: datetime | None = None
    # Nodes to read: their contents changed, or they were never read.
    unread: dict[NodeKey, None] = field(default_factory=dict)
    # Calls that have got nothing so far.
    polls: dict[str, Caller] = field(default_factory=dict)
    # Jobs given whose claim is not yet committed: the database still shows them as runnable.
    claiming: set[int] = field(default_factory=set)

    def ask(self, callers: Iterable[Caller]) -> None:
        """Adds calls; a repeated call replaces the first."""
        requests = []
        for caller in callers:
            self.polls[caller.name] = caller
            call = caller.call
            doubts = self.doubts.of(caller.node)
            requests.append(Request(caller.name, caller.node, call.offer, call.max_jobs, doubts))
        self.matchmaker.ask(requests)

    def cancel(self, name: str) -> bool:
        """Cancels a call; returns False if it was not waiting here."""
        if self.polls.pop(name, None) is None:
            return False
        self.matchmaker.cancel([name])
        return True

    def evict(self, nodes: Collection[NodeKey]) -> list[Caller]:
        """Cancels the calls from nodes that get no jobs, and releases the jobs held for them; returns the calls."""
        if not nodes:
            return []
        evicted = [caller for caller in self.polls.values() if caller.node in nodes]
        for caller in evicted:
            self.cancel(caller.name)
        for key in self.live.intersection(nodes):
            self.live.discard(key)
            self.matchmaker.set_live(key, live=False)
        return evicted

    def evict_extra(self, nodes: Collection[NodeKey], asking: Collection[NodeKey]) -> list[Caller]:
        """Leaves one call for each of `nodes`, and none where a new call is `asking`; returns those cancelled."""
        if not nodes:
            return []
        seen = set(asking)
        evicted = []
        for caller in list(self.polls.values()):
            if caller.node in nodes:
                if caller.node in seen:
                    self.cancel(caller.name)
                    evicted.append(caller)
                seen.add(caller.node)
        return evicted

    def record_contents(self, key: NodeKey, contents: Contents | None, now: datetime) -> None:
        """Takes over what the catalog lists for a node; None if it has no entry for it."""
        self.unread.pop(key, None)
        if contents is None:
            self.matchmaker.forget(key)
            self.nodes.pop(key, None)
            return
        if contents.files is not None:
            # The matchmaker names files by the catalog's keys, see `feeding`.
            self.matchmaker.inventory(key, contents.epoch, contents.sequence, contents.files.keys)
        # Moves it to the end: the dict is ordered by the time of reading, oldest first.
        known = self.nodes.pop(key, None)
        if known is None or known.version != contents.version:
            known = KnownNode(contents.version, None, now, now)
        known.time = now
        self.nodes[key] = known


class Desks:
    """All desks of the process.

    Hold `lock` to use a desk, but not while a round claims jobs in the database: others match meanwhile. Jobs
    being claimed are in `Desk.claiming`, so that they are not read again as runnable; calls being answered are
    recorded by `begin_claims`.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.lock = threading.RLock()
        self._settled = threading.Condition(self.lock)
        self._claiming: set[str] = set()
        self._limits = limits or Limits()
        self._by_queue: dict[str, Desk] = {}
        self._doubts = Doubts()
        self._pulse: Pulse | None = None

    def of(self, queue: Queue, now: datetime) -> Desk:
        """The desk of a queue, with the queue's current rules."""
        rules = Rules(queue.priority_band, queue.locality_wait, queue.max_input_bytes)
        tests_only = queue.status is QueueStatus.TEST
        self._doubts.expire(now)
        desk = self._by_queue.get(queue.name)
        if desk is not None and desk.tests_only is tests_only:
            desk.matchmaker.set_rules(rules, now)
            return desk
        waiting = () if desk is None else desk.polls.values()
        claiming = set() if desk is None else desk.claiming
        desk = Desk(Matchmaker(rules, self._limits), self._doubts, tests_only, claiming=claiming)
        self._by_queue[queue.name] = desk
        desk.ask(waiting)
        return desk

    def doubt(self, found: Mapping[NodeKey, frozenset[str]], now: datetime) -> None:
        """Records users whose jobs fail on some nodes but not elsewhere."""
        with self.lock:
            self._doubts.record(found, now)

    def get(self, queue: str) -> Desk | None:
        """The desk of a queue, if this process has one."""
        return self._by_queue.get(queue)

    def has_polls(self, queue: str) -> bool:
        """Whether calls wait for jobs of a queue."""
        desk = self._by_queue.get(queue)
        return desk is not None and bool(desk.polls)

    def poll_counts(self) -> dict[str, int]:
        """How many calls wait, by queue; queues without any are left out."""
        desks = list(self._by_queue.items())
        return {name: count for name, desk in desks if (count := len(desk.polls))}

    def used(self) -> list[str]:
        """The queues with a desk here."""
        return list(self._by_queue)

    def cancel(self, call: AcquireCall) -> bool:
        """Cancels a waiting call; returns False if it no longer waits, for example because it got jobs."""
        name = request_name(call.key)
        with self.lock:
            self.await_claims([name])
            return self.cancel_locked(name)

    def cancel_locked(self, name: str) -> bool:
        """The same, for callers that hold the lock and are not answering the call."""
        return any(desk.cancel(name) for desk in self._by_queue.values())

    # Call these with the lock.

    def begin_claims(self, names: Iterable[str]) -> None:
        """Records that jobs are being claimed for requests."""
        self._claiming.update(names)

    def end_claims(self, names: Iterable[str]) -> None:
        """Records that the outcome of requests is known and delivered."""
        self._claiming.difference_update(names)
        self._settled.notify_all()

    def is_answering(self, name: str) -> bool:
        """Whether jobs are being claimed for a request."""
        return name in self._claiming

    def await_claims(self, names: Collection[str]) -> None:
        """Waits, with the lock released, until no jobs are being claimed for any of the requests."""
        while not self._claiming.isdisjoint(names):
            self._settled.wait()

    def nodes_changed(self, keys: Iterable[NodeKey]) -> None:
        """Marks nodes whose entries in the catalog changed."""
        # Without the lock, so that writers of the catalog do not wait for matching.
        for desk in list(self._by_queue.values()):
            desk.unread.update(dict.fromkeys(keys))

    def record_pulse(self, pulse: Pulse, now: datetime) -> bool:
        """Records the state of the catalog's servers. Returns whether it changed, which makes earlier reads suspect."""
        before, self._pulse = self._pulse, pulse
        if before is None or before == pulse:
            return False
        for desk in list(self._by_queue.values()):
            desk.suspect = now
        return True

    def pilots_changed(self, queue: str) -> None:
        """Marks a queue whose pilots came or went."""
        desk = self._by_queue.get(queue)
        if desk is not None:
            desk.nodes_time = None


def request_name(key: CallKey) -> str:
    """The identifier of a call's request in the matchmaker."""
    return "/".join(key)
