"""Traces and metrics reach a collector by OTLP, and cost nothing when there is none."""

import secrets

import grpc
import pytest

from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.otlp import Collector, Span, SpanKind
from tests.fixtures.ports import LOOPBACK, free_port
from tests.fixtures.server import PandawnServer, StartServer

TIMEOUT_S = 30.0
ACQUIRE = "pandawn.dispatcher.v1.Dispatcher/AcquireJobs"


def acquire(channel: grpc.Channel, trace: str) -> None:
    """Register a pilot and ask for jobs within a trace of the caller's."""
    queues = queueconfig_pb2_grpc.QueueConfigStub(channel)
    queues.ApplyConfig(queue_request("q"), timeout=TIMEOUT_S)
    stub = dispatcher_pb2_grpc.DispatcherStub(channel)
    pilot = stub.RegisterPilot(
        pilot_pb2.RegisterPilotRequest(request_id="r", queue="q", node="wn01"),
        timeout=TIMEOUT_S,
    )
    stub.AcquireJobs(
        dispatcher_pb2.AcquireJobsRequest(pilot_id=pilot.pilot_id, request_id="a", max_jobs=1),
        timeout=TIMEOUT_S,
        metadata=(("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),),
    )


def only(spans: list[Span]) -> Span:
    assert len(spans) == 1, spans
    return spans[0]


def test_a_call_is_followed_from_its_caller_to_its_commit(
    observed_server: PandawnServer, collector: Collector
) -> None:
    trace = secrets.token_hex(16)
    with observed_server.channel() as channel:
        acquire(channel, trace)
    collector.wait_for(lambda: bool(collector.spans(ACQUIRE)), "span of the call")
    call = only(collector.spans(ACQUIRE))
    assert (call.trace, call.parent) == (trace, "00f067aa0ba902b7")
    assert call.kind == SpanKind.SPAN_KIND_SERVER
    assert call.attributes["rpc.response.status_code"] == "OK"

    batch = only(collector.spans("batch AcquireJobs"))
    assert batch.links == (call.id,)
    assert (batch.trace, batch.parent) == (trace, call.id), "a lone call's batch is part of it"

    statements = [span for span in collector.spans() if span.parent == batch.id]
    assert {span.kind for span in statements} == {SpanKind.SPAN_KIND_CLIENT}
    assert "COMMIT" in {span.name for span in statements}
    texts = [str(span.attributes.get("db.query.text", "")) for span in statements]
    assert any(text.startswith("SELECT") for text in texts)
    assert not any("wn01" in text for text in texts), "values do not leave with the text"


def test_catalog_calls_and_workers_have_spans_and_all_have_metrics(
    observed_server: PandawnServer, collector: Collector
) -> None:
    with observed_server.channel() as channel:
        acquire(channel, secrets.token_hex(16))
        stub = filecatalog_pb2_grpc.FileCatalogStub(channel)
        request = filecatalog_pb2.GetCacheRequest(site="s", node="wn01")
        with pytest.raises(grpc.RpcError):
            stub.GetCache(request, timeout=TIMEOUT_S)
    names = {
        "rpc.server.call.duration",
        "db.client.operation.duration",
        "db.client.connection.count",
        "pandawn.batch.duration",
        "pandawn.batch.size",
        "pandawn.catalog.operation.duration",
        "pandawn.worker.run.duration",
        "pandawn.refusals",
    }
    collector.wait_for(lambda: names <= collector.metrics().keys(), f"metrics {names}")
    for name in ("catalog summaries", "worker reaper"):
        collector.wait_for(lambda name=name: bool(collector.spans(name)), name)  # type: ignore[misc]
    durations = collector.metrics()["rpc.server.call.duration"]
    assert durations.unit == "s"
    methods = {
        attribute.value.string_value
        for point in durations.histogram.data_points
        for attribute in point.attributes
        if attribute.key == "rpc.method"
    }
    assert ACQUIRE in methods
    assert {resource["service.name"] for resource in collector.resources()} == {"pandawn-server"}


def test_spans_of_the_last_moment_are_exported_before_the_end(
    start_server: StartServer, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    server = start_server(otlp_endpoint=collector.endpoint)
    with server.channel() as channel:
        acquire(channel, secrets.token_hex(16))
    assert not collector.spans(ACQUIRE)
    assert server.terminate() == 0
    assert collector.spans(ACQUIRE)


def test_the_standard_variable_of_opentelemetry_works_too(
    start_server: StartServer, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    start_server()
    collector.wait_for(lambda: bool(collector.spans("worker reaper")), "span")


def test_a_collector_that_is_away_disturbs_nobody(start_server: StartServer) -> None:
    server = start_server(otlp_endpoint=f"http://{LOOPBACK}:{free_port()}")
    with server.channel() as channel:
        acquire(channel, secrets.token_hex(16))
    assert server.terminate() == 0


def test_without_a_collector_no_telemetry_library_is_even_imported(
    start_installed_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    server = start_installed_server()
    with server.channel() as channel:
        acquire(channel, secrets.token_hex(16))
    imported = server.log_file.read_text()
    assert "sqlalchemy" in imported
    assert "opentelemetry" not in imported
