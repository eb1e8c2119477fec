"""How does a user's thumbs-up get to the trace of a run? `feedback(handler, "helpful", True)`, without waiting for it.

You see: what Phoenix is sent. This file plays the server; `phoenix()` alone finds a real one. Langfuse gets a score.
"""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import workflows_otel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

sent: list[dict[str, object]] = []


class Server(BaseHTTPRequestHandler):
    """Takes what a Phoenix server takes: traces and annotations."""

    def do_POST(self) -> None:
        """Answer that all is well."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/span_annotations":
            sent.extend(json.loads(body)["data"])
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Answer(Workflow):
    """Answers every question in the same way."""

    @step
    async def think(self, ev: StartEvent) -> StopEvent:
        """Thinks."""
        return StopEvent(result="42")


async def main() -> None:
    """Run, ask the user, tell the back end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    telemetry = workflows_otel.setup(workflows_otel.phoenix(endpoint=f"http://127.0.0.1:{server.server_port}"))

    handler = Answer().run(question="why?")
    await handler
    taken = workflows_otel.feedback(handler, "helpful", True, comment="short and clear")
    print("taken by", *await asyncio.wrap_future(taken))

    trace = workflows_otel.trace_of(handler)
    print("about the run's own span:", trace is not None and sent[0]["span_id"] == trace.span_id)
    print(sent[0]["name"], sent[0]["annotator_kind"], sent[0]["result"])
    telemetry.shutdown()
    server.shutdown()
    server.server_close()


asyncio.run(main())
