"""The services of this server: each servicer with the name under which clients find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import grpc.aio

from pandawn.broker.v1.broker_pb2_grpc import add_BrokerServicer_to_server
from pandawn.dispatcher.v1.dispatcher_pb2_grpc import add_DispatcherServicer_to_server
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import add_FileCatalogServicer_to_server
from pandawn.monitor.v1.monitor_pb2_grpc import add_MonitorServicer_to_server
from pandawn.queueconfig.v1.queueconfig_pb2_grpc import add_QueueConfigServicer_to_server
from pandawn_server.wire.catalog.filecatalog import FileCatalogServicer
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.dispatch.dispatcher import DispatcherServicer
from pandawn_server.wire.edge.server import Service
from pandawn_server.wire.monitor.monitor import MonitorServicer
from pandawn_server.wire.queues.queueconfig import QueueConfigServicer
from pandawn_server.wire.tasks.broker import BrokerServicer

_Servicer = Callable[[Deps], Any]
_Add = Callable[[Any, grpc.aio.Server], None]

_TABLE: Mapping[str, tuple[_Servicer, _Add]] = {
    "pandawn.broker.v1.Broker": (BrokerServicer, add_BrokerServicer_to_server),
    "pandawn.dispatcher.v1.Dispatcher": (DispatcherServicer, add_DispatcherServicer_to_server),
    "pandawn.filecatalog.v1.FileCatalog": (FileCatalogServicer, add_FileCatalogServicer_to_server),
    "pandawn.monitor.v1.Monitor": (MonitorServicer, add_MonitorServicer_to_server),
    "pandawn.queueconfig.v1.QueueConfig": (QueueConfigServicer, add_QueueConfigServicer_to_server),
}

SERVICERS: Mapping[str, _Servicer] = {name: servicer for name, (servicer, _) in _TABLE.items()}
"""The class of each service by the full name of the service."""


def services(deps: Deps) -> list[Service]:
    """Makes the servicers."""
    return [Service(name, partial(add, servicer(deps))) for name, (servicer, add) in _TABLE.items()]
