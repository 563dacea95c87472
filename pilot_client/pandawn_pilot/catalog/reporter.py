"""Reports a cache to the catalog: deltas in order, or the full inventory.

The journal has all changes, `reported-*.json` how many of them the catalog has acknowledged. Deltas get
their sequence numbers when they are sent: consecutive additions share one delta. One process of a node
reports at a time, under a lock, for all.
"""

from __future__ import annotations

import threading
import time
from hashlib import blake2b

from pandawn_client.refusals import CallError
from pandawn_pilot.catalog.client import MAX_FILES_PER_MESSAGE, CatalogClient, DeltaResult
from pandawn_pilot.catalog.inventory import CachedFile, CacheState, FileKey
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.journal_files import Change, Operation
from pandawn_pilot.catalog.reported_state import Reported, read_reported, write_reported
from pandawn_pilot.catalog.rivals import Rivals
from pandawn_pilot.logs import Log
from pandawn_pilot.node import locks

# The catalog may drop a node after 18 hours of silence. Heartbeats of pilots count; for an unchanged cache
# without pilots, the inventory is sent again after this time.
LIFE_SIGN_SECONDS = 4 * 3600.0


class CatalogReporter:
    """Reports one cache, that of `catalog.node`, to the catalog."""

    def __init__(self, journal: Journal, catalog: CatalogClient, log: Log) -> None:
        self._journal = journal
        self._catalog = catalog
        self._log = log
        self._inventory_asked = threading.Event()
        # For the catalog, a cache of two sites is two caches, each with its own deltas.
        parts = f"{len(catalog.site)}:{catalog.site}{catalog.node}"
        name = blake2b(parts.encode(), digest_size=8).hexdigest()
        self._state_path = journal.directory / f"reported-{name}.json"
        self._rivals = Rivals(journal.directory / f"rivals-{name}.json", catalog.node, log)
        self._lock_path = journal.directory / f"reported-{name}.lock"

    def state(self) -> CacheState | None:
        """The reported state of the cache, which is sent with polls for jobs.

        None: another cache has the name of the node, and ours is not reported.
        """
        reported = read_reported(self._state_path)
        epoch = self._journal.position().epoch
        if self._rivals.gives_way(epoch):
            return None
        if reported is None or reported.epoch != epoch:
            return CacheState(epoch, 0, 0)
        return reported.state

    def ask_inventory(self) -> None:
        """Requests that the next `report` compares the catalog with the cache."""
        self._inventory_asked.set()

    def pending(self) -> bool:
        """Whether there is something to report."""
        reported = read_reported(self._state_path)
        position = self._journal.position()
        if self._rivals.gives_way(position.epoch):
            return self._rivals.is_time_to_look()
        is_reported = reported is not None and (reported.epoch, reported.number) == (
            position.epoch,
            position.number,
        )
        return self._inventory_asked.is_set() or not is_reported

    def report(self, wait_seconds: float = 0.0) -> bool:
        """Reports all pending changes; waits at most `wait_seconds` while another process reports.

        Returns False when the other process did not finish in time. Raises CallError; acknowledged changes
        stay so, the rest is sent next time.
        """
        with locks.attempt(self._lock_path, wait_seconds) as held:
            if not held:
                return False
            while self._step():
                pass
        self._journal.compact()
        return True

    def _step(self) -> bool:
        """Sends one delta or an inventory; False when there is nothing to send."""
        reported = read_reported(self._state_path)
        epoch = self._journal.position().epoch
        if self._rivals.gives_way(epoch) and not self._look_again(epoch):
            return False
        if reported is None or reported.epoch != epoch:
            self._send_inventory(None, "the cache started a new epoch")
            return True
        if self._inventory_asked.is_set():
            self._inventory_asked.clear()
            # The server asks all pilots of a node at about the same time; the first one repairs it for all.
            if not self._catalog_agrees(reported):
                return self._replace(reported, "the catalog differs from the cache")
            if self._silent_seconds() > LIFE_SIGN_SECONDS:
                self._send_inventory(reported, "the catalog drops silent nodes")
            return True
        changes = self._journal.changes_after(reported.epoch, reported.number)
        if changes is None:
            self._send_inventory(reported, "the journal does not reach back to the last report")
            return True
        if not changes:
            return False
        return self._send_delta(reported, first_batch(changes))

    def _send_delta(self, reported: Reported, batch: tuple[Change, ...]) -> bool:
        sequence = reported.sequence + 1
        files = [change.file for change in batch]
        if batch[0].operation is Operation.ADD:
            result = self._catalog.add_files(reported.epoch, sequence, files)
        else:
            result = self._catalog.delete_files(reported.epoch, sequence, files)
        after = Reported(reported.epoch, sequence, batch[-1].number, batch[-1].digest)
        # REPEATED means that the response to an earlier try was lost. That try may have been a shorter
        # batch, of a process that died since: the digest shows it.
        if result is DeltaResult.APPLIED or (
            result is DeltaResult.REPEATED and self._catalog_agrees(after)
        ):
            write_reported(self._state_path, after)
            return True
        return self._replace(
            after, f"the catalog's result for delta {sequence} was '{result.value}'"
        )

    def _replace(self, reported: Reported, why: str) -> bool:
        """Sends the inventory, unless another cache has the node's name; returns whether it did."""
        found = self._catalog_state()
        is_other = found is not None and found.epoch not in (0, reported.epoch)
        if found is not None and is_other and not self._rivals.meet(reported.epoch, found.epoch):
            return False
        self._send_inventory(reported, why)
        return True

    def _look_again(self, epoch: int) -> bool:
        """Checks whether the other cache, to which ours yields, is gone."""
        self._inventory_asked.clear()
        if not self._rivals.is_time_to_look():
            return False
        found = self._catalog_state()
        if found is not None and found.epoch not in (0, epoch):
            self._rivals.still(epoch, found.epoch)
            return False
        self._rivals.clear()
        self._inventory_asked.set()
        return True

    def _send_inventory(self, reported: Reported | None, why: str) -> None:
        snapshot = self._journal.snapshot()
        position = snapshot.position
        # Higher than all used numbers, so that a delta still in transit counts as a repeat.
        known = reported is not None and reported.epoch == position.epoch
        sequence = reported.sequence + 1 if known and reported is not None else 0
        files = sorted(snapshot.files, key=_key)
        drift = self._catalog.report_inventory(position.epoch, sequence, position.digest, files)
        write_reported(
            self._state_path, Reported(position.epoch, sequence, position.number, position.digest)
        )
        self._log.info(
            "sent the inventory of %d files, %d differed in the catalog: %s", len(files), drift, why
        )

    def _silent_seconds(self) -> float:
        try:
            return time.time() - self._state_path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _catalog_agrees(self, reported: Reported) -> bool:
        return self._catalog_state() == reported.state

    def _catalog_state(self) -> CacheState | None:
        """The cache's state in the catalog; None if it does not know the node."""
        try:
            return self._catalog.cache_state()
        except CallError as failure:
            if failure.reason == "NODE_NOT_FOUND":
                return None
            raise


def first_batch(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """The longest prefix of `changes` for one request: a single operation, no file twice."""
    seen: set[FileKey] = set()
    end = 0
    for change in changes[:MAX_FILES_PER_MESSAGE]:
        if change.operation is not changes[0].operation or change.file.key in seen:
            break
        seen.add(change.file.key)
        end += 1
    return changes[:end]


def _key(file: CachedFile) -> FileKey:
    return file.key
