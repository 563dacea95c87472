"""The thread that reports the cache to the catalog."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.inventory import CacheState
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.logs import Log

# Interval of checks for changes by other pilots of the node, and for unsent ones.
LOOK_SECONDS = 10.0
# Pause before a retry while another process of the node reports.
_TURN_SECONDS = 1.0
# Longest wait for the thread to end.
STOP_SECONDS = 5.0


class CatalogLoop:
    """Reports from `start` to `stop`; calls `look` before each regular check for changes."""

    def __init__(
        self, reporter: CatalogReporter, log: Log, look: Callable[[], None] = lambda: None
    ) -> None:
        self._reporter = reporter
        self._look = look
        self._log = log
        self._kicked = threading.Event()
        self._ended = threading.Event()
        self._failing = False
        # Guards the attributes below; held only briefly.
        self._idle = threading.Condition()
        self._state: CacheState | None = None
        self._look_is_due = True
        # Numbers of started and ended rounds, and whether the last one reported everything.
        self._begun = self._ended_rounds = 0
        self._is_clean = False
        # Whether a `flush` timed out during the current round.
        self._is_stuck = False
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, cut: Callable[[], None] | None = None) -> None:
        """Stops after the current call, which `cut` may abort.

        A thread that waits for a disk is abandoned.
        """
        self._ended.set()
        self._kicked.set()
        if cut is not None:
            cut()
        self._thread.join(STOP_SECONDS)

    def state(self) -> CacheState | None:
        """The reported state of the cache at the last round; None before the first.

        Never blocks: heartbeats call it, while a hanging disk or another process may hold the journal.
        """
        return self._state

    def kick(self) -> None:
        """Requests a check for changes at once."""
        with self._idle:
            self._look_is_due = True
        self._kicked.set()

    def ask_inventory(self) -> None:
        """Requests a comparison with the catalog, as the server found a difference."""
        self._reporter.ask_inventory()
        self._kicked.set()

    def flush(self, seconds: float) -> bool:
        """Reports pending changes now; waits at most `seconds`. Returns whether all are reported."""
        with self._idle:
            # Do not wait while the catalog or the disk does not respond.
            if self._failing or self._is_stuck:
                return False
            wanted = self._begun + 1
            self._kicked.set()
            self._is_stuck = not self._idle.wait_for(
                lambda: self._failing or (self._ended_rounds >= wanted and self._is_clean), seconds
            )
            return self._is_clean and not self._is_stuck

    def _run(self) -> None:
        backoff = Backoff()
        while not self._ended.is_set():
            # A request from here on gets another round after this one.
            self._kicked.clear()
            pause, is_clean, trouble = LOOK_SECONDS, False, ""
            try:
                is_clean = self._round()
                pause = LOOK_SECONDS if is_clean else _TURN_SECONDS
            except CallError as failure:
                pause = backoff.next_pause(failure.retry_after)
                trouble = f"cannot report to the catalog, retrying: {failure}"
            except OSError as error:
                pause = backoff.next_pause()
                trouble = f"cannot read the cache, retrying: {error}"
            except Exception:  # noqa: BLE001 (a worker loop)
                if self._ended.is_set():
                    # The connection was closed during the call.
                    return
                # The catalog is a hint: its errors may cost speed, but must not end the pilot.
                pause = backoff.next_pause()
                trouble = "reporting to the catalog failed with an internal error"
                if not self._failing:
                    self._log.exception(trouble)
            else:
                backoff = Backoff()
            self._log_change(trouble)
            with self._idle:
                self._ended_rounds, self._is_clean, self._is_stuck = self._begun, is_clean, False
                self._idle.notify_all()
            if self._failing:
                # A kick does not shorten the pause while the server does not respond.
                self._ended.wait(pause)
            elif not self._kicked.wait(pause):
                self._look_is_due = True

    def _log_change(self, trouble: str) -> None:
        """Logs a failure when it starts and when it ends, not at each try."""
        if trouble and not self._failing:
            self._log.warning("%s", trouble)
        elif self._failing and not trouble:
            self._log.info("reporting to the catalog works again")
        self._failing = bool(trouble)

    def _round(self) -> bool:
        """Checks and reports; returns whether all is reported. Raises CallError and OSError."""
        with self._idle:
            self._begun += 1
            look, self._look_is_due = self._look_is_due, False
        if look:
            self._look()
        self._state = self._reporter.state()
        is_clean = not self._reporter.pending() or self._reporter.report(_TURN_SECONDS)
        self._state = self._reporter.state()
        return is_clean
