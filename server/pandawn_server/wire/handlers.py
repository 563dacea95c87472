"""Brings handlers of gRPC into one form: a coroutine of (request or requests, context).

Also keeps messages that cannot be decoded from gRPC, which would answer UNKNOWN and show the client
the Python error: they are passed on as `Malformed`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pandawn_server.domain.errors import InvalidRequestError

Req = TypeVar("Req")

# In quotes: generic for type checkers only.
ServicerContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""The context of any call."""

Behavior: TypeAlias = Callable[[Any, ServicerContext], Awaitable[Any]]
"""What a servicer does for a call; with a streamed response it writes to the context."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
"""A method as gRPC knows it."""


class Malformed:
    """Stands for a message that could not be decoded."""

    __slots__ = ("_problem",)

    def __init__(self, error: DecodeError) -> None:
        self._problem = str(error)

    def error(self) -> InvalidRequestError:
        """What the client is told."""
        return InvalidRequestError(
            "INVALID_REQUEST", f"the request is not a message of this method: {self._problem}"
        )


def behavior_of(handler: Handler) -> Behavior:
    """The servicer's method as a coroutine, also where it is an asynchronous generator."""
    method = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    behavior = cast("Behavior", method)
    if inspect.isasyncgenfunction(method):
        behavior = _written(method)
    return _with_checked_stream(behavior) if handler.request_streaming else behavior


def rebuilt(handler: Handler, behavior: Behavior) -> Handler:
    """The same method with another behaviour, and a decoder that yields `Malformed`."""
    make: Callable[..., Handler] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(
        behavior,
        request_deserializer=_lenient(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


class _CheckedStream(Generic[Req]):
    """The requests of a stream, until one cannot be decoded."""

    def __init__(self, requests: AsyncIterator[Req | Malformed]) -> None:
        self._requests = requests

    def __aiter__(self) -> AsyncIterator[Req]:
        return self

    async def __anext__(self) -> Req:
        request = await anext(self._requests)
        if isinstance(request, Malformed):
            raise request.error()
        return request


def _with_checked_stream(behavior: Behavior) -> Behavior:
    async def call(requests: AsyncIterator[object], context: ServicerContext) -> object:
        return await behavior(_CheckedStream(aiter(requests)), context)

    return call


def _written(method: Callable[..., AsyncGenerator[Any, None]]) -> Behavior:
    async def call(request: object, context: ServicerContext) -> None:
        responses = method(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            # A generator left in the middle would be ended by the garbage collector, much later.
            await responses.aclose()

    return call


def _lenient(decode: Callable[[bytes], Req] | None) -> Callable[[bytes], Req | Malformed]:
    assert decode is not None, "every method of a proto has a decoder"

    def lenient(raw: bytes) -> Req | Malformed:
        try:
            return decode(raw)
        except DecodeError as error:
            return Malformed(error)

    return lenient
