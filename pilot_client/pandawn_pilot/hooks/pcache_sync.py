"""`pandawn-pcache-hook sync`: reports a site's pcache to the catalog, once or continuously."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable

import grpc

from pandawn_client.connection import Connection
from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import CatalogClient
from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.hooks.command import Commands, UsageError, add_command, node_of, server_of
from pandawn_pilot.hooks.session import connect, helps_to_repeat
from pandawn_pilot.logs import Log, make_log
from pandawn_pilot.pcache.books import Books, Holding
from pandawn_pilot.pcache.layout import Place

# pcache's cleaner runs on after pcache: the sync waits until it has changed nothing for this long ...
_QUIET_SECONDS = 2.0
# ... but at most this long; the next sync reports the rest.
_SETTLE_SECONDS = 120.0
_SETTLE_POLL_SECONDS = 0.5


def add_sync(commands: Commands[argparse.ArgumentParser], epilog: str) -> None:
    """Adds the sub-command."""
    what = "report a pcache: the changes since the last report, or all files"
    sync = add_command(commands, "sync", run_sync, what, epilog)
    sync.add_argument(
        "--scratch-dir",
        required=True,
        metavar="DIR",
        help="as pcache's --scratch-dir; the cache is DIR/pcache",
    )
    sync.add_argument(
        "--lfn-depth",
        type=_depth,
        metavar="N",
        help="an LFN is the last N parts of the source's path (default: as before, or 1)",
    )
    sync.add_argument(
        "--rucio",
        action="store_true",
        default=None,
        help="take scope and name from Rucio's deterministic paths (default: as before)",
    )
    how = sync.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="run on, and report each change at once")
    how.add_argument(
        "--settle", action="store_true", help="report again after pcache's cleaner has finished"
    )
    sync.add_argument(
        "--poll",
        action="store_true",
        help="with --watch: check every few seconds instead of using inotify",
    )


def run_sync(given: argparse.Namespace) -> str:
    """Runs the sub-command; returns the message to print. Raises UsageError and CallError."""
    node = node_of(given)
    # A missing server is the first error to report.
    server_of(given)
    # Logs failures only; as a service, all events.
    log = make_log(as_json=False, node=node, level=logging.INFO if given.watch else logging.WARNING)
    books = open_books(given, log)
    connection = connect(given)
    try:
        client = CatalogClient(connection, given.site, node)
        reporter = CatalogReporter(books.reported(), client, log)
        if given.watch:
            from pandawn_pilot.hooks.pcache_watch import watch

            return watch(books, reporter, connection, log, use_inotify=not given.poll)

        def sync_once() -> Holding:
            return _sync_once(books, reporter, connection, given.timeout)

        holding = sync_once()
        if given.settle:
            _say_done()
            holding = _settle(books, holding, sync_once)
    except OSError as error:
        raise _unusable(books.place, error) from error
    finally:
        connection.close()
    left_out = f"; {holding.unnamed_count} without a usable name" if holding.unnamed_count else ""
    count = "1 file" if holding.file_count == 1 else f"{holding.file_count} files"
    return (
        f"{count}, {holding.total_bytes} bytes, in {books.place.root}{left_out}:"
        f" reported to the catalog for {node} at {given.site}"
    )


def open_books(given: argparse.Namespace, log: Log) -> Books:
    """Opens the books of the pcache that the options name. Raises UsageError."""
    place = Place(os.path.abspath(given.scratch_dir))  # noqa: PTH100 (links are to stay)
    naming = None
    if given.lfn_depth is not None or given.rucio is not None:
        naming = Naming(given.lfn_depth or 1, bool(given.rucio))
    try:
        return Books(place, naming, log)
    except OSError as error:
        raise _unusable(place, error) from error


def _sync_once(
    books: Books, reporter: CatalogReporter, connection: Connection, patience_seconds: float
) -> Holding:
    """Scans and reports, with retries. Raises CallError."""
    deadline = time.monotonic() + patience_seconds
    holding, _ = books.scan()
    backoff = Backoff()
    while True:
        try:
            _report(reporter, max(deadline - time.monotonic(), 1.0))
            return holding
        except CallError as failure:
            pause = backoff.next_pause(failure.retry_after)
            if not helps_to_repeat(failure, connection) or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)


def _report(reporter: CatalogReporter, wait_seconds: float) -> None:
    # Even without a change: the catalog may have lost its data.
    reporter.ask_inventory()
    if not reporter.report(wait_seconds):
        text = "another process is still reporting this cache"
        raise CallError(grpc.StatusCode.UNAVAILABLE, "BUSY", text, transient=True)


def _settle(books: Books, holding: Holding, sync_once: Callable[[], Holding]) -> Holding:
    """Reports again while something changes."""
    end = time.monotonic() + _SETTLE_SECONDS
    stamp, quiet_since = books.place.stamp(), time.monotonic()
    while time.monotonic() < min(end, quiet_since + _QUIET_SECONDS):
        time.sleep(_SETTLE_POLL_SECONDS)
        now = books.place.stamp()
        if now != stamp:
            stamp, quiet_since = now, time.monotonic()
            holding = sync_once()
    return holding


def _say_done() -> None:
    """Tells the parent process that the first report is sent, and closes its streams."""
    with contextlib.suppress(OSError):
        sys.stdout.write("reported\n")
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _unusable(place: Place, error: OSError) -> UsageError:
    text = f"cannot write the state of {place.root} to {place.books}: {error}"
    return UsageError("UNUSABLE_DIRECTORY", text)


def _depth(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100")
    return int(text)
