"""Stores a job's outputs: complete and on disk before they get their names, with size and checksum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pandawn.dispatcher.v1.dispatcher_pb2 import OutputFile, StoredFile
from pandawn.type.v1.type_pb2 import File
from pandawn_pilot.checksums import read_sums
from pandawn_pilot.errors import (
    NO_TRANSPORT,
    OUTPUT_MISSING,
    STAGE_OUT_FAILED,
    STORAGE_FULL,
    JobFailedError,
)
from pandawn_pilot.logs import Log
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports import PASSING, TransferError, TransferFault, transport_for

# Between two tries at one file, for what may be a passing trouble of the storage.
PAUSE_SECONDS = 2.0

# Tries at one file, where the queue does not say.
DEFAULT_TRIES = 3

_FAULTS = {
    TransferFault.NO_TRANSPORT: NO_TRANSPORT,
    TransferFault.MISSING: STAGE_OUT_FAILED,
    TransferFault.FORBIDDEN: STAGE_OUT_FAILED,
    TransferFault.FULL: STORAGE_FULL,
    TransferFault.CORRUPT: STAGE_OUT_FAILED,
    TransferFault.OTHER: STAGE_OUT_FAILED,
}


class StageOut:
    """Stores the files of one attempt. `confirm_lease` is asked before each of them becomes visible."""

    def __init__(
        self,
        job_id: int,
        attempt: int,
        confirm_lease: Callable[[], None],
        stop: Stop,
        log: Log,
        tries: int = DEFAULT_TRIES,
    ) -> None:
        self._tries = tries
        self._owner = f"{job_id}-{attempt}"
        self._earlier = [f"{job_id}-{number}" for number in range(1, attempt)]
        self._confirm_lease = confirm_lease
        self._stop = stop
        self._log = log

    def store(self, source: Path, output: OutputFile) -> StoredFile:
        """Stores one file. Raises JobFailedError and StoppedError."""
        try:
            if not source.is_file():
                kind = "is not a regular file" if source.exists() else "was not written"
                raise JobFailedError(OUTPUT_MISSING, f"the output {output.name!r} {kind}")
            sums = read_sums(source, stop=self._stop)
        except OSError as error:
            raise JobFailedError(
                OUTPUT_MISSING, f"the output {output.name!r} cannot be read: {error}"
            ) from error
        for left in reversed(range(self._tries)):
            try:
                transport_for(output.url).store(
                    source,
                    output.url,
                    owner=self._owner,
                    earlier_owners=self._earlier,
                    before_publish=self._confirm_lease,
                    stop=self._stop,
                )
                break
            except TransferError as error:
                if error.fault not in PASSING or left == 0:
                    raise JobFailedError(_FAULTS[error.fault], str(error)) from error
                self._log.warning("trying again: %s", error)
                self._stop.sleep(PAUSE_SECONDS)
        self._log.info("stored %s, %d bytes", output.url, sums.size_bytes)
        file = File(lfn=output.lfn, size_bytes=sums.size_bytes, checksum=sums.adler32)
        return StoredFile(file=file, url=output.url)
