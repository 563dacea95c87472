"""`pandawn-pcache-hook xrootd`: reports an XRootD server to the catalog, once or continuously."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
from pathlib import Path

from pandawn_client.calls import persist
from pandawn_client.connection import Connection
from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import CatalogClient
from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.node_journal import NodeJournal, beside
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.hooks.command import (
    CacheError,
    Commands,
    UsageError,
    add_command,
    node_of,
    seconds,
    server_of,
    utf8,
)
from pandawn_pilot.hooks.session import connect, helps_to_repeat
from pandawn_pilot.logs import Log, make_log
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_pilot.xrootd.books import Books, Change, books_name
from pandawn_pilot.xrootd.versions import TaskNaming
from pandawn_transports.xrootd.address import Location, clean_path, parse_location, parse_server
from pandawn_transports.xrootd.command import XrootdError, XrootdFault

_DEFAULT_INTERVAL_SECONDS = 60.0
# How often a watcher compares its state with the catalog without changes: a restarted memcached lacks the
# node for this long.
_COMPARE_SECONDS = 300.0
# Longest wait for another process that reports.
_TURN_SECONDS = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_REASONS = {
    XrootdFault.NO_PROGRAM: "NO_XRDFS",
    XrootdFault.UNREACHABLE: "XROOTD_UNREACHABLE",
    XrootdFault.MISSING: "PREFIX_NOT_FOUND",
    XrootdFault.FORBIDDEN: "XROOTD_REFUSES",
}


def add_xrootd(commands: Commands[argparse.ArgumentParser], epilog: str) -> None:
    """Adds the sub-command."""
    what = "report an XRootD data server: the changes since the last report, or all files"
    xrootd = add_command(commands, "xrootd", run_xrootd, what, epilog)
    xrootd.add_argument(
        "--url", required=True, type=utf8, metavar="root://HOST:PORT", help="the XRootD server"
    )
    xrootd.add_argument(
        "--prefix",
        required=True,
        type=utf8,
        metavar="PATH",
        help="directory whose files are reported",
    )
    xrootd.add_argument(
        "--lfn-depth",
        type=_depth,
        default=1,
        metavar="N",
        help="an LFN is the last N parts of the path, 0: all below the prefix (default: 1)",
    )
    xrootd.add_argument(
        "--rucio",
        action="store_true",
        help="take scope and name from paths in Rucio's deterministic layout",
    )
    xrootd.add_argument("--scope", type=utf8, default="", help="scope of the files (default: none)")
    xrootd.add_argument(
        "--source-url",
        type=utf8,
        default="",
        metavar="URL",
        help="URL by which tasks name the files below the prefix, root://HOST:PORT//PATH; without it the"
        " files are listed, but match no job's inputs",
    )
    xrootd.add_argument(
        "--by-checksum",
        action="store_true",
        help="tasks name these files by the server's checksums (default: by their modification times)",
    )
    xrootd.add_argument(
        "--immutable-scope",
        action="append",
        default=[],
        type=utf8,
        metavar="SCOPE",
        help="a scope in which names are never reused; may be repeated",
    )
    books = xrootd.add_mutually_exclusive_group()
    books.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="where to store what was reported"
    )
    books.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="cache directory of the node's pilots: report it and the server together",
    )
    xrootd.add_argument("--watch", action="store_true", help="run on, and report changes")
    xrootd.add_argument(
        "--interval",
        type=seconds,
        default=_DEFAULT_INTERVAL_SECONDS,
        metavar="SECONDS",
        help=f"with --watch: interval of scans (default: {_DEFAULT_INTERVAL_SECONDS:g})",
    )


def run_xrootd(given: argparse.Namespace) -> str:
    """Runs the sub-command; returns the message. Raises UsageError, CacheError and CallError."""
    node = node_of(given)
    # A missing server is the first error to report.
    server_of(given)
    top = _top(given)
    log = make_log(as_json=False, node=node, level=logging.INFO if given.watch else logging.WARNING)
    directory = _directory(given, top, node)
    try:
        naming = Naming(given.lfn_depth, given.rucio)
        books = Books(directory, top, naming, given.scope, log, _by_tasks(given))
        journal = NodeJournal(given.cache_dir.absolute()) if given.cache_dir else books.journal
    except OSError as error:
        text = f"cannot write the state of {top.url} to {directory}: {error}"
        raise UsageError("UNUSABLE_DIRECTORY", text) from error
    if given.watch:
        # Before gRPC starts threads: all threads inherit the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    connection = connect(given)
    reporter = CatalogReporter(journal, CatalogClient(connection, given.site, node), log)
    try:
        if given.watch:
            watcher = Watcher(books, reporter, connection, given.interval, log)
            _handle_signals(watcher.stop, connection, log)
            watcher.run()
            return f"stopped watching {top.url}"
        change = look(books)
        _report(reporter, connection, given.timeout, log)
    finally:
        connection.close()
    return f"{describe(change, top)}: reported to the catalog for {node} at {given.site}"


class Watcher:
    """Scans and reports until `stop`, through outages of either server."""

    def __init__(
        self,
        books: Books,
        reporter: CatalogReporter,
        connection: Connection,
        interval_seconds: float,
        log: Log,
    ) -> None:
        self.stop = Stop()
        self._books = books
        self._reporter = reporter
        self._connection = connection
        self._interval_seconds = interval_seconds
        self._log = log
        self._compared = float("-inf")
        # Last logged errors of the XRootD server and of the Pandawn server.
        self._troubles: dict[str, str] = {}

    def run(self) -> None:
        """Runs until `stop` is set. Raises CacheError and CallError for permanent failures."""
        try:
            while True:
                self._look()
                self._report()
                self.stop.sleep(self._interval_seconds)
        except StoppedError:
            return

    def _look(self) -> None:
        try:
            change = self._books.look(self.stop)
        except XrootdError as error:
            if error.fault is XrootdFault.NO_PROGRAM:
                raise cache_error(error) from error
            self._log_change("the XRootD server", str(error))
            return
        self._log_change("the XRootD server", "")
        if change.added or change.deleted:
            epoch = ", a new epoch" if change.new_epoch else ""
            self._log.info(
                "%d files added, %d files removed%s", change.added, change.deleted, epoch
            )

    def _report(self) -> None:
        if time.monotonic() - self._compared > _COMPARE_SECONDS:
            self._reporter.ask_inventory()
        try:
            if self._reporter.report(_TURN_SECONDS):
                self._compared = time.monotonic()
        except CallError as failure:
            self.stop.check()
            if not helps_to_repeat(failure, self._connection):
                raise
            # A comparison with the catalog shows what the failed call has lost.
            self._compared = float("-inf")
            self._log_change("the Pandawn server", str(failure))
        else:
            self._log_change("the Pandawn server", "")

    def _log_change(self, whom: str, trouble: str) -> None:
        """Logs an outage when it starts and when it ends."""
        before = self._troubles.get(whom, "")
        if trouble and not before:
            self._log.warning("%s does not respond, retrying: %s", whom, trouble)
        elif before and not trouble:
            self._log.info("%s responds again", whom)
        self._troubles[whom] = trouble


def look(books: Books) -> Change:
    """Scans once. Raises CacheError."""
    try:
        return books.look()
    except XrootdError as error:
        raise cache_error(error) from error


def cache_error(error: XrootdError) -> CacheError:
    """The error as the command reports it."""
    return CacheError(_REASONS.get(error.fault, "XROOTD_FAILED"), str(error))


def describe(change: Change, top: Location) -> str:
    """A summary of a scan."""
    inventory = change.inventory
    count = len(inventory.files)
    size = sum(file.size_bytes for file in inventory.files)
    left_out = len(inventory.unusable) + len(inventory.ambiguous)
    return (
        f"{count} {'file' if count == 1 else 'files'}, {size} bytes, below {top.url}"
        f" ({change.added} new, {change.deleted} gone"
        f"{f', {left_out} left out' if left_out else ''})"
    )


def _report(
    reporter: CatalogReporter, connection: Connection, patience_seconds: float, log: Log
) -> None:
    def attempt() -> bool:
        # Even without a change: the catalog may have lost its data.
        reporter.ask_inventory()
        try:
            return reporter.report(patience_seconds)
        except CallError as failure:
            failure.transient = helps_to_repeat(failure, connection)
            raise

    if not persist(attempt, "report", log, stop=Stop(), give_up_after=patience_seconds):
        raise CacheError("BUSY", "another process is still reporting this server")


def _handle_signals(stop: Stop, connection: Connection, log: Log) -> None:
    """Waits for signals in a separate thread, as a signal handler cannot take locks safely."""

    def wait() -> None:
        log.info("ending: received %s", signal.Signals(signal.sigwait(_SIGNALS)).name)
        stop.request(StopReason.SHUTDOWN)
        # Aborts a running call.
        connection.close()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _top(given: argparse.Namespace) -> Location:
    try:
        return Location(parse_server(given.url), clean_path(given.prefix))
    except ValueError as error:
        raise UsageError("INVALID_URL", str(error)) from error


def _by_tasks(given: argparse.Namespace) -> TaskNaming:
    try:
        source_url = parse_location(given.source_url).url if given.source_url else ""
    except ValueError as error:
        raise UsageError("INVALID_URL", str(error)) from error
    return TaskNaming(source_url, frozenset(given.immutable_scope), given.by_checksum)


def _directory(given: argparse.Namespace, top: Location, node: str) -> Path:
    name = books_name(top, given.site, node)
    if given.cache_dir is not None:
        return beside(given.cache_dir.absolute(), name)
    if given.state_dir is not None:
        return Path(given.state_dir).absolute() / name
    base = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(base) / "pandawn" / name


def _depth(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return int(text)
