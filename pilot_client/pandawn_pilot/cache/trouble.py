"""What is wrong with a cache: logged when it begins and when it ends, and never a reason for a job to fail."""

from __future__ import annotations

import threading
from pathlib import Path

from pandawn_pilot.logs import Log


class CacheTrouble:
    """The trouble with the cache in a directory, as met by all threads of a pilot."""

    def __init__(self, root: Path, log: Log) -> None:
        self._root = root
        self._log = log
        self._lock = threading.Lock()
        self._is_on = False

    def met(self, error: OSError) -> None:
        """Notes that the cache could not be used."""
        with self._lock:
            begins, self._is_on = not self._is_on, True
        if begins:
            self._log.warning(
                "the cache in %s cannot be used, files go past it: %s", self._root, error
            )

    def over(self) -> None:
        """Notes that it could."""
        with self._lock:
            ends, self._is_on = self._is_on, False
        if ends:
            self._log.info("the cache in %s can be used again", self._root)
