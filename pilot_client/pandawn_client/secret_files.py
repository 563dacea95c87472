"""Files that hold secrets: read only if they are for this user alone, written so that they are."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from pandawn_client.errors import CredentialError

# Certificates come with their chains; nothing that is read here is larger.
MAX_SECRET_BYTES = 1024 * 1024

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(
    path: Path, what: str, *, from_shared_place: bool = False, for_group: bool = False
) -> bytes:
    """Returns the content of a file that nobody else may read.

    `what` names it for people. A file `from_shared_place`, such as /tmp, must belong to this user and
    be no link: others can put files there. With `for_group` its group may read it: a site gives a
    pilot's account what another of its accounts has fetched.

    Raises CredentialError when it cannot be read, or others can read it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if from_shared_place:
        flags |= os.O_NOFOLLOW
    try:
        # The file that is looked at is the one that is read: no time in between. What is no file,
        # /dev/stdin say, is read as it is, and never waited for.
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
            f"{what} {path} cannot be read",
            details=[error.strerror or str(error)],
        ) from error
    if len(content) > MAX_SECRET_BYTES:
        raise CredentialError("CREDENTIAL_UNREADABLE", f"{what} {path} is too large to be one")
    return content


def write_secret(path: Path, content: bytes, what: str) -> None:
    """Writes a file with mode 0600, whole or not at all, into a directory that is for this user alone.

    Raises CredentialError when it cannot be written, or cannot be kept from others there.
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
            f"{what} cannot be kept in {path}",
            details=[error.strerror or str(error)],
        ) from error


def _check(
    path: Path, what: str, status: os.stat_result, *, must_be_own: bool, for_group: bool
) -> None:
    if status.st_mode & (_OTHERS & ~stat.S_IRGRP if for_group else _OTHERS):
        raise CredentialError(
            "CREDENTIAL_EXPOSED",
            f"{what} {path} can be read or changed by others, and may be known to them",
            remedies=[f"chmod 600 {path}", "where others may have read it, get a new one"],
        )
    if must_be_own and status.st_uid != os.geteuid():
        raise CredentialError("CREDENTIAL_EXPOSED", f"{what} {path} belongs to another user")


def _make_private(directory: Path) -> None:
    """Makes a directory and those above it that are missing, all for this user alone."""
    if not directory.exists():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _check_private(file: int, path: Path, what: str) -> None:
    # mkstemp makes it 0600; some file systems take no modes, and say nothing.
    if os.fstat(file).st_mode & _OTHERS:
        raise _unsafe(path, what, "the file system keeps no file private")


def _protect(directory: Path, what: str) -> None:
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise _unsafe(directory, what, "the directory belongs to another user")
    if status.st_mode & _OTHERS:
        directory.chmod(0o700)
    if directory.stat().st_mode & _OTHERS:
        raise _unsafe(directory, what, "the file system keeps no directory private")
    for above in directory.resolve().parents:
        status = above.stat()
        # Whoever may rename the directories above can put another in their place.
        if _is_open(status) and not status.st_mode & stat.S_ISVTX:
            raise _unsafe(above, what, "others can write into that directory")


def _is_open(status: os.stat_result) -> bool:
    # Where each user has a group of their own, directories are made writable for it.
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid()
    return bool(status.st_mode & stat.S_IWOTH or by_group)


def _unsafe(path: Path, what: str, why: str) -> CredentialError:
    return CredentialError(
        "CREDENTIAL_NOT_KEPT",
        f"{what} would not be safe in {path}: {why}",
        remedies=[
            "set XDG_CONFIG_HOME to a directory of your own",
            "or hand it over in BEARER_TOKEN",
        ],
    )
