"""Finds the directory of a file below a storage root without being led elsewhere, and keeps its parts.

Who may write below the root (payloads' accounts, say, where a site lets them) can put links there.
A mover that is root follows none but the administrator's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from hashlib import blake2b

# Beside the files that they become, so that a rename suffices; hidden, so that no listing shows them.
PARTS = b".pandawn-parts"
# The error for a part that is gone when it should be renamed.
SWEPT = "another attempt at the same file has removed what was copied"
# Nothing is moved for so long. By the clock of the storage itself.
OLD_SECONDS = 7 * 24 * 3600
# Old parts that one store looks at, so that it stays cheap in a directory where many died.
MAX_LOOKS = 200
_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# Somebody else may remove the empty directory of parts just before ours is made in it.
_PART_TRIES = 20


class RootGoneError(OSError):
    """The storage's root is not there as seen from this node."""


class Place:
    """A directory below a storage root, open, with the directory of parts in it."""

    def __init__(self, top: bytes, directory: bytes, device: int = 0) -> None:
        """Opens `directory`, which is `top` or lies below it, making what is missing below `top`.

        `device` is where `top` was when it was last seen, 0 if it was not. Raises RootGoneError and
        OSError.
        """
        # The first directory on the way in which everybody may make names; empty: there is none.
        self.open_to_all = b""
        self._parts = -1
        unmounted = unmounted_above(top)
        if unmounted:
            raise RootGoneError(errno.ENOENT, "not mounted", os.fsdecode(unmounted))
        try:
            # Above, links are the administrator's.
            self._descriptor = os.open(top, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise RootGoneError(error.errno, "is not there", os.fsdecode(top)) from error
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
        """What a file in the directory is to have, whatever our umask is."""
        return 0o644 | _shared(os.fstat(self._descriptor).st_mode) & 0o020

    def make_part(self, mark: str, owner: str) -> tuple[bytes, int]:
        """Makes an empty file that nobody else has; returns its name and a descriptor for it."""
        name = f"{mark}.{owner}.{secrets.token_hex(4)}".encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for left in reversed(range(_PART_TRIES)):
            self._parts = self._open_parts()
            try:
                return name, os.open(name, flags, 0o600, dir_fd=self._parts)
            except OSError as error:
                os.close(self._parts)
                self._parts = -1
                # The second is what NFS says of a directory that is gone.
                if error.errno not in (errno.ENOENT, errno.ESTALE) or left == 0:
                    raise
        raise AssertionError("the last try returns or raises")

    def sweep(self, mark: str, own: bytes) -> None:
        """Removes all other parts of the same file, and some old ones of others.

        Whoever wrote them has no lease any more: a rename of his that comes late finds nothing.
        Raises OSError when one of the same file cannot be removed.
        """
        now = os.stat(own, dir_fd=self._parts, follow_symlinks=False).st_mtime
        looks = 0
        # By its number: given names for a descriptor are text.
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
        """Gives a part its name, in place of what has it, durably."""
        os.rename(part, name, src_dir_fd=self._parts, dst_dir_fd=self._descriptor)
        _sync(self._descriptor)

    def drop(self, part: bytes) -> None:
        """Removes a part, if it is still there."""
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=self._parts)

    def close(self) -> None:
        """Lets go of the directory; that of the parts vanishes with the last of them."""
        if self._parts >= 0:
            os.close(self._parts)
            with contextlib.suppress(OSError):
                os.rmdir(PARTS, dir_fd=self._descriptor)
        os.close(self._descriptor)

    def _open_parts(self) -> int:
        with contextlib.suppress(FileExistsError):
            # Others of the site may store here, too, under accounts of their own; beside root nobody.
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
                    "a link of another account is on the way",
                    os.fsdecode(path),
                )
            waiting += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
            if target.startswith(b"/"):
                path = b"/"
                self._move_to(os.open(b"/", _DIRECTORY), path)

    def _open_or_make(self, name: bytes) -> int:
        if name == b"..":
            # Only a trusted link has it; a URL with one is refused before.
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
            # Reopened by number, for reading: the file that was checked is the one that is used.
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
    """The number of the device that a storage's root is on. Raises RootGoneError."""
    device = os.fstat(root).st_dev
    # After a remount it may have another number, but not that of the node's own disk.
    if before not in (0, device) and device == os.stat("/").st_dev:  # noqa: PTH116 (no pathlib)
        raise RootGoneError(errno.ENOENT, "not mounted any more", os.fsdecode(top))
    return device


def mark_of(name: bytes) -> str:
    """Tells the parts of one file of a directory from those of others, however long its name is."""
    return blake2b(name, digest_size=6).hexdigest()


def unmounted_above(path: bytes, table: str = "/etc/fstab") -> bytes:
    """The mount point at or above a path that the node should have, and that is not mounted; or none."""
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
        # There are file systems that cannot do that with a directory.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _is_trusted(status: os.stat_result) -> bool:
    # Without root's rights, whoever can plant a link is the pilot itself.
    return os.geteuid() != 0 or status.st_uid == 0


def _shared(mode: int) -> int:
    """Bits that a directory hands down: its group's, where it was made for a group to work in."""
    handed_down = stat.S_ISGID | stat.S_IWGRP
    return handed_down if mode & handed_down == handed_down else 0
