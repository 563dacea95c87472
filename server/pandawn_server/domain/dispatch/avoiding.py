"""Waiting jobs that avoid the nodes on which they failed. There are few; they go first in their band."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.matching import Needs, fits

AVOID_S: Final = 300.0
"""How many seconds a job avoids the nodes on which it failed. Then any node may take it: the other live nodes
may be too small for it, or have no slot for days."""

_LOOKS: Final = 64
"""Jobs examined for one request: bounds the work of a match."""


class AvoidingJobs:
    """Jobs that avoid nodes, by priority band, in order of arrival."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[int, Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._levels)

    @property
    def numbers(self) -> set[int]:
        """Numbers of the bands that have such jobs."""
        return set(self._levels)

    def add(self, entry: Entry, number: int) -> None:
        """Adds a job."""
        self._levels.setdefault(number, {})[entry.job_id] = entry

    def remove(self, entry: Entry, number: int) -> None:
        """Removes a job."""
        level = self._levels[number]
        del level[entry.job_id]
        if not level:
            del self._levels[number]

    def first(
        self,
        number: int,
        node: str,
        offer: Needs,
        doubts: frozenset[str],
        others: Callable[[frozenset[str]], bool],
    ) -> Entry | None:
        """The first job of a band for a node, skipping users that the node doubts.

        `others` tells whether there are live nodes besides those avoided.
        """
        for looks, entry in enumerate(self._levels.get(number, {}).values()):
            if looks >= _LOOKS:
                return None
            if entry.user in doubts:
                continue
            if fits(entry.needs, offer) and (node not in entry.avoids or not others(entry.avoids)):
                return entry
        return None

    def expired(self, now: float) -> list[Entry]:
        """The jobs that have waited long enough for other nodes."""
        found = []
        for level in self._levels.values():
            for entry in level.values():
                if entry.since + AVOID_S > now:
                    break
                found.append(entry)
        return found

    def __iter__(self) -> Iterator[Entry]:
        for number in sorted(self._levels, reverse=True):
            yield from self._levels[number].values()
