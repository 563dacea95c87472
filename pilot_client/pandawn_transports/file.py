"""The transport of `file:///...` URLs: copies within file systems that the node mounts.

Helper processes access them, as a mount can hang.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from pandawn_transports.account import Account
from pandawn_transports.base import (
    Publishing,
    SourceStat,
    Stored,
    TransferError,
    TransferFault,
)
from pandawn_transports.helpers import HELPERS, Helpers, Order
from pandawn_transports.stop import Stop

# Errors of the storage as a whole, not of one file.
_UNAVAILABLE = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.ENOTCONN,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ESHUTDOWN,
        errno.EPIPE,
        errno.EREMOTEIO,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOLINK,
        errno.ECOMM,
        errno.EPROTO,
        errno.EAGAIN,
        errno.EINTR,
    }
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
# Words that a helper returns in place of a side.
_WORDS = {
    "root": TransferFault.NOT_MOUNTED,
    "changed": TransferFault.CHANGED,
    "swept": TransferFault.OTHER,
    "irregular": TransferFault.FORBIDDEN,
}
# Number of path components that identify a storage.
_PARTS_OF_STORAGE = 3


class FileTransport:
    """Copies files in mounted file systems.

    Opens sources as `reader`, the account of the payload: otherwise a user could name a host key or a token
    of another user, and root would read it. None: as the pilot.
    """

    def __init__(self, reader: Account | None = None, helpers: Helpers = HELPERS) -> None:
        self._reader = reader
        self._helpers = helpers

    def normal(self, url: str) -> str:
        """See Transport."""
        return path_of(url).as_uri()

    def local_path(self, url: str) -> Path | None:
        """See Transport."""
        return path_of(url)

    def read_as(self, account: Account) -> FileTransport:
        """See Transport."""
        return FileTransport(account, self._helpers)

    def checksum(self, url: str, stop: Stop | None = None) -> str:
        """See Transport: file systems have none."""
        del url, stop
        return ""

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        """See Transport."""
        path = path_of(url)
        answer = self._do(Order(self._reading("look", path), _where(path)), stop)
        return SourceStat(**self._result(answer, "facts", f"cannot read {path}"))

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        """See Transport."""
        del checksum
        path = path_of(url)
        content = {**self._reading("fetch", path), "to": _as_text(destination.absolute())}
        answer = self._do(Order(content, _where(path)), stop)
        return SourceStat(**self._result(answer, "facts", f"cannot copy {path} to {destination}"))

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        """See Transport."""
        path = path_of(url)
        top = _top_above(path, how.storage_root)
        content = {
            "do": "store",
            "from": _as_text(source.absolute()),
            "path": _as_text(path),
            "top": _as_text(top) if top else "",
            "owner": how.owner,
            "sha256": how.with_sha256,
            "device": self._helpers.devices.get(str(top), 0),
        }
        order = Order(
            content,
            _where(path),
            how.before_publish,
            how.patience_seconds,
        )
        answer = self._do(order, how.stop)
        stored = self._result(answer, "stored", f"cannot store {path}", reads=False)
        if top:
            self._helpers.devices[str(top)] = stored["device"]
        if stored["open_to_all"] and os.geteuid() == 0:
            how.warn(
                f"every account of the node can write to {stored['open_to_all']}, and so replace"
                " outputs there; allow only the pilots' account to write"
            )
        return Stored(stored["size"], stored["adler32"], stored["sha256"])

    def _do(self, order: Order, stop: Stop | None) -> dict[str, Any]:
        return self._helpers.do(order, stop)

    def _reading(self, what: str, path: Path) -> dict[str, Any]:
        uid, gid = (-1, -1) if self._reader is None else (self._reader.uid, self._reader.gid)
        return {"do": what, "path": _as_text(path), "uid": uid, "gid": gid}

    def _result(
        self, answer: Mapping[str, Any], key: str, what: str, *, reads: bool = True
    ) -> dict[str, Any]:
        """The result in an answer. Raises TransferError if the order failed."""
        if key in answer:
            result: dict[str, Any] = answer[key]
            return result
        # When reading, the storage is the source and the node's disk the target.
        side, number, text = answer["failed"], answer["errno"], answer["text"]
        fault = _fault(side, number, is_storage=side == ("source" if reads else "target"))
        if number in _FORBIDDEN and side == "source" and reads and self._reader is not None:
            text = f"the payload's account, {self._reader.name}, is not allowed to read it"
        raise TransferError(fault, f"{what}: {text}")


def path_of(url: str) -> Path:
    """The path in a `file:` URL. Raises TransferError if it names no local path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    path = unquote_to_bytes(parts.path)
    if (
        parts.scheme != "file"
        or parts.netloc not in ("", "localhost")
        or not path.startswith(b"/")
        or b"\0" in path
    ):
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"{url!r} names no local file; it should look like file:///dir/name",
        )
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise TransferError(
            TransferFault.NO_TRANSPORT,
            f"{url!r}: in the path of a URL, write # as %23 and ? as %3F",
        )
    return Path(os.fsdecode(path))


def _top_above(path: Path, storage_root: str) -> Path | None:
    """The storage's root if it is a local directory above the path."""
    if not storage_root.startswith("file:"):
        return None
    top = path_of(storage_root)
    return top if path != top and path.is_relative_to(top) else None


def _where(path: Path) -> str:
    """Identifies a storage by the first components of the path: more is not known without I/O."""
    return str(Path(*path.parent.parts[:_PARTS_OF_STORAGE]))


def _as_text(path: Path) -> str:
    """A path with one character per byte, so that JSON accepts any bytes."""
    return os.fsencode(path).decode("latin-1")


def _fault(side: str, number: int, *, is_storage: bool) -> TransferFault:
    if side in _WORDS:
        return _WORDS[side]
    if number in _FULL:
        return TransferFault.FULL
    if not is_storage:
        return TransferFault.LOCAL
    if number in _MISSING:
        return TransferFault.MISSING
    if number in _FORBIDDEN:
        return TransferFault.FORBIDDEN
    if number == errno.EROFS:
        return TransferFault.READ_ONLY
    return TransferFault.UNAVAILABLE if number in _UNAVAILABLE else TransferFault.OTHER
