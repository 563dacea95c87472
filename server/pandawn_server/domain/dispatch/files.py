"""What is known of each file: the live nodes where it is, and the waiting jobs that want it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from pandawn_server.domain.dispatch.entries import Entry, File, Places

MANY_HOLDERS: Final = 64
"""A file on more nodes than this draws no job to any of them: it is near wherever the job goes, and
to follow it would cost more than it tells."""

_SHORT: Final = 16
"""Lists of jobs up to so long are kept exact; longer ones are cleaned when half of them is gone."""

_LOOKS: Final = 64
"""Jobs at the head of a list that are looked at for some that still wait."""


class Files:
    """Files by number: those that jobs want, and the places of the others.

    Most files that nodes hold are wanted by nobody now. Of them only numbers and tuples of numbers are
    kept, which are small, and which the garbage collector stops looking at.
    """

    def __init__(self) -> None:
        self._wanted: dict[int, File] = {}
        self._places: dict[int, int | tuple[int, ...] | set[int]] = {}

    def __len__(self) -> int:
        return len(self._wanted) + len(self._places)

    # Jobs.

    def of(self, inputs: Mapping[int, int]) -> tuple[File, ...]:
        """Files by number and size, for a job that is added before anything else happens."""
        wanted, places = self._wanted, self._places
        return tuple(
            [
                wanted.get(number) or File(number, size, places.get(number))
                for number, size in inputs.items()
            ]
        )

    def add(self, entry: Entry) -> None:
        """Takes in a job; its files are those told by `of`."""
        for file in entry.files:
            if not file.jobs:
                self._wanted[file.number] = file
                self._places.pop(file.number, None)
            file.jobs.append(entry)

    def remove(self, entry: Entry) -> None:
        """Takes out a job that no longer waits."""
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
        """Up to about `limit` waiting jobs that want any of the files; a file that is nearly everywhere draws none."""
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
        """Notes that a file is on a live node where it was not."""
        file = self._wanted.get(number)
        if file is not None:
            file.places = _with(file.places, node)
        else:
            self._places[number] = _with(self._places.get(number), node)

    def leave(self, number: int, node: int) -> None:
        """Notes that a file is no longer on a node where it was."""
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
    """Bytes of the files by number of the live node that holds them or soon will.

    Files on more than `MANY_HOLDERS` nodes are left out.
    """
    found: dict[int, int] = {}
    # Files that came together are in the same places, told in the same order, and are mostly read together:
    # each such order once.
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
