"""The services of this server: each servicer with the name under which clients find it."""

from __future__ import annotations

from functools import partial

from pandawn.broker.v1.broker_pb2_grpc import add_BrokerServicer_to_server
from pandawn.dispatcher.v1.dispatcher_pb2_grpc import add_DispatcherServicer_to_server
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import add_FileCatalogServicer_to_server
from pandawn.monitor.v1.monitor_pb2_grpc import add_MonitorServicer_to_server
from pandawn.queueconfig.v1.queueconfig_pb2_grpc import add_QueueConfigServicer_to_server
from pandawn_server.wire.broker import BrokerServicer
from pandawn_server.wire.deps import Deps
from pandawn_server.wire.dispatcher import DispatcherServicer
from pandawn_server.wire.filecatalog import FileCatalogServicer
from pandawn_server.wire.monitor import MonitorServicer
from pandawn_server.wire.queueconfig import QueueConfigServicer
from pandawn_server.wire.server import Service


def services(deps: Deps) -> list[Service]:
    """Makes the servicers."""
    return [
        Service(
            "pandawn.dispatcher.v1.Dispatcher",
            partial(add_DispatcherServicer_to_server, DispatcherServicer(deps)),
        ),
        Service(
            "pandawn.broker.v1.Broker", partial(add_BrokerServicer_to_server, BrokerServicer(deps))
        ),
        Service(
            "pandawn.filecatalog.v1.FileCatalog",
            partial(add_FileCatalogServicer_to_server, FileCatalogServicer(deps)),
        ),
        Service(
            "pandawn.queueconfig.v1.QueueConfig",
            partial(add_QueueConfigServicer_to_server, QueueConfigServicer(deps)),
        ),
        Service(
            "pandawn.monitor.v1.Monitor",
            partial(add_MonitorServicer_to_server, MonitorServicer(deps)),
        ),
    ]
