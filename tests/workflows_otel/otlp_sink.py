"""An OTLP back end for tests: takes spans over HTTP and gRPC on this machine, and decodes what really came by wire."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

UNPACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass
class ReceivedSpan:
    """One span as it was on the wire; ids as hexadecimal digits."""

    name: str
    span_id: str
    parent_id: str
    trace_id: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, dict[str, Any]]]
    status: str
    description: str
    scope: str
    resource: dict[str, Any]
    kind: str
    start_ns: int
    end_ns: int


@dataclass
class Request:
    """One export request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class OtlpSink:
    """What a sink got; `replies` are the HTTP statuses of the next requests (then 200), `hold` lets it hang.

    Attributes:
        retry_after: Seconds that a refusal asks for.
        location: Where a redirect leads.
        rejects: How many spans of each request are refused.
        raw: Everything that came, uncompressed, for searching secrets.
    """

    endpoint: str = ""
    requests: list[Request] = field(default_factory=list[Request])
    spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])
    replies: list[int] = field(default_factory=list[int])
    hold: threading.Event = field(default_factory=threading.Event)
    retry_after: int | None = None
    location: str | None = None
    rejects: int = 0
    raw: bytes = b""

    def __post_init__(self) -> None:
        self.hold.set()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Take one request; returns the HTTP status of the reply."""
        self.hold.wait()
        self.requests.append(Request(path, headers, body))
        status = self.replies.pop(0) if self.replies else 200
        if status == 200 and headers.get("content-type") != "application/json":
            plain = UNPACK[headers.get("content-encoding", "")](body)
            self.raw += plain
            self.spans += _spans(ExportTraceServiceRequest.FromString(plain))
        return status

    def answer(self) -> ExportTraceServiceResponse:
        """What a request that is taken is answered."""
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
            answer.partial_success.error_message = "over the quota"
        return answer

    def names(self) -> list[str]:
        """The spans' names, in the order in which they came."""
        return [span.name for span in self.spans]

    def named(self, name: str) -> ReceivedSpan:
        """The only span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span


@contextmanager
def http_sink() -> Generator[OtlpSink]:
    """A sink that takes OTLP/HTTP with protobuf."""
    sink = OtlpSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = sink.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            answer = sink.answer().SerializeToString() if status == 200 else b""
            self.send_header("content-length", str(len(answer)))
            if status != 200 and sink.retry_after is not None:
                self.send_header("retry-after", str(sink.retry_after))
            if status != 200 and sink.location is not None:
                self.send_header("location", sink.location)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sink.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_sink() -> Generator[OtlpSink]:
    """A sink that takes OTLP/gRPC."""
    sink = OtlpSink()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: Any) -> Any:  # noqa: N802  # gRPC's name
            headers = {str(k): str(v) for k, v in context.invocation_metadata()}
            sink.take("grpc", headers, request.SerializeToString())
            return sink.answer()

    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    sink.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield sink
    finally:
        server.stop(grace=None).wait()


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield ReceivedSpan(
                    name=span.name,
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    trace_id=span.trace_id.hex(),
                    attributes=_attributes(span.attributes),
                    events=[(event.name, _attributes(event.attributes)) for event in span.events],
                    links=[(link.span_id.hex(), _attributes(link.attributes)) for link in span.links],
                    status=("UNSET", "OK", "ERROR")[span.status.code],
                    description=span.status.message,
                    scope=scoped.scope.name,
                    resource=resource,
                    kind=("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")[span.kind],
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
