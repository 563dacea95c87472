"""Stages a job's input files into its work directory, through the node's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile, Limits
from pandawn_pilot.cache.entry import Arrival, rests_on_source
from pandawn_pilot.cache.input_cache import READ_ONLY, InputCache, Origin
from pandawn_pilot.cache.input_proof import changed_text, check_content, check_source, wanted_file
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.errors import (
    INPUT_CHANGED,
    INPUT_CHECKSUM_MISMATCH,
    INPUT_MISSING,
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
from pandawn_pilot.logs import Log
from pandawn_pilot.node.disk_use import free_bytes, same_disk
from pandawn_pilot.sizes import size_text, size_texts
from pandawn_pilot.stop import Stop
from pandawn_pilot.xrootd.local_server import LocalServer
from pandawn_transports import (
    PASSING,
    SourceStat,
    TransferError,
    TransferFault,
    local_path,
    transport_for,
)
from pandawn_transports.account import Account

# Pause before the second try at a file after a temporary failure; it triples with each further try.
PAUSE_SECONDS = 2.0

# Tries at one file if the queue does not set them.
DEFAULT_TRIES = 3

ResultT = TypeVar("ResultT")

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


@dataclass
class StageInSums:
    """Bytes that were staged in, and how many of them came from the cache."""

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
        # Whether the catalog listed some of the job's files on this node.
        self._expect_local = expect_local
        # Sources are read with this account's rights, so that a payload gets no more; None: the pilot's.
        self._reader = reader
        self._cache = cache
        self._stop = stop
        self._log = log
        self._tries = tries

    def check_limits(self, inputs: Sequence[InputFile], limits: Limits, work_dir: Path) -> None:
        """Raises JobFailedError if the files together are too large; call it before any transfer."""
        total = sum(item.file.size_bytes for item in inputs)
        for limit, what in (
            (limits.max_input_bytes, "input files"),
            (limits.max_work_dir_bytes, "work directory"),
        ):
            if 0 < limit < total:
                size, most = size_texts(total, limit)
                raise JobFailedError(
                    INPUT_TOO_LARGE,
                    f"the {len(inputs)} input files have {size}, the limit for the {what} is"
                    f" {most}; submit the task with fewer files per job",
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
                f"the sandbox has a directory {destination.name!r}, which is also the name of an input file",
            )
        try:
            wanted, hit, origin = self._bring(item, destination)
        except TransferError as error:
            raise JobFailedError(_FAULTS[error.fault], str(error)) from error
        self.sums.input_bytes += wanted.size_bytes
        self.sums.bytes_from_cache += wanted.size_bytes if hit else 0
        self._log.info("staged in %s, %d bytes, %s", wanted.lfn, wanted.size_bytes, origin)

    def _bring(self, item: InputFile, destination: Path) -> tuple[CachedFile, bool, str]:
        """Stages a file; returns the file, whether the node had it, and where it came from."""
        source = None
        if self._needs_look(item):
            source = self._look(item)
        wanted = wanted_file(item, source)
        near = self._copy_from_local_server(item, wanted, destination)
        if near is not None:
            return wanted, True, near
        origin = Origin(
            item.url,
            source,
            lambda path: self._fetch(item, wanted, path),
            lambda: self._look(item),
            self._reader,
        )
        if self._cache is None:
            self._fetch_checked(origin, destination)
            return wanted, False, item.url
        hit = self._cache.deliver(wanted, destination, origin, self._stop)
        return wanted, hit, "from the cache" if hit else item.url

    def _needs_look(self, item: InputFile) -> bool:
        """Whether the source is checked before the cache, for its permissions or its version."""
        if local_path(item.url) is not None:
            return True
        version = wanted_file(item).version
        return not version or rests_on_source(version)

    def _look(self, item: InputFile) -> SourceStat:
        """The current state of an input's source. Raises JobFailedError if it differs from the task's."""
        transport = transport_for(item.url, self._reader)
        source = self._persist(lambda: transport.look(item.url, self._stop))
        check_source(item, wanted_file(item, source).version, source)
        return source

    def _copy_from_local_server(
        self, item: InputFile, wanted: CachedFile, destination: Path
    ) -> str | None:
        """Copies the file from this node's own XRootD server; returns its URL, or None if that failed."""
        if self._local_server is None or not wanted.version or not wanted.listed:
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

    def _fetch_checked(self, origin: Origin, destination: Path) -> None:
        """Transfers a file for this job only; removes it on failure."""
        try:
            origin(destination)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise
        destination.chmod(READ_ONLY)

    def _fetch(self, item: InputFile, wanted: CachedFile, destination: Path) -> Arrival:
        """Transfers a file with retries, and checks it. Raises TransferError and JobFailedError."""
        transport = transport_for(item.url, self._reader)
        if not self._needs_look(item):
            # Not checked yet: do not transfer a file that is not the task's.
            self._look(item)
        first = ""
        while True:
            source = self._persist(
                lambda: transport.fetch(item.url, destination, self._stop, item.file.checksum)
            )
            check_source(item, wanted.version, source)
            try:
                return Arrival(check_content(destination, wanted, self._stop), source)
            except JobFailedError as bad:
                if bad.fault is not INPUT_CHECKSUM_MISMATCH:
                    raise
                if bad.text == first:
                    # The same wrong content twice is not a transfer error.
                    raise JobFailedError(
                        INPUT_CHANGED, changed_text(item.url, f"has other content: {bad.text}")
                    ) from bad
                if first:
                    raise
                first = bad.text
                self._log.warning("stage-in failed, retrying: %s", bad.text)

    def _persist(self, transfer: Callable[[], ResultT]) -> ResultT:
        """Calls `transfer`, with retries after temporary failures. Raises TransferError."""
        number = 0
        while True:
            try:
                return transfer()
            except TransferError as error:
                number += 1
                if error.fault not in PASSING or number >= self._tries:
                    raise
                pause = PAUSE_SECONDS * 3 ** (number - 1)
                self._log.warning("stage-in failed, retrying in %.0f s: %s", pause, error)
                self._stop.sleep(pause)

    def _check_disk(self, inputs: Sequence[InputFile], total: int, work_dir: Path) -> None:
        """Raises JobFailedError if the disk has no room for the inputs, even after evicting the cache."""
        needed, available = total, free_bytes(work_dir)
        if self._cache is not None and _same_disk(self._cache.root, work_dir):
            # Cached inputs are linked, and other cached files can be evicted.
            needed -= sum(
                item.file.size_bytes for item in inputs if self._cache.holds(wanted_file(item))
            )
            if needed > available:
                available += self._cache.evictable_bytes()
        if needed > available:
            raise JobFailedError(
                NO_LOCAL_SPACE,
                f"{size_text(needed)} of input do not fit: the disk of {work_dir} has"
                f" {size_text(available)} free",
            )


def _same_disk(cache: Path, work_dir: Path) -> bool:
    try:
        return same_disk(cache, work_dir)
    except OSError:
        # The cache is gone.
        return False


def local_names(inputs: Sequence[InputFile]) -> list[str]:
    """Names of the input files in the work directory, in order: the last part of each LFN.

    A duplicate name gets the file's number as prefix, as in `2_data.root`.
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
