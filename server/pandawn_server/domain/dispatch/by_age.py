"""Jobs in the order in which they came, to find the first that fits an offer without a look at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from pandawn_server.domain.dispatch.entries import Entry
from pandawn_server.domain.dispatch.matching import Needs, fits

_PARTS: Final = 64
"""Jobs of a run, and runs of a row: a million jobs make 244 rows."""

_LOOKS: Final = 32
"""Runs that are looked through in vain before a search is given up. Needs differ in several ways at once, so
the least of each may fit where no job does: this bounds the work then."""

_NOTHING: Final = Needs(2**64, 2**64, 2**64, 2**64)
"""What no offer meets: the least that no jobs need."""

_Part = TypeVar("_Part")


class _Parts(Generic[_Part]):
    """Some parts, with the least that any of them needs in each respect."""

    __slots__ = ("least", "parts")

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.least = _NOTHING


_Run = _Parts[Entry]


class ByAge:
    """Waiting jobs of one sort, oldest first; those that are of that sort no longer are passed over."""

    def __init__(self, is_of: Callable[[Entry], bool]) -> None:
        """`is_of` says whether a job is of the sort still; once it is not, it is not again."""
        self._is_of = is_of
        self._rows: list[_Parts[_Run]] = []

    def append(self, entry: Entry) -> None:
        """Adds a job that came after the others."""
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
        """Gives up what is kept of jobs that are of the sort no longer."""
        rows, self._rows = self._rows, []
        for row in rows:
            for run in row.parts:
                for entry in run.parts:
                    if self._is_of(entry):
                        self.append(entry)

    def first(self, offer: Needs, accept: Callable[[Entry], bool]) -> Entry | None:
        """The first job that is of the sort, fits the offer and is accepted."""
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
    """The smaller of two needs in each respect."""
    if fits(one, other):
        return one
    return Needs(*map(min, one, other))


def _least_of(needs: Iterable[Needs]) -> Needs:
    found = _NOTHING
    for need in needs:
        found = least(found, need)
    return found
