"""Logs when a cache becomes unusable, and when it works again; jobs never fail because of it."""

from __future__ import annotations

import threading
from pathlib import Path

from pandawn_pilot.logs import Log


class CacheTrouble:
    """The state of a cache, shared by all threads of a pilot."""

    def __init__(self, root: Path, log: Log) -> None:
        self._root = root
        self._log = log
        self._lock = threading.Lock()
        self._is_on = False

    def met(self, error: OSError) -> None:
        """Records that the cache failed."""
        with self._lock:
            begins, self._is_on = not self._is_on, True
        if begins:
            self._log.warning(
                "the cache in %s cannot be used, transferring without it: %s", self._root, error
            )

    def over(self) -> None:
        """Records that the cache worked."""
        with self._lock:
            ends, self._is_on = self._is_on, False
        if ends:
            self._log.info("the cache in %s works again", self._root)
