"""The thread that keeps the catalog up to date while the pilot works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pandawn_pilot.backoff import Backoff
from pandawn_pilot.catalog_reporter import CatalogReporter
from pandawn_pilot.client import CallError
from pandawn_pilot.inventory import CacheState
from pandawn_pilot.logs import Log

# Changes made by other pilots of the node, and those that failed to go out, are looked for this
# often.
LOOK_SECONDS = 10.0
# How long another process of the node may be at it before we look again.
_TURN_SECONDS = 1.0


class CatalogLoop:
    """Reports from `start` to `stop`; `look` is called before each look for something to report."""

    def __init__(
        self, reporter: CatalogReporter, log: Log, look: Callable[[], None] = lambda: None
    ) -> None:
        self._reporter = reporter
        self._look = look
        self._log = log
        self._kicked = threading.Event()
        self._ended = threading.Event()
        self._failing = False
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)

    def start(self) -> None:
        """Begins to report."""
        self._thread.start()

    def stop(self, cut: Callable[[], None] | None = None) -> None:
        """Ends the reporting after the call under way, which `cut` may end."""
        self._ended.set()
        self._kicked.set()
        if cut is not None:
            cut()
        self._thread.join()

    def state(self) -> CacheState:
        """Where the cache stands as far as the catalog was told."""
        return self._reporter.state()

    def kick(self) -> None:
        """Lets it look for something to report now, not only in a while."""
        self._kicked.set()

    def ask_inventory(self) -> None:
        """Notes that the server found its picture to differ."""
        self._reporter.ask_inventory()
        self._kicked.set()

    def flush(self, seconds: float) -> bool:
        """Reports what is pending now; waits at most `seconds`. Returns whether nothing is left."""
        deadline = time.monotonic() + seconds
        while self._reporter.pending():
            left = deadline - time.monotonic()
            # While the catalog does not answer, nobody waits for it.
            if left <= 0 or self._failing:
                return False
            with self._idle:
                self._kicked.set()
                self._idle.wait(left)
        return True

    def _run(self) -> None:
        backoff = Backoff()
        while not self._ended.is_set():
            pause = LOOK_SECONDS
            try:
                self._look()
                if self._reporter.pending() and not self._reporter.report(_TURN_SECONDS):
                    pause = _TURN_SECONDS
            except CallError as failure:
                pause = backoff.next_pause(failure)
                if not self._failing:
                    self._log.warning("the catalog could not be told, trying again: %s", failure)
                self._failing = True
            except Exception:  # noqa: BLE001 (a worker loop)
                if self._ended.is_set():
                    # The connection was cut beneath the call.
                    return
                # The catalog is a hint: trouble with it may cost speed, never the pilot.
                self._log.exception("telling the catalog met an error of the pilot's own")
            else:
                if self._failing:
                    self._log.info("the catalog is told again")
                self._failing, backoff = False, Backoff()
            with self._idle:
                self._idle.notify_all()
            if self._failing:
                # A kick does not help a server that does not answer.
                self._ended.wait(pause)
            else:
                self._kicked.wait(pause)
            self._kicked.clear()
