"""The matchmakers of this process, one a queue: what each knows, and how far it has followed the truth.

A picture in memory, rebuilt at any time: the database has the jobs, the catalog the inventories, and
a claim in the database decides who gets a job.
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
"""Names a call for jobs: the pilot and its request."""


class AcquireCall(NamedTuple):
    """One call of a pilot for up to `max_jobs` jobs; `cache` is None when it has none.

    `waits` says that the caller listens on for a while when there is no job now.
    """

    pilot_id: str
    request_id: str
    max_jobs: int
    offer: Requirements
    cache: CacheState | None
    waits: bool = False

    @property
    def key(self) -> CallKey:
        """Names the call; a repeated one has the same."""
        return self.pilot_id, self.request_id


class Caller(NamedTuple):
    """A call with the node of its pilot, and how the matchmaker names its request."""

    call: AcquireCall
    node: NodeKey
    name: str

    @classmethod
    def of(cls, call: AcquireCall, node: NodeKey) -> Caller:
        """A call from a node."""
        return cls(call, node, request_name(call.key))


@dataclass(slots=True)
class KnownNode:
    """What was last taken from the catalog of a node; `state` is where its cache stood when the two were compared."""

    version: Version
    state: CacheState | None
    # When it was last read, and when the cache and the catalog were compared.
    time: datetime
    met: datetime


class Doubts:
    """Users whose jobs failed on a node as they do not elsewhere, as this process heard. A hint, for a while.

    Only others' jobs go there: if those fail too it is the node, and if not it was the user's.
    """

    def __init__(self) -> None:
        self._of: dict[NodeKey, tuple[datetime, frozenset[str]]] = {}

    def note(self, found: Mapping[NodeKey, frozenset[str]], now: datetime) -> None:
        """Takes in what the last ends said."""
        for key, users in found.items():
            self._of[key] = now + DOUBT, users

    def of(self, key: NodeKey) -> frozenset[str]:
        """The users doubted on a node."""
        return self._of[key][1] if key in self._of else frozenset()

    def forget_old(self, now: datetime) -> None:
        """Forgets what is old."""
        if self._of and min(until for until, _ in self._of.values()) <= now:
            self._of = {key: kept for key, kept in self._of.items() if kept[0] > now}


@dataclass(slots=True)
class Desk:
    """The matchmaker of one queue, and the places up to which it has read."""

    matchmaker: Matchmaker
    doubts: Doubts
    # Whether it knows jobs of test tasks only, as the queue gives out no others.
    tests_only: bool = False
    # The job that became runnable last among those read; all that were runnable before are read
    # page by page, from the top, over and over.
    newest: Arrival | None = None
    page: Rank | None = None
    is_begun: bool = False
    # Whether every job that was runnable at the beginning has been read.
    is_complete: bool = False
    page_time: datetime | None = None
    nodes_time: datetime | None = None
    nodes: dict[NodeKey, KnownNode] = field(default_factory=dict)
    live: set[NodeKey] = field(default_factory=set)
    # What was read of nodes before is to be compared with the catalog anew, which has lost some of it.
    suspect: datetime | None = None
    # Nodes whose contents changed, or which were never read.
    unread: dict[NodeKey, None] = field(default_factory=dict)
    # Those who asked and have got nothing so far.
    polls: dict[str, Caller] = field(default_factory=dict)
    # Jobs that were given, whose claim is not committed yet: the database shows them as runnable still.
    claiming: set[int] = field(default_factory=set)

    def ask(self, callers: Iterable[Caller]) -> None:
        """Lets calls ask for jobs; one that asks already asks anew."""
        requests = []
        for caller in callers:
            self.polls[caller.name] = caller
            call = caller.call
            doubts = self.doubts.of(caller.node)
            requests.append(Request(caller.name, caller.node, call.offer, call.max_jobs, doubts))
        self.matchmaker.ask(requests)

    def withdraw(self, name: str) -> bool:
        """Lets a call ask no longer; False if it did not."""
        if self.polls.pop(name, None) is None:
            return False
        self.matchmaker.withdraw([name])
        return True

    def dismiss(self, nodes: Collection[NodeKey]) -> list[Caller]:
        """Lets calls from nodes that get no jobs ask no longer, nor jobs wait for those nodes; returns the calls."""
        if not nodes:
            return []
        dismissed = [caller for caller in self.polls.values() if caller.node in nodes]
        for caller in dismissed:
            self.withdraw(caller.name)
        for key in self.live.intersection(nodes):
            self.live.discard(key)
            self.matchmaker.set_live(key, live=False)
        return dismissed

    def dismiss_others(
        self, nodes: Collection[NodeKey], asking: Collection[NodeKey]
    ) -> list[Caller]:
        """Lets of the calls from each of `nodes` only the first ask on, and none from those who ask anew."""
        if not nodes:
            return []
        seen = set(asking)
        dismissed = []
        for caller in list(self.polls.values()):
            if caller.node in nodes:
                if caller.node in seen:
                    self.withdraw(caller.name)
                    dismissed.append(caller)
                seen.add(caller.node)
        return dismissed

    def note(self, key: NodeKey, contents: Contents | None, now: datetime) -> None:
        """Takes in what the catalog says of a node; None: it knows nothing of it."""
        self.unread.pop(key, None)
        if contents is None:
            self.matchmaker.forget(key)
            self.nodes.pop(key, None)
            return
        if contents.files is not None:
            # The catalog's keys are what the matchmaker names files by: see `feeding`.
            self.matchmaker.inventory(key, contents.epoch, contents.sequence, contents.files.keys)
        # At the end of the order: the first were read longest ago.
        known = self.nodes.pop(key, None)
        if known is None or known.version != contents.version:
            known = KnownNode(contents.version, None, now, now)
        known.time = now
        self.nodes[key] = known


class Desks:
    """All matchmakers of the process.

    `lock` is held by whoever uses one, but not while it claims in the database what was given: others match
    meanwhile. Jobs that are being claimed are in `Broker.claiming`, so that nobody takes them in again whom the
    database shows them as runnable; calls that are being answered are named by `begin_claims`.
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
        """The desk of a queue, by its rules of today."""
        rules = Rules(queue.priority_band, queue.locality_wait, queue.max_input_bytes)
        tests_only = queue.status is QueueStatus.TEST
        self._doubts.forget_old(now)
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
        """Takes in whose jobs failed on which nodes as they do not elsewhere."""
        with self.lock:
            self._doubts.note(found, now)

    def get(self, queue: str) -> Desk | None:
        """The desk of a queue, if there is one here."""
        return self._by_queue.get(queue)

    def has_polls(self, queue: str) -> bool:
        """Whether calls wait for jobs of a queue."""
        desk = self._by_queue.get(queue)
        return desk is not None and bool(desk.polls)

    def poll_counts(self) -> dict[str, int]:
        """How many calls wait, by queue; queues without are left out."""
        desks = list(self._by_queue.items())
        return {name: count for name, desk in desks if (count := len(desk.polls))}

    def used(self) -> list[str]:
        """Queues with a matchmaker here."""
        return list(self._by_queue)

    def withdraw(self, call: AcquireCall) -> bool:
        """Lets a call wait no longer; False if it did not, for it has got jobs, say."""
        name = request_name(call.key)
        with self.lock:
            self.await_claims([name])
            return self.drop(name)

    def drop(self, name: str) -> bool:
        """The same for whoever holds the lock, and is not answering the call."""
        return any(desk.withdraw(name) for desk in self._by_queue.values())

    # With the lock.

    def begin_claims(self, names: Iterable[str]) -> None:
        """Says that jobs are being claimed for requests."""
        self._claiming.update(names)

    def end_claims(self, names: Iterable[str]) -> None:
        """Says that what became of requests is known, and told."""
        self._claiming.difference_update(names)
        self._settled.notify_all()

    def is_answering(self, name: str) -> bool:
        """Whether jobs are being claimed for a request."""
        return name in self._claiming

    def await_claims(self, names: Collection[str]) -> None:
        """Waits, without the lock, until no jobs are being claimed for any of the requests."""
        while not self._claiming.isdisjoint(names):
            self._settled.wait()

    def nodes_changed(self, keys: Iterable[NodeKey]) -> None:
        """Says that what the catalog knows of nodes is not what it was."""
        # Without the lock: whoever writes the catalog shall not wait for those who match.
        for desk in list(self._by_queue.values()):
            desk.unread.update(dict.fromkeys(keys))

    def note_pulse(self, pulse: Pulse, now: datetime) -> bool:
        """Takes in how the servers of the catalog are; whether that has changed, so that all it said is in doubt."""
        before, self._pulse = self._pulse, pulse
        if before is None or before == pulse:
            return False
        for desk in list(self._by_queue.values()):
            desk.suspect = now
        return True

    def pilots_changed(self, queue: str) -> None:
        """Says that pilots of a queue came or went."""
        desk = self._by_queue.get(queue)
        if desk is not None:
            desk.nodes_time = None


def request_name(key: CallKey) -> str:
    """How the matchmaker names the request of a call."""
    return "/".join(key)
