"""An index of files: the live nodes that hold each, and the waiting jobs that read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from pandawn_server.domain.dispatch.entries import Entry, File, Places

MANY_HOLDERS: Final = 64
"""A file on more nodes than this attracts no job to any of them: most places are near it, and tracking it
would cost more than it tells."""

_SHORT: Final = 16
"""Lists of jobs up to this length are kept exact; longer ones are cleaned when half of their jobs are gone."""

_LOOKS: Final = 64
"""Jobs examined at the head of a list to find some that still wait."""


class Files:
    """Files by number: those that waiting jobs read, and the places of all others.

    No waiting job reads most of the files that nodes hold. For those, only numbers and tuples of numbers are
    kept: they are small, and the garbage collector stops tracking them.
    """

    def __init__(self) -> None:
        self._wanted: dict[int, File] = {}
        self._places: dict[int, int | tuple[int, ...] | set[int]] = {}

    def __len__(self) -> int:
        return len(self._wanted) + len(self._places)

    # Jobs.

    def of(self, inputs: Mapping[int, int]) -> tuple[File, ...]:
        """The files of a job, from (number, size). The job must be added before anything else changes."""
        wanted, places = self._wanted, self._places
        return tuple(
            [
                wanted.get(number) or File(number, size, places.get(number))
                for number, size in inputs.items()
            ]
        )

    def add(self, entry: Entry) -> None:
        """Adds a job whose files come from `of`."""
        for file in entry.files:
            if not file.jobs:
                self._wanted[file.number] = file
                self._places.pop(file.number, None)
            file.jobs.append(entry)

    def remove(self, entry: Entry) -> None:
        """Removes a job that no longer waits."""
        for file in entry.files:
            jobs = file.jobs
            if len(jobs) <= _SHORT:
                jobs.remove(entry)
            else:
                file.gone += 1
                if 2 * file.gone > len(jobs):
                    jobs[:] = [job for job in jobs if job.alive]
                    file.gone = 0
            if not jobs:
                del self._wanted[file.number]
                if file.places is not None:
                    self._places[file.number] = file.places

    def wanting(self, numbers: Iterable[int], limit: int) -> Iterable[Entry]:
        """About `limit` waiting jobs that read any of the files; skips files that are nearly everywhere."""
        found: dict[Entry, None] = {}
        wanted = self._wanted
        for number in numbers:
            file = wanted.get(number)
            if file is None or isinstance(file.places, set):
                continue
            jobs = file.jobs
            if len(jobs) <= _SHORT:
                found.update(dict.fromkeys(jobs))
            else:
                waiting = (job for job in jobs[:_LOOKS] if job.alive)
                found.update(dict.fromkeys(islice(waiting, _SHORT)))
            if len(found) >= limit:
                break
        return found

    # Places.

    def enter(self, number: int, node: int) -> None:
        """Records that a file is now on a live node."""
        file = self._wanted.get(number)
        if file is not None:
            file.places = _with(file.places, node)
        else:
            self._places[number] = _with(self._places.get(number), node)

    def leave(self, number: int, node: int) -> None:
        """Records that a file is no longer on a node."""
        file = self._wanted.get(number)
        if file is not None:
            file.places = _without(file.places, node)
            return
        places = _without(self._places[number], node)
        if places is None:
            del self._places[number]
        else:
            self._places[number] = places


def _with(places: Places, node: int) -> int | tuple[int, ...] | set[int]:
    if places is None:
        return node
    if isinstance(places, int):
        return places, node
    if isinstance(places, set):
        places.add(node)
        return places
    grown = (*places, node)
    return grown if len(grown) <= MANY_HOLDERS else set(grown)


def _without(places: Places, node: int) -> Places:
    if places is None or isinstance(places, int):
        return None
    if isinstance(places, set):
        places.discard(node)
        return places if len(places) > MANY_HOLDERS else tuple(places)
    if len(places) == 2:
        return places[places[0] == node]
    return tuple([place for place in places if place != node])


def shares(files: Iterable[File]) -> dict[int, int]:
    """How many bytes of the files each live node holds or will soon hold, by node number.

    Files on more than `MANY_HOLDERS` nodes are left out.
    """
    found: dict[int, int] = {}
    # Files that arrived together have equal `places`, in equal order, and jobs mostly read them together:
    # add up each such run first.
    last: int | tuple[int, ...] | None = None
    size = 0
    for file in files:
        places = file.places
        if isinstance(places, set):
            continue
        if places == last:
            size += file.size
            continue
        if last is not None:
            found = _added(found, last, size)
        last, size = places, file.size
    return found if last is None else _added(found, last, size)


def _added(found: dict[int, int], places: int | tuple[int, ...], size: int) -> dict[int, int]:
    if isinstance(places, int):
        found[places] = found.get(places, 0) + size
    elif not found:
        return dict.fromkeys(places, size)
    else:
        for number in places:
            found[number] = found.get(number, 0) + size
    return found
