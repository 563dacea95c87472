"""Reads and writes files with secrets, which only this user may read."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pandawn_client.errors import CredentialError

# Larger than any certificate with its chain.
MAX_SECRET_BYTES = 1024 * 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(
    path: Path, what: str, *, from_shared_place: bool = False, for_group: bool = False
) -> bytes:
    """Returns the content of a file that no one else may read.

    `what` names it in errors. A file `from_shared_place`, such as /tmp, must belong to this user and must not
    be a link, as others can put files there. With `for_group` its group may read it: at some sites another
    account fetches the pilot's token.

    Raises CredentialError if the file cannot be read, or if others can read it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if from_shared_place:
        flags |= os.O_NOFOLLOW
    try:
        # Checked by descriptor, so that it is the file that is read. Anything but a file, such as /dev/stdin,
        # is read without a check and without blocking.
        with os.fdopen(os.open(path, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(21, "it is a directory")
            if stat.S_ISREG(status.st_mode):
                _check(path, what, status, must_be_own=from_shared_place, for_group=for_group)
            content = stream.read(MAX_SECRET_BYTES + 1) or b""
    except OSError as error:
        raise CredentialError(
            "CREDENTIAL_UNREADABLE",
            f"cannot read {what} {path}",
            details=[error.strerror or str(error)],
        ) from error
    if len(content) > MAX_SECRET_BYTES:
        raise CredentialError(
            "CREDENTIAL_UNREADABLE", f"{what} {path} is larger than {MAX_SECRET_BYTES} bytes"
        )
    return content


def write_secret(path: Path, content: bytes, what: str) -> None:
    """Writes a file with mode 0600 atomically into a private directory.

    Raises CredentialError if it cannot be written, or if others could read it there.
    """
    try:
        _make_private(path.parent)
        _protect(path.parent, what)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                _check_private(stream.fileno(), path, what)
                stream.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CredentialError(
            "CREDENTIAL_NOT_KEPT",
            f"cannot store {what} in {path}",
            details=[error.strerror or str(error)],
        ) from error


def _check(
    path: Path, what: str, status: os.stat_result, *, must_be_own: bool, for_group: bool
) -> None:
    if status.st_mode & (_OTHERS & ~stat.S_IRGRP if for_group else _OTHERS):
        raise CredentialError(
            "CREDENTIAL_EXPOSED",
            f"other users can read or change {what} {path}, and may know it already",
            remedies=[f"chmod 600 {path}", "if others may have read it, get a new one"],
        )
    if must_be_own and status.st_uid != os.geteuid():
        raise CredentialError("CREDENTIAL_EXPOSED", f"{what} {path} belongs to another user")


def _make_private(directory: Path) -> None:
    """Creates a directory and its missing parents, all private."""
    if not directory.exists():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _check_private(file: int, path: Path, what: str) -> None:
    # mkstemp creates it with mode 0600; some file systems silently ignore modes.
    if os.fstat(file).st_mode & _OTHERS:
        raise _unsafe(path, what, "the file system does not support private files")


def _protect(directory: Path, what: str) -> None:
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise _unsafe(directory, what, "the directory belongs to another user")
    if status.st_mode & _OTHERS:
        directory.chmod(0o700)
    if directory.stat().st_mode & _OTHERS:
        raise _unsafe(directory, what, "the file system does not support private directories")
    for above in directory.resolve().parents:
        status = above.stat()
        # A user who can rename a parent directory can replace this one.
        if _is_open(status) and not status.st_mode & stat.S_ISVTX:
            raise _unsafe(above, what, "other users can write to that directory")


def _is_open(status: os.stat_result) -> bool:
    # Directories are often writable for a user's private group.
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid()
    return bool(status.st_mode & stat.S_IWOTH or by_group)


def _unsafe(path: Path, what: str, why: str) -> CredentialError:
    return CredentialError(
        "CREDENTIAL_NOT_KEPT",
        f"{what} is not safe in {path}: {why}",
        remedies=[
            "set XDG_CONFIG_HOME to a private directory",
            "or set BEARER_TOKEN instead",
        ],
    )
