"""`pandawn-pcache-hook sync --watch`: reports changes of a pcache until a signal ends it.

With inotify a change is in the catalog within a second. Without it, or at the limit of watches, the stamp
of the cache is checked every few seconds. Either way a full scan runs regularly, for changes that neither
shows.
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

# Interval of full scans.
FULL_SECONDS = 300.0
# pcache makes several changes per file; they are collected for this long.
_GATHER_SECONDS = 0.2
_POLL_SECONDS = 2.0
_RETRY_SECONDS = 10.0
# Share of one CPU that polling a large cache may use.
_POLL_SHARE = 0.05
# Time for the last report before the end.
_FLUSH_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Ending:
    """The signal that ends the command; `descriptor` is readable after it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.name = ""

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        del frame
        self.name = self.name or signal.Signals(number).name

    def wait(self, seconds: float) -> None:
        """Sleeps, at most until a signal arrives."""
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
    """Reports until SIGTERM, SIGINT or SIGHUP; returns the message to print."""
    catalog = CatalogLoop(reporter, log)
    with _ending() as ending:
        catalog.start()
        try:
            follower = _Follower(books, catalog, ending, log)
            follower.follow(use_inotify=use_inotify)
            is_reported = catalog.flush(_FLUSH_SECONDS)
        finally:
            # A server that does not respond must not delay the end.
            catalog.stop(connection.close)
    rest = "all changes are reported" if is_reported else "the next sync reports the rest"
    return f"ended by {ending.name}; {rest}"


class _Follower:
    """Updates the books from the tree, and triggers reports."""

    def __init__(self, books: Books, catalog: CatalogLoop, ending: _Ending, log: Log) -> None:
        self._books = books
        self._catalog = catalog
        self._ending = ending
        self._log = log
        self._full_at = 0.0
        self._scan_seconds = 0.0

    def follow(self, *, use_inotify: bool) -> None:
        """Runs until a signal."""
        if use_inotify:
            try:
                self._follow_events()
            except WatchError as error:
                self._log.warning("checking every few seconds instead of watching: %s", error)
        self._follow_stamp()

    def _follow_events(self) -> None:
        with Inotify() as inotify:
            cache = self._books.place.cache
            tree = WatchedTree(inotify, str(cache))
            while not self._ending.name:
                changed = tree.changed()
                # A cache that was created again is not watched yet.
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
        # Even without changes: the catalog may have lost its data.
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
        # For example a full disk or missing permissions: it may be temporary.
        self._log.warning("cannot scan the cache, retrying: %s", error)
        self._full_at = time.monotonic() + _RETRY_SECONDS
