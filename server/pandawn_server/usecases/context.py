"""What every use case needs: the database, the catalog, the clock and randomness."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pandawn_server.catalog.pins import PinBook
from pandawn_server.catalog.protocol import Catalog
from pandawn_server.storage.database import Database
from pandawn_server.usecases.brokers import Brokers
from pandawn_server.usecases.config_cache import ConfigCache
from pandawn_server.usecases.known import Known
from pandawn_server.usecases.paces import Paces
from pandawn_server.usecases.refusals import Refusals
from pandawn_server.usecases.session_book import Sessions


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to each use case. `clock` returns the time in UTC; `rng` draws identifiers and tokens.

    `brokers`, `known`, `refusals`, `sessions` and `config` are what this process remembers; the truth is in
    the database.
    `paces` are the times of payloads that it heard.
    `pins` is the book whose pins the catalog answers with (`catalog.pinned.PinnedCatalog`).
    """

    db: Database
    catalog: Catalog
    clock: Callable[[], datetime]
    rng: random.Random
    brokers: Brokers = field(default_factory=Brokers)
    known: Known = field(default_factory=Known)
    refusals: Refusals = field(default_factory=Refusals)
    sessions: Sessions = field(default_factory=Sessions)
    config: ConfigCache = field(default_factory=ConfigCache)
    pins: PinBook = field(default_factory=PinBook)
    paces: Paces = field(default_factory=Paces)

    def new_id(self) -> str:
        """A new identifier or token: 128 random bits in hex."""
        return f"{self.rng.getrandbits(128):032x}"
