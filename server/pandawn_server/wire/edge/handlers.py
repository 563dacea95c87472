"""Turns gRPC's handlers into one form: a coroutine of (reader of encoded requests, context).

Requests are read here, after the caller was admitted. gRPC would read the whole message before asking anybody; this
way a stranger's message stays in the network, within its stream's window. They are also decoded here, because 32 MiB
of nothing can take seconds. A message that cannot be decoded is refused with a reason, where gRPC would answer
UNKNOWN and show the client a Python error.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pandawn_server.domain.errors import InvalidRequestError, UnavailableError, Violation
from pandawn_server.wire.edge.bounds import LARGE_BYTES, Reading, count_large, pace_large
from pandawn_server.wire.edge.policies import POLICIES
from pandawn_server.wire.edge.unknown_fields import drop_unknown_fields, unknown_fields

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Maximum size of a request; clients check what they send against the same number."""

USUAL_MESSAGE_BYTES = 4 * 1024 * 1024
"""Maximum request size of methods without long lists: a hundred reports need less. A decoded message may take
thirty times its size in memory, and all callers wait while it is decoded."""

READ_TIMEOUT = timedelta(seconds=60)
"""Maximum time for a whole message to arrive after its caller was admitted: 32 MiB at half a MiB per second.
Otherwise a caller that never sends its last byte would tie up the server's memory."""

STREAM_TIMEOUT = timedelta(minutes=15)
"""Maximum time for all requests of a stream: an inventory of a million files or a 64 MiB sandbox on a slow line."""

_UNKNOWN = "is unknown to this server: it is older, or follows another contract"

_READ_TIMEOUT_S = READ_TIMEOUT / timedelta(seconds=1)

LONG_LISTS = frozenset(
    {
        "/pandawn.broker.v1.Broker/SubmitTask",
        "/pandawn.filecatalog.v1.FileCatalog/AddFiles",
        "/pandawn.filecatalog.v1.FileCatalog/DeleteFiles",
        "/pandawn.filecatalog.v1.FileCatalog/ReportInventory",
        "/pandawn.filecatalog.v1.FileCatalog/PinFiles",
        "/pandawn.filecatalog.v1.FileCatalog/UnpinFiles",
        "/pandawn.filecatalog.v1.FileCatalog/CheckFiles",
        "/pandawn.filecatalog.v1.FileCatalog/GetCoverage",
        "/pandawn.queueconfig.v1.QueueConfig/ApplyConfig",
    }
)

# In quotes: generic for type checkers only.
ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""The context of any call."""

Behavior: TypeAlias = Callable[[Any, ServicerContext], Awaitable[Any]]
"""What a servicer does for a call; with a streamed response it writes to the context."""

Decode: TypeAlias = Callable[[bytes], Any]
"""Decodes a message."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
"""A method as gRPC knows it."""


def behavior_of(
    method: str, handler: Handler, *, seen: Callable[[object], None] | None = None
) -> Behavior:
    """The servicer's method as a coroutine, even if it is an asynchronous generator.

    It takes a reader of encoded requests, and may raise `InvalidRequestError` and `UnavailableError`
    (REQUEST_TOO_SLOW). `seen` is called with the decoded request of a unary call.
    """
    found = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    behavior = cast("Behavior", found)
    if inspect.isasyncgenfunction(found):
        behavior = _written(found)
    decode = _strict(handler.request_deserializer, _most_bytes(method), of_ours=method in POLICIES)
    if handler.request_streaming:
        return _of_stream(behavior, decode)
    return _of_one(
        behavior,
        decode if seen is None else _shown(decode, seen),
        is_list=method in LONG_LISTS,
    )


def rebuilt(handler: Handler, behavior: Behavior) -> Handler:
    """The same method with another behaviour, which reads its encoded requests itself.

    To gRPC every request becomes a stream, mostly of one message; on the wire that makes no difference.
    """
    make: Callable[..., Handler] = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    return make(behavior, response_serializer=handler.response_serializer)


T = TypeVar("T")


class _DecodedStream:
    """The requests of a stream; fails when one cannot be decoded or does not arrive in time."""

    def __init__(self, requests: AsyncIterator[bytes], decode: Decode) -> None:
        self._requests = requests
        self._decode = decode
        self._end_s = time.monotonic() + STREAM_TIMEOUT / timedelta(seconds=1)

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        await pace_large()
        if time.monotonic() > self._end_s:
            raise _too_slow(STREAM_TIMEOUT)
        async with Reading():
            encoded = await _in_time(anext(self._requests))
        return self._decode(encoded)


async def _in_time(read: Awaitable[T]) -> T:
    """Awaits a read. Raises `UnavailableError` (REQUEST_TOO_SLOW)."""
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await read
    except TimeoutError:
        raise _too_slow(READ_TIMEOUT) from None


def _too_slow(limit: timedelta) -> UnavailableError:
    return UnavailableError(
        "REQUEST_TOO_SLOW",
        f"the request did not arrive within {limit / timedelta(seconds=1):.0f} s",
    )


def _most_bytes(method: str) -> int:
    return MAX_MESSAGE_BYTES if method in LONG_LISTS else USUAL_MESSAGE_BYTES


def _shown(decode: Decode, seen: Callable[[object], None]) -> Decode:
    def shown(encoded: bytes) -> object:
        message = decode(encoded)
        seen(message)
        return message

    return shown


def _of_one(behavior: Behavior, decode: Decode, *, is_list: bool) -> Behavior:
    async def call(requests: AsyncIterator[bytes], context: ServicerContext) -> object:
        del requests  # an iterator over what the context reads too, at twice the cost
        if is_list:
            await pace_large()
        async with Reading():
            encoded = await _in_time(context.read())
        if encoded is grpc.aio.EOF:
            raise InvalidRequestError(
                "INVALID_REQUEST", "the call has no request, and this method takes one"
            )
        if is_list and len(encoded) < LARGE_BYTES:
            # Again, since many calls may have been read meanwhile. Larger ones would take too much memory.
            await pace_large()
        return await behavior(decode(encoded), context)

    return call


def _of_stream(behavior: Behavior, decode: Decode) -> Behavior:
    async def call(requests: AsyncIterator[bytes], context: ServicerContext) -> object:
        return await behavior(_DecodedStream(aiter(requests), decode), context)

    return call


def _written(method: Callable[..., AsyncGenerator[Any, None]]) -> Behavior:
    async def call(request: object, context: ServicerContext) -> None:
        responses = method(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            # Otherwise the garbage collector would close an unfinished generator, much later.
            await responses.aclose()

    return call


def _strict(decode: Decode | None, most_bytes: int, *, of_ours: bool) -> Decode:
    assert decode is not None, "every method of a proto has a decoder"

    def strict(encoded: bytes) -> object:
        if len(encoded) > most_bytes:
            raise InvalidRequestError(
                "INVALID_REQUEST",
                f"the request has {len(encoded):,} bytes, and this method takes {most_bytes:,}",
            )
        count_large(len(encoded))
        try:
            message = decode(encoded)
        except DecodeError as error:
            raise InvalidRequestError(
                "INVALID_REQUEST", f"the request is not a message of this method: {error}"
            ) from error
        if of_ours and drop_unknown_fields(message):
            raise InvalidRequestError.of(
                [Violation(place, _UNKNOWN) for place in unknown_fields(decode(encoded))]
            )
        return message

    return strict
