"""The versions of files on an XRootD server, in the form in which tasks name them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pandawn_client.file_version import UNIQUE, file_version
from pandawn_pilot.logs import Log
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.stop import Stop
from pandawn_transports.xrootd.address import Location
from pandawn_transports.xrootd.command import XrootdError
from pandawn_transports.xrootd.files import ListedFile, checksum_of

FORMAT_VERSION = 1
# Time for checksum requests per scan; remaining files have no version until the next.
_ASK_SECONDS = 60.0

# The version of a file in a scope; empty if unknown, so that it never counts as a hit.
VersionOf = Callable[[ListedFile, str], str]


@dataclass(frozen=True)
class TaskNaming:
    """How tasks name the files of a server.

    `source_url` is the URL prefix in tasks, empty if unknown. In `immutable_scopes` the name is enough.
    `by_checksum`: tasks use the server's checksums; else the modification times.
    """

    source_url: str = ""
    immutable_scopes: frozenset[str] = frozenset()
    by_checksum: bool = False


class Versions:
    """The versions of files below `top`. Checksums are cached at `path`."""

    def __init__(self, naming: TaskNaming, top: Location, path: Path, log: Log) -> None:
        self._naming = naming
        self._top = top
        self._path = path
        self._log = log

    def among(self, listed: Iterable[ListedFile], stop: Stop | None) -> VersionOf:
        """Requests missing checksums; returns the function for versions. Raises OSError."""
        checksums: dict[str, str] = {}
        if self._naming.source_url and self._naming.by_checksum:
            checksums = self._ask(list(listed), stop)

        def version_of(file: ListedFile, scope: str) -> str:
            return self._version(file, scope, checksums.get(file.path, ""))

        return version_of

    def _version(self, file: ListedFile, scope: str, checksum: str) -> str:
        if scope in self._naming.immutable_scopes:
            return UNIQUE
        if not self._naming.source_url:
            return ""
        below = file.path.removeprefix(self._top.path.rstrip("/")).lstrip("/")
        url = f"{self._naming.source_url.rstrip('/')}/{below}"
        try:
            url.encode()
        except UnicodeEncodeError:
            return ""
        if self._naming.by_checksum:
            return file_version(url, checksum=checksum) if checksum else ""
        return file_version(url, modify_time_ns=file.modify_time * 10**9 or None)

    def _ask(self, listed: list[ListedFile], stop: Stop | None) -> dict[str, str]:
        """Checksums by path. Only new and changed files are requested."""
        before = _read(self._path)
        known: dict[str, list[object]] = {}
        deadline = time.monotonic() + _ASK_SECONDS
        for file in listed:
            marks: list[object] = [file.size_bytes, file.modify_time]
            row = before.get(file.path)
            if row is not None and row[:2] == marks:
                known[file.path] = row
            elif time.monotonic() < deadline:
                try:
                    checksum = checksum_of(Location(self._top.server, file.path), stop)
                except XrootdError as error:
                    self._log.warning("%s", error)
                    continue
                known[file.path] = [*marks, checksum]
        if known != before:
            replace_text(self._path, json.dumps({"version": FORMAT_VERSION, "files": known}))
        return {path: str(row[2]) for path, row in known.items()}


def _read(path: Path) -> dict[str, list[object]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != FORMAT_VERSION:
            return {}
        return {str(name): list(row) for name, row in document["files"].items() if len(row) == 3}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}
