"""What stage-in asks of a cache of input files: the node's own, or one that the site runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pandawn_pilot.inventory import CachedFile
from pandawn_pilot.stop import Stop


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file comes from; called with a path, it makes that a copy, past any cache."""

    url: str
    fetch: Callable[[Path], None]

    def __call__(self, destination: Path) -> None:
        """Fetches. Raises what stage-in's own transfers raise."""
        self.fetch(destination)


class InputCache(Protocol):
    """A cache, used by several jobs at once."""

    @property
    def root(self) -> Path:
        """A directory on the disk where the files lie."""
        ...

    def deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop, /) -> bool:
        """Puts a file, checked, into a job's directory; returns whether it came out of the cache.

        Raises JobFailedError for content that is not what `wanted` says, StoppedError, and what
        `origin` raises.
        """
        ...

    def holds(self, wanted: CachedFile) -> bool:
        """Whether the cache seems to hold the file; `deliver` may find otherwise."""
        ...

    def evictable_bytes(self) -> int:
        """Bytes that the cache can free for a file that has to come."""
        ...
