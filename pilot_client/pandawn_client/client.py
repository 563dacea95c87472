"""The connection to the server: channel, one call, and what a refusal says.

Speaks the plain trailers `pandawn-reason` and `pandawn-retry-after-ms`, so that a worker node
needs no package beyond grpcio and protobuf.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from pandawn.dispatcher.v1.dispatcher_pb2_grpc import DispatcherStub
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub
from pandawn_client.channel import MAX_MESSAGE_BYTES, Line, open_line, proxy_hint
from pandawn_client.contact import Contact
from pandawn_client.credentials import Credentials
from pandawn_client.signing import Identity
from pandawn_client.tls_trouble import tls_trouble

# One call, its waiting for a free connection included.
CALL_TIMEOUT_SECONDS = 30.0
# From one fresh line to the next at least this, twice as long each time while nothing is answered ...
FRESH_LINE_SECONDS = 5.0
# ... up to this: to a server that is only slow, handshakes are no help.
LONGEST_FRESH_LINE_SECONDS = 60.0
# How long what was found out about a server that cannot be reached holds.
EXPLAINED_SECONDS = 60.0
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

    def add(self, more: str) -> None:
        """Lets the message say more."""
        self.message += more
        self.args = (f"{self.reason}: {self.message}",)


class Connection:
    """The line to a server and the stubs on it; usable from all threads.

    `server` is HOST:PORT or unix:PATH. `identity` says what calls show. A line on which a call found no
    answer in its time may be dead without anybody having said so (a firewall has forgotten it, the
    other machine lost its power): further calls go over another one.
    """

    def __init__(
        self,
        server: str,
        credentials: Credentials | None = None,
        identity: Identity | None = None,
    ) -> None:
        self.server = server
        self.identity = identity or Identity(credentials.token if credentials is not None else "")
        self.contact = Contact()
        self._credentials = credentials
        self._lock = threading.Lock()
        # By time.monotonic(): before, no further line is opened.
        self._settled_at = float("-inf")
        self._pause = FRESH_LINE_SECONDS
        self._explain_at, self._explanation = float("-inf"), ""
        self._former: Line | None = None
        self._line = self._open(0)

    @property
    def line(self) -> int:
        """Number of the line in use; it grows when another one takes its place."""
        return self._line.number

    @property
    def dispatcher(self) -> DispatcherStub:
        """The Dispatcher on the line in use."""
        return self._line.dispatcher

    @property
    def catalog(self) -> FileCatalogStub:
        """The FileCatalog on the line in use."""
        return self._line.catalog

    @property
    def queues(self) -> QueueConfigStub:
        """The QueueConfig on the line in use."""
        return self._line.queues

    def explain(self) -> str:
        """What to add where it is said that the server cannot be reached; may be empty.

        May take some seconds, but not at each call.
        """
        if time.monotonic() >= self._explain_at:
            self._explain_at = time.monotonic() + EXPLAINED_SECONDS
            trouble = tls_trouble(self.server, self._credentials)
            self._explanation = f" ({trouble})" if trouble else proxy_hint(self.server)
        return self._explanation

    def close(self) -> None:
        """Ends the line; running calls end as cancelled."""
        with self._lock:
            lines = [self._line] if self._former is None else [self._former, self._line]
        for line in lines:
            line.channel.close()

    def _open(self, number: int) -> Line:
        return open_line(number, self.server, self._credentials, self.identity, self._note_end)

    def _note_end(self, number: int, code: grpc.StatusCode | None) -> None:
        self.contact.note(code)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._doubt(number)
        elif code is grpc.StatusCode.OK:
            self._pause = FRESH_LINE_SECONDS

    def _doubt(self, number: int) -> None:
        """Opens another line in the place of line `number`, unless that was just done.

        Calls that still run on the old one end by themselves: the server may only be slow.
        """
        with self._lock:
            now = time.monotonic()
            if number != self._line.number or now < self._settled_at:
                return
            self._settled_at = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_FRESH_LINE_SECONDS)
            before_that, self._former = self._former, self._line
            self._line = self._open(number + 1)
        if before_that is not None:
            before_that.channel.close()


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
