"""The transport of `root://` URLs: XRootD, with `xrdcp`.

The caller checks a copy with the task's checksum, as it reads the file anyway. Without a checksum in the
task, `xrdcp` compares with the server's own, if the server has one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pandawn_transports.account import Account
from pandawn_transports.base import (
    Publishing,
    SourceStat,
    Stored,
    TransferError,
    TransferFault,
    settle,
)
from pandawn_transports.mover.copying import Sums, sum_bytes
from pandawn_transports.mover.places import OLD_SECONDS, PARTS, SWEPT, mark_of
from pandawn_transports.stop import Stop
from pandawn_transports.xrootd import files
from pandawn_transports.xrootd.address import Location, parse_location
from pandawn_transports.xrootd.command import XrootdError, XrootdFault, run

# Slowest allowed average rate of a transfer. xrdcp itself detects a silent server.
MIN_BYTES_PER_SECOND = 1_000_000
# Time that even a small file may take: connections, authentication, a tape in the drive.
START_SECONDS = 120.0
# Most old parts of other files that one store checks; each needs a command.
_MAX_LOOKS = 2

_FAULTS = {
    XrootdFault.NO_PROGRAM: TransferFault.NO_TRANSPORT,
    XrootdFault.MISSING: TransferFault.MISSING,
    XrootdFault.FORBIDDEN: TransferFault.FORBIDDEN,
    XrootdFault.FULL: TransferFault.FULL,
    XrootdFault.READ_ONLY: TransferFault.READ_ONLY,
    XrootdFault.CHECKSUM: TransferFault.CORRUPT,
    XrootdFault.UNREACHABLE: TransferFault.UNAVAILABLE,
    XrootdFault.UNSUPPORTED: TransferFault.OTHER,
    XrootdFault.OTHER: TransferFault.OTHER,
}


class RootTransport:
    """Copies files from and to XRootD servers."""

    def normal(self, url: str) -> str:
        """See Transport."""
        return location_of(url).url

    def local_path(self, url: str) -> Path | None:
        """See Transport: files on a server have no local path."""
        del url
        return None

    def read_as(self, account: Account) -> RootTransport:
        """See Transport: the server knows only the pilot's identity."""
        del account
        return self

    def checksum(self, url: str, stop: Stop | None = None) -> str:
        """See Transport."""
        try:
            return files.checksum_of(location_of(url), stop)
        except XrootdError as error:
            raise failure_of(error) from error

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        """See Transport."""
        try:
            return _source_stat(location_of(url), stop)
        except XrootdError as error:
            raise failure_of(error) from error

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        """See Transport."""
        location = location_of(url)
        try:
            before = _source_stat(location, stop)
            options = [] if checksum else self._checks_of(location)
            what = f"cannot fetch {location.url}"
            if not checksum:
                settle(before, stop)
            with _speakable(destination) as name:
                _copy(location.url, name, what, before.size_bytes, options, stop)
            _check_arrival(location, before.size_bytes, destination)
            if not checksum and _source_stat(location, stop) != before:
                raise TransferError(TransferFault.CHANGED, f"{url} was changed while it was copied")
        except XrootdError as error:
            raise failure_of(error) from error
        return before

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        """See Transport."""
        target = location_of(url)
        name = PurePosixPath(target.path)
        parts = Location(target.server, str(name.with_name(PARTS.decode())))
        mark = mark_of(os.fsencode(name.name))
        part = _below(parts, f"{mark}.{how.owner}.{secrets.token_hex(4)}")
        what = f"cannot store {target.url}"
        try:
            before = source.stat()
            sums = _sums_of(source, how)
            size = before.st_size
            _sweep(parts, mark, how.stop)
            try:
                options = ["--posc", *self._checks_of(target, sums.adler32)]
                with _speakable(source) as spoken:
                    _copy(spoken, part.url, what, size, options, how.stop)
                _check_stored(part, size, what, how.stop)
                _check_unchanged(source, before)
                how.before_publish()
                _rename(part, target, what)
            except BaseException:
                _remove(part)
                raise
            finally:
                # Removes the directory of parts if it is empty.
                _remove(parts, "rmdir")
        except XrootdError as error:
            raise failure_of(error) from error
        except OSError as error:
            raise TransferError(TransferFault.LOCAL, f"{what}: {source}: {error}") from error
        return Stored(size, sums.adler32, sums.sha256)

    @staticmethod
    def _checks_of(location: Location, adler32: str = "") -> list[str]:
        """Options for xrdcp to compare the checksums of both ends, if the server supports it.

        With `adler32`, xrdcp compares the server's checksum with that.
        """
        kind = files.checksum_kind(location.server)
        known = adler32 if adler32.startswith(f"{kind}:") else kind
        return ["--cksum", known] if kind else []


def location_of(url: str) -> Location:
    """The location in a `root:` URL. Raises TransferError."""
    try:
        return parse_location(url)
    except ValueError as error:
        raise TransferError(TransferFault.NO_TRANSPORT, f"{url!r}: {error}") from error


def _source_stat(location: Location, stop: Stop | None) -> SourceStat:
    stat = files.stat_of(location, stop)
    return SourceStat(stat.size_bytes, (stat.modify_time or 0) * 10**9)


def failure_of(error: XrootdError) -> TransferError:
    """Converts an error of XRootD to one of transports."""
    return TransferError(_FAULTS[error.fault], str(error))


def _copy(
    source: str, destination: str, what: str, size: int, options: Sequence[str], stop: Stop
) -> None:
    run(
        ["xrdcp", "--nopbar", "--silent", "--force", *options, source, destination],
        what,
        seconds=START_SECONDS + size / MIN_BYTES_PER_SECOND,
        stop=stop,
    )


@contextmanager
def _speakable(path: Path) -> Iterator[str]:
    """A name of a local file for xrdcp, which cuts names at a question mark."""
    if "?" not in str(path):
        yield str(path)
        return
    with TemporaryDirectory(prefix="pandawn-") as directory:
        link = Path(directory) / "link"
        link.symlink_to(path.absolute())
        yield str(link)


def _check_arrival(location: Location, size: int, destination: Path) -> None:
    """Raises TransferError unless all bytes arrived: on a full disk xrdcp 5.5 stops with status 0."""
    arrived = destination.stat().st_size
    if arrived == size:
        return
    room = shutil.disk_usage(destination.parent).free
    fault = TransferFault.FULL if arrived + room < size else TransferFault.OTHER
    raise TransferError(
        fault,
        f"{arrived} of {size} bytes of {location.url} arrived;"
        f" the disk of {destination.parent} has {room} bytes free",
    )


def _check_stored(location: Location, size: int, what: str, stop: Stop) -> None:
    stored = files.size_of(location, stop)
    if stored != size:
        raise TransferError(TransferFault.OTHER, f"{what}: {stored} of {size} bytes arrived")


def _rename(old: Location, new: Location, what: str) -> None:
    try:
        run(
            ["xrdfs", old.server.url, "mv", old.path, new.path],
            what,
            seconds=files.QUESTION_SECONDS,
        )
    except XrootdError as error:
        if error.fault is XrootdFault.MISSING:
            # Another attempt has removed it: a retry checks again which one has the lease.
            raise TransferError(TransferFault.OTHER, f"{what}: {SWEPT}") from error
        raise


def _sweep(parts: Location, mark: str, stop: Stop) -> None:
    """Removes all other parts of the same file, and some old ones. Raises XrootdError."""
    looks = 0
    for name in _names_in(parts, stop):
        part = _below(parts, name)
        if name.startswith(f"{mark}."):
            _remove(part)
        elif looks < _MAX_LOOKS:
            looks += 1
            with suppress(XrootdError):
                modified = files.stat_of(part, stop).modify_time
                if modified is not None and time.time() - modified > OLD_SECONDS:
                    _remove(part)


def _names_in(directory: Location, stop: Stop) -> list[str]:
    try:
        answer = run(
            ["xrdfs", directory.server.url, "ls", directory.path],
            f"cannot list {directory.url}",
            seconds=files.QUESTION_SECONDS,
            stop=stop,
        )
    except XrootdError as error:
        if error.fault is XrootdFault.MISSING:
            return []
        raise
    lines = os.fsdecode(answer.output).split("\n")
    return [line.rpartition("/")[2] for line in lines if line]


def _remove(location: Location, command: str = "rm") -> None:
    """Removes a file if it exists. Ignores errors: a leftover part is hidden and harmless."""
    with suppress(XrootdError):
        run(
            ["xrdfs", location.server.url, command, location.path],
            f"cannot remove {location.url}",
            seconds=files.QUESTION_SECONDS,
        )


def _below(directory: Location, name: str) -> Location:
    return Location(directory.server, f"{directory.path}/{name}")


def _check_unchanged(source: Path, before: os.stat_result) -> None:
    after = source.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise TransferError(TransferFault.CHANGED, f"{source} was changed while it was copied")


def _sums_of(source: Path, how: Publishing) -> Sums:
    sums = Sums(with_sha256=how.with_sha256)
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        sum_bytes(reader, lambda _: how.stop.check(), sums)
    finally:
        os.close(reader)
    return sums
