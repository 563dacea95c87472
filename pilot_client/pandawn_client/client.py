"""The client for programs other than daemons: calls that survive a restart of the server, streams, pages."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import Message

from pandawn_client.address import parse_server
from pandawn_client.calls import check_size
from pandawn_client.channel import open_channel
from pandawn_client.credentials import Credentials, find_credentials
from pandawn_client.policy import COMMAND, Patience, Tries
from pandawn_client.refusals import CallError, failure_of

if TYPE_CHECKING:
    from pandawn.broker.v1.broker_pb2_grpc import BrokerStub
    from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
    from pandawn.monitor.v1.monitor_pb2_grpc import MonitorStub
    from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub

# Timeout of one try. The slowest call submits 100,000 jobs.
CALL_TIMEOUT_SECONDS = 60.0
# Shorter outages are not reported.
_QUIET_SECONDS = 1.0

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
ResultT = TypeVar("ResultT")


def new_request_id() -> str:
    """A new random identifier, which makes a retry of a call harmless."""
    return str(uuid.uuid4())


class Client:
    """A connection to one server, with the stubs of its services; thread-safe.

    `server` is HOST, HOST:PORT or unix:PATH. `credentials` None: those of the environment (see
    `find_credentials`). `patience` limits the retries of a call while the server is unreachable. Until the
    first response, at most the patience of `COMMAND` applies, as the address is probably wrong then. `say`
    gets a line when an outage lasts longer than a second, and one when it ends.

    Nothing is sent before the first call. Use it in a `with`, or call `close`.
    Raises ValueError for a malformed address, and CredentialError.
    """

    def __init__(
        self,
        server: str,
        *,
        credentials: Credentials | None = None,
        patience: Patience = COMMAND,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.server = parse_server(server)
        self.credentials = find_credentials(self.server) if credentials is None else credentials
        self.say = say
        self._patience = patience
        self._has_answered = False
        self._channel, self._signed = open_channel(self.server, self.credentials)

    def __enter__(self: ClientT) -> ClientT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; running calls are cancelled."""
        self._channel.close()

    # Stubs are imported at first use: a command that calls one service starts faster.

    @cached_property
    def broker(self) -> BrokerStub:
        """The Broker of the server."""
        from pandawn.broker.v1.broker_pb2_grpc import BrokerStub

        return BrokerStub(self._signed)

    @cached_property
    def catalog(self) -> FileCatalogStub:
        """The FileCatalog of the server."""
        from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub

        return FileCatalogStub(self._signed)

    @cached_property
    def monitor(self) -> MonitorStub:
        """The Monitor of the server."""
        from pandawn.monitor.v1.monitor_pb2_grpc import MonitorStub

        return MonitorStub(self._signed)

    @cached_property
    def queues(self) -> QueueConfigStub:
        """The QueueConfig of the server."""
        from pandawn.queueconfig.v1.queueconfig_pb2_grpc import QueueConfigStub

        return QueueConfigStub(self._signed)

    @property
    def patience(self) -> Patience:
        """How long further calls are retried."""
        if self._has_answered or self._patience.seconds is None or COMMAND.seconds is None:
            return self._patience
        return dataclasses.replace(
            self._patience, seconds=min(self._patience.seconds, COMMAND.seconds)
        )

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT
    ) -> ResponseT:
        """Makes one call, with retries while the server is unreachable.

        Each try sends the same request, so its `request_id` makes retries harmless.
        Raises CallError when the server refuses, or after the patience.
        """
        check_size(request)
        return self._persist(lambda: method(request, timeout=CALL_TIMEOUT_SECONDS))

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[RequestT, ResponseT],
        requests: Callable[[], Iterator[RequestT]],
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> ResponseT:
        """Makes one call that streams to the server; `requests` returns a new stream for each try.

        `timeout_seconds` is for one try, including the server's processing. Raises CallError as `call`.
        """
        return self._persist(lambda: method(requests(), timeout=timeout_seconds))

    def follow(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        resume: Callable[[], RequestT],
    ) -> Iterator[ResponseT]:
        """Reads a stream from the server to its end, across restarts of the server.

        `resume` returns the request that continues at the caller's position.
        Raises CallError as `call`; the patience applies to each interruption.
        """
        outage = _Outage(self)
        while True:
            try:
                for response in method(resume()):
                    outage.end()
                    yield response
            except grpc.RpcError as error:
                outage.wait_or_raise(error)
            else:
                return

    def record_answer(self) -> None:
        """Records that the server has responded."""
        self._has_answered = True

    def is_hopeless(self, failure: CallError) -> bool:
        """Whether a retry is useless: after a first response, the same address does work."""
        if failure.code is grpc.StatusCode.UNAUTHENTICATED:
            return True  # a Client has no session to renew
        return failure.is_lasting and not self._has_answered

    def _persist(self, attempt: Callable[[], ResultT]) -> ResultT:
        outage = _Outage(self)
        outage.start()
        while True:
            try:
                response = attempt()
            except grpc.RpcError as error:
                outage.wait_or_raise(error)
            else:
                outage.end()
                return response


ClientT = TypeVar("ClientT", bound=Client)


class _Outage:
    """The time from one failure of a call to its success."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tries: Tries | None = None
        self._was_said = False

    def start(self) -> Tries:
        """Starts the time of the patience, unless it has started."""
        if self._tries is None:
            self._tries = Tries(self._client.patience)
        return self._tries

    def wait_or_raise(self, error: grpc.RpcError) -> None:
        """Waits until the next try. Raises CallError if there is none."""
        failure = failure_of(error)
        # For a stream the patience starts when it breaks: it may have been idle for hours before.
        pause, tries = None, self.start()
        if not self._client.is_hopeless(failure):
            pause = tries.next_pause(transient=failure.transient, retry_after=failure.retry_after)
        if pause is None:
            raise failure from error
        if not self._was_said and tries.spent > _QUIET_SECONDS:
            self._was_said = True
            self._client.say(f"the server at {self._client.server} does not respond; retrying ...")
        time.sleep(pause)

    def end(self) -> None:
        """Records that the server responds: the next failure starts another outage."""
        self._client.record_answer()
        if self._was_said:
            self._client.say(f"the server at {self._client.server} responds again")
        self._tries, self._was_said = None, False
