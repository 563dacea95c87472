"""What stage-in asks of a cache of input files: the node's own, or one that the site runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pandawn_pilot.cache.entry import Arrival
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.stop import Stop
from pandawn_transports.account import Account
from pandawn_transports.base import SourceStat

READ_ONLY = 0o444


@dataclass(frozen=True)
class Origin:
    """Where a file comes from; called with a path, it makes that a copy, checked, past any cache.

    `source` is what the storage said of the file just now, None if it was not asked; `look` asks
    again. All of it as `reader`, the payload's account; None: as the pilot.
    """

    url: str
    source: SourceStat | None
    fetch: Callable[[Path], Arrival]
    look: Callable[[], SourceStat]
    reader: Account | None = None

    def __call__(self, destination: Path) -> Arrival:
        """Fetches. Raises what stage-in's own transfers raise, JobFailedError for other content."""
        return self.fetch(destination)


class InputCache(Protocol):
    """A cache, used by several jobs at once."""

    @property
    def root(self) -> Path:
        """A directory on the disk where the files lie."""
        ...

    def deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop, /) -> bool:
        """Puts a file, read-only, into a job's directory; returns whether it came out of the cache.

        What comes out of the cache is proved to be what `wanted` says: by its content, by a source
        that is still as it was when the file was fetched, or by a name that is enough. Raises
        StoppedError, and what `origin` raises; trouble of the cache's own is no reason to fail.
        """
        ...

    def deliver_code(
        self, digest: str, destination: Path, fetch: Callable[[Path], None], stop: Stop, /
    ) -> bool:
        """Puts a sandbox, named by its SHA-256, at `destination`; returns whether the cache had it.

        `fetch` brings it and checks what it has brought; what it raises is raised.
        """
        ...

    def holds(self, wanted: CachedFile) -> bool:
        """Whether the cache seems to hold the file; `deliver` may find otherwise."""
        ...

    def evictable_bytes(self) -> int:
        """Bytes that the cache can free for a file that has to come."""
        ...
