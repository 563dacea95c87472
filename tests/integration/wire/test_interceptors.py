"""What surrounds a call, seen by a client over a real connection."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from pandawn_server.domain.access.principals import LOCAL_OPERATOR
from pandawn_server.domain.errors import NotFoundError, UnavailableError
from pandawn_server.listeners import parse_listener
from pandawn_server.telemetry.names import RPC_STATUS_CODE
from pandawn_server.wire.auth.gate import Gate
from pandawn_server.wire.edge.handlers import Handler, ServicerContext
from pandawn_server.wire.edge.server import Door, EdgeServer, Listening, Service
from tests.fixtures.telemetry import Recorded, RecordingTelemetry

OWN = "pandawn.test.v1.Probe"
FOREIGN = "other.Probe"


@dataclass
class Probe:
    """A servicer with a method of each kind. What a request says decides what it does."""

    left: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    refused: bool = False

    async def one(self, request: StringValue, context: ServicerContext) -> StringValue:
        await self._act(request.value, context)
        return StringValue(value=request.value.upper())

    async def many(
        self, request: StringValue, context: ServicerContext
    ) -> AsyncIterator[Int64Value]:
        try:
            for number in (1, 2):
                yield Int64Value(value=number)
            await self._act(request.value, context)
        finally:
            self.left.set()

    async def total(
        self, requests: AsyncIterator[Int64Value], context: ServicerContext
    ) -> Int64Value:
        del context
        return Int64Value(value=sum([request.value async for request in requests]))

    async def _act(self, wish: str, context: ServicerContext) -> None:
        match wish:
            case "later" if not self.refused:
                self.refused = True
                raise UnavailableError("SHUTTING_DOWN", "soon", retry_after=timedelta(seconds=0.1))
            case "refuse":
                raise NotFoundError("QUEUE_NOT_FOUND", "no queue 'x'")
            case "crash":
                raise ZeroDivisionError("password=secret")
            case "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
            case "hang":
                self.entered.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()
            case _:
                pass

    def add(self, server: grpc.aio.Server, name: str) -> None:
        """Add the methods to a server as a service of that name."""
        handlers: dict[str, Handler] = {
            "One": grpc.unary_unary_rpc_method_handler(
                self.one,
                StringValue.FromString,
                StringValue.SerializeToString,
            ),
            "Many": grpc.unary_stream_rpc_method_handler(
                self.many,
                StringValue.FromString,
                Int64Value.SerializeToString,
            ),
            "Total": grpc.stream_unary_rpc_method_handler(
                self.total,
                Int64Value.FromString,
                Int64Value.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])


@dataclass
class Setup:
    """A server with the probe under two names, and a channel to it."""

    channel: grpc.aio.Channel
    probe: Probe
    telemetry: RecordingTelemetry
    shutting_down: asyncio.Event

    async def one(self, wish: str) -> str:
        call = self.channel.unary_unary(
            f"/{OWN}/One", StringValue.SerializeToString, StringValue.FromString
        )
        return (await call(StringValue(value=wish))).value

    def many(
        self, wish: str, service: str = OWN
    ) -> "grpc.aio.UnaryStreamCall[Message, Int64Value]":
        call = self.channel.unary_stream(
            f"/{service}/Many", StringValue.SerializeToString, Int64Value.FromString
        )
        return call(StringValue(value=wish))

    async def total(self, *messages: bytes) -> int:
        call = self.channel.stream_unary(f"/{OWN}/Total", bytes, Int64Value.FromString)
        return (await call(iter(messages))).value

    async def observed(self) -> Recorded:
        """The only observation, when the server has finished the call."""
        (observation,) = self.telemetry.observations
        while not observation.ended:  # noqa: ASYNC110 (shorter than an event for it)
            await asyncio.sleep(0.001)
        return observation


@asynccontextmanager
async def running(probe: Probe, options: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Setup]:
    telemetry, shutting_down = RecordingTelemetry(), asyncio.Event()
    services = [
        Service(name, lambda server, name=name: probe.add(server, name))  # type: ignore[misc]
        for name in (OWN, FOREIGN)
    ]
    door = Door(parse_listener("127.0.0.1:0"), Gate(otherwise=LOCAL_OPERATOR))
    listening = Listening([door], reuse_port=False, max_connection_age=timedelta(hours=1))
    server = EdgeServer(services, listening, telemetry, shutting_down)
    (address,) = await server.start()
    async with grpc.aio.insecure_channel(address, options) as channel:
        yield Setup(channel, probe, telemetry, shutting_down)
    await server.stop(timedelta(0))


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    """A running server with the probe."""
    async with running(Probe()) as setup:
        yield setup


async def refused(call: Callable[[], object]) -> grpc.aio.AioRpcError:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call()  # type: ignore[misc]
    return error.value


def trailers(error: grpc.aio.AioRpcError) -> dict[str, object]:
    return dict(error.trailing_metadata())


async def test_a_call_that_goes_well_is_left_alone(setup: Setup) -> None:
    assert await setup.one("hello") == "HELLO"
    observation = await setup.observed()
    assert observation.name == f"{OWN}/One"
    assert observation.attributes[RPC_STATUS_CODE] == "OK"
    assert not observation.error_type


async def test_an_error_of_the_domain_becomes_its_status(setup: Setup) -> None:
    error = await refused(lambda: setup.one("refuse"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no queue 'x'")
    assert trailers(error)["pandawn-reason"] == "QUEUE_NOT_FOUND"
    observation = await setup.observed()
    assert observation.attributes[RPC_STATUS_CODE] == "NOT_FOUND"
    assert not observation.error_type, "the caller's mistake is no error of the server"
    assert ("pandawn.refusals", 1, {"pandawn.reason": "QUEUE_NOT_FOUND"}) in setup.telemetry.counts


async def test_grpcs_own_retries_wait_as_long_as_the_server_says() -> None:
    patient = {"maxAttempts": 2, "initialBackoff": "600s", "maxBackoff": "600s"}
    policy = {**patient, "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    probe = Probe()
    async with running(probe, [("grpc.service_config", config)]) as setup:
        # By itself the client would wait ten minutes, longer than any test may run.
        assert await setup.one("later") == "LATER"
    assert probe.refused


async def test_an_unforeseen_error_is_an_incident_that_only_the_log_explains(setup: Setup) -> None:
    with structlog.testing.capture_logs() as log:
        error = await refused(lambda: setup.one("crash"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")
    (entry,) = [event for event in log if "incident" in event]
    assert entry["incident"] in (error.details() or "")
    assert isinstance(entry["exc_info"], ZeroDivisionError)
    assert (await setup.observed()).error_type == "INTERNAL"
    assert ("pandawn.incidents", 1, {}) in setup.telemetry.counts


async def test_a_handler_may_abort_by_itself(setup: Setup) -> None:
    error = await refused(lambda: setup.one("abort"))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "by hand")


async def test_bytes_that_are_no_message_are_the_callers_mistake(setup: Setup) -> None:
    call = setup.channel.unary_unary(f"/{OWN}/One", bytes, StringValue.FromString)
    error = await refused(lambda: call(b"\xff\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers(error)["pandawn-reason"] == "INVALID_REQUEST"


async def test_an_unknown_method_is_unimplemented(setup: Setup) -> None:
    call = setup.channel.unary_unary(f"/{OWN}/Nothing", bytes, bytes)
    assert (await refused(lambda: call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stream_delivers_what_came_before_its_error(setup: Setup) -> None:
    received: list[int] = []

    async def read() -> None:
        async for message in setup.many("refuse"):
            received.append(message.value)  # noqa: PERF401 (kept when the stream breaks)

    error = await refused(read)
    assert received == [1, 2]
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_that_is_read_to_its_end_is_ok(setup: Setup) -> None:
    assert [message.value async for message in setup.many("")] == [1, 2]
    assert (await setup.observed()).attributes[RPC_STATUS_CODE] == "OK"


async def test_a_client_that_leaves_ends_its_stream_on_the_server(setup: Setup) -> None:
    call = setup.many("hang")
    async for _ in call:
        break
    await setup.probe.entered.wait()
    call.cancel()
    await setup.probe.left.wait()
    assert (await setup.observed()).attributes[RPC_STATUS_CODE] == "CANCELLED"


async def test_a_stream_of_requests_is_read_by_its_servicer(setup: Setup) -> None:
    messages = [Int64Value(value=number).SerializeToString() for number in (1, 2, 3)]
    assert await setup.total(*messages) == 6


async def test_a_broken_message_in_a_stream_of_requests_is_the_callers_mistake(
    setup: Setup,
) -> None:
    good = Int64Value(value=1).SerializeToString()
    error = await refused(lambda: setup.total(good, b"\xff\xff"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stop_ends_endless_streams_of_foreign_services(setup: Setup) -> None:
    call = setup.many("hang", FOREIGN)
    await setup.probe.entered.wait()
    setup.shutting_down.set()

    async def read() -> None:
        async for _ in call:
            pass

    error = await refused(read)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailers(error)["pandawn-reason"] == "SHUTTING_DOWN"
    await setup.probe.left.wait()


async def test_calls_of_foreign_services_are_not_measured(setup: Setup) -> None:
    assert [message.value async for message in setup.many("", FOREIGN)] == [1, 2]
    assert not setup.telemetry.observations
