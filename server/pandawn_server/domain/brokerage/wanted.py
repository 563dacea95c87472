"""Which waiting jobs want a file: the index from files to jobs."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from pandawn_server.domain.brokerage.entries import Entry

_SHORT: Final = 16
"""Lists up to so long are kept exact; longer ones are cleaned when half of them is gone."""

_LOOKS: Final = 64
"""Jobs at the head of a list that are looked at for some that still wait."""


class Wanted:
    """Waiting jobs by the number of each file they read, oldest first."""

    def __init__(self) -> None:
        self._jobs: dict[int, list[Entry]] = {}
        # How many of a long list no longer wait.
        self._gone: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, entry: Entry) -> None:
        """Takes in a job."""
        jobs = self._jobs
        for file in entry.files:
            wanting = jobs.get(file)
            if wanting is None:
                jobs[file] = [entry]
            else:
                wanting.append(entry)

    def remove(self, entry: Entry) -> None:
        """Takes out a job that no longer waits."""
        jobs = self._jobs
        for file in entry.files:
            wanting = jobs.get(file)
            if wanting is None:
                continue
            if len(wanting) <= _SHORT:
                if entry in wanting:
                    wanting.remove(entry)
                    if not wanting:
                        del jobs[file]
                        self._gone.pop(file, None)
                continue
            gone = self._gone.get(file, 0) + 1
            if 2 * gone > len(wanting):
                wanting[:] = [job for job in wanting if job.alive]
                gone = 0
                if not wanting:
                    del jobs[file]
            if gone:
                self._gone[file] = gone
            else:
                self._gone.pop(file, None)

    def some(self, files: Iterable[int], limit: int) -> set[Entry]:
        """Up to about `limit` waiting jobs that want any of the files."""
        found: set[Entry] = set()
        for file in files:
            wanting = self._jobs.get(file)
            if wanting is not None:
                if len(wanting) <= _SHORT:
                    found.update(wanting)
                else:
                    found.update(islice((job for job in wanting[:_LOOKS] if job.alive), _SHORT))
                if len(found) >= limit:
                    break
        return found

    def among(self, files: AbstractSet[int]) -> AbstractSet[int]:
        """Those of the files that any job wants."""
        return self._jobs.keys() & files
