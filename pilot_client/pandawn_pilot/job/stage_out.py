"""Stores a job's outputs: written and synced before they get their names, with size and checksum."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pandawn.common.v1.common_pb2 import File
from pandawn.dispatcher.v1.dispatcher_pb2 import OutputFile
from pandawn.dispatcher.v1.report_pb2 import StoredFile
from pandawn_pilot.errors import (
    LOCAL_DISK_FAILED,
    NO_TRANSPORT,
    OUTPUT_CHANGED,
    OUTPUT_MISSING,
    STAGE_OUT_FAILED,
    STORAGE_FORBIDDEN,
    STORAGE_FULL,
    STORAGE_NOT_MOUNTED,
    STORAGE_READ_ONLY,
    STORAGE_UNAVAILABLE,
    JobFailedError,
)
from pandawn_pilot.logs import Log
from pandawn_pilot.stop import Stop
from pandawn_transports import (
    PASSING,
    STORAGE_AWAY,
    Publishing,
    Stored,
    TransferError,
    TransferFault,
    transport_for,
)

# Pause before the second try at a file after a temporary failure; it doubles with each further try.
PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 20.0
# Retries last at least this long while the storage is unavailable: the output may be hours of computing.
AWAY_SECONDS = 60.0
# The log is worth less, and delays the slot's next job.
LOG_PATIENCE_SECONDS = 10.0

# Tries at one file if the queue does not set them.
DEFAULT_TRIES = 3

_FAULTS = {
    TransferFault.NO_TRANSPORT: NO_TRANSPORT,
    TransferFault.MISSING: STAGE_OUT_FAILED,
    TransferFault.FORBIDDEN: STORAGE_FORBIDDEN,
    TransferFault.FULL: STORAGE_FULL,
    TransferFault.CORRUPT: STAGE_OUT_FAILED,
    TransferFault.CHANGED: OUTPUT_CHANGED,
    TransferFault.UNAVAILABLE: STORAGE_UNAVAILABLE,
    TransferFault.READ_ONLY: STORAGE_READ_ONLY,
    TransferFault.NOT_MOUNTED: STORAGE_NOT_MOUNTED,
    TransferFault.LOCAL: LOCAL_DISK_FAILED,
    TransferFault.OTHER: STAGE_OUT_FAILED,
}


# Warnings that were logged already: each is logged once.
_warned: set[str] = set()


class StageOut:
    """Stores the files of one attempt. Calls `confirm_lease` before each becomes visible.

    `storage_root` is the queue's. A log is given up early; a library's checksum is its SHA-256.
    """

    def __init__(
        self,
        job_id: int,
        attempt: int,
        confirm_lease: Callable[[], None],
        stop: Stop,
        log: Log,
        tries: int = DEFAULT_TRIES,
        *,
        storage_root: str = "",
        is_log: bool = False,
        is_library: bool = False,
    ) -> None:
        self._tries = 1 if is_log else tries
        self._away_seconds = 0.0 if is_log else AWAY_SECONDS
        self._log = log
        self._stop = stop
        self._how = Publishing(
            owner=f"{job_id}-{attempt}",
            before_publish=confirm_lease,
            stop=stop,
            storage_root=storage_root,
            with_sha256=is_library,
            patience_seconds=LOG_PATIENCE_SECONDS if is_log else None,
            warn=self._warn_once,
        )

    def store(self, source: Path, output: OutputFile) -> StoredFile:
        """Stores one file. Raises JobFailedError and StoppedError."""
        if not source.is_file():
            kind = "is not a regular file" if source.exists() else "was not written"
            raise JobFailedError(OUTPUT_MISSING, f"the output {output.name!r} {kind}")
        stored = self._try_to_store(source, output.url)
        self._log.info("stored %s, %d bytes", output.url, stored.size_bytes)
        file = File(
            lfn=output.lfn, size_bytes=stored.size_bytes, checksum=stored.sha256 or stored.adler32
        )
        return StoredFile(file=file, url=output.url)

    def _try_to_store(self, source: Path, url: str) -> Stored:
        give_up_at = time.monotonic() + self._away_seconds
        pause = PAUSE_SECONDS
        tried = 0
        while True:
            tried += 1
            try:
                return transport_for(url).store(source, url, self._how)
            except TransferError as error:
                is_away = error.fault in STORAGE_AWAY and time.monotonic() + pause < give_up_at
                if error.fault not in PASSING or (tried >= self._tries and not is_away):
                    raise JobFailedError(_FAULTS[error.fault], str(error)) from error
                self._log.warning("stage-out failed, retrying in %.0f s: %s", pause, error)
                self._stop.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _warn_once(self, text: str) -> None:
        if text not in _warned:
            _warned.add(text)
            self._log.warning("%s", text)
