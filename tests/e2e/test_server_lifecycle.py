"""A server begins, ends and begins again without losing anything."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.monitor.v1 import monitor_pb2, monitor_pb2_grpc
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from pandawn_server.wire.edge.handlers import MAX_MESSAGE_BYTES
from tests.fixtures.config import queue_request
from tests.fixtures.otlp import Collector
from tests.fixtures.processes import StartError
from tests.fixtures.rpc import reason_of
from tests.fixtures.server import PandawnServer, StartServer

SERVICES = (
    "pandawn.broker.v1.Broker",
    "pandawn.dispatcher.v1.Dispatcher",
    "pandawn.filecatalog.v1.FileCatalog",
    "pandawn.monitor.v1.Monitor",
    "pandawn.queueconfig.v1.QueueConfig",
)
# For calls that should answer at once: generous, and only so that no test hangs.
TIMEOUT_S = 30.0


def make_queue(channel: grpc.Channel, name: str = "analysis") -> None:
    stub = queueconfig_pb2_grpc.QueueConfigStub(channel)
    stub.ApplyConfig(queue_request(name), timeout=TIMEOUT_S)


def registration(request_id: str, queue: str = "analysis") -> pilot_pb2.RegisterPilotRequest:
    return pilot_pb2.RegisterPilotRequest(
        request_id=request_id, queue=queue, node="wn01.example.org", transports=["file"]
    )


def register(channel: grpc.Channel, request_id: str) -> str:
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    return stub.RegisterPilot(registration(request_id), timeout=TIMEOUT_S).pilot_id


def test_each_service_is_healthy_as_soon_as_the_server_serves(server: PandawnServer) -> None:
    assert server.health() == "SERVING"
    assert {name: server.health(name) for name in SERVICES} == dict.fromkeys(SERVICES, "SERVING")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_installed_program_begins_on_nothing_and_ends_well(
    start_installed_server: StartServer, how: signal.Signals
) -> None:
    server = start_installed_server()
    assert server.terminate(how) == 0
    assert server.health() == "UNREACHABLE"
    events = [event["event"] for event in server.log_events()]
    assert events[-1] == "stopped"


def test_watchers_see_that_the_server_stops(embedded_server: PandawnServer) -> None:
    seen: list[str] = []
    is_watched = threading.Event()

    def watch() -> None:
        with embedded_server.channel() as channel:
            call = channel.unary_stream(
                f"/{health.SERVICE_NAME}/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                for answer in call(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S):
                    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
                    seen.append(name)
                    is_watched.set()
            except grpc.RpcError as error:
                seen.append(error.code().name)

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watch)
        assert is_watched.wait(TIMEOUT_S)
        assert embedded_server.terminate() == 0
        watching.result()
    assert seen == ["SERVING", "NOT_SERVING", "UNAVAILABLE"]


def test_a_long_poll_ends_with_a_hint_when_the_server_stops(
    observed_server: PandawnServer, collector: Collector
) -> None:
    with observed_server.channel() as channel, ThreadPoolExecutor() as pool:
        make_queue(channel)
        request = dispatcher_pb2.AcquireJobsRequest(
            pilot_id=register(channel, "r1"),
            request_id="a1",
            max_jobs=1,
            wait=Duration(seconds=60),
        )
        stub = dispatcher_pb2_grpc.DispatcherStub(channel)
        polling = pool.submit(stub.AcquireJobs, request, timeout=90)
        collector.wait_for_polls(1)
        begin = time.monotonic()
        assert observed_server.terminate() == 0
        answer = polling.result()
        assert not answer.leases
        assert answer.retry_after.ToTimedelta() > timedelta(0)
        assert "stopping" in answer.idle_reason
        # Not a measurement: it says that the poll did not last its minute.
        assert time.monotonic() - begin < 30


def test_an_event_stream_ends_when_the_server_stops(embedded_server: PandawnServer) -> None:
    with embedded_server.channel() as channel:
        make_queue(channel)
        register(channel, "r1")
        stub = monitor_pb2_grpc.MonitorStub(channel)
        request = monitor_pb2.StreamEventsRequest(follow=True, tail=100)
        stream = stub.StreamEvents(request, timeout=TIMEOUT_S)
        assert next(stream).events
        assert embedded_server.terminate() == 0
        with pytest.raises(grpc.RpcError) as ended:
            list(stream)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(ended.value) == "SHUTTING_DOWN"


def test_what_was_acknowledged_before_a_stop_is_there_after_it(server: PandawnServer) -> None:
    """Pilots register without a pause while the server is told to stop."""
    acknowledged: dict[str, str] = {}
    refused: set[grpc.StatusCode] = set()

    def keep_registering(worker: int) -> None:
        with server.channel() as channel:
            for number in range(10_000):
                request_id = f"w{worker}-{number}"
                try:
                    acknowledged[request_id] = register(channel, request_id)
                except grpc.RpcError as error:
                    refused.add(error.code())
                    return

    with ThreadPoolExecutor(4) as pool:
        with server.channel() as channel:
            make_queue(channel)
        workers = [pool.submit(keep_registering, worker) for worker in range(4)]
        while len(acknowledged) < 40:
            time.sleep(0.01)
        assert server.terminate() == 0
        for worker in workers:
            worker.result()
    # CANCELLED comes from gRPC itself, for a call that it had read and not handed over when it
    # stopped (grpc/grpc#41785); the clients repeat both.
    assert refused <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    server.start()
    with server.channel() as channel:
        again = {request_id: register(channel, request_id) for request_id in acknowledged}
    assert again == acknowledged


def test_what_was_acknowledged_before_a_crash_is_there_after_it(server: PandawnServer) -> None:
    with server.channel() as channel:
        make_queue(channel)
        pilots = {f"r{number}": register(channel, f"r{number}") for number in range(5)}
    server.kill9()
    server.start()
    with server.channel() as channel:
        assert {request_id: register(channel, request_id) for request_id in pilots} == pilots


def test_a_client_finds_the_contracts_by_reflection(embedded_server: PandawnServer) -> None:
    with embedded_server.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICES) <= set(database.get_services())
        for symbol in ("Broker", "Broker.SubmitTask", "SubmitTaskRequest"):
            file = database.FindFileContainingSymbol(f"pandawn.broker.v1.{symbol}")
            assert file.name == "pandawn/broker/v1/broker.proto"


def test_a_message_above_the_limit_is_refused_with_the_limit(
    embedded_server: PandawnServer,
) -> None:
    request = broker_pb2.SubmitTaskRequest(request_id="x" * MAX_MESSAGE_BYTES)
    with embedded_server.channel() as channel:
        stub = broker_pb2_grpc.BrokerStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.SubmitTask(request, timeout=TIMEOUT_S)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(MAX_MESSAGE_BYTES) in (refused.value.details() or "")


def test_two_servers_do_not_share_a_port_by_accident(start_server: StartServer) -> None:
    first = start_server()
    with pytest.raises(StartError, match=f"cannot listen on {first.address}"):
        start_server(listen=first.address)
    assert first.health() == "SERVING"
