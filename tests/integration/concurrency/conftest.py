"""Several server processes."""

from __future__ import annotations

import pytest

from pandawn_server.storage.database import Database
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.database import OpenDatabase
from tests.fixtures.world import World


@pytest.fixture
def servers(database: Database, open_database: OpenDatabase) -> tuple[World, World]:
    """Two server processes on one database."""
    one = World(database, catalog_on(memory_store()))
    one.queue()
    one.reap()
    return one, one.beside(open_database())
