"""The interface of a queue's matchmaker: jobs, inventories and requests go in, assignments come out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from heapq import nlargest
from itertools import islice
from sys import intern
from typing import Final

from pandawn_server.domain.catalog.inventory import (
    CacheState,
    Delta,
    DeltaResult,
    NodeKey,
    delta_result,
)
from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.files import shares as shares_of
from pandawn_server.domain.dispatch.idle import Asking
from pandawn_server.domain.dispatch.matching import Needs, Rules, needs_of
from pandawn_server.domain.dispatch.round import Round
from pandawn_server.domain.dispatch.state import NOMINATED, State
from pandawn_server.domain.dispatch.values import (
    Assignment,
    Limits,
    Request,
    RunnableJob,
    Standing,
)
from pandawn_server.domain.tasks.jobs import Requirements

# Jobs of a task are alike and a million may wait, so equal values share one object.


@lru_cache(4096)
def _asked(requirements: Requirements) -> Needs:
    return needs_of(requirements, 0)


@lru_cache(4096)
def _stamp(time: datetime) -> float:
    return time.timestamp()


@lru_cache(4096)
def _same(number: int) -> int:
    return number


SHARES_LISTED: Final = 10
"""Nodes listed in a `Standing`."""


class Matchmaker:
    """Matches the waiting jobs of a queue with nodes that poll. Not thread-safe; never reads a clock.

    Its assignments are tentative: the claim in the database decides. Report lost claims with `lost` and
    failed ones with `give_back`; those not reported count as won.
    """

    def __init__(self, rules: Rules, limits: Limits | None = None) -> None:
        self._state = State(rules)
        self._limits = limits or Limits()

    def __len__(self) -> int:
        return len(self._state.jobs) + len(self._state.too_large)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._state.jobs or job_id in self._state.too_large

    def oldest(self, limit: int) -> list[int]:
        """Up to `limit` waiting jobs, roughly in order of arrival."""
        return list(islice(self._state.jobs, limit))

    @property
    def room(self) -> int:
        """How many more jobs `add` takes."""
        return max(0, self._limits.jobs - len(self))

    # Jobs.

    def add(self, jobs: Iterable[RunnableJob], now: datetime) -> list[int]:
        """Adds runnable jobs, oldest first; skips those already here.

        Returns the jobs for which there is no room; offer them again later.
        """
        state, at = self._state, now.timestamp()
        refused = []
        room = self.room
        for job in jobs:
            if job.job_id in state.jobs or job.job_id in state.too_large:
                continue
            if room <= 0:
                refused.append(job.job_id)
                continue
            room -= 1
            state.enter(self._entry(job), at)
        return refused

    def _entry(self, job: RunnableJob) -> Entry:
        inputs = dict(job.inputs)
        total = sum(inputs.values()) + job.unlocated_bytes
        if len(inputs) > self._limits.files_per_job:
            largest = nlargest(self._limits.files_per_job, inputs.items(), key=lambda file: file[1])
            inputs = dict(largest)
        return Entry(
            job.job_id,
            _same(job.priority),
            _stamp(job.since),
            self._state.files.of(inputs),
            total,
            _asked(job.requirements),
            _same(job.task_id),
            intern(job.user),
            job.avoids,
        )

    def remove(self, job_ids: Iterable[int]) -> None:
        """Removes jobs that no longer wait: cancelled, or given out by another process."""
        for job_id in job_ids:
            entry = self._state.jobs.get(job_id)
            if entry is not None:
                self._state.take(entry, given=False)
            else:
                self._state.too_large.pop(job_id, None)

    def lost(self, job_ids: Iterable[int]) -> None:
        """Revokes assignments whose jobs another process claimed, or that no longer waited."""
        for job_id in job_ids:
            self._state.revoke(job_id)

    def give_back(self, job_ids: Iterable[int], now: datetime) -> list[int]:
        """Revokes assignments that failed while their jobs still wait; the next requests get those jobs.

        Returns the jobs that are no longer known here: `add` them.
        """
        unknown = []
        for job_id in job_ids:
            entry = self._state.revoke(job_id)
            if entry is None:
                unknown.append(job_id)
            elif job_id not in self._state.jobs:
                self._state.enter_again(entry, now.timestamp())
        return unknown

    def set_rules(self, rules: Rules, now: datetime) -> None:
        """Changes the rules for all waiting jobs. They keep their age; holds are decided again."""
        state = self._state
        if rules == state.rules:
            return
        entries = [*state.jobs.values(), *state.too_large.values()]
        for entry in list(state.jobs.values()):
            state.take(entry, given=False)
        state.too_large.clear()
        state.rules = rules
        for entry in sorted(entries, key=lambda entry: entry.since):
            files = state.files.of({file.number: file.size for file in entry.files})
            state.enter(entry.again(files), now.timestamp())

    # Nodes.

    def set_live(self, node: NodeKey, *, live: bool) -> None:
        """Sets whether a node has pilots of the queue that may get jobs; only then its files attract jobs.

        A request also makes its node live.
        """
        holdings = self._state.holdings
        known = holdings.node(node)
        holdings.set_live(known, live=live)
        if not live:
            self._state.free_promised(known)
            holdings.drop_node(known)

    def forget(self, node: NodeKey) -> None:
        """Forgets what a node holds: its cache is silent, or the catalog lost it."""
        holdings = self._state.holdings
        known = holdings.find(node)
        if known is not None:
            holdings.replace(known, ())
            known.known = False
            self._state.free_promised(known)
            holdings.drop_node(known)

    def inventory(self, node: NodeKey, epoch: int, sequence: int, files: Collection[int]) -> None:
        """Replaces what is known of a node by a full inventory, taken after change `sequence`."""
        state = self._state
        known = state.holdings.node(node)
        if len(files) > self._limits.files_per_node:
            files = list(files)[: self._limits.files_per_node]
        came = state.holdings.replace(known, files)
        known.known, known.epoch, known.sequence = True, epoch, sequence
        state.nominate(known, came, NOMINATED)

    def change(
        self,
        node: NodeKey,
        epoch: int,
        sequence: int,
        added: Collection[int] = (),
        deleted: Collection[int] = (),
    ) -> DeltaResult:
        """Applies a change of a cache by the catalog's rules (`inventory.delta_result`).

        With `epoch` 0 the change is always applied. Returns INVENTORY_REQUESTED on a gap: call `inventory`.
        """
        holdings = self._state.holdings
        known = holdings.node(node)
        if epoch:
            state = CacheState(known.epoch, known.sequence, 0) if known.known else None
            result = delta_result(state, Delta(node, epoch, sequence))
            if result is not DeltaResult.APPLIED:
                return result
            if known.known and known.epoch != epoch:
                holdings.replace(known, ())
            known.epoch, known.sequence = epoch, sequence
        known.known = True
        holdings.drop(known, deleted)
        room = self._limits.files_per_node - len(known.files)
        came = holdings.add(known, added if len(added) <= room else list(added)[: max(room, 0)])
        known.record_changes(len(added) + len(deleted))
        if came:
            self._state.nominate(known, came, NOMINATED)
        return DeltaResult.APPLIED

    # Requests.

    def ask(self, requests: Iterable[Request]) -> None:
        """Adds requests. `match` answers them, now or later; `cancel` cancels them."""
        holdings = self._state.holdings
        for request in requests:
            node = holdings.node(request.node)
            if not node.live:
                holdings.set_live(node, live=True)
            # A repeated request replaces the first.
            self._state.idle.remove(request.request_id)
            asking = Asking(request, node)
            if asking.doubts and not self._state.has_others(frozenset({node.key.node})):
                asking.doubts = frozenset()
            node.record_offer(asking.offer)
            self._state.asked.append(asking)

    def cancel(self, request_ids: Collection[str]) -> None:
        """Cancels waiting requests."""
        for request_id in request_ids:
            self._state.idle.remove(request_id)
        if self._state.asked:
            self._state.asked = [
                asking
                for asking in self._state.asked
                if asking.request.request_id not in request_ids
            ]

    def match(self, now: datetime) -> list[Assignment]:
        """Matches what has changed: new requests with all jobs, new jobs with all waiting requests.

        A request that gets any job, perhaps fewer than its count, is answered; the others keep waiting.
        """
        return Round(self._state, now).run()

    def next_hold_end(self) -> datetime | None:
        """When to call `match` next at the latest, because a hold ends; None if no request waits."""
        state = self._state
        if not state.idle:
            return None
        times = [at for mine in state.bands() if (at := mine.next_hold_end()) is not None]
        return datetime.fromtimestamp(min(times), UTC) if times else None

    # Explanation.

    def standing(self, job_id: int, now: datetime) -> Standing | None:
        """The position of a waiting job; None if the job does not wait here."""
        state = self._state
        entry = state.jobs.get(job_id) or state.too_large.get(job_id)
        if entry is None:
            return None
        # Looked up here, because the files of a job that is too large are not kept up to date.
        shares = shares_of(state.files.of({file.number: file.size for file in entry.files}))
        most = nlargest(SHARES_LISTED, shares.items(), key=lambda share: share[1])
        waits = entry.alive and job_id in state.jobs
        promised = entry.promised_to if waits and entry.held_until > now.timestamp() else None
        return Standing(
            ahead=state.band_of(entry).ahead_of(entry) if waits and not entry.avoids else 0,
            held_for=promised.key if promised else None,
            held_until=datetime.fromtimestamp(entry.held_until, UTC) if promised else None,
            overdue_at=datetime.fromtimestamp(entry.deadline, UTC) if entry.turn else None,
            shares=[(state.holdings.by_number[number].key, held) for number, held in most],
            too_large=not waits,
        )
