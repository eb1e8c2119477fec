"""A server that speaks the OpenAI protocol and says its lines: the seeds' code runs against it unchanged."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Script(ThreadingHTTPServer):
    """Answers every chat request with the next of its `lines`; `asked` are the requests' messages."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.lines: list[str] = []
        self.asked: list[list[dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serving() -> Iterator[Script]:
    """A script on a free port of the loopback."""
    script = Script()
    thread = threading.Thread(target=script.serve_forever, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        script.shutdown()
        script.server_close()
        thread.join()


class _Answer(BaseHTTPRequestHandler):
    server: Script

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(request["messages"])
        text = self.server.lines.pop(0)
        if request.get("stream"):
            chunks = [_chunk({"role": "assistant", "content": word}) for word in text.split(" ")]
            chunks.append(_chunk({}, "stop"))
            self._send("text/event-stream", "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n")
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            whole = {**_head("chat.completion"), "choices": [choice], "usage": usage}
            self._send("application/json", json.dumps(whole))

    def _send(self, content_type: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-4o-mini"}


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_head("chat.completion.chunk"), "choices": [choice]}
