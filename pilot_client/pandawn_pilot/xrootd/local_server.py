"""The node's own XRootD server: finds files there, so that they need no remote transfer.

Such a file is copied into the job's directory. It is not stored in the node cache: it would use space on
the node twice. The payload gets no URL: its inputs are always files, and only a copy can be verified.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from pandawn_client.file_version import VersionKind, parse_version
from pandawn_pilot.catalog.file_names import rucio_path
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.logs import Log
from pandawn_pilot.stop import Stop
from pandawn_transports.xrootd.address import Location, parse_location
from pandawn_transports.xrootd.command import XrootdError, XrootdFault
from pandawn_transports.xrootd.files import ListedFile, list_tree, stat_of

# Pause after an error of the server.
REST_SECONDS = 60.0
# Shortest interval between listings, and the largest share of the time for them.
LIST_SECONDS = 60.0
LIST_SHARE = 0.05

# Kinds of versions that identify a file on any server, by its content or by its name.
_ANYWHERE_BY_NAME = frozenset({VersionKind.SHA256, VersionKind.UNIQUE})


class LocalServer:
    """The files below `top` on this node's server; thread-safe, used by all jobs of a pilot."""

    def __init__(self, top: Location, log: Log) -> None:
        self.top = top
        self._log = log
        self._lock = threading.Lock()
        self._listed: dict[str, list[ListedFile]] = {}
        self._next_list = float("-inf")
        self._next_question = float("-inf")

    def find(self, url: str, wanted: CachedFile, stop: Stop, *, search: bool) -> str | None:
        """The URL of the wanted file on this server; None if it is not there, or after an error.

        `url` is the task's URL of the file. Only paths are tried where a file of the wanted size must be
        the wanted one, given that the caller verifies its content: any path if the checksum proves it;
        else the same path as in `url`, or Rucio's path of an immutable name. `search` also uses a listing
        of the server, which may be a minute old. Raises StoppedError.
        """
        if time.monotonic() < self._next_question:
            return None
        try:
            for path in self._likely_paths(url, wanted):
                if self._holds(path, wanted, stop):
                    return self.top.server.url_of(path)
            if search:
                for path in self._listed_paths(wanted, stop):
                    if self._holds(path, wanted, stop):
                        return self.top.server.url_of(path)
        except XrootdError as error:
            self._log.warning("not using this node's XRootD server for a minute: %s", error)
            self._next_question = time.monotonic() + REST_SECONDS
        return None

    def _likely_paths(self, url: str, wanted: CachedFile) -> list[str]:
        """The path in the task's URL, Rucio's path, and that of the LFN; without duplicates."""
        top = self.top.path.rstrip("/")
        kind = parse_version(wanted.version).kind
        paths: list[str] = []
        try:
            elsewhere = parse_location(url).path
        except ValueError:
            # Not a root: URL.
            elsewhere = ""
        if elsewhere.startswith(f"{top}/") and kind is not VersionKind.UNKNOWN:
            paths.append(elsewhere)
        if wanted.scope and kind in _ANYWHERE_BY_NAME:
            paths.append(f"{top}/{rucio_path(wanted.scope, wanted.lfn)}")
        if kind is VersionKind.SHA256:
            paths.append(f"{top}/{wanted.lfn}")
        return list(dict.fromkeys(paths))

    def _holds(self, path: str, wanted: CachedFile, stop: Stop) -> bool:
        try:
            found = stat_of(Location(self.top.server, path), stop)
        except XrootdError as error:
            if error.fault in (XrootdFault.MISSING, XrootdFault.FORBIDDEN):
                return False
            raise
        version = parse_version(wanted.version)
        if version.kind is VersionKind.MODIFY_TIME:
            # The same path on a replica's server, with the same time.
            seconds = (version.modify_time_ns or 0) // 10**9
            return (found.size_bytes, found.modify_time) == (wanted.size_bytes, seconds)
        return found.size_bytes == wanted.size_bytes

    def _listed_paths(self, wanted: CachedFile, stop: Stop) -> Iterator[str]:
        with self._lock:
            begin = time.monotonic()
            if begin >= self._next_list:
                self._listed = {}
                for file in list_tree(self.top, stop):
                    self._listed.setdefault(file.path.rpartition("/")[2], []).append(file)
                took = time.monotonic() - begin
                self._next_list = begin + max(LIST_SECONDS, took / LIST_SHARE)
            files = self._listed.get(wanted.lfn.rpartition("/")[2], [])
        kind = parse_version(wanted.version).kind
        if kind not in _ANYWHERE_BY_NAME:
            return
        end = wanted.lfn if kind is VersionKind.SHA256 else rucio_path(wanted.scope, wanted.lfn)
        for file in files:
            if file.path.endswith(f"/{end}") and file.size_bytes == wanted.size_bytes:
                yield file.path
