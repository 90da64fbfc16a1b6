"""Spans reach a collector, as children of the caller's trace."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from running import FLOWER, IRIS, eventually, running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collector() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A server of OTLP over HTTP; its URL and the spans that came."""
    spans: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        facts = {item.key: item.value.string_value for item in span.attributes}
                        facts |= {"name": span.name, "trace": span.trace_id.hex(), "parent": span.parent_span_id.hex()}
                        spans.append(facts)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def ask(url: str, body: object, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{url}/v2/models/iris/infer", json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(request).read()
    except urllib.error.HTTPError as error:
        error.read()


def test_a_request_becomes_a_span_of_its_callers_trace() -> None:
    with (
        collector() as (endpoint, spans),
        running(f"iris={IRIS}", "--otlp-endpoint", endpoint, OTEL_BSP_SCHEDULE_DELAY="100") as server,
    ):
        server.wait_ready()
        ask(server.http, FLOWER, {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1"})
        ask(server.http, {"inputs": []}, {})
        eventually(lambda: len(spans) == 2, f"both spans came; so far {spans}")
    good, bad = sorted(spans, key=lambda span: "error.type" in span)
    assert good["name"] == "infer iris"
    assert (good["trace"], good["parent"]) == (TRACE, PARENT)
    assert good["slipway.request_id"] == "r-1"
    assert good["slipway.version"] == "v1"
    assert bad["error.type"] == "invalid_input"
    assert bad["parent"] == ""
