"""The books of an XRootD server: its last inventory, in a journal that is reported to the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks
from pandawn_pilot.stop import Stop
from pandawn_pilot.xrootd.inventory import Inventory, take_inventory
from pandawn_pilot.xrootd.versions import TaskNaming, Versions
from pandawn_transports.xrootd.address import Location
from pandawn_transports.xrootd.command import XrootdError, XrootdFault
from pandawn_transports.xrootd.files import ListedFile, list_tree

# Most file names in one log line.
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class Change:
    """The changes found by a scan."""

    added: int
    deleted: int
    inventory: Inventory
    new_epoch: bool


class Books:
    """The books of the files below `top`, stored in `directory`, which processes share."""

    def __init__(
        self,
        directory: Path,
        top: Location,
        naming: Naming,
        scope: str,
        log: Log,
        by_tasks: TaskNaming = TaskNaming(),  # noqa: B008 (it never changes)
    ) -> None:
        self.journal = Journal(directory)
        self._versions = Versions(by_tasks, top, directory / "checksums.json", log)
        self._lock_path = directory / "look.lock"
        self._top = top
        self._naming = naming
        self._scope = scope
        self._log = log
        self._logged: tuple[object, ...] = ()

    def look(self, stop: Stop | None = None) -> Change:
        """Lists the server's files and records the changes. Raises XrootdError.

        An error leaves the books unchanged: a server that does not respond may return with all its files.
        """
        # Locked from the request to the last record, so that an older list cannot overwrite a newer one.
        with locks.exclusive(self._lock_path, stop):
            listed = self._list(stop)
            version_of = self._versions.among(listed, stop)
            inventory = take_inventory(
                listed, self._top.path, self._naming, self._scope, version_of
            )
            change = self._write_down(inventory)
        self._log_left_out(inventory)
        return change

    def _list(self, stop: Stop | None) -> list[ListedFile]:
        try:
            return list_tree(self._top, stop)
        except XrootdError as error:
            # A directory that never existed is a wrong option. One that did was removed with its files: a
            # new disk, or a reinstalled machine.
            if error.fault is not XrootdFault.MISSING or not self.journal.snapshot().files:
                raise
            self._log.warning("the server's files are gone, reporting it as empty: %s", error)
            return []

    def _write_down(self, inventory: Inventory) -> Change:
        known = {file.key: file for file in self.journal.snapshot().files}
        found = {file.key: file for file in inventory.files}
        added = [file for key, file in found.items() if not _same(known.get(key), file)]
        deleted = [key for key in known if key not in found]
        if known and not known.keys() & found.keys():
            # No file is left: emptied, or another machine with that name. A new epoch makes reports of the
            # old one that are still in transit void.
            self.journal.begin_epoch(inventory.files)
            return Change(len(added), len(deleted), inventory, new_epoch=True)
        self.journal.record(deleted=deleted, added=added)
        return Change(len(added), len(deleted), inventory, new_epoch=False)

    def _log_left_out(self, inventory: Inventory) -> None:
        left_out = (inventory.unusable, inventory.ambiguous)
        if left_out == self._logged:
            return
        self._logged = left_out
        for paths, why in (
            (inventory.unusable, "have names that the catalog does not accept"),
            (
                inventory.ambiguous,
                "share their names with files of other sizes; a larger --lfn-depth keeps more of the path",
            ),
        ):
            if paths:
                shown = ", ".join(ascii(path) for path in paths[:_SHOWN_NAMES])
                self._log.warning("%d files are not reported, they %s: %s", len(paths), why, shown)


def books_name(top: Location, site: str, node: str) -> str:
    """The directory name for the books of a server as one node of one site."""
    parts = f"{top.url}\n{site}\n{node}"
    return "xrootd-" + blake2b(parts.encode(), digest_size=8).hexdigest()


def _same(known: CachedFile | None, found: CachedFile) -> bool:
    return known is not None and known.size_bytes == found.size_bytes
