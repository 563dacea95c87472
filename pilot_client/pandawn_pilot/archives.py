"""Tar archives: unpacked without trusting them, packed so that equal trees give equal bytes."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pandawn_pilot.errors import BAD_ARCHIVE, WORK_DIR_TOO_LARGE, JobFailedError
from pandawn_pilot.stop import Stop

# More files than any user's code has, fewer than a disk has inodes.
MAX_MEMBERS = 200_000


def unpack(archive: Path, directory: Path, *, max_bytes: int, stop: Stop) -> None:
    """Unpacks a tar archive, compressed or not, below `directory`; `max_bytes` 0 means no limit.

    Nothing is written outside `directory` whatever the archive says: absolute names, `..`, devices
    and links that lead out are refused, and no name is followed through a link. Owners are not
    restored, set-user-ID bits are dropped. Raises JobFailedError (BAD_ARCHIVE,
    WORK_DIR_TOO_LARGE), OSError and StoppedError.
    """
    left = max_bytes if max_bytes > 0 else None
    links: list[Path] = []
    try:
        with tarfile.open(archive, "r:*") as tar:
            for count, member in enumerate(tar):
                stop.check()
                if count >= MAX_MEMBERS:
                    raise JobFailedError(
                        BAD_ARCHIVE, f"more than {MAX_MEMBERS} files in {archive.name}"
                    )
                if left is not None and member.isreg():
                    left -= member.size
                    if left < 0:
                        raise JobFailedError(
                            WORK_DIR_TOO_LARGE,
                            f"{archive.name} unpacks to more than {max_bytes} bytes",
                        )
                _extract(tar, member, directory, links)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise JobFailedError(
            BAD_ARCHIVE, f"{archive.name} is not a whole tar archive: {error}"
        ) from error
    _check_links(links, directory)


def pack(
    directory: Path,
    archive: Path,
    stop: Stop,
    may_take: Callable[[os.stat_result], bool] = lambda _: True,
) -> None:
    """Packs all below `directory` into a gzip-compressed tar archive that depends on it alone.

    Times, owners and the order of the directory are left out; so are sockets, pipes and devices,
    and files that `may_take` refuses.
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _walk(directory):
            stop.check()
            member = tar.gettarinfo(path, arcname=str(path.relative_to(directory)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = 0
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            # A second name of one file is stored as a file: its first name may lie outside.
            if member.islnk():
                member.type, member.linkname = tarfile.REGTYPE, ""
                member.size = path.stat().st_size
            if member.isreg():
                if not may_take(path.stat()):
                    continue
                with path.open("rb") as content:
                    tar.addfile(member, content)
            else:
                tar.addfile(member)


def _walk(directory: Path) -> list[Path]:
    found: list[Path] = []
    for parent, directories, files in os.walk(directory):
        directories.sort()
        for name in [*directories, *files]:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                found.append(path)
    return sorted(found)


def _extract(
    tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path, links: list[Path]
) -> None:
    parts = _safe_parts(member.name)
    if not parts:
        return
    target = directory.joinpath(*parts)
    _make_parents(directory, parts)
    if member.isdir():
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            target.unlink()
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        return
    if target.is_dir() and not target.is_symlink():
        raise JobFailedError(
            BAD_ARCHIVE, f"{member.name!r} is a directory and a file in one archive"
        )
    target.unlink(missing_ok=True)
    if member.isreg():
        content = tar.extractfile(member)
        assert content is not None, "a regular file has content"
        with content, target.open("xb") as stream:
            shutil.copyfileobj(content, stream, 1024 * 1024)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    elif member.issym():
        _safe_parts(str(PurePosixPath(*parts[:-1], member.linkname)), of=member.name)
        target.symlink_to(member.linkname)
        links.append(target)
    elif member.islnk():
        original = directory.joinpath(*_safe_parts(member.linkname))
        if original.is_symlink() or not original.is_file():
            raise JobFailedError(
                BAD_ARCHIVE, f"{member.name!r} links to {member.linkname!r}, no file"
            )
        shutil.copy2(original, target)
    else:
        raise JobFailedError(BAD_ARCHIVE, f"{member.name!r} is neither file, directory nor link")


def _safe_parts(name: str, of: str = "") -> list[str]:
    """The parts of a name below the directory. Raises JobFailedError if it leads out."""
    shown = f"{of!r}, a link to {name!r}," if of else f"{name!r}"
    if name.startswith("/"):
        raise JobFailedError(BAD_ARCHIVE, f"{shown} is an absolute name")
    parts: list[str] = []
    for part in PurePosixPath(name).parts:
        if part != "..":
            parts.append(part)
        elif of and parts:
            parts.pop()
        else:
            raise JobFailedError(BAD_ARCHIVE, f"{shown} leads out of the archive")
    return parts


def _make_parents(directory: Path, parts: list[str]) -> None:
    """Makes the directories above a name; none of them may be a link, which could lead anywhere."""
    current = directory
    for part in parts[:-1]:
        current /= part
        if current.is_symlink() or (current.exists() and not current.is_dir()):
            raise JobFailedError(BAD_ARCHIVE, f"{'/'.join(parts)!r} lies below a link or a file")
        current.mkdir(exist_ok=True)


def _check_links(links: list[Path], directory: Path) -> None:
    """Looks where the links really lead: names through other links can fool the first look."""
    root = directory.resolve()
    for link in links:
        # A link may be replaced by a later member of the same name.
        if not link.is_symlink():
            continue
        try:
            inside = link.resolve().is_relative_to(root)
        except RuntimeError:
            # Links in a circle lead nowhere.
            inside = True
        if not inside:
            link.unlink()
            raise JobFailedError(
                BAD_ARCHIVE, f"{link.relative_to(directory)} links to outside the archive"
            )
