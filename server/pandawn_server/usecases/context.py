"""What every use case needs: the database, the catalog, the clock and randomness."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.storage.database import Database
from pandawn_server.usecases.access.refusals import Refusals
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.usecases.dispatch.desks import Desks
from pandawn_server.usecases.dispatch.known import Known
from pandawn_server.usecases.dispatch.paces import Paces
from pandawn_server.usecases.queues.cache import ConfigCache


@dataclass(frozen=True, slots=True)
class Context:
    """Passed to each use case. `clock` returns the time in UTC; `rng` draws identifiers and tokens.

    `desks`, `known`, `refusals`, `sessions` and `config` cache data of the database in this process. `paces` has
    recent run times of payloads.
    """

    db: Database
    catalog: Catalog
    clock: Callable[[], datetime]
    rng: random.Random
    desks: Desks = field(default_factory=Desks)
    known: Known = field(default_factory=Known)
    refusals: Refusals = field(default_factory=Refusals)
    sessions: Sessions = field(default_factory=Sessions)
    config: ConfigCache = field(default_factory=ConfigCache)
    paces: Paces = field(default_factory=Paces)

    def new_id(self) -> str:
        """A new identifier or token: 128 random bits in hex."""
        return f"{self.rng.getrandbits(128):032x}"
