"""The process that unpacks an untrusted archive.

Started by `archives.unpack` with `python -I -S`, so it uses the standard library only. It gets the
archive as its standard input, the directory as a descriptor, and an `Order` as its argument. It first
limits its memory and CPU time, and changes to the payload's account if that differs. It prints its
result as one line of JSON.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import resource
import shutil
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pandawn_pilot.payload.start import change_account

# More files than any user's code has, fewer than a disk has inodes.
MAX_MEMBERS = 200_000
# Headers of an archive can be of any length, and are read into memory.
MEMORY_BYTES = 512 * 1024 * 1024
# Enough for a sandbox of 64 MiB of highly compressed zeros.
CPU_SECONDS = 900
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Order:
    """What to unpack where: `directory` is a descriptor, `name` the archive's name in errors.

    `max_bytes` limits the unpacked size. `uid` -1: keep the account.
    """

    directory: int
    name: str
    max_bytes: int
    uid: int = -1
    gid: int = -1


class RefusedError(Exception):
    """The archive is refused; the message says why."""


class TooLargeError(Exception):
    """The unpacked size would exceed `max_bytes`."""


def main() -> int:
    """Unpacks one archive."""
    order = Order(**json.loads(sys.argv[2]))
    try:
        _confine(order)
        unpack_here(order.name, order.max_bytes)
    except RefusedError as refused:
        result: dict[str, str | int] = {"refused": str(refused)}
    except TooLargeError:
        result = {"too_large": 1}
    except MemoryError:
        result = {"refused": f"{order.name} needs more memory than is allowed for a tar archive"}
    except OSError as error:
        result = {"errno": error.errno or 0, "text": str(error)}
    else:
        result = {}
    os.write(1, json.dumps(result).encode() + b"\n")
    return 0


def _confine(order: Order) -> None:
    os.fchdir(order.directory)
    os.umask(0o022)
    for which, wanted in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(which, (limit, limit))
    if order.uid >= 0:
        change_account(order.uid, order.gid)


def unpack_here(name: str, max_bytes: int) -> None:
    """Unpacks the standard input below the working directory.

    Raises RefusedError, TooLargeError, OSError and MemoryError.
    """
    left = max_bytes
    try:
        with (
            os.fdopen(os.dup(0), "rb") as stream,
            tarfile.open(fileobj=stream, mode="r:*") as tar,
        ):
            for count, member in enumerate(tar):
                # tarfile keeps all members for random access; drop them to bound memory.
                tar.members = []  # type: ignore[attr-defined]
                if count >= MAX_MEMBERS:
                    raise RefusedError(f"more than {MAX_MEMBERS} files in {name}")
                if member.isreg():
                    left -= member.size
                    if left < 0:
                        raise TooLargeError
                _extract(tar, member)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise RefusedError(f"{name} is not a complete tar archive: {error}") from error
    except ValueError as error:
        raise RefusedError(f"{name} is not a readable tar archive: {error}") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = _safe_parts(member.name)
    if not parts:
        return
    target = Path(*parts)
    _make_parents(parts)
    if member.isdir():
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            target.unlink()
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        return
    if target.is_dir() and not target.is_symlink():
        raise RefusedError(f"{member.name!r} is a directory and a file in one archive")
    target.unlink(missing_ok=True)
    if member.isreg():
        content = tar.extractfile(member)
        assert content is not None, "a regular file has content"
        with content, target.open("xb") as stream:
            shutil.copyfileobj(content, stream, _CHUNK_BYTES)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    elif member.issym():
        # It may point anywhere: only the payload follows it, with its own rights. Nothing is written
        # through it, and the pilot takes no output behind it.
        target.symlink_to(member.linkname)
    elif member.islnk():
        original = _safe_parts(member.linkname)
        if _is_link_or_below(original) or not Path(*original).is_file():
            raise RefusedError(f"{member.name!r} links to {member.linkname!r}, which is not a file")
        shutil.copy2(Path(*original), target)
    else:
        raise RefusedError(f"{member.name!r} is neither file, directory nor link")


def _safe_parts(name: str) -> list[str]:
    """The parts of a relative name. Raises RefusedError if it leads out of the directory."""
    if name.startswith("/"):
        raise RefusedError(f"{name!r} is an absolute name")
    parts = list(PurePosixPath(name).parts)
    if ".." in parts:
        raise RefusedError(f"{name!r} leads out of the archive")
    return parts


def _make_parents(parts: list[str]) -> None:
    """Creates the directories above a name; refuses links among them, which could lead anywhere."""
    current = Path()
    for part in parts[:-1]:
        current /= part
        if current.is_symlink() or (current.exists() and not current.is_dir()):
            raise RefusedError(f"{'/'.join(parts)!r} lies below a link or a file")
        current.mkdir(exist_ok=True)


def _is_link_or_below(parts: list[str]) -> bool:
    return any(Path(*parts[:length]).is_symlink() for length in range(1, len(parts) + 1))
