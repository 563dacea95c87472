"""The configuration as this process remembers it, so that no call reads queues from the database.

The whole of it is kept: 10,000 queues are some 20 MB. One tiny query says whether it changed, and what
changed is read then.
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
    """What this process remembers of the configuration. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = _NOTHING

    def current(self, tx: Transaction) -> Configuration:
        """What is remembered; read from the database if nothing is yet."""
        if self._current is _NOTHING:
            self.refresh(tx)
        return self._current

    @property
    def remembered(self) -> Configuration:
        """What is remembered; nothing before the first look into the database."""
        return self._current

    def refresh(self, tx: Transaction) -> Configuration:
        """What the database says now: one tiny query unless something changed.

        To be called in a transaction before it changes the configuration itself, or after.
        """
        # With the lock, so that of two threads the later one leaves the later picture. Nobody waits
        # for the lock of a row in between: these are plain reads.
        with self._lock:
            known = self._current
            head = revisions.read_head(tx)
            if head != known.revision:
                self._current = _read(tx, known, head)
            return self._current

    def queue(self, tx: Transaction, name: str, now: datetime) -> Queue | None:
        """A queue. Whether one that is not remembered was just created elsewhere is looked up."""
        return self.current(tx).queue(name, now) or self.refresh(tx).queue(name, now)

    def queues(self, tx: Transaction, names: Collection[str], now: datetime) -> dict[str, Queue]:
        """The queues that exist among `names`, by name; without a statement where all are remembered."""
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
