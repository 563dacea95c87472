"""One round of matching: new requests with all jobs, and new jobs with all waiting requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Final

from pandawn_server.domain.dispatch.band import AskedLane, Band
from pandawn_server.domain.dispatch.entries import Entry, Pick
from pandawn_server.domain.dispatch.fairness import close_to_first, in_turn, quotas
from pandawn_server.domain.dispatch.files import shares as shares_of
from pandawn_server.domain.dispatch.idle import Asking
from pandawn_server.domain.dispatch.matching import Needs
from pandawn_server.domain.dispatch.state import State
from pandawn_server.domain.dispatch.values import Assignment
from pandawn_server.domain.leases.attempts import Locality, Match, MatchRule

PACK: Final = 2
"""Neighbouring jobs of a block that one idle node gets while other nodes are idle too. Jobs that group the
same files differently then find most of them in one place."""

LOOK_AGAIN_S: Final = 60.0
"""Minimum time, in seconds, between full scans of a node's files for jobs, when none is listed at it."""

LOOK_FILES: Final = 64
"""Files scanned at once: bounds the work of a match, however many a node holds."""

LOOK_PAUSE_S: Final = 10.0
"""Minimum time, in seconds, between the parts of a scan: the more often a node polls, the less is new."""

LOOK_JOBS: Final = 4
"""Waiting jobs that a scan examines: more saved no bytes in simulations."""

WAITING_LOOKED_AT: Final = 256
"""Waiting requests examined for jobs that avoid nodes: bounds the work of a match."""

_Seat = tuple[int, int, int, int, Pick]
"""A pick with the index of its request, which orders picks that are equal otherwise."""


class Round:
    """Runs one round; use each instance once."""

    def __init__(self, state: State, now: datetime) -> None:
        self._state = state
        self._now = now
        self._at = now.timestamp()
        self._assignments: list[Assignment] = []
        # Waiting requests that got a job; those with count left may get more in this round.
        self._served: list[Asking] = []

    def run(self) -> list[Assignment]:
        """Matches, and returns the assignments."""
        state = self._state
        state.holdings.expire(self._at)
        asked, state.asked = state.asked, []
        if state.idle:
            for mine in state.bands():
                state.fresh += mine.expire_holds(self._at)
        for entry in state.avoiding.expired(self._at):
            state.take(entry, given=False)
            state.enter_again(entry, self._at, anywhere=True)
        for number in sorted({*state.order} | state.avoiding.numbers, reverse=True):
            if state.avoiding:
                self._serve_avoiding(number, asked)
            self._serve_level(number, asked)
        if state.idle:
            self._place_fresh()
        for asking in self._served:
            state.idle.remove(asking.request.request_id)
        state.fresh.clear()
        state.dirty.clear()
        for asking in asked:
            if asking.left == asking.request.count:
                state.idle.add(asking)
        return self._assignments

    def _serve_avoiding(self, number: int, asked: Sequence[Asking]) -> None:
        """Gives jobs of one band that avoid nodes to new requests, then to waiting ones."""
        state = self._state
        for asking in (*asked, *state.idle.some(WAITING_LOOKED_AT)):
            while asking.left:
                node = asking.node.key.node
                offer, doubts = asking.offer, asking.doubts
                entry = state.avoiding.first(number, node, offer, doubts, state.has_others)
                if entry is None:
                    break
                self._assign(asking, entry, MatchRule.AGE, candidates=1, held=0)

    def _serve_level(self, number: int, asked: Sequence[Asking]) -> None:
        """Gives jobs of one band to new requests: a share to each user, or all if there is only one."""
        served: set[str] = set()
        while (level := self._state.levels.get(number)) is not None:
            wanting = [asking for asking in asked if asking.left]
            jobs = sum(asking.left for asking in wanting)
            users = [user for user in level if user not in served]
            if not users or (served and not jobs):
                return
            for user, most in self._shares(level, users, wanting, jobs).items():
                end = len(self._assignments) + most
                mine = [a for a in wanting if a.left and user not in a.doubts]
                self._serve(level[user], user, mine, end)
                if len(self._assignments) < end or not jobs:
                    # This user has no more for the new requests, or none is left to serve.
                    served.add(user)

    def _shares(
        self, level: Mapping[str, Band], users: Sequence[str], wanting: Sequence[Asking], jobs: int
    ) -> dict[str, int]:
        usage = self._state.usage
        if len(users) == 1 or not jobs:
            return {user: level[user].count for user in users}
        turns = in_turn(usage, users, self._at)
        if jobs == 1:
            asking = wanting[0]
            for user in close_to_first(usage, turns, self._at):
                if level[user].best_here(asking.node, asking.offer) is not None:
                    return {user: 1}
        waiting = {user: level[user].count for user in users}
        return quotas(usage, turns, waiting, jobs, self._at)

    def _serve(self, mine: Band, user: str, asked: Sequence[Asking], end: int) -> None:
        """Gives jobs of one user's band to new requests, until there are `end` assignments.

        First the jobs whose files the nodes hold, across all requests; then the rest by age.
        """
        state = self._state
        waiting = [
            a
            for node in state.dirty
            if node.idle
            for a in state.idle.of_node(node)
            if user not in a.doubts
        ]
        if len(asked) + len(waiting) > 1:
            self._serve_local(mine, [*asked, *waiting], end)
        elif waiting:
            self._serve_local(mine, waiting, end)
        for asking in asked:
            while asking.left and mine.count and len(self._assignments) < end:
                lanes = mine.admitting(asking.offer)
                pick = self._held_here(mine, asking, lanes) or mine.by_age(
                    asking.node, lanes, self._at
                )
                if pick is None:
                    break
                self._give(mine, asking, lanes, pick, begins=True)

    def _held_here(self, mine: Band, asking: Asking, lanes: Sequence[AskedLane]) -> Pick | None:
        if not lanes:
            return None
        pick = mine.overdue(lanes, self._at) or mine.best_here(asking.node, asking.offer)
        if pick is None and self._look_again(asking):
            pick = mine.best_here(asking.node, asking.offer)
        return pick

    def _look_again(self, asking: Asking) -> bool:
        node = asking.node
        if not node.files or self._at < node.look_at:
            return False
        some = list(islice(node.files, node.look_from, node.look_from + LOOK_FILES))
        node.look_from += LOOK_FILES
        node.look_at = self._at + LOOK_PAUSE_S
        if node.look_from >= len(node.files):
            node.look_from, node.look_at = 0, self._at + LOOK_AGAIN_S
        return self._state.nominate(node, some, LOOK_JOBS)

    def _serve_local(self, mine: Band, asked: list[Asking], end: int) -> None:
        """Assigns across all requests: the smallest pick goes first."""
        seats: list[_Seat] = []
        for number, asking in enumerate(asked):
            pick = self._held_here(mine, asking, mine.admitting(asking.offer))
            if pick is not None:
                seats.append((pick.tier, pick.cost, pick.ordinal, number, pick))
        heapify(seats)
        while seats and mine.count and len(self._assignments) < end:
            number, pick = seats[0][3:]
            asking = asked[number]
            lanes = mine.admitting(asking.offer)
            if pick.entry.alive and asking.left:
                self._give(mine, asking, lanes, pick)
                lanes = mine.admitting(asking.offer)
            again = self._held_here(mine, asking, lanes) if asking.left else None
            if again is None:
                heappop(seats)
            else:
                heapreplace(seats, (again.tier, again.cost, again.ordinal, number, again))

    def _place_fresh(self) -> None:
        """Gives new jobs, and those no longer held, to the idlest nodes."""
        state = self._state
        for entry in sorted(state.fresh, key=lambda entry: (-entry.priority, entry.ordinal)):
            # A held job of a higher band may be given instead.
            while state.idle and entry.alive and entry.promised_to is None:
                if not self._place(entry):
                    break

    def _place(self, entry: Entry) -> bool:
        state = self._state
        asking: Asking | None = None
        rule = MatchRule.AGE
        block = entry.block
        shares = shares_of(entry.files)
        if shares:
            rule = MatchRule.SPREAD
            nodes = state.holdings.by_number
            idle = [number for number in shares if nodes[number].idle]
            if idle:
                most = max(idle, key=lambda number: (shares[number], nodes[number].idle))
                asking = state.idle.fitting(entry.needs, nodes[most], entry.user)
                if asking is not None:
                    rule = MatchRule.LOCAL_BYTES
        elif block is not None and block.last_node is not None and block.packed < PACK:
            asking = state.idle.fitting(entry.needs, block.last_node, entry.user)
            if asking is not None:
                rule = MatchRule.NEIGHBOUR
        if asking is None:
            asking = state.idle.idlest(entry.needs, entry.user)
            if asking is None:
                return False
        if block is not None:
            block.packed = block.packed + 1 if block.last_node is asking.node else 1
            block.last_node = asking.node
        mine = state.band_of(entry)
        pick = Pick(2, 0, entry.ordinal, entry, rule)
        self._give(mine, asking, mine.admitting(asking.offer), pick)
        return True

    def _held_higher(self, mine: Band, offer: Needs) -> tuple[Band, Pick] | None:
        """A held job of a higher band, which a request gets instead of a job of this band.

        Affinity holds a job back from others of its band, but never puts a lower band first.
        """
        for higher in self._state.bands():
            if higher.number == mine.number:
                return None
            pick = higher.first_held(offer)
            if pick is not None:
                return higher, pick
        return None

    def _give(
        self,
        mine: Band,
        asking: Asking,
        lanes: Sequence[AskedLane],
        pick: Pick,
        *,
        begins: bool = False,
    ) -> None:
        state = self._state
        before = self._held_higher(mine, asking.offer)
        if before is not None:
            mine, pick = before
            lanes = mine.admitting(asking.offer)
        node, entry = asking.node, pick.entry
        candidates = held = 0
        for lane, _ in lanes:
            candidates += lane.count
            if lane.held_count:
                held += lane.held_count - lane.promised.get(node, 0)
        if entry.promised_to is not None and entry.promised_to is not node:
            held -= 1
        rule = pick.rule
        if rule is MatchRule.AGE and len(state.levels[mine.number]) > 1:
            rule = MatchRule.FAIR_SHARE
        elif candidates == 1 and rule is not MatchRule.HELD:
            rule = self._alone(mine, asking.offer)
        if begins:
            mine.begin(node, entry)
        self._assign(asking, entry, rule, candidates, held)

    def _assign(
        self, asking: Asking, entry: Entry, rule: MatchRule, candidates: int, held: int
    ) -> None:
        state, node = self._state, asking.node
        files = node.files
        local = sum([file.size for file in entry.files if file.number in files])
        waits = asking.request.request_id in state.idle
        if waits:
            state.idle.remove(asking.request.request_id)
            self._served.append(asking)
        asking.left -= 1
        state.give(entry, node, self._at)
        if waits and asking.left:
            state.idle.add(asking)
        self._assignments.append(
            Assignment(
                asking.request.request_id,
                node.key,
                Match(
                    job_id=entry.job_id,
                    locality=Locality.KNOWN if node.known else Locality.UNKNOWN,
                    rule=rule,
                    input_bytes=entry.total,
                    local_bytes=local,
                    candidates=candidates,
                    held=held,
                    waited=timedelta(seconds=max(0.0, self._at - entry.since)),
                ),
            )
        )

    def _alone(self, mine: Band, offer: Needs) -> MatchRule:
        """The reason to record when only one job of the band may fit."""
        for number in reversed(self._state.order):
            if number == mine.number:
                break
            if any(lower.admitting(offer) for lower in self._state.levels[number].values()):
                return MatchRule.PRIORITY
        return MatchRule.ONLY_CANDIDATE
