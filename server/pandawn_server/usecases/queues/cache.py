"""A cache of the configuration in this process, so that no call reads queues from the database.

It holds the whole configuration: 10,000 queues take about 20 MB. One small query shows whether the
configuration has changed; then only the changes are read.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from datetime import datetime

from pandawn_server.domain.queues.configuration import Configuration
from pandawn_server.domain.queues.layers import (
    DocumentKind,
)
from pandawn_server.domain.queues.queues import Queue
from pandawn_server.storage.database import Transaction
from pandawn_server.storage.queues import documents, revisions

_NOTHING = Configuration(-1, {}, {})


class ConfigCache:
    """The configuration as this process last read it. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = _NOTHING

    def current(self, tx: Transaction) -> Configuration:
        """Returns the cached configuration; reads it from the database the first time."""
        if self._current is _NOTHING:
            self.refresh(tx)
        return self._current

    @property
    def remembered(self) -> Configuration:
        """The cached configuration; empty before the first read."""
        return self._current

    def refresh(self, tx: Transaction) -> Configuration:
        """Returns the current configuration of the database: one small query unless something changed.

        A transaction that changes the configuration must call it before its changes, or after them.
        """
        # The lock keeps a slower thread from storing an older configuration over a newer one. No thread
        # waits for a row lock meanwhile: these are plain reads.
        with self._lock:
            known = self._current
            head = revisions.read_head(tx)
            if head != known.revision:
                self._current = _read(tx, known, head)
            return self._current

    def queue(self, tx: Transaction, name: str, now: datetime) -> Queue | None:
        """Returns a queue, or None. If the cache lacks it, checks whether another process just created it."""
        return self.current(tx).queue(name, now) or self.refresh(tx).queue(name, now)

    def queues(self, tx: Transaction, names: Collection[str], now: datetime) -> dict[str, Queue]:
        """Returns the queues that exist among `names`, by name; without a query if all are in the cache."""
        found = _found(self.current(tx), names, now)
        return found if len(found) == len(names) else _found(self.refresh(tx), names, now)


def _found(config: Configuration, names: Collection[str], now: datetime) -> dict[str, Queue]:
    found = ((name, config.queue(name, now)) for name in names)
    return {name: queue for name, queue in found if queue is not None}


def _read(tx: Transaction, known: Configuration, head: int) -> Configuration:
    changed = documents.read_documents(tx, max(known.revision, 0))
    of_queues = {d.key.name for d in changed if d.key.kind is DocumentKind.QUEUE}
    is_first = known.revision < 0
    overrides = dict(known.overrides)
    for name in of_queues:
        overrides.pop(name, None)
    for override in documents.read_overrides(tx, None if is_first else of_queues):
        overrides[override.queue] = (*overrides.get(override.queue, ()), override)
    joined = known._joined if len(of_queues) == len(changed) else {}  # noqa: SLF001 (its maker)
    return Configuration(
        head,
        {**known.documents, **{document.key: document for document in changed}},
        overrides,
        {name: queue for name, queue in joined.items() if name not in of_queues},
    )
