"""The transport of `file:///...` URLs: copies within file systems that the node mounts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pandawn_pilot.accounts import Account
from pandawn_pilot.durable import sync_directory
from pandawn_pilot.file_copy import copy_contents, copy_opened
from pandawn_pilot.stop import Stop
from pandawn_pilot.transports.base import SourceStat, TransferError, TransferFault, settle
from pandawn_pilot.transports.open_as import open_as

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FileTransport:
    """Copies files by way of mounted file systems.

    What it reads, it opens as `reader`, the account of the payload: a user names a file by its URL,
    and root would read it, a key of the host or somebody's token. None: as the pilot.
    """

    def __init__(self, reader: Account | None = None) -> None:
        self._reader = reader

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        """See Transport."""
        del stop
        path = path_of(url)
        try:
            with open_as(path, self._reader) as opened:
                return _source_stat(path, opened)
        except OSError as error:
            raise self._failure(error, f"cannot read {path}") from error

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        """See Transport."""
        del checksum
        path = path_of(url)
        try:
            # What is looked at is what is copied, wherever the name leads by then.
            with open_as(path, self._reader) as opened:
                before = _source_stat(path, opened)
                settle(before, stop)
                copy_opened(opened, destination, stop)
                after = _source_stat(path, opened)
        except OSError as error:
            raise self._failure(error, f"cannot copy {path} to {destination}") from error
        if before != after:
            raise TransferError(
                TransferFault.CHANGED, f"{path} was changed by somebody while it was copied"
            )
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
        target = path_of(url)
        temporary = _temporary(target, owner)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for earlier in earlier_owners:
                _temporary(target, earlier).unlink(missing_ok=True)
            try:
                # To the disk before the name appears: a reported output survives a power cut.
                copy_contents(source, temporary, stop, sync=True)
                before_publish()
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(target.parent)
        except OSError as error:
            raise _failure(error, f"cannot store {target}") from error

    def _failure(self, error: OSError, what: str) -> TransferError:
        failure = _failure(error, what)
        if failure.fault is TransferFault.FORBIDDEN and self._reader is not None:
            who = f"the payload's account, {self._reader.name}, may not read it"
            return TransferError(failure.fault, f"{what}: {who}")
        return failure


def _source_stat(path: Path, opened: int) -> SourceStat:
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode):
        raise TransferError(TransferFault.FORBIDDEN, f"{path} is not a regular file")
    return SourceStat(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


def path_of(url: str) -> Path:
    """The path that a `file:` URL names. Raises TransferError for one that names no local path."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"{url!r} names no local file; it should look like file:///dir/name",
        )
    return Path(path)


def _temporary(target: Path, owner: str) -> Path:
    # Not made from the target's name, which may be as long as a name can be.
    mark = blake2b(target.name.encode(), digest_size=6).hexdigest()
    return target.with_name(f".pandawn-{owner}-{mark}.part")


def _failure(error: OSError, what: str) -> TransferError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        fault = TransferFault.MISSING
    elif error.errno in _FULL:
        fault = TransferFault.FULL
    elif error.errno in _FORBIDDEN:
        fault = TransferFault.FORBIDDEN
    else:
        fault = TransferFault.OTHER
    return TransferError(fault, f"{what}: {error.strerror or error}")
