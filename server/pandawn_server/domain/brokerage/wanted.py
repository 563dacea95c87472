"""Which waiting jobs want a file: the index from files to jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from pandawn_server.domain.brokerage.entries import Entry, File

_SHORT: Final = 16
"""Lists up to so long are kept exact; longer ones are cleaned when half of them is gone."""

_LOOKS: Final = 64
"""Jobs at the head of a list that are looked at for some that still wait."""


class Wanted:
    """The files that waiting jobs read, by number."""

    def __init__(self) -> None:
        self._files: dict[int, File] = {}

    def __len__(self) -> int:
        return len(self._files)

    def files(self, inputs: Mapping[int, int]) -> tuple[File, ...]:
        """Files by number and size, for a job that is about to be added: the same object for the same file."""
        known = self._files
        return tuple([known.get(number) or File(number, size) for number, size in inputs.items()])

    def add(self, entry: Entry) -> None:
        """Takes in a job."""
        for file in entry.files:
            if not file.jobs:
                self._files[file.number] = file
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
                del self._files[file.number]

    def some(self, files: Iterable[int], limit: int) -> set[Entry]:
        """Up to about `limit` waiting jobs that want any of the files."""
        found: set[Entry] = set()
        for number in files:
            file = self._files.get(number)
            if file is not None:
                jobs = file.jobs
                if len(jobs) <= _SHORT:
                    found.update(jobs)
                else:
                    found.update(islice((job for job in jobs[:_LOOKS] if job.alive), _SHORT))
                if len(found) >= limit:
                    break
        return found

    def among(self, files: AbstractSet[int]) -> AbstractSet[int]:
        """Those of the files that any job wants."""
        return self._files.keys() & files
