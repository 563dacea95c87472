"""All tables. The migrations must produce exactly this schema; a test compares them."""

from __future__ import annotations

from pandawn_server.storage import upkeep_schema
from pandawn_server.storage.access import schema as access
from pandawn_server.storage.catalog import schema as catalog
from pandawn_server.storage.leases import schema as leases
from pandawn_server.storage.metadata import metadata
from pandawn_server.storage.monitor import schema as monitor
from pandawn_server.storage.queues import schema as queues
from pandawn_server.storage.tasks import schema as tasks

__all__ = ["access", "catalog", "leases", "metadata", "monitor", "queues", "tasks", "upkeep_schema"]
