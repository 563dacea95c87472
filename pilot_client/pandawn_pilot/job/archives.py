"""Tar archives: untrusted ones are unpacked safely; equal trees are packed into equal bytes."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pandawn_pilot.errors import (
    BAD_ARCHIVE,
    FILE_SIZE_LIMITED,
    LIBRARY_NOT_PACKED,
    NO_LOCAL_SPACE,
    PAYLOAD_NOT_STARTED,
    WORK_DIR_TOO_LARGE,
    JobFailedError,
)
from pandawn_pilot.job.unpacking import CPU_SECONDS, Order
from pandawn_pilot.node.disk_use import free_bytes
from pandawn_pilot.payload.command import without_secrets
from pandawn_pilot.sizes import size_text
from pandawn_pilot.stop import Stop
from pandawn_transports.account import Account

_CODE = Path(__file__).parents[2]
_UNPACK = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from pandawn_pilot.job.unpacking import main; sys.exit(main())"
)
# Share of the free disk that one archive may fill, as other jobs write to it, too.
_SHARE = 0.9
_POLL_SECONDS = 0.1
_SHOWN_CHARACTERS = 300
# Errors of the disk that holds the archive, not of the files that are packed.
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
# Signals from outside: the archive is not why the process died.
_OTHERS_SIGNALS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})


def unpack(
    archive: Path, directory: Path, *, max_bytes: int, stop: Stop, account: Account | None = None
) -> None:
    """Unpacks a tar archive, compressed or not, below `directory`; `max_bytes` 0: limited by the disk only.

    A separate process does it, bounded in memory and time, under `account`, which then owns the files;
    None: the pilot's account. Nothing is written outside `directory`: absolute names, `..` and devices
    are refused, and links are not followed. Links themselves may point anywhere, as those of virtual
    environments do. Owners are not restored, set-user-ID bits are dropped. Raises JobFailedError
    (BAD_ARCHIVE, WORK_DIR_TOO_LARGE, NO_LOCAL_SPACE, PAYLOAD_NOT_STARTED), OSError and StoppedError.
    """
    room = int(free_bytes(directory) * _SHARE)
    limit = min(max_bytes, room) if max_bytes > 0 else room
    result = _run(archive, directory, limit, account, stop)
    if "too_large" in result:
        fault = WORK_DIR_TOO_LARGE if limit == max_bytes else NO_LOCAL_SPACE
        raise JobFailedError(fault, f"{archive.name} unpacks to more than {size_text(limit)}")
    if "refused" in result:
        raise JobFailedError(BAD_ARCHIVE, str(result["refused"]))
    if "errno" in result:
        number = int(result["errno"])
        if number in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENOTDIR):
            raise JobFailedError(
                BAD_ARCHIVE,
                f"{archive.name} has a name that this node cannot create: {result['text']}",
            )
        if number == errno.EFBIG:
            raise JobFailedError(
                FILE_SIZE_LIMITED,
                f"a file in {archive.name} exceeds the batch system's file size limit",
            )
        raise OSError(number, f"{archive.name} cannot be unpacked: {result['text']}")


def _run(
    archive: Path, directory: Path, limit: int, account: Account | None, stop: Stop
) -> dict[str, str | int]:
    """Unpacks in another process; returns its result. Raises JobFailedError and StoppedError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ids = (-1, -1) if account is None else (account.uid, account.gid)
        if account is not None:
            os.fchown(opened, account.uid, account.gid)
        order = Order(opened, archive.name, limit, *ids)
        with archive.open("rb") as stream:
            try:
                child = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", "-X", "utf8", "-c"),
                        *(_UNPACK, str(_CODE), json.dumps(asdict(order))),
                    ],
                    stdin=stream,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(opened,),
                    start_new_session=True,
                    env=without_secrets(os.environ),
                )
            except OSError as error:
                raise JobFailedError(
                    PAYLOAD_NOT_STARTED, f"the node could not start a process to unpack: {error}"
                ) from error
    finally:
        os.close(opened)
    try:
        while True:
            stop.check()
            try:
                answer, _ = child.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        child.kill()
        child.communicate()
        raise
    if child.returncode == 0 and answer:
        result: dict[str, str | int] = json.loads(answer)
        return result
    if child.returncode == -signal.SIGXCPU:
        return {"refused": f"{archive.name} took more than {CPU_SECONDS} s to unpack"}
    if -child.returncode in _OTHERS_SIGNALS:
        raise JobFailedError(
            PAYLOAD_NOT_STARTED,
            f"the process that unpacks {archive.name} was killed by signal {-child.returncode}",
        )
    return {"refused": f"unpacking {archive.name} failed with status {child.returncode}"}


def pack(
    directory: Path,
    archive: Path,
    stop: Stop,
    may_take: Callable[[os.stat_result], bool] = lambda _: True,
) -> None:
    """Packs all below `directory` into a reproducible gzip-compressed tar archive.

    Times, owners and the order of the directory are left out; so are sockets, pipes and devices,
    and files that `may_take` refuses. Links stay links. Absolute links to something below `directory`
    become relative, as another job's directory has another path. Raises JobFailedError
    (LIBRARY_NOT_PACKED) for a file that cannot be read, OSError for an archive that cannot be written.
    """
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _walk(directory):
            stop.check()
            try:
                _add(tar, path, directory, may_take)
            except OSError as error:
                if error.errno in _OF_THE_DISK:
                    raise
                raise _not_packed(path, directory, error) from error


def _add(
    tar: tarfile.TarFile,
    path: Path,
    directory: Path,
    may_take: Callable[[os.stat_result], bool],
) -> None:
    member = tar.gettarinfo(path, arcname=str(path.relative_to(directory)))
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    if member.issym():
        member.linkname = _movable(member.linkname, path, directory)
    # A hard link is stored as a file, as its first name may be outside.
    if member.islnk():
        member.type, member.linkname = tarfile.REGTYPE, ""
        member.size = path.stat().st_size
    if member.isreg():
        if may_take(path.stat()):
            with path.open("rb") as content:
                tar.addfile(member, content)
    else:
        tar.addfile(member)


def _movable(target: str, link: Path, directory: Path) -> str:
    """The target of a link, relative if it is below `directory`."""
    if not Path(target).is_relative_to(directory):
        return target
    return os.path.relpath(target, link.parent)


def _walk(directory: Path) -> list[Path]:
    found: list[Path] = []

    def fail(error: OSError) -> None:
        raise _not_packed(Path(error.filename), directory, error)

    for parent, directories, files in os.walk(directory, onerror=fail):
        directories.sort()
        for name in [*directories, *files]:
            path = Path(parent, name)
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                raise _not_packed(path, directory, error) from error
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                found.append(path)
    return sorted(found)


def _not_packed(path: Path, directory: Path, error: OSError) -> JobFailedError:
    name = str(path.relative_to(directory))
    shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..."
    return JobFailedError(
        LIBRARY_NOT_PACKED, f"{shown!r} of the library cannot be packed: {error.strerror or error}"
    )
