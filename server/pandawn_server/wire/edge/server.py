"""Builds the gRPC server: options, services, health, reflection; starts and stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pandawn_server.domain.dispatch.reply_size import MAX_REPLY_BYTES
from pandawn_server.listeners import Listener
from pandawn_server.telemetry.api import Telemetry
from pandawn_server.wire.auth.front import TlsFront
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.edge.auditing import Auditor
from pandawn_server.wire.edge.bounds import Bounds
from pandawn_server.wire.edge.handlers import MAX_MESSAGE_BYTES
from pandawn_server.wire.edge.interceptors import EdgeInterceptor
from pandawn_server.wire.edge.listening import StartError, bind, open_front
from pandawn_server.wire.edge.reflection import add_reflection

CLIENT_PING_INTERVAL = timedelta(seconds=10)
"""Minimum interval between a client's keepalive pings. Our pilots ping every 20 s, so that they notice within
half a minute when a firewall has dropped the connection of a long poll."""

SERVER_PING_INTERVAL = timedelta(seconds=120)
"""Idle time after which the server pings a client: a node that lost its power would otherwise hold its long
polls for hours."""

SERVER_PING_TIMEOUT = timedelta(seconds=20)
"""How long the server waits for the answer to its ping."""

HANDSHAKE_TIMEOUT = timedelta(seconds=10)
"""Maximum time from the first byte of a connection to the first HTTP/2 frame, TLS included; a distant node under
load needs one or two seconds. With gRPC's default of two minutes, strangers could hold all descriptors."""

MAX_METADATA_BYTES = 32 * 1024
"""Maximum metadata of a call, as clients count it: the largest token and a trace. From half of this size on, gRPC
refuses some calls."""

WINDOW_BYTES = 64 * 1024
"""How much a connection may send of a message that nobody reads yet: 100 streams take 6.4 MiB of our memory."""

CONNECTION_AGE_GRACE = timedelta(minutes=5)
"""How long calls may continue on a connection that has reached its age: longer than a long poll."""


REFUSE_FIRST = timedelta(milliseconds=100)
"""How long a stopping server still reads new calls, to refuse them with a reason."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its full name, and how to add it to a server."""

    name: str
    add: Callable[[grpc.aio.Server], None]


@dataclass(frozen=True, slots=True)
class Door:
    """One address to listen on, its gate, and what terminates TLS.

    That is gRPC, with `credentials`, or our `front`, or nothing.
    """

    listener: Listener
    gate: Gate
    credentials: grpc.ServerCredentials | None = None
    front: TlsFront | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how the server listens.

    `max_streams` limits concurrent calls per connection, `max_connections` concurrent network connections per
    door. `watch` is called with the network ports once all are bound.
    """

    doors: Sequence[Door]
    reuse_port: bool
    max_connection_age: timedelta
    max_streams: int = 100
    max_connections: int = 4096
    watch: Callable[[Collection[int]], None] | None = None


class EdgeServer:
    """The project's services, health checking and reflection, at one or more addresses.

    gRPC does not report which address a call came to, so each has a gRPC server of its own.
    """

    def __init__(
        self,
        services: Sequence[Service],
        listening: Listening,
        telemetry: Telemetry,
        shutting_down: asyncio.Event,
        auditor: Auditor | None = None,
    ) -> None:
        """`shutting_down` ends streams of the health and reflection services."""
        self._names = [service.name for service in services]
        self._listening = listening
        self._health = health.aio.HealthServicer()
        self._servers: list[tuple[Door, grpc.aio.Server]] = []
        bounds = Bounds()
        for door in listening.doors:
            server = grpc.aio.server(
                interceptors=[
                    EdgeInterceptor(door.gate, telemetry, shutting_down, auditor, bounds)
                ],
                options=list(_options(listening, door).items()),
            )
            handlers = cast("grpc.aio.Server", _GenericHandlersOnly(server))
            for service in services:
                service.add(handlers)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, handlers)
            add_reflection((*self._names, health.SERVICE_NAME), server)
            self._servers.append((door, server))

    async def start(self) -> list[str]:
        """Starts to serve, and returns the addresses with their actual ports.

        Raises `StartError` if an address cannot be bound.
        """
        bound = [_bind(door, server) for door, server in self._servers]
        for _, server in self._servers:
            await server.start()
        for n, (door, _) in enumerate(self._servers):
            if door.front is not None:
                bound[n] = open_front(
                    door.front, door.listener, reuse_port=self._listening.reuse_port
                )
        if self._listening.watch is not None:
            self._listening.watch(
                [
                    int(address.rpartition(":")[2])
                    for (door, _), address in zip(self._servers, bound, strict=True)
                    if door.listener.socket_path is None
                ]
            )
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return bound

    async def announce_stop(self) -> None:
        """Sets health to NOT_SERVING for good, so that load balancers send no more calls here."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: timedelta) -> None:
        """Accepts no more calls and waits for those in flight; cancels them after `grace`."""
        for door, _ in self._servers:
            if door.front is not None:
                await door.front.refuse_new()
        # gRPC answers calls that it has read but not yet dispatched with CANCELLED, as if the caller had
        # cancelled them (grpc/grpc#41785). For a moment the interceptor refuses them instead.
        await asyncio.sleep(REFUSE_FIRST / timedelta(seconds=1))
        await asyncio.gather(
            *(server.stop(grace / timedelta(seconds=1)) for _, server in self._servers)
        )
        for door, _ in self._servers:
            if door.front is not None:
                await door.front.stop()


def _bind(door: Door, server: grpc.aio.Server) -> str:
    if door.front is None:
        return bind(server, door.listener, door.credentials)
    try:
        server.add_insecure_port(door.front.backend)
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {door.front.backend}, behind {door.listener.address}: {error}; "
            "if the path is too long, set TMPDIR to a shorter one"
        ) from None
    return door.listener.address


class _GenericHandlersOnly:
    """Keeps gRPC from registering methods one by one.

    With registered methods, grpc.aio waits on one future for each, at every call: with our thirty methods that
    costs a fifth of the throughput.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, object]
    ) -> None:
        """Does nothing: the service's generic handler has the same methods."""


def _options(listening: Listening, door: Door) -> dict[str, int]:
    millisecond = timedelta(milliseconds=1)
    options = {
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        "grpc.max_send_message_length": MAX_REPLY_BYTES,
        # gRPC's default would let two servers share a port by accident.
        "grpc.so_reuseport": int(listening.reuse_port),
        "grpc.http2.min_recv_ping_interval_without_data_ms": CLIENT_PING_INTERVAL // millisecond,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.keepalive_time_ms": SERVER_PING_INTERVAL // millisecond,
        "grpc.keepalive_timeout_ms": SERVER_PING_TIMEOUT // millisecond,
        "grpc.max_connection_age_ms": listening.max_connection_age // millisecond,
        "grpc.max_connection_age_grace_ms": CONNECTION_AGE_GRACE // millisecond,
        # By default a connection may have any number of calls, even ones that it starts and resets at once.
        "grpc.max_concurrent_streams": listening.max_streams,
        "grpc.http.overload_protection": 1,
        "grpc.server_handshake_timeout_ms": HANDSHAKE_TIMEOUT // millisecond,
        "grpc.max_metadata_size": MAX_METADATA_BYTES,
        "grpc.http2.lookahead_bytes": WINDOW_BYTES,
    }
    if door.listener.socket_path is None:
        # No limit on the operator's socket: its file mode decides who may connect.
        options["grpc.max_allowed_incoming_connections"] = listening.max_connections
    return options
