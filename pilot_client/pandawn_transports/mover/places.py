"""Opens the directory of a file below a storage root safely, and manages its parts.

Accounts that can write below the root (such as those of payloads, at some sites) can put links there. A mover
that is root follows the administrator's links only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from hashlib import blake2b

# In the directory of the final files, so that a rename suffices; hidden from listings.
PARTS = b".pandawn-parts"
# The error for a part that is missing at its rename.
SWEPT = "another attempt to store the same file has removed this copy"
# Longer than any transfer, by the storage's clock: older parts are leftovers.
OLD_SECONDS = 7 * 24 * 3600
# Most old parts that one store checks, so that it stays cheap in a directory with many leftovers.
MAX_LOOKS = 200
_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# Another process may remove the empty directory of parts just before we create a part in it.
_PART_TRIES = 20


class RootGoneError(OSError):
    """The storage's root is missing on this node."""


class Place:
    """An open directory below a storage root, with the directory of parts in it."""

    def __init__(self, top: bytes, directory: bytes, device: int = 0) -> None:
        """Opens `directory`, which is `top` or below it; creates missing directories below `top`.

        `device` is the last known device of `top`, 0 if unknown. Raises RootGoneError and OSError.
        """
        # The first world-writable directory of the path; empty if none.
        self.open_to_all = b""
        self._parts = -1
        unmounted = unmounted_above(top)
        if unmounted:
            raise RootGoneError(errno.ENOENT, "not mounted", os.fsdecode(unmounted))
        try:
            # Links above the top are the administrator's.
            self._descriptor = os.open(top, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise RootGoneError(error.errno, "does not exist", os.fsdecode(top)) from error
            raise
        try:
            self.device = _device_of(self._descriptor, top, device)
            self._look(self._descriptor, top)
            self._walk(directory[len(top) :].split(b"/"), top)
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def file_mode(self) -> int:
        """The mode of files in the directory, independent of the umask."""
        return 0o644 | _shared(os.fstat(self._descriptor).st_mode) & 0o020

    def make_part(self, mark: str, owner: str) -> tuple[bytes, int]:
        """Creates an empty file with a unique name; returns the name and a descriptor."""
        name = f"{mark}.{owner}.{secrets.token_hex(4)}".encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for left in reversed(range(_PART_TRIES)):
            self._parts = self._open_parts()
            try:
                return name, os.open(name, flags, 0o600, dir_fd=self._parts)
            except OSError as error:
                os.close(self._parts)
                self._parts = -1
                # NFS returns ESTALE for a removed directory.
                if error.errno not in (errno.ENOENT, errno.ESTALE) or left == 0:
                    raise
        raise AssertionError("the last try returns or raises")

    def sweep(self, mark: str, own: bytes) -> None:
        """Removes all other parts of the same file, and some old ones of other files.

        Their writers have no lease any more, so a late rename must fail. Raises OSError if a part of the same
        file cannot be removed.
        """
        now = os.stat(own, dir_fd=self._parts, follow_symlinks=False).st_mtime
        looks = 0
        # listdir of a descriptor returns text, not bytes.
        for name in map(os.fsencode, os.listdir(self._parts)):  # noqa: PTH208 (a descriptor)
            if name == own:
                continue
            with contextlib.suppress(FileNotFoundError):
                if name.startswith(mark.encode() + b"."):
                    os.unlink(name, dir_fd=self._parts)
                elif looks < MAX_LOOKS:
                    looks += 1
                    status = os.stat(name, dir_fd=self._parts, follow_symlinks=False)
                    if now - status.st_mtime > OLD_SECONDS:
                        with contextlib.suppress(PermissionError):
                            os.unlink(name, dir_fd=self._parts)

    def publish(self, part: bytes, name: bytes) -> None:
        """Renames a part to its final name, replacing an existing file, and syncs the directory."""
        os.rename(part, name, src_dir_fd=self._parts, dst_dir_fd=self._descriptor)
        _sync(self._descriptor)

    def drop(self, part: bytes) -> None:
        """Removes a part, if it exists."""
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=self._parts)

    def close(self) -> None:
        """Closes the directory; removes that of the parts if it is empty."""
        if self._parts >= 0:
            os.close(self._parts)
            with contextlib.suppress(OSError):
                os.rmdir(PARTS, dir_fd=self._descriptor)
        os.close(self._descriptor)

    def _open_parts(self) -> int:
        with contextlib.suppress(FileExistsError):
            # Other accounts of the site may store here, too, unless we are root.
            shared = stat.S_IMODE(os.fstat(self._descriptor).st_mode) & 0o3777 | 0o700
            os.mkdir(PARTS, 0o700 if os.geteuid() == 0 else shared, dir_fd=self._descriptor)
        return os.open(PARTS, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)

    def _walk(self, names: list[bytes], top: bytes) -> None:
        waiting = [name for name in reversed(names) if name not in (b"", b".")]
        links = 0
        path = top
        while waiting:
            name = waiting.pop()
            path = path.rstrip(b"/") + b"/" + name
            inner = self._open_or_make(name)
            status = os.fstat(inner)
            if not stat.S_ISLNK(status.st_mode):
                self._move_to(inner, path)
                continue
            target = os.readlink(b"", dir_fd=inner)
            os.close(inner)
            links += 1
            if links > _MAX_LINKS or not _is_trusted(status):
                raise OSError(
                    errno.ELOOP,
                    "the path contains a link of another account",
                    os.fsdecode(path),
                )
            waiting += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
            if target.startswith(b"/"):
                path = b"/"
                self._move_to(os.open(b"/", _DIRECTORY), path)

    def _open_or_make(self, name: bytes) -> int:
        if name == b"..":
            # Only from a trusted link: URLs with ".." are refused before.
            return os.open(name, _DIRECTORY, dir_fd=self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            return os.open(name, _FOLD, dir_fd=self._descriptor)
        mode = 0o755 | _shared(os.fstat(self._descriptor).st_mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=self._descriptor)
            _sync(self._descriptor)
        return os.open(name, _FOLD, dir_fd=self._descriptor)

    def _move_to(self, inner: int, path: bytes) -> None:
        try:
            # Reopened by descriptor, so that the checked directory is the one that is used.
            opened = os.open(b".", _DIRECTORY, dir_fd=inner)
        finally:
            os.close(inner)
        os.close(self._descriptor)
        self._descriptor = opened
        self._look(opened, path)

    def _look(self, descriptor: int, path: bytes) -> None:
        mode = os.fstat(descriptor).st_mode
        if not self.open_to_all and mode & stat.S_IWOTH:
            self.open_to_all = path


def _device_of(root: int, top: bytes, before: int) -> int:
    """The device number of a storage's root. Raises RootGoneError."""
    device = os.fstat(root).st_dev
    # A remount may change the number, but not to that of the node's own disk.
    if before not in (0, device) and device == os.stat("/").st_dev:  # noqa: PTH116 (no pathlib)
        raise RootGoneError(errno.ENOENT, "not mounted any more", os.fsdecode(top))
    return device


def mark_of(name: bytes) -> str:
    """A short digest that identifies the parts of one file in a directory."""
    return blake2b(name, digest_size=6).hexdigest()


def unmounted_above(path: bytes, table: str = "/etc/fstab") -> bytes:
    """The mount point in `table` at or above a path that is not mounted; empty if none."""
    try:
        with open(table, "rb") as stream:  # noqa: PTH123 (bytes, and no pathlib in this process)
            lines = stream.read().splitlines()
    except OSError:
        return b""
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[0].startswith(b"#") or fields[2] in (b"swap", b"none"):
            continue
        point = fields[1].replace(b"\\040", b" ").rstrip(b"/")
        if point and f"{path.decode('latin-1')}/".startswith(f"{point.decode('latin-1')}/"):
            options = fields[3].split(b",")
            if b"noauto" not in options and not os.path.ismount(point):
                return point
    return b""


def _sync(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems cannot sync a directory.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _is_trusted(status: os.stat_result) -> bool:
    # Without root there is only one account to protect, so links are trusted.
    return os.geteuid() != 0 or status.st_uid == 0


def _shared(mode: int) -> int:
    """Mode bits that a directory passes on: those of a directory shared by a group."""
    handed_down = stat.S_ISGID | stat.S_IWGRP
    return handed_down if mode & handed_down == handed_down else 0
