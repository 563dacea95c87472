"""The transport of `root://` URLs: XRootD, by `xrdcp`.

A copy is checked against the task's record by whoever asked for it, who reads it anyway. Where
the record has no checksum, `xrdcp` compares with the server's own, if the server keeps any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pandawn_pilot.disk_use import free_bytes
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports.base import SourceStat, TransferError, TransferFault, settle
from pandawn_pilot.xrootd import files
from pandawn_pilot.xrootd.address import Location, parse_location
from pandawn_pilot.xrootd.command import XrootdError, XrootdFault, run

# A transfer is ended when it is slower than this, on the whole. The client itself sees a server
# that says nothing.
MIN_BYTES_PER_SECOND = 1_000_000
# What even a small file may take: connections, authentication, a tape that is near.
START_SECONDS = 120.0

_FAULTS = {
    XrootdFault.NO_PROGRAM: TransferFault.NO_TRANSPORT,
    XrootdFault.MISSING: TransferFault.MISSING,
    XrootdFault.FORBIDDEN: TransferFault.FORBIDDEN,
    XrootdFault.FULL: TransferFault.FULL,
    XrootdFault.CHECKSUM: TransferFault.CORRUPT,
    XrootdFault.UNREACHABLE: TransferFault.OTHER,
    XrootdFault.UNSUPPORTED: TransferFault.OTHER,
    XrootdFault.OTHER: TransferFault.OTHER,
}


class RootTransport:
    """Copies files from and to XRootD servers."""

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
                raise TransferError(
                    TransferFault.CHANGED, f"{url} was changed by somebody while it was copied"
                )
        except XrootdError as error:
            raise failure_of(error) from error
        return before

    def store(
        self,
        source: Path,
        url: str,
        *,
        owner: str,
        earlier_owners: Sequence[str],
        before_publish: Callable[[], None],
        stop: Stop,
    ) -> None:
        """See Transport."""
        target = location_of(url)
        temporary = _temporary(target, owner)
        what = f"cannot store {target.url}"
        try:
            for earlier in earlier_owners:
                _remove(_temporary(target, earlier))
            size = source.stat().st_size
            try:
                options = ["--posc", *self._checks_of(target)]
                with _speakable(source) as name:
                    _copy(name, temporary.url, what, size, options, stop)
                _check_stored(temporary, size, what, stop)
                before_publish()
                _rename(temporary, target, what)
            except BaseException:
                _remove(temporary)
                raise
        except XrootdError as error:
            raise failure_of(error) from error
        except OSError as error:
            raise TransferError(TransferFault.OTHER, f"{what}: {source}: {error}") from error

    @staticmethod
    def _checks_of(location: Location) -> list[str]:
        """Options that let xrdcp compare the checksums of both ends, if the server can do that."""
        kind = files.checksum_kind(location.server)
        return ["--cksum", kind] if kind else []


def location_of(url: str) -> Location:
    """The place that a `root:` URL names. Raises TransferError."""
    try:
        return parse_location(url)
    except ValueError as error:
        raise TransferError(TransferFault.NO_TRANSPORT, f"{url!r}: {error}") from error


def _source_stat(location: Location, stop: Stop | None) -> SourceStat:
    stat = files.stat_of(location, stop)
    return SourceStat(stat.size_bytes, (stat.modify_time or 0) * 10**9)


def failure_of(error: XrootdError) -> TransferError:
    """The same in the words of transports."""
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
    """A name of a local file for xrdcp, to which a question mark ends a name there, too."""
    if "?" not in str(path):
        yield str(path)
        return
    with TemporaryDirectory(prefix="pandawn-") as directory:
        link = Path(directory) / "link"
        link.symlink_to(path.absolute())
        yield str(link)


def _check_arrival(location: Location, size: int, destination: Path) -> None:
    """Raises TransferError unless all bytes are there: on a full disk xrdcp 5.5 stops, and succeeds."""
    arrived = destination.stat().st_size
    if arrived == size:
        return
    room = free_bytes(destination.parent)
    fault = TransferFault.FULL if arrived + room < size else TransferFault.OTHER
    raise TransferError(
        fault,
        f"of {location.url} {arrived} of {size} bytes arrived;"
        f" the disk of {destination.parent} has room for {room} more",
    )


def _check_stored(location: Location, size: int, what: str, stop: Stop) -> None:
    stored = files.size_of(location, stop)
    if stored != size:
        raise TransferError(TransferFault.OTHER, f"{what}: {stored} of {size} bytes arrived")


def _rename(old: Location, new: Location, what: str) -> None:
    run(["xrdfs", old.server.url, "mv", old.path, new.path], what, seconds=files.QUESTION_SECONDS)


def _remove(location: Location) -> None:
    """Removes what may be there. What stays, hidden and of no use, must not spoil the job's end."""
    try:
        run(
            ["xrdfs", location.server.url, "rm", location.path],
            f"cannot remove {location.url}",
            seconds=files.QUESTION_SECONDS,
        )
    except XrootdError:
        return


def _temporary(target: Location, owner: str) -> Location:
    # Not made from the target's name, which may be as long as a name can be.
    name = PurePosixPath(target.path)
    mark = blake2b(name.name.encode(), digest_size=6).hexdigest()
    return Location(target.server, str(name.with_name(f".pandawn-{owner}-{mark}.part")))
