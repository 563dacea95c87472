"""Who of several users of one priority band is served next: the one who has had least of late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from math import exp2
from typing import Final

HALF_LIFE_S: Final = 3600.0
"""What a user was given counts half after so many seconds."""

SLACK: Final = 4.0
"""Core-starts by which a user may be ahead of another for the sake of files that a node holds: within them the
job with files on the node goes first, whoever's it is. Bounds what locality costs in fairness."""

CLOSE: Final = 8
"""Users of whom it is asked whether they have files on the node: bounds the work of a match."""

_FORGOTTEN: Final = 0.01


class Usage:
    """What users were given in a queue: cores of the jobs that began, decaying.

    Kept in memory and begun anew with the process: shares even out within some half-lives.
    """

    def __init__(self) -> None:
        self._given: dict[str, tuple[float, float]] = {}

    def note(self, user: str, cores: int, now: float) -> None:
        """Counts a job that was given at `now` (seconds since 1970)."""
        self._given[user] = (self.of(user, now) + max(cores, 1), now)
        if len(self._given) > 10_000:
            self._given = {
                name: known
                for name, known in self._given.items()
                if self.of(name, now) > _FORGOTTEN
            }

    def of(self, user: str, now: float) -> float:
        """Cores that a user was given, by what is left of each."""
        given, at = self._given.get(user, (0.0, now))
        return given * exp2(-max(now - at, 0.0) / HALF_LIFE_S)


def in_turn(usage: Usage, users: Iterable[str], now: float) -> list[str]:
    """The users in the order in which they are to get jobs: who has had least comes first."""
    return sorted(users, key=lambda user: (usage.of(user, now), user))


def close_to_first(usage: Usage, turns: Sequence[str], now: float) -> list[str]:
    """Those of `turns` (see `in_turn`) that may go first for the sake of files: within `SLACK`, `CLOSE` at most."""
    least = usage.of(turns[0], now)
    return [user for user in turns[:CLOSE] if usage.of(user, now) <= least + SLACK]


def quotas(
    usage: Usage, turns: Sequence[str], waiting: Mapping[str, int], jobs: int, now: float
) -> dict[str, int]:
    """How many of `jobs` each user is to get, so that afterwards those who have had least have had about as much.

    `waiting` is how many jobs of each user there are. Users who get none are left out.
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
