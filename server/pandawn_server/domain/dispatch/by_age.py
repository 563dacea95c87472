"""Jobs in order of arrival; finds the first that fits an offer without looking at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.matching import Needs, fits

_PARTS: Final = 64
"""Jobs in a run, and runs in a row: a million jobs make 244 rows."""

_LOOKS: Final = 32
"""Runs searched without a hit before the search stops. Needs have several dimensions, so the minimum of
each may fit where no job does; this bounds the work then."""

_NOTHING: Final = Needs(2**64, 2**64, 2**64, 2**64)
"""The minimum over no jobs: no offer meets it."""

_Part = TypeVar("_Part")


class _Parts(Generic[_Part]):
    """Some parts, with the minimum that any of them needs in each dimension."""

    __slots__ = ("least", "parts")

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.least = _NOTHING


_Run = _Parts[Entry]


class ByAge:
    """Waiting jobs of one kind, oldest first; jobs that are no longer of the kind are skipped."""

    def __init__(self, is_of: Callable[[Entry], bool]) -> None:
        """`is_of` tells whether a job is still of the kind; once False, it stays False."""
        self._is_of = is_of
        self._rows: list[_Parts[_Run]] = []

    def append(self, entry: Entry) -> None:
        """Adds a job that came after all others."""
        row = self._rows[-1] if self._rows else None
        if row is None or (len(row.parts) == _PARTS and len(row.parts[-1].parts) >= _PARTS):
            row = _Parts()
            self._rows.append(row)
        run = row.parts[-1] if row.parts else None
        if run is None or len(run.parts) >= _PARTS:
            run = _Parts()
            row.parts.append(run)
        run.parts.append(entry)
        needs = entry.needs
        run.least = least(run.least, needs)
        row.least = least(row.least, needs)

    def sweep(self) -> None:
        """Drops the jobs that are no longer of the kind."""
        rows, self._rows = self._rows, []
        for row in rows:
            for run in row.parts:
                for entry in run.parts:
                    if self._is_of(entry):
                        self.append(entry)

    def first(self, offer: Needs, accept: Callable[[Entry], bool]) -> Entry | None:
        """The first job of the kind that fits the offer and that `accept` approves."""
        is_of = self._is_of
        looks = 0
        for row in self._rows:
            if not fits(row.least, offer):
                continue
            for run in row.parts:
                if not fits(run.least, offer):
                    continue
                looks += 1
                if looks > _LOOKS:
                    return None
                for entry in run.parts:
                    if is_of(entry) and fits(entry.needs, offer) and accept(entry):
                        return entry
                run.parts = [entry for entry in run.parts if is_of(entry)]
                run.least = _least_of(entry.needs for entry in run.parts)
            row.least = _least_of(run.least for run in row.parts)
        return None


def least(one: Needs, other: Needs) -> Needs:
    """The minimum of two needs in each dimension."""
    if fits(one, other):
        return one
    return Needs(*map(min, one, other))


def _least_of(needs: Iterable[Needs]) -> Needs:
    found = _NOTHING
    for need in needs:
        found = least(found, need)
    return found
