"""The connection to the server: channel, one call, and what a refusal says.

Speaks the plain trailers `pandawn-reason` and `pandawn-retry-after-ms`, so that a worker node
needs no package beyond grpcio and protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from pandawn.dispatcher.v1.dispatcher_pb2_grpc import DispatcherStub
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub
from pandawn_pilot.credentials import Credentials
from pandawn_pilot.identity import Identity, Signer

# The server takes messages up to this size and sends none larger.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# One call, its waiting for a free connection included.
CALL_TIMEOUT_SECONDS = 30.0

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A matched pair with the server's: it takes a ping each 30 s, more would be answered by a
    # disconnect.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own pause between connection attempts grows to two minutes: too long after a server's
    # restart.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Pilots of one machine, or a pilot and its next life, share nothing.
    ("grpc.use_local_subchannel_pool", 1),
)

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        # A fault of the server that may be gone after its restart. All calls of a pilot may be
        # repeated.
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        # A session has ended. Whoever keeps it begins another one meanwhile.
        grpc.StatusCode.UNAUTHENTICATED,
    }
)

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class CallError(Exception):
    """A call that the server refused or that did not reach it.

    `reason` is UPPER_SNAKE as in the contract, or the name of the gRPC status when there is none;
    `transient` says whether the same call may succeed later; `retry_after` is the server's wish in
    seconds.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        transient: bool,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.transient = transient
        self.retry_after = retry_after


class Connection:
    """One channel to a server and the stubs on it; usable from all threads.

    `server` is HOST:PORT or unix:PATH. `identity` says what calls show.
    """

    def __init__(
        self,
        server: str,
        credentials: Credentials | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.server = server
        self.identity = identity or Identity(credentials.token if credentials is not None else "")
        secured = credentials.channel() if credentials is not None else None
        if secured is None:
            self._channel = grpc.insecure_channel(server, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(server, secured, options=_OPTIONS)
        signed = grpc.intercept_channel(self._channel, Signer(self.identity))
        self.dispatcher = DispatcherStub(signed)
        self.catalog = FileCatalogStub(signed)
        self.queues = QueueConfigStub(signed)

    def close(self) -> None:
        """Ends the channel; running calls end as cancelled."""
        self._channel.close()


def call(
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    timeout: float = CALL_TIMEOUT_SECONDS,
) -> ResponseT:
    """Calls once. Raises CallError, also for a request above the message limit."""
    check_size(request)
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise failure_of(error) from error


def begin(
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    timeout: float = CALL_TIMEOUT_SECONDS,
) -> ResponseT:
    """Calls a method that begins a session: who is not let in there need not come again.

    Raises CallError.
    """
    try:
        return call(method, request, timeout)
    except CallError as failure:
        if failure.code is grpc.StatusCode.UNAUTHENTICATED:
            failure.transient = False
        raise


def call_with_stream(
    method: grpc.StreamUnaryMultiCallable[RequestT, ResponseT],
    requests: Iterator[RequestT],
    timeout: float,
) -> ResponseT:
    """Sends a stream and waits for the one response. Raises CallError."""
    try:
        return method(requests, timeout=timeout)
    except grpc.RpcError as error:
        raise failure_of(error) from error


def read_stream(
    method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT], request: RequestT, timeout: float
) -> Iterator[ResponseT]:
    """Yields the responses of a streaming call. Raises CallError."""
    try:
        yield from method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise failure_of(error) from error


def check_size(request: Message) -> None:
    """Raises CallError when a request is above the message limit, before a byte is sent."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise CallError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "MESSAGE_TOO_LARGE",
            f"{type(request).__name__} has {size} bytes, a message may have {MAX_MESSAGE_BYTES}",
            transient=False,
        )


def failure_of(error: grpc.RpcError) -> CallError:
    """Reads an error of gRPC: status, and the trailers that the server adds."""
    # What a stub raises is a grpc.Call as well; the types of grpcio cannot say it.
    ended: object = error
    if not isinstance(ended, grpc.Call):
        return CallError(grpc.StatusCode.UNKNOWN, "UNKNOWN", str(error), transient=False)
    trailers = {str(key): value for key, value in ended.trailing_metadata() or ()}
    code = ended.code()
    retry_after_ms = _text(trailers.get("pandawn-retry-after-ms"))
    retry_after = int(retry_after_ms) / 1000 if retry_after_ms.isdecimal() else None
    return CallError(
        code,
        _text(trailers.get("pandawn-reason")) or code.name,
        ended.details() or "the server gave no details",
        # RESOURCE_EXHAUSTED is either "later" or "never": the server tells the first by a time.
        transient=code in _TRANSIENT
        or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and retry_after is not None),
        retry_after=retry_after,
    )


def _text(value: str | bytes | None) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
