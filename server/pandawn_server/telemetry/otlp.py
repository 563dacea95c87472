"""Telemetry exported by OTLP over gRPC.

Importing this module takes half a second, so it is imported only when telemetry is on. The SDK's standard OTEL_*
environment variables apply (headers, certificates, sampler, intervals).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from uuid import uuid4

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from pandawn_server.telemetry.api import (
    NO_ATTRIBUTES,
    Attributes,
    AttributeValue,
    Carrier,
    Observation,
    SpanRef,
    Telemetry,
)
from pandawn_server.telemetry.names import (
    ERROR_TYPE,
    Counter,
    Distribution,
    Gauge,
    Operation,
    Side,
)

_EXPORT_TIMEOUT_S = 5
"""Time limit for one export: a collector that is down must not delay the end of the server."""

# Buckets from half a millisecond to the minute of a long poll. The SDK's own start at 5 ms, when a statement is
# already over.
_DURATION_BUCKETS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

_KINDS = {
    Side.SERVER: trace.SpanKind.SERVER,
    Side.CLIENT: trace.SpanKind.CLIENT,
    Side.INTERNAL: trace.SpanKind.INTERNAL,
}


class OtlpTelemetry(Telemetry):
    """Sends spans and metrics to a collector, in the SDK's threads."""

    enabled = True

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is `http://HOST:PORT`, or `https://` for TLS."""
        resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME", "pandawn-server"),
                "service.version": version("pandawn"),
                "service.instance.id": str(uuid4()),
            }
        )
        self._tracers = TracerProvider(resource=resource)
        self._tracers.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S))
        )
        exporter = OTLPMetricExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        self._meters = MeterProvider([PeriodicExportingMetricReader(exporter)], resource)
        self._tracer = self._tracers.get_tracer("pandawn_server")
        self._meter = self._meters.get_meter("pandawn_server")
        self._durations: dict[str, metrics.Histogram] = {}
        self._counters: dict[str, metrics.Counter] = {}
        self._distributions: dict[str, metrics.Histogram] = {}

    def observe(
        self,
        operation: Operation,
        name: str,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        carrier: Carrier | None = None,
        causes: Sequence[SpanRef | None] = (),
    ) -> Observation:
        """See `Telemetry`."""
        parents = [cause.span for cause in causes if isinstance(cause, _SpanRef)]
        parent: Context | None = None
        if carrier is not None:
            parent = extract(carrier, getter=_METADATA)
        elif len(parents) == 1:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(parents[0]))
        elif parents:
            # It follows from all of them and is a child of none.
            parent = Context()
        span = self._tracer.start_span(
            name,
            parent,
            _KINDS[operation.side],
            attributes,
            [trace.Link(cause) for cause in parents],
        )
        return _Running(span, operation, dict(attributes), self._duration(operation))

    def here(self) -> SpanRef | None:
        """See `Telemetry`."""
        span = trace.get_current_span().get_span_context()
        return _SpanRef(span) if span.is_valid else None

    def count(
        self, counter: Counter, amount: int = 1, attributes: Attributes = NO_ATTRIBUTES
    ) -> None:
        """See `Telemetry`."""
        made = self._counters.get(counter.name)
        if made is None:
            made = self._counters[counter.name] = self._meter.create_counter(
                counter.name, counter.unit, counter.description
            )
        made.add(amount, attributes)

    def record(
        self, distribution: Distribution, value: float, attributes: Attributes = NO_ATTRIBUTES
    ) -> None:
        """See `Telemetry`."""
        made = self._distributions.get(distribution.name)
        if made is None:
            made = self._distributions[distribution.name] = self._meter.create_histogram(
                distribution.name, distribution.unit, distribution.description
            )
        made.record(value, attributes)

    def watch(self, gauge: Gauge, read: Callable[[], Iterable[tuple[float, Attributes]]]) -> None:
        """See `Telemetry`."""

        def observed(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            return [metrics.Observation(value, attributes) for value, attributes in read()]

        self._meter.create_observable_gauge(gauge.name, [observed], gauge.unit, gauge.description)

    def close(self) -> None:
        """See `Telemetry`."""
        self._tracers.shutdown()
        self._meters.shutdown(timeout_millis=_EXPORT_TIMEOUT_S * 1000)

    def _duration(self, operation: Operation) -> metrics.Histogram:
        made = self._durations.get(operation.metric)
        if made is None:
            made = self._durations[operation.metric] = self._meter.create_histogram(
                operation.metric,
                "s",
                operation.description,
                explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
            )
        return made


class _SpanRef(SpanRef):
    __slots__ = ("span",)

    def __init__(self, span: trace.SpanContext) -> None:
        self.span = span


class _Running(Observation):
    __slots__ = ("_attributes", "_began", "_duration", "_operation", "_outer", "_span")

    def __init__(
        self,
        span: trace.Span,
        operation: Operation,
        attributes: dict[str, AttributeValue],
        duration: metrics.Histogram,
    ) -> None:
        self._span = span
        self._operation = operation
        self._attributes = attributes
        self._duration = duration
        self._began = time.perf_counter()

    def begin(self) -> None:
        self._outer = context.attach(trace.set_span_in_context(self._span))

    def set(self, name: str, value: AttributeValue) -> None:
        self._attributes[name] = value
        self._span.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        self.set(ERROR_TYPE, error_type)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        context.detach(self._outer)
        self._span.end()
        chosen = self._operation.metric_attributes
        self._duration.record(
            time.perf_counter() - self._began,
            {name: value for name, value in self._attributes.items() if name in chosen},
        )


class _Metadata(Getter[Carrier]):
    """Reads trace headers from the metadata of a call."""

    def get(self, carrier: Carrier, key: str) -> list[str] | None:
        """All values of a header."""
        values = [value for name, value in carrier if name == key]
        return [value for value in values if isinstance(value, str)] or None

    def keys(self, carrier: Carrier) -> list[str]:
        """All headers."""
        return [name for name, _ in carrier]


_METADATA = _Metadata()
