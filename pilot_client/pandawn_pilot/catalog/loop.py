"""The thread that keeps the catalog up to date while the pilot works."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.inventory import CacheState
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.logs import Log

# Changes made by other pilots of the node, and those that failed to go out, are looked for this
# often.
LOOK_SECONDS = 10.0
# How long another process of the node may be at it before we look again.
_TURN_SECONDS = 1.0
# For the thread to end.
STOP_SECONDS = 5.0


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
        # The rest is guarded by this, which is held for moments only.
        self._idle = threading.Condition()
        self._state: CacheState | None = None
        self._look_is_due = True
        # Rounds that began and that ended, and whether the last one left nothing to report.
        self._begun = self._ended_rounds = 0
        self._is_clean = False
        # Whether somebody waited in vain for the round under way.
        self._is_stuck = False
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)

    def start(self) -> None:
        """Begins to report."""
        self._thread.start()

    def stop(self, cut: Callable[[], None] | None = None) -> None:
        """Ends the reporting after the call under way, which `cut` may end.

        A thread that waits for a disk is left behind.
        """
        self._ended.set()
        self._kicked.set()
        if cut is not None:
            cut()
        self._thread.join(STOP_SECONDS)

    def state(self) -> CacheState | None:
        """Where the cache stood at the last look, as far as the catalog was told; None before the first.

        Never waits: heartbeats tell it, and the disk or another process of the node may keep the
        journal for as long as they like.
        """
        return self._state

    def kick(self) -> None:
        """Lets it look for something to report now, not only in a while."""
        with self._idle:
            self._look_is_due = True
        self._kicked.set()

    def ask_inventory(self) -> None:
        """Notes that the server found its picture to differ."""
        self._reporter.ask_inventory()
        self._kicked.set()

    def flush(self, seconds: float) -> bool:
        """Lets what is pending be reported now; waits at most `seconds`. Returns whether nothing is left."""
        with self._idle:
            # While the catalog does not answer, or the disk, nobody waits for it.
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
            # What asks from now on asks for another round than this one.
            self._kicked.clear()
            pause, is_clean, trouble = LOOK_SECONDS, False, ""
            try:
                is_clean = self._round()
                pause = LOOK_SECONDS if is_clean else _TURN_SECONDS
            except CallError as failure:
                pause = backoff.next_pause(failure.retry_after)
                trouble = f"the catalog could not be told, trying again: {failure}"
            except OSError as error:
                pause = backoff.next_pause()
                trouble = f"the cache could not be looked at, trying again: {error}"
            except Exception:  # noqa: BLE001 (a worker loop)
                if self._ended.is_set():
                    # The connection was cut beneath the call.
                    return
                # The catalog is a hint: trouble with it may cost speed, never the pilot.
                pause = backoff.next_pause()
                trouble = "telling the catalog met an error of the pilot's own"
                if not self._failing:
                    self._log.exception(trouble)
            else:
                backoff = Backoff()
            self._note(trouble)
            with self._idle:
                self._ended_rounds, self._is_clean, self._is_stuck = self._begun, is_clean, False
                self._idle.notify_all()
            if self._failing:
                # A kick does not help a server that does not answer.
                self._ended.wait(pause)
            elif not self._kicked.wait(pause):
                self._look_is_due = True

    def _note(self, trouble: str) -> None:
        """Trouble is logged when it begins and when it ends, not at each try."""
        if trouble and not self._failing:
            self._log.warning("%s", trouble)
        elif self._failing and not trouble:
            self._log.info("the catalog is told again")
        self._failing = bool(trouble)

    def _round(self) -> bool:
        """Looks, and reports; whether nothing is left. Raises CallError and what the cache raises."""
        with self._idle:
            self._begun += 1
            look, self._look_is_due = self._look_is_due, False
        if look:
            self._look()
        self._state = self._reporter.state()
        is_clean = not self._reporter.pending() or self._reporter.report(_TURN_SECONDS)
        self._state = self._reporter.state()
        return is_clean
