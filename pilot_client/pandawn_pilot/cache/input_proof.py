"""Verifies that a file is the one that a task names, by its source and by its content."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn_client.file_version import (
    VersionKind,
    file_version,
    is_version,
    parse_version,
    source_mark,
)
from pandawn_pilot.cache.entry import proofs
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.errors import (
    INPUT_CHANGED,
    INPUT_CHECKSUM_MISMATCH,
    INPUT_SIZE_MISMATCH,
    JobFailedError,
)
from pandawn_pilot.stop import Stop
from pandawn_transports.base import SourceStat
from pandawn_transports.checksums import FileSums, agrees, read_sums

_SECOND_NS = 10**9
# File systems whose inode numbers differ between machines.
_OWN_INODES = ("fuse", "9p", "overlay", "cifs", "smb")


def wanted_file(item: InputFile, source: SourceStat | None = None) -> CachedFile:
    """The input's file for the cache; a missing version is derived from the source."""
    file = item.file
    version = file.version if is_version(file.version) else ""
    if not version:
        version = file_version(
            item.url,
            checksum=file.checksum if is_version(f"{file.checksum}@{'0' * 32}") else "",
            modify_time_ns=source.mtime_ns if source is not None and source.mtime_ns else None,
            inode=0 if source is None else source.inode,
        )
    return CachedFile(
        file.lfn,
        file.size_bytes,
        file.scope,
        file.guid,
        file.checksum,
        version,
        listed=not item.library,
    )


def check_source(item: InputFile, version: str, source: SourceStat) -> None:
    """Raises JobFailedError (INPUT_CHANGED) if the source differs from the submitted file."""
    submitted = parse_version(version)
    if source.size_bytes != item.file.size_bytes:
        what = f"has {source.size_bytes} bytes, the task says {item.file.size_bytes}"
    elif submitted.kind is VersionKind.MODIFY_TIME and not _same_time(
        submitted.modify_time_ns or 0, source.mtime_ns
    ):
        what = "was modified after the task was submitted"
    elif (
        submitted.inode
        and source.inode
        and submitted.inode != source.inode
        # Under another URL, or another kind of mount, the number may differ.
        and submitted.source == source_mark(item.url)
        and not _has_own_inodes(source.device)
    ):
        what = "was replaced by another file after the task was submitted"
    else:
        return
    raise JobFailedError(INPUT_CHANGED, changed_text(item.url, what))


def changed_text(url: str, what: str) -> str:
    """The message for a source that differs from the submitted file."""
    return f"{url} {what}; submit the task again with the file as it is now"


def check_content(data: Path, wanted: CachedFile, stop: Stop) -> FileSums:
    """Reads a file. Raises JobFailedError unless it has the wanted size and checksums."""
    sums = read_sums(data, proofs(wanted), stop=stop)
    if sums.size_bytes != wanted.size_bytes:
        raise JobFailedError(
            INPUT_SIZE_MISMATCH,
            f"{wanted.lfn} arrived with {sums.size_bytes} bytes, expected {wanted.size_bytes}",
        )
    for checksum in proofs(wanted):
        if not agrees(sums, checksum):
            arrived = sums.sha256 or sums.md5 or sums.adler32
            raise JobFailedError(
                INPUT_CHECKSUM_MISMATCH,
                f"{wanted.lfn} arrived with {arrived}, expected {checksum}",
            )
    return sums


def _same_time(submitted_ns: int, found_ns: int) -> bool:
    if found_ns % _SECOND_NS == 0 or submitted_ns % _SECOND_NS == 0:
        # One of the two protocols returns whole seconds only.
        return submitted_ns // _SECOND_NS == found_ns // _SECOND_NS
    return submitted_ns == found_ns


def _has_own_inodes(device: int) -> bool:
    return _file_system(device).startswith(_OWN_INODES)


@lru_cache(maxsize=64)
def _file_system(device: int) -> str:
    """The type of a mounted file system by its device; empty if unknown."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in lines.splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == number:
            return rest.split()[0]
    return ""
