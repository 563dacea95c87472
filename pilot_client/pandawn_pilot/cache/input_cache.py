"""The interface of input caches to stage-in: the node's own cache, or the site's pcache."""

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
    """The origin of a file; a call fetches a verified copy to a path, without any cache.

    `source` is the current state of the source, None if unknown; `look` asks the storage again. All as
    `reader`, the payload's account; None: as the pilot.
    """

    url: str
    source: SourceStat | None
    fetch: Callable[[Path], Arrival]
    look: Callable[[], SourceStat]
    reader: Account | None = None

    def __call__(self, destination: Path) -> Arrival:
        """Fetches the file. Raises as stage-in's transfers do; JobFailedError for wrong content."""
        return self.fetch(destination)


class InputCache(Protocol):
    """A cache, used by several jobs at once."""

    @property
    def root(self) -> Path:
        """A directory on the disk of the cached files."""
        ...

    def deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop, /) -> bool:
        """Puts a file, read-only, into a job's directory; returns whether it came from the cache.

        A cached file is verified against `wanted`: by its content, by a source that is unchanged since
        the fetch, or by a name that identifies the content. Raises StoppedError, and what `origin`
        raises; never fails because of the cache itself.
        """
        ...

    def deliver_code(
        self, digest: str, destination: Path, fetch: Callable[[Path], None], stop: Stop, /
    ) -> bool:
        """Puts a sandbox, named by its SHA-256, at `destination`; returns whether it was cached.

        `fetch` downloads and verifies it; its exceptions propagate.
        """
        ...

    def holds(self, wanted: CachedFile) -> bool:
        """Whether the cache seems to hold the file; `deliver` may find otherwise."""
        ...

    def evictable_bytes(self) -> int:
        """Bytes that the cache can free for a new file."""
        ...
