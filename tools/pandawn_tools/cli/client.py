"""Talks to the server: one channel, calls that survive a restart of the server, pages."""

# grpc's classes are generic in their type stubs only.
from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message

from pandawn.broker.v1 import broker_pb2_grpc
from pandawn.filecatalog.v1 import filecatalog_pb2_grpc
from pandawn.monitor.v1 import monitor_pb2_grpc
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from pandawn_client.channel import proxy_for
from pandawn_tools.cli.credentials import NOTHING, Credentials
from pandawn_tools.cli.errors import CliError, usage_error
from pandawn_tools.cli.remote import Refusal, read_refusal, to_cli_error
from pandawn_tools.cli.render import note
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.signing import Signer
from pandawn_tools.cli.tls_trouble import find_trouble
from pandawn_tools.cli.units import format_size

# The server's limit for one message, both ways.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
# Time for one answer. The slowest call submits 100,000 jobs.
CALL_TIMEOUT_S = 60.0
# How long a command keeps trying: a server being restarted is back in it, and somebody who
# mistyped the address need not wait long.
PATIENCE_S = 6.0
# Whoever waits for a task or follows events has time: a reboot of the server is no reason to end.
LONG_PATIENCE_S = 600.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Row = TypeVar("Row")


class Page(Protocol):
    """What each reply of a list has."""

    @property
    def next_page_token(self) -> str:
        """Token of the next page, empty for the last."""
        ...


PageT = TypeVar("PageT", bound=Page)


def new_request_id() -> str:
    """Draws the identifier that makes a retry of a call harmless."""
    return str(uuid.uuid4())


@dataclass
class _Retries:
    """When to try again, and when to give up."""

    patience_s: float
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._begin = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S
        self._said = False

    def pause(self, refusal: Refusal, address: Address) -> bool:
        """Waits before the next try; False if there is to be none."""
        if not refusal.is_transient:
            return False
        # Half fixed, half random: many clients of one restarted server come back spread out.
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        if refusal.retry_after is not None:
            pause_s = max(pause_s, refusal.retry_after.total_seconds() * random.uniform(1.0, 1.2))
        spent_s = time.monotonic() - self._begin
        if spent_s + pause_s > self.patience_s:
            return False
        if not self._said and spent_s > 1:
            self._said = True
            self.say(f"the server at {address.target} does not answer now; trying again ...")
        time.sleep(pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return True

    def succeed(self, address: Address) -> None:
        """Says that it went on, if it was said that it did not."""
        if self._said:
            self.say(f"the server at {address.target} answers again")


class Client:
    """A connection to one server."""

    def __init__(
        self,
        address: Address,
        *,
        credentials: Credentials = NOTHING,
        patience_s: float = PATIENCE_S,
        say: Callable[[str], None] = note,
    ) -> None:
        """Opens the channel; nothing is sent before the first call.

        `credentials` are what the server is shown.
        `patience_s` bounds the time that one call is tried again while the server is away, once
        it has answered; before, `PATIENCE_S` does. `say` is told when that takes longer, and may
        be exchanged while the screen is drawn by others.
        """
        self.address = address
        self.say = say
        self._patience_s = patience_s
        self._has_answered = False
        self.credentials = credentials
        self._channel = _open(address, credentials)
        signed = self._channel
        if credentials.token is not None:
            signed = grpc.intercept_channel(signed, Signer(credentials.token.read))
        self.broker = broker_pb2_grpc.BrokerStub(signed)
        self.catalog = filecatalog_pb2_grpc.FileCatalogStub(signed)
        self.monitor = monitor_pb2_grpc.MonitorStub(signed)
        self.queues = queueconfig_pb2_grpc.QueueConfigStub(signed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """Makes one call, again after a pause while the server is away.

        The request is the same each time, so a `request_id` in it makes that harmless.

        Raises:
            CliError: The server refused, or was away for longer than the patience lasts.
        """
        check_size(request)
        return self._persist(
            lambda: method(request, timeout=CALL_TIMEOUT_S), _call_name(type(request))
        )

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Callable[[], Iterator[Request]],
        name: str,
    ) -> Response:
        """Makes one call that streams to the server; `requests` begins the stream anew each try.

        Raises:
            CliError: As `call`.
        """
        return self._persist(lambda: method(requests(), timeout=CALL_TIMEOUT_S), name)

    @property
    def patience_s(self) -> float:
        """How long a call is tried again from now on, in seconds."""
        # An address where nothing has ever answered is more likely wrong than out of order.
        return self._patience_s if self._has_answered else min(self._patience_s, PATIENCE_S)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        resume: Callable[[], Request],
    ) -> Iterator[Response]:
        """Reads a stream from the server to its end, over restarts of the server.

        `resume` returns the request that goes on where the caller is.

        Raises:
            CliError: As `call`; the patience is that for one break.
        """
        retries = _Retries(self.patience_s, self.say)
        while True:
            request = resume()
            try:
                for response in method(request):
                    self._has_answered = True
                    retries.succeed(self.address)
                    retries = _Retries(self.patience_s, self.say)
                    yield response
            except grpc.RpcError as error:
                refusal = read_refusal(error)
                if self._is_hopeless(refusal) or not retries.pause(refusal, self.address):
                    raise self._failed(refusal, _call_name(type(request))) from error
            else:
                return

    def pages(
        self,
        fetch: Callable[[str, int], PageT],
        rows: Callable[[PageT], Sequence[Row]],
        *,
        limit: int | None,
        page_size: int = 1000,
    ) -> tuple[list[Row], bool]:
        """Reads pages until `limit` rows are there; tells also whether there are more.

        `fetch` gets a page token and a page size; `rows` takes the rows out of a page.
        """
        found: list[Row] = []
        token = ""
        while True:
            wanted = page_size if limit is None else min(page_size, limit - len(found))
            page = fetch(token, wanted)
            found += rows(page)
            token = page.next_page_token
            if not token or (limit is not None and len(found) >= limit):
                return found, bool(token)

    def _is_hopeless(self, refusal: Refusal) -> bool:
        # A server that has answered was reached by the same name and rights a moment ago.
        return refusal.is_lasting and not self._has_answered

    def _failed(self, refusal: Refusal, name: str) -> CliError:
        trouble = find_trouble(self.address, self.credentials) if refusal.is_out_of_reach else None
        return to_cli_error(refusal, name, self.address, trouble)

    def _persist(self, attempt: Callable[[], Response], name: str) -> Response:
        retries = _Retries(self.patience_s, self.say)
        while True:
            try:
                response = attempt()
            except grpc.RpcError as error:
                refusal = read_refusal(error)
                if self._is_hopeless(refusal) or not retries.pause(refusal, self.address):
                    raise self._failed(refusal, name) from error
            else:
                self._has_answered = True
                retries.succeed(self.address)
                return response


def check_size(request: Message) -> None:
    """Raises `CliError` for a request that the server would refuse for its size."""
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise usage_error(
            "REQUEST_TOO_LARGE",
            f"the request is {format_size(size)}, and the server takes "
            f"{format_size(MAX_MESSAGE_BYTES)} at most",
            details=["nothing was sent"],
            remedies=["split it: for a task, shorter file lists; for a cache, fewer files a call"],
        )


def _call_name(request: type[Message]) -> str:
    return request.DESCRIPTOR.name.removesuffix("Request")


def _open(address: Address, credentials: Credentials) -> grpc.Channel:
    options = _channel_options(address)
    if credentials.channel is None:
        return grpc.insecure_channel(address.target, options=options)
    return grpc.secure_channel(address.target, credentials.channel, options=options)


def _channel_options(address: Address) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Matches what the server accepts; notices a dead connection behind a NAT.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A server that comes back is to be noticed within seconds; gRPC's own pause grows to two
        # minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    # The web's proxy passes no gRPC on.
    options.append(("grpc.enable_http_proxy", int(proxy_for(address.target) is not None)))
    return options
