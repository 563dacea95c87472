"""Brings a job's input files into its work directory, by way of the node's cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile, Limits
from pandawn_pilot.accounts import Account
from pandawn_pilot.disk_use import free_bytes, same_disk
from pandawn_pilot.errors import (
    INPUT_CHANGED,
    INPUT_CHECKSUM_MISMATCH,
    INPUT_MISSING,
    INPUT_SIZE_MISMATCH,
    INPUT_TOO_LARGE,
    INPUT_UNREADABLE,
    LOCAL_DISK_FAILED,
    NO_LOCAL_SPACE,
    NO_TRANSPORT,
    STAGE_IN_FAILED,
    STORAGE_NOT_MOUNTED,
    STORAGE_READ_ONLY,
    STORAGE_UNAVAILABLE,
    JobFailedError,
)
from pandawn_pilot.input_cache import InputCache, Origin
from pandawn_pilot.inventory import CachedFile
from pandawn_pilot.logs import Log
from pandawn_pilot.node_cache import READ_ONLY, check_content
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports import PASSING, TransferError, TransferFault, transport_for
from pandawn_pilot.xrootd.local_server import LocalServer

# Before the second try at one file, for what may be a passing trouble of the storage; then three times
# that, and so on.
PAUSE_SECONDS = 2.0

# Tries at one file, where the queue does not say.
DEFAULT_TRIES = 3

_FAULTS = {
    TransferFault.NO_TRANSPORT: NO_TRANSPORT,
    TransferFault.MISSING: INPUT_MISSING,
    TransferFault.FORBIDDEN: INPUT_UNREADABLE,
    TransferFault.FULL: NO_LOCAL_SPACE,
    TransferFault.CORRUPT: INPUT_CHECKSUM_MISMATCH,
    TransferFault.CHANGED: INPUT_CHANGED,
    TransferFault.UNAVAILABLE: STORAGE_UNAVAILABLE,
    TransferFault.READ_ONLY: STORAGE_READ_ONLY,
    TransferFault.NOT_MOUNTED: STORAGE_NOT_MOUNTED,
    TransferFault.LOCAL: LOCAL_DISK_FAILED,
    TransferFault.OTHER: STAGE_IN_FAILED,
}


@dataclass(slots=True)
class StageInSums:
    """Bytes that were staged in, and those of them that came out of the cache."""

    input_bytes: int = 0
    bytes_from_cache: int = 0


class StageIn:
    """Stages in the files of one job."""

    def __init__(
        self,
        cache: InputCache | None,
        stop: Stop,
        log: Log,
        local_server: LocalServer | None = None,
        *,
        expect_local: bool = False,
        reader: Account | None = None,
        tries: int = DEFAULT_TRIES,
    ) -> None:
        self.sums = StageInSums()
        self._local_server = local_server
        # Whether the server knew some of the job's files to be on this node.
        self._expect_local = expect_local
        # The payload must not get what its account may not read itself; None: it is the pilot's.
        self._reader = reader
        self._cache = cache
        self._stop = stop
        self._log = log
        self._tries = tries

    def check_limits(self, inputs: Sequence[InputFile], limits: Limits, work_dir: Path) -> None:
        """Raises JobFailedError if the files are too large together; no byte is copied before."""
        total = sum(item.file.size_bytes for item in inputs)
        for limit, what in (
            (limits.max_input_bytes, "input files"),
            (limits.max_work_dir_bytes, "work directory"),
        ):
            if 0 < limit < total:
                raise JobFailedError(
                    INPUT_TOO_LARGE,
                    f"the {len(inputs)} input files have {total} bytes, the limit for the {what} is"
                    f" {limit}; submit the task with fewer files per job",
                )
        self._check_disk(inputs, total, work_dir)

    def bring(self, item: InputFile, destination: Path) -> None:
        """Puts one file at `destination`, read-only. Raises JobFailedError and StoppedError."""
        self._stop.check()
        if "\0" in destination.name:
            raise JobFailedError(STAGE_IN_FAILED, f"no file can have the name {destination.name!r}")
        if destination.is_dir():
            raise JobFailedError(
                STAGE_IN_FAILED,
                f"the user's code has a directory {destination.name!r}, which is an input file's name",
            )
        wanted = wanted_file(item)
        try:
            if self._reader is not None and item.url.startswith("file:"):
                # Also where the cache has it, or another program brings it.
                transport_for(item.url, self._reader).look(item.url, self._stop)
            near = self._copy_from_local_server(item, wanted, destination)
            if near is not None:
                hit = True
            elif self._cache is None:
                self._fetch_checked(item, wanted, destination)
                hit = False
            else:
                origin = Origin(item.url, lambda path: self._fetch(item, path))
                hit = self._cache.deliver(wanted, destination, origin, self._stop)
        except TransferError as error:
            raise JobFailedError(_FAULTS[error.fault], str(error)) from error
        self.sums.input_bytes += wanted.size_bytes
        self.sums.bytes_from_cache += wanted.size_bytes if hit else 0
        whence = near or ("out of the cache" if hit else item.url)
        self._log.info("staged in %s, %d bytes, %s", wanted.lfn, wanted.size_bytes, whence)

    def _copy_from_local_server(
        self, item: InputFile, wanted: CachedFile, destination: Path
    ) -> str | None:
        """Takes the file from this node's own server and returns its URL; None: it is to come another way."""
        if self._local_server is None:
            return None
        if self._cache is not None and self._cache.holds(wanted):
            # A link costs less than a copy.
            return None
        url = self._local_server.find(item.url, wanted, self._stop, search=self._expect_local)
        if url is None:
            return None
        try:
            transport_for(url).fetch(url, destination, self._stop, wanted.checksum)
            check_content(destination, wanted, self._stop)
        except (TransferError, JobFailedError) as error:
            destination.unlink(missing_ok=True)
            self._log.warning("%s cannot be used: %s", url, error)
            return None
        destination.chmod(READ_ONLY)
        return url

    def _fetch_checked(self, item: InputFile, wanted: CachedFile, destination: Path) -> None:
        """Transfers a file for this job only; what is not right does not stay."""
        try:
            self._fetch(item, destination)
            check_content(destination, wanted, self._stop)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise
        destination.chmod(READ_ONLY)

    def _fetch(self, item: InputFile, destination: Path) -> None:
        """Transfers a file, several times if need be. Raises TransferError."""
        transport = transport_for(item.url, self._reader)
        for number in range(self._tries):
            try:
                # Asked first: of a file that is not the task's, no byte is to be moved.
                size = transport.look(item.url, self._stop).size_bytes
                if size == item.file.size_bytes:
                    transport.fetch(item.url, destination, self._stop, item.file.checksum)
                    return
            except TransferError as error:
                if error.fault not in PASSING or number + 1 == self._tries:
                    raise
                pause = PAUSE_SECONDS * 3**number
                self._log.warning("trying again in %.0f s: %s", pause, error)
                self._stop.sleep(pause)
            else:
                raise JobFailedError(
                    INPUT_SIZE_MISMATCH,
                    f"{item.url} has {size} bytes, the task says {item.file.size_bytes};"
                    " submit the task again with the file as it is now",
                )

    def _check_disk(self, inputs: Sequence[InputFile], total: int, work_dir: Path) -> None:
        """Raises JobFailedError if the disk cannot take what has to come, even with an emptied cache."""
        needed, available = total, free_bytes(work_dir)
        if self._cache is not None and same_disk(self._cache.root, work_dir):
            # What the cache holds is linked, and its other files can make room.
            needed -= sum(
                item.file.size_bytes for item in inputs if self._cache.holds(wanted_file(item))
            )
            if needed > available:
                available += self._cache.evictable_bytes()
        if needed > available:
            raise JobFailedError(
                NO_LOCAL_SPACE,
                f"{needed} bytes of input have to come, the disk of {work_dir} has room for {available}",
            )


def wanted_file(item: InputFile) -> CachedFile:
    """The file of an input as the cache knows files."""
    file = item.file
    return CachedFile(file.lfn, file.size_bytes, file.scope, file.guid, file.checksum)


def local_names(inputs: Sequence[InputFile]) -> list[str]:
    """Names of the input files in the work directory, in order: the last part of each LFN.

    A name that an earlier file has is told apart by the file's number, as in `2_data.root`.
    """
    names: list[str] = []
    taken: set[str] = set()
    for number, item in enumerate(inputs, start=1):
        name = PurePosixPath(item.file.lfn).name
        if name in ("", "..") or name in taken:
            name = f"{number}_{name.strip('.')}"
        while name in taken:
            name = f"{number}_{name}"
        taken.add(name)
        names.append(name)
    return names
