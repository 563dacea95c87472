"""Every span, metric and attribute of the server, in one place.

Names follow the OpenTelemetry semantic conventions where those define one, and begin with `pandawn.`
elsewhere. Attributes of metrics have few values: no identifiers of jobs, pilots or nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    """Which end of a call an operation is."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that takes time: each run makes a span and a value of the histogram `metric` (seconds).

    The histogram gets those attributes of the span that are in `metric_attributes`.
    """

    metric: str
    description: str
    side: Side
    metric_attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that is counted; `unit` in UCUM notation."""

    name: str
    description: str
    unit: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """Something whose sizes matter; `unit` in UCUM notation."""

    name: str
    description: str
    unit: str


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something that is read whenever metrics are exported."""

    name: str
    description: str
    unit: str


# Attributes
ERROR_TYPE = "error.type"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.response.status_code"
RPC_SYSTEM = "rpc.system.name"
PEER_ADDRESS = "network.peer.address"
DB_SYSTEM = "db.system.name"
DB_OPERATION = "db.operation.name"
DB_COLLECTION = "db.collection.name"
DB_QUERY = "db.query.text"
DB_BATCH_SIZE = "db.operation.batch.size"
POOL_STATE = "db.client.connection.state"
POOL_NAME = "db.client.connection.pool.name"
BATCH_NAME = "pandawn.batch.name"
BATCH_SIZE = "pandawn.batch.size"
CATALOG_OPERATION = "pandawn.catalog.operation"
CATALOG_ITEMS = "pandawn.catalog.items"
WORKER_NAME = "pandawn.worker.name"
REASON = "pandawn.reason"
QUEUE = "pandawn.queue"
AUTH_METHOD = "pandawn.auth.method"

# Operations
RPC = Operation(
    "rpc.server.call.duration",
    "Time from the arrival of a call to the end of its handler",
    Side.SERVER,
    frozenset({RPC_METHOD, RPC_STATUS_CODE, RPC_SYSTEM, ERROR_TYPE}),
)
DATABASE = Operation(
    "db.client.operation.duration",
    "Time of one SQL statement or commit",
    Side.CLIENT,
    frozenset({DB_SYSTEM, DB_OPERATION, DB_COLLECTION, ERROR_TYPE}),
)
CATALOG = Operation(
    "pandawn.catalog.operation.duration",
    "Time of one call of the catalog, memcached included",
    Side.CLIENT,
    frozenset({DB_SYSTEM, CATALOG_OPERATION, ERROR_TYPE}),
)
BATCH = Operation(
    "pandawn.batch.duration",
    "Time of one batch of calls in its use case",
    Side.INTERNAL,
    frozenset({BATCH_NAME, ERROR_TYPE}),
)
WORKER_RUN = Operation(
    "pandawn.worker.run.duration",
    "Time of one run of a periodic worker",
    Side.INTERNAL,
    frozenset({WORKER_NAME, ERROR_TYPE}),
)

# Counters, distributions and gauges
INCIDENTS = Counter("pandawn.incidents", "Unexpected errors", "{incident}")
REFUSALS = Counter("pandawn.refusals", "Calls refused, by reason", "{call}")
ADMISSIONS = Counter(
    "pandawn.admissions", "Credentials read and accepted, by method", "{credential}"
)
BATCH_SIZES = Distribution("pandawn.batch.size", "Calls that shared one batch", "{call}")
CATALOG_DRIFT_FILES = Distribution(
    "pandawn.catalog_drift_files",
    "Files that a full inventory found wrong in the catalog",
    "{file}",
)
CATALOG_DRIFT_BYTES = Distribution(
    "pandawn.catalog_drift_bytes", "Sum of the sizes of those files", "By"
)
POOL_CONNECTIONS = Gauge("db.client.connection.count", "Connections of the pool", "{connection}")
POLLING_PILOTS = Gauge("pandawn.pilots.polling", "Calls in a long poll for jobs", "{call}")
