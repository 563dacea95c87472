"""The books of an XRootD server: its inventory as last seen, in a journal from which the catalog is told."""

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

# Names of files in one line of the log.
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class Change:
    """What was new and what was gone at a look."""

    added: int
    deleted: int
    inventory: Inventory
    new_epoch: bool


class Books:
    """Keeps the books of what lies below `top` in `directory`, shared by all who look there."""

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
        self._told: tuple[object, ...] = ()

    def look(self, stop: Stop | None = None) -> Change:
        """Asks the server what it holds and writes down what is different. Raises XrootdError.

        After an error the books are as they were: a server that does not answer may come back with
        all its files.
        """
        # From the question to the last line: of two lists the older one must not come second.
        with locks.exclusive(self._lock_path, stop):
            listed = self._list(stop)
            version_of = self._versions.among(listed, stop)
            inventory = take_inventory(
                listed, self._top.path, self._naming, self._scope, version_of
            )
            change = self._write_down(inventory)
        self._tell_left_out(inventory)
        return change

    def _list(self, stop: Stop | None) -> list[ListedFile]:
        try:
            return list_tree(self._top, stop)
        except XrootdError as error:
            # A directory that never was is a mistake of whoever named it. One that was there
            # has gone with its files: the disk was changed, the machine set up anew.
            if error.fault is not XrootdFault.MISSING or not self.journal.snapshot().files:
                raise
            self._log.warning("its files are gone: %s", error)
            return []

    def _write_down(self, inventory: Inventory) -> Change:
        known = {file.key: file for file in self.journal.snapshot().files}
        found = {file.key: file for file in inventory.files}
        added = [file for key, file in found.items() if not _same(known.get(key), file)]
        deleted = [key for key in known if key not in found]
        if known and not known.keys() & found.keys():
            # Nothing is left of what was there: emptied, or another machine by that name. That is
            # a new life of the cache, and whatever is still under way from the old one is void.
            self.journal.begin_epoch(inventory.files)
            return Change(len(added), len(deleted), inventory, new_epoch=True)
        self.journal.record(deleted=deleted, added=added)
        return Change(len(added), len(deleted), inventory, new_epoch=False)

    def _tell_left_out(self, inventory: Inventory) -> None:
        told = (inventory.unusable, inventory.ambiguous)
        if told == self._told:
            return
        self._told = told
        for paths, why in (
            (inventory.unusable, "have no name that the catalog takes"),
            (
                inventory.ambiguous,
                "share their names with files of other sizes; --lfn-depth keeps more of the path",
            ),
        ):
            if paths:
                shown = ", ".join(ascii(path) for path in paths[:_SHOWN_NAMES])
                self._log.warning("%d files are left out, they %s: %s", len(paths), why, shown)


def books_name(top: Location, site: str, node: str) -> str:
    """A directory name for the books of a server, as one node of one site."""
    parts = f"{top.url}\n{site}\n{node}"
    return "xrootd-" + blake2b(parts.encode(), digest_size=8).hexdigest()


def _same(known: CachedFile | None, found: CachedFile) -> bool:
    return known is not None and known.size_bytes == found.size_bytes
