"""Spans for OpenTelemetry: one for each inference request, when an endpoint to send them to is configured.

A W3C `traceparent` that came with the request makes its span a child of the caller's. Spans are batched and sent by
the SDK's own thread; without an endpoint nothing of this is imported and a request pays one comparison.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from slipway.errors import BadRequest, Cancelled, SlipwayError
from slipway.infer.request import Done, Request, Response
from slipway.infer.service import Ticket


class Tracing:
    """`endpoint`: base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318."""

    def __init__(self, endpoint: str, *, service_version: str) -> None:
        resource = Resource.create({"service.name": "slipway", "service.version": service_version})
        self._provider = TracerProvider(resource=resource)  # the sampler follows OTEL_TRACES_SAMPLER
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("slipway")
        self._propagator = TraceContextTextMapPropagator()

    def watch(self, request: Request, done: Done) -> Watched:
        """Begin a span, which ends with the answer or when the client goes away."""
        parent = self._propagator.extract({"traceparent": request.trace}) if request.trace else None
        span = self._tracer.start_span(f"infer {request.model}", context=parent, kind=SpanKind.SERVER)
        span.set_attributes(
            {
                "slipway.model": request.model,
                "slipway.protocol": request.protocol,
                "slipway.request_id": request.id,
            }
        )
        return Watched(span, done)

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._provider.shutdown()


class Watched:
    """A request under a span: `done` instead of the caller's, and a ticket around the engine's."""

    def __init__(self, span: Span, done: Done) -> None:
        self._span = span
        self._done = done
        self.ticket: Ticket | None = None

    def done(self, outcome: Response | SlipwayError) -> None:
        if isinstance(outcome, SlipwayError):
            self._span.set_attribute("error.type", outcome.code)
            if not isinstance(outcome, BadRequest):  # by convention the caller's mistakes are no server errors
                self._span.set_status(StatusCode.ERROR, outcome.message)
        else:
            self._span.set_attribute("slipway.version", outcome.version)
        self._span.end()
        self._done(outcome)

    def cancel(self) -> None:
        self._span.set_attribute("error.type", Cancelled.code)
        self._span.end()
        if self.ticket is not None:
            self.ticket.cancel()
