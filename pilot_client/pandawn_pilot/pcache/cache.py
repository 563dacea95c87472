"""A site's pcache as the cache of the pilot: pcache transfers files, and its tree shows its contents."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pandawn_pilot.cache.entry import rests_on_source
from pandawn_pilot.cache.input_cache import READ_ONLY, Origin
from pandawn_pilot.cache.input_proof import check_content
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.logs import Log
from pandawn_pilot.node.file_copy import place
from pandawn_pilot.pcache.books import Books
from pandawn_pilot.pcache.command import HIT, TRANSFERRED, TRANSFERRED_LATE, PcacheCommand
from pandawn_pilot.pcache.layout import DATA, Stamp
from pandawn_pilot.pcache.names import Claim, Marks, Names, read_claim, write_claim
from pandawn_pilot.stop import Stop
from pandawn_transports import TransferError

# Interval of full scans, for changes that the stamp does not show.
FULL_SECONDS = 300.0
# Share of one CPU that scans of a large cache may use.
_LOOK_SHARE = 0.05
# Older files in the staging directory belong to pilots that died.
_LEFT_SECONDS = 24 * 3600.0


class SitePcache:
    """The pcache of a command. Raises OSError when its directories cannot be used."""

    def __init__(self, command: PcacheCommand, log: Log) -> None:
        self._command = command
        self._log = log
        self.books = Books(command.place, None, log)
        command.place.make_books("incoming")
        # A string, as pcache compares it with its scratch directory as text.
        self._incoming = f"{command.place.scratch_dir}pandawn-pcache/incoming"
        self._clear_incoming()
        self._stamp: Stamp | None = None
        self._look_at = 0.0
        self._full_at = 0.0

    @property
    def root(self) -> Path:
        """See InputCache."""
        return self.books.place.books

    def deliver(self, wanted: CachedFile, destination: Path, origin: Origin, stop: Stop, /) -> bool:
        """See InputCache. Files that pcache cannot transfer, store or read bypass it."""
        entry = self._claim(origin, wanted)
        if entry is not None:
            staged = f"{self._incoming}/{secrets.token_hex(8)}"
            try:
                hit = self._bring(wanted, entry, origin, staged, stop)
                if hit is not None:
                    place(Path(staged), destination, stop)
                    # Another account's file keeps its mode; its checksums show changed content.
                    with contextlib.suppress(PermissionError):
                        destination.chmod(READ_ONLY)
                    return hit
            except OSError as error:
                self._log.warning("%s is transferred without pcache: %s", wanted.lfn, error)
            finally:
                with contextlib.suppress(OSError):
                    Path(staged).unlink(missing_ok=True)
                self._look([entry])
        # It may be a hard link to a cached file.
        destination.unlink(missing_ok=True)
        origin(destination)
        destination.chmod(READ_ONLY)
        return False

    def deliver_code(
        self, digest: str, destination: Path, fetch: Callable[[Path], None], stop: Stop, /
    ) -> bool:
        """See InputCache. Never cached: pcache's tree is readable for all accounts."""
        del digest, stop
        fetch(destination)
        return False

    def holds(self, wanted: CachedFile) -> bool:
        """See InputCache."""
        try:
            known = self.books.journal.find(wanted.key)
        except OSError:
            return False
        return bool(wanted.version) and known is not None and known.size_bytes == wanted.size_bytes

    def evictable_bytes(self) -> int:
        """Always 0: pcache evicts by its own water mark only."""
        return 0

    def refresh(self) -> None:
        """Updates the books with changes by other processes and pcache's cleaner."""
        now = time.monotonic()
        is_changed = now >= self._look_at and self.books.place.stamp() != self._stamp
        if not is_changed and now < self._full_at:
            return
        try:
            _, self._stamp = self.books.scan()
        except OSError as error:
            self._log.warning("cannot scan the pcache: %s", error)
        taken = time.monotonic() - now
        self._look_at = now + taken / _LOOK_SHARE
        self._full_at = now + FULL_SECONDS

    def _bring(
        self, wanted: CachedFile, entry: str, origin: Origin, staged: str, stop: Stop
    ) -> bool | None:
        """Stages and verifies the file; returns whether it was a hit, None if that failed."""
        for is_last in (False, True):
            outcome = self._command.bring(origin.url, wanted, staged, origin.reader, stop)
            is_there = os.path.lexists(staged)
            if outcome.status not in (TRANSFERRED, HIT, TRANSFERRED_LATE) or not is_there:
                self._log.warning(
                    "pcache ended with status %d, transferring %s without it: %s",
                    outcome.status,
                    wanted.lfn,
                    outcome.output or "no output",
                )
                return None
            hit = outcome.status == HIT
            try:
                check_content(Path(staged), wanted, stop)
                why = self._why_not(wanted, entry, origin, hit=hit)
            except JobFailedError as bad:
                why = bad.text
            if not why:
                self._record_version(wanted, entry, origin, staged)
                return hit
            Path(staged).unlink()
            self._command.evict(origin.url, staged, stop)
            if is_last or not hit:
                # The direct transfer checks the file again and reports what is wrong.
                self._log.warning("%s is transferred without pcache: %s", wanted.lfn, why)
                return None
            self._log.warning(
                "transferring %s again, its pcache entry is invalid: %s", wanted.lfn, why
            )
        return None

    def _why_not(self, wanted: CachedFile, entry: str, origin: Origin, *, hit: bool) -> str:
        """Why the delivered file may not be the wanted version, apart from its content; empty if it is."""
        if not rests_on_source(wanted.version):
            return ""
        if not hit:
            return (
                "" if origin.look() == origin.source else "its source changed during the transfer"
            )
        claim = read_claim(f"{self.books.place.cache}/{entry}")
        if claim is None or claim.names.version != wanted.version:
            return "its version is unknown"
        if claim.marks != self._marks(entry):
            return "its data was changed"
        return "" if claim.source == origin.source else "its source has changed"

    def _record_version(self, wanted: CachedFile, entry: str, origin: Origin, staged: str) -> None:
        """Stores the verified version of the data in the cache."""
        data = self.books.place.cache / entry / DATA
        try:
            if data.samefile(staged):
                names = Names(wanted.lfn, wanted.scope, wanted.guid, wanted.version)
                write_claim(data.parent, Claim(names, self._marks(entry), origin.source))
        except OSError as error:
            self._log.warning("cannot store the version of %s in pcache: %s", wanted.lfn, error)

    def _marks(self, entry: str) -> Marks:
        status = os.lstat(self.books.place.cache / entry / DATA)
        return (status.st_ino, status.st_mtime_ns, status.st_size)

    def _claim(self, origin: Origin, wanted: CachedFile) -> str | None:
        """Stores the job's names of the file in pcache's tree; returns its entry, None if it cannot be cached."""
        if not wanted.version or not wanted.listed:
            return None
        if not self._command.may_bring(origin.url, wanted, origin.reader):
            return None
        try:
            entry = self._command.entry(origin.url)
        except TransferError:
            return None
        if entry is None:
            return None
        try:
            self.books.place.make_entry(entry)
            directory = self.books.place.cache / entry
            before = read_claim(str(directory))
            names = Names(wanted.lfn, wanted.scope, wanted.guid)
            if before is None or replace(before.names, version="") != names:
                write_claim(directory, Claim(names))
        except OSError as error:
            self._log.warning(
                "cannot store the name of %s in pcache, using the end of its path: %s",
                wanted.lfn,
                error,
            )
        return entry

    def _clear_incoming(self) -> None:
        """Removes files of pilots that died: their hard links use space that pcache counts as free."""
        for item in os.scandir(self._incoming):
            # By ctime: the mtime of a hard link is that of the file.
            with contextlib.suppress(OSError):
                if time.time() - item.stat(follow_symlinks=False).st_ctime > _LEFT_SECONDS:
                    Path(item).unlink()

    def _look(self, entries: list[str]) -> None:
        try:
            self.books.look(entries)
        except OSError as error:
            self._log.warning("cannot scan the pcache: %s", error)
