"""The node's own XRootD server: finds out whether it holds a file, so that the file need not come from elsewhere.

Such a file is copied from the server into the job's directory. It is not kept in the node cache:
there it would be on the node twice, in the place of something else. And the payload is not handed a
URL: it finds its inputs as files, whatever they came from, and only a copy can be checked.
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

# A server that gave trouble is left alone for so long.
REST_SECONDS = 60.0
# A new list at most this often, and never more than this share of the time.
LIST_SECONDS = 60.0
LIST_SHARE = 0.05

# Versions that a file has wherever it lies: by its content, or by its name alone.
_ANYWHERE_BY_NAME = frozenset({VersionKind.SHA256, VersionKind.UNIQUE})


class LocalServer:
    """What lies below `top` on this node's server; used by all jobs of a pilot."""

    def __init__(self, top: Location, log: Log) -> None:
        self.top = top
        self._log = log
        self._lock = threading.Lock()
        self._listed: dict[str, list[ListedFile]] = {}
        self._next_list = float("-inf")
        self._next_question = float("-inf")

    def find(self, url: str, wanted: CachedFile, stop: Stop, *, search: bool) -> str | None:
        """URL of the wanted file on this server, None when it does not hold it or does not answer.

        `url` is where the task says that the file is. Only places are looked at where a file of the
        wanted size would be the wanted one, given that the caller checks its content: all, where
        that proves it; else its own place on another server, or that which Rucio gives to an
        immutable name. With `search` that goes by a list, too, which may be a minute old. Raises
        StoppedError.
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
            self._log.warning("this node's own server is not asked for some time: %s", error)
            self._next_question = time.monotonic() + REST_SECONDS
        return None

    def _likely_paths(self, url: str, wanted: CachedFile) -> list[str]:
        """The path that the file has elsewhere, Rucio's, and that of its LFN; each once."""
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
        told = parse_version(wanted.version)
        if told.kind is VersionKind.MODIFY_TIME:
            # The same path on a replica's server, with the same time.
            seconds = (told.modify_time_ns or 0) // 10**9
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
