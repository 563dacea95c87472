"""Fair share among the users of one priority band: the one who received least recently is next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from math import exp2
from typing import Final

HALF_LIFE_S: Final = 3600.0
"""After this many seconds, what a user received counts half."""

SLACK: Final = 4.0
"""Core-starts by which a user may be ahead of another when a node holds their files. Within this, the job
with files on the node goes first, whoever owns it. Bounds what locality costs in fairness."""

CLOSE: Final = 8
"""Users checked for files on the node: bounds the work of a match."""

_FORGOTTEN: Final = 0.01


class Usage:
    """What each user received in a queue: cores of started jobs, decaying over time.

    Kept in memory only; after a restart, shares even out within a few half-lives.
    """

    def __init__(self) -> None:
        self._given: dict[str, tuple[float, float]] = {}

    def record(self, user: str, cores: int, now: float) -> None:
        """Counts a job given at `now` (seconds since 1970)."""
        self._given[user] = (self.of(user, now) + max(cores, 1), now)
        if len(self._given) > 10_000:
            self._given = {
                name: known
                for name, known in self._given.items()
                if self.of(name, now) > _FORGOTTEN
            }

    def of(self, user: str, now: float) -> float:
        """Cores that a user received, decayed to `now`."""
        given, at = self._given.get(user, (0.0, now))
        return given * exp2(-max(now - at, 0.0) / HALF_LIFE_S)


def in_turn(usage: Usage, users: Iterable[str], now: float) -> list[str]:
    """The users in order of their turn: least received first."""
    return sorted(users, key=lambda user: (usage.of(user, now), user))


def close_to_first(usage: Usage, turns: Sequence[str], now: float) -> list[str]:
    """The first users of `turns` (see `in_turn`) that locality may reorder: within `SLACK`, `CLOSE` at most."""
    least = usage.of(turns[0], now)
    return [user for user in turns[:CLOSE] if usage.of(user, now) <= least + SLACK]


def quotas(
    usage: Usage, turns: Sequence[str], waiting: Mapping[str, int], jobs: int, now: float
) -> dict[str, int]:
    """How to divide `jobs` among the users, so that those who received least catch up and end about equal.

    `waiting` is the number of jobs per user. Users who get none are left out.
    """
    heap = [(usage.of(user, now), place, user) for place, user in enumerate(turns)]
    heapify(heap)
    given: dict[str, int] = {}
    for _ in range(jobs):
        if not heap:
            break
        had, place, user = heap[0]
        given[user] = given.get(user, 0) + 1
        if given[user] < waiting[user]:
            heapreplace(heap, (had + 1, place, user))
        else:
            heappop(heap)
    return given
