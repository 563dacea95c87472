"""`pandawn-pcache-hook sync --watch`: follows a pcache as it changes, until a signal ends it.

With inotify a change is in the catalog within a second. Without it, or when the watches are used
up, the stamp of the cache is looked at every few seconds. Either way all is looked at now and then,
for what neither can see.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pandawn_client.connection import Connection
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.logs import Log
from pandawn_pilot.pcache.books import Books
from pandawn_pilot.pcache.inotify import Inotify, WatchError
from pandawn_pilot.pcache.layout import Stamp
from pandawn_pilot.pcache.watched import WatchedTree

# Between two looks at everything.
FULL_SECONDS = 300.0
# pcache does several things for one file; changes are gathered for so long.
_GATHER_SECONDS = 0.2
_POLL_SECONDS = 2.0
_RETRY_SECONDS = 10.0
# The share of one processor that polling a large cache may take.
_POLL_SHARE = 0.05
# What is pending at the end may take so long.
_GOODBYE_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Ending:
    """Says which signal came; `descriptor` has something to read from then on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.name = ""

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        del frame
        self.name = self.name or signal.Signals(number).name

    def wait(self, seconds: float) -> None:
        """Sleeps, until the signal comes."""
        select.select([self.descriptor], [], [], max(seconds, 0.0))


@contextmanager
def _ending() -> Iterator[_Ending]:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ending = _Ending(reader)
    before = {number: signal.signal(number, ending.take) for number in _SIGNALS}
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield ending
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def watch(
    books: Books,
    reporter: CatalogReporter,
    connection: Connection,
    log: Log,
    *,
    use_inotify: bool,
) -> str:
    """Follows until SIGTERM, SIGINT or SIGHUP; returns what there is to say."""
    catalog = CatalogLoop(reporter, log)
    with _ending() as ending:
        catalog.start()
        try:
            follower = _Follower(books, catalog, ending, log)
            follower.follow(use_inotify=use_inotify)
            is_told = catalog.flush(_GOODBYE_SECONDS)
        finally:
            # A server that does not answer may not keep us from ending.
            catalog.stop(connection.close)
    rest = "all is told" if is_told else "what is left will be told the next time"
    return f"ended by {ending.name}; {rest}"


class _Follower:
    """Brings the books into step with the tree, and has the catalog told."""

    def __init__(self, books: Books, catalog: CatalogLoop, ending: _Ending, log: Log) -> None:
        self._books = books
        self._catalog = catalog
        self._ending = ending
        self._log = log
        self._full_at = 0.0
        self._scan_seconds = 0.0

    def follow(self, *, use_inotify: bool) -> None:
        """Follows until the end."""
        if use_inotify:
            try:
                self._follow_events()
            except WatchError as error:
                self._log.warning("looks every few seconds instead of watching: %s", error)
        self._follow_stamp()

    def _follow_events(self) -> None:
        with Inotify() as inotify:
            cache = self._books.place.cache
            tree = WatchedTree(inotify, str(cache))
            while not self._ending.name:
                changed = tree.changed()
                # One that was made anew is not watched yet.
                is_new = not tree.is_rooted and cache.is_dir()
                if changed is None or is_new or time.monotonic() >= self._full_at:
                    self._scan(tree)
                elif changed:
                    self._look(changed, tree)
                if changed or changed is None:
                    self._ending.wait(_GATHER_SECONDS)
                left = self._full_at - time.monotonic()
                seconds = left if tree.is_rooted else min(left, _POLL_SECONDS)
                inotify.wait(seconds, self._ending.descriptor)

    def _follow_stamp(self) -> None:
        stamp = None
        while not self._ending.name:
            if self._books.place.stamp() != stamp or time.monotonic() >= self._full_at:
                stamp = self._scan(None)
            self._ending.wait(max(_POLL_SECONDS, self._scan_seconds / _POLL_SHARE))

    def _scan(self, tree: WatchedTree | None) -> Stamp | None:
        begin = time.monotonic()
        self._full_at = begin + FULL_SECONDS
        try:
            holding, stamp = self._books.scan(tree.opened if tree is not None else None)
        except OSError as error:
            self._complain(error)
            return None
        self._scan_seconds = time.monotonic() - begin
        self._log.info(
            "%d files, %d bytes, in %.1f s",
            holding.file_count,
            holding.total_bytes,
            self._scan_seconds,
        )
        # Besides what is new: the catalog may have lost what it was told.
        self._catalog.ask_inventory()
        return stamp

    def _look(self, paths: set[str], tree: WatchedTree) -> None:
        try:
            self._books.look(paths, tree.opened)
        except OSError as error:
            self._complain(error)
            return
        for path in paths:
            if self._books.is_settled(path):
                tree.closed(path)
        self._catalog.kick()

    def _complain(self, error: OSError) -> None:
        # Where there is no room for the books, say, or no leave to read: it may pass.
        self._log.warning("cannot look at the cache, trying again: %s", error)
        self._full_at = time.monotonic() + _RETRY_SECONDS
