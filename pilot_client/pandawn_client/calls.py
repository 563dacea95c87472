"""Makes calls, once or with retries; errors of stubs become CallErrors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, Union

import grpc
from google.protobuf.message import Message

from pandawn_client.channel import MAX_MESSAGE_BYTES
from pandawn_client.contact import Contact
from pandawn_client.policy import DAEMON, Patience, Tries
from pandawn_client.refusals import CallError, failure_of
from pandawn_client.stop import Stop

# Timeout of one call, including the wait for a connection.
CALL_TIMEOUT_SECONDS = 30.0

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
ResultT = TypeVar("ResultT")

if TYPE_CHECKING:
    Log = Union[logging.Logger, logging.LoggerAdapter[logging.Logger]]


def call(
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    timeout: float = CALL_TIMEOUT_SECONDS,
) -> ResponseT:
    """Makes one call. Raises CallError, also for a request above the message limit."""
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
    """Calls a method that opens a session. Raises CallError; a refused credential is not transient."""
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
    """Sends a stream and returns the single response. Raises CallError."""
    try:
        return method(requests, timeout=timeout)
    except grpc.RpcError as error:
        raise failure_of(error) from error


def read_stream(
    method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
    request: RequestT,
    timeout: float | None,
) -> Iterator[ResponseT]:
    """Yields the responses of a streaming call. Raises CallError."""
    try:
        yield from method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise failure_of(error) from error


def check_size(request: Message) -> None:
    """Raises CallError, before anything is sent, when a request is above the message limit."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise CallError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "MESSAGE_TOO_LARGE",
            f"{type(request).__name__} has {size} bytes, the limit is {MAX_MESSAGE_BYTES}",
            transient=False,
        )


def persist(
    attempt: Callable[[], ResultT],
    what: str,
    log: Log,
    *,
    stop: Stop,
    give_up_after: float | None = None,
    contact: Contact | None = None,
) -> ResultT:
    """Repeats `attempt` while its failures are transient, as a daemon does; returns its result.

    With `contact` a pause ends early when another call reaches the server.

    Raises CallError when the server refuses for good or after `give_up_after` seconds, and the error of
    `stop` when that is set. Logs an outage when it starts and when it ends, not at each try.
    """
    tries = Tries(Patience(give_up_after, DAEMON.longest_pause))
    while True:
        try:
            result = attempt()
        except CallError as failure:
            pause = tries.next_pause(transient=failure.transient, retry_after=failure.retry_after)
            if pause is None:
                raise
            if tries.failures == 1:
                log.warning("%s failed, retrying: %s", what, failure)
            if contact is None:
                stop.wait(pause)
            else:
                contact.pause(stop, pause, failure.retry_after or 0.0)
            stop.check()
        else:
            if tries.failures:
                log.info(
                    "%s succeeded after %d failures in %.1f s", what, tries.failures, tries.spent
                )
            return result
