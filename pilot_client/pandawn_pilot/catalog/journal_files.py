"""The two files of a journal and their format: a base, and the changes that follow it.

`index.json` holds the epoch, the number of the last change it includes, and the files. The changes
that follow are lines of `changes-<epoch>-<number>.jsonl`. As the first file's content determines the
name of the second, replacing `index.json` switches both atomically.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.node.durable import replace_text, share

FORMAT_VERSION = 2


class Operation(Enum):
    """The kind of a change."""

    ADD = "add"
    DELETE = "del"


@dataclass(frozen=True)
class Change:
    """One change of a cache, the `number`th of its epoch; `digest` is the cache's after it."""

    number: int
    operation: Operation
    file: CachedFile
    digest: int


@dataclass(frozen=True)
class Base:
    """All files of a cache in an epoch after change `number`."""

    epoch: int
    number: int
    files: tuple[CachedFile, ...]


@dataclass(frozen=True)
class Signature:
    """Identifies a version of `index.json` without reading it."""

    inode: int
    mtime_ns: int
    size: int


def new_epoch() -> int:
    """A random epoch, never zero."""
    return secrets.randbits(64) or 1


def index_path(directory: Path) -> Path:
    """The path of the base."""
    return directory / "index.json"


def changes_path(directory: Path, epoch: int, number: int) -> Path:
    """The path of the changes after a base."""
    return directory / f"changes-{epoch:016x}-{number}.jsonl"


def signature(directory: Path) -> Signature | None:
    """The signature of the base; None if it is missing."""
    try:
        stat = index_path(directory).stat()
    except FileNotFoundError:
        return None
    return Signature(stat.st_ino, stat.st_mtime_ns, stat.st_size)


def read_base(directory: Path) -> Base | None:
    """Reads the base; None when it is missing, damaged or of another version."""
    try:
        document = json.loads(index_path(directory).read_text(encoding="utf-8"))
        if document["version"] != FORMAT_VERSION:
            return None
        files = tuple(_file_of(row) for row in document["files"])
        return Base(int(document["epoch"], 16), int(document["number"]), files)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_base(directory: Path, base: Base) -> None:
    """Replaces the base and removes the changes of the previous one."""
    document = {
        "version": FORMAT_VERSION,
        "epoch": f"{base.epoch:016x}",
        "number": base.number,
        "files": [_row_of(file) for file in base.files],
    }
    replace_text(index_path(directory), json.dumps(document, ensure_ascii=False), sync=True)
    current = changes_path(directory, base.epoch, base.number)
    for old in directory.glob("changes-*.jsonl"):
        if old != current:
            old.unlink(missing_ok=True)


def change_line(number: int, operation: Operation, file: CachedFile) -> bytes:
    """One change as a line."""
    row: list[object] = [number, operation.value, *_row_of(file)]
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def read_changes(path: Path, offset: int) -> tuple[list[tuple[int, Operation, CachedFile]], int]:
    """Reads the complete lines from `offset`; returns the changes, and where the lines end.

    An incomplete line of a writer that died is not a change: it is skipped here, and the next writer
    truncates it.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read()
    except FileNotFoundError:
        return [], 0
    end = content.rfind(b"\n") + 1
    changes: list[tuple[int, Operation, CachedFile]] = []
    for line in content[:end].splitlines():
        number, operation, *row = json.loads(line)
        changes.append((int(number), Operation(operation), _file_of(row)))
    return changes, offset + end


def append_lines(path: Path, offset: int, lines: Iterable[bytes]) -> int:
    """Writes lines at `offset`, the end of the last complete line; returns the new end.

    No fsync: after a power cut, the digest shows the catalog that lines are missing, and it requests an
    inventory. That is cheaper than a sync for each file.
    """
    content = b"".join(lines)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        share(descriptor, path.parent)
        os.ftruncate(descriptor, offset)
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], offset + written)
    finally:
        os.close(descriptor)
    return offset + len(content)


def _row_of(file: CachedFile) -> list[str | int]:
    return [file.scope, file.lfn, file.size_bytes, file.guid, file.checksum, file.version]


def _file_of(row: list[str | int]) -> CachedFile:
    scope, lfn, size_bytes, guid, checksum, version = row
    return CachedFile(
        lfn=str(lfn),
        size_bytes=int(size_bytes),
        scope=str(scope),
        guid=str(guid),
        checksum=str(checksum),
        version=str(version),
    )
