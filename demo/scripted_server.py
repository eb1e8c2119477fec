"""A child process of the demo: scripted answers behind the OpenAI HTTP protocol, where no model can run.

Everything that it says is marked as scripted. It lives until standard input closes.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted-answers-no-model"


def main() -> None:
    """Serve on a free port of the loopback; the first line printed says where."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "model": MODEL, "seconds": 0.0}
    print(json.dumps(ready), flush=True)
    sys.stdin.read()
    server.shutdown()


def scripted_answer(request: dict[str, Any]) -> str:
    """What the script says to a chat request; where a JSON schema is asked for, a tool call."""
    said = request["messages"][-1]["content"]
    if "response_format" in request:
        numbers = re.findall(r"\d+", said)
        if len(numbers) == 2:
            return json.dumps({"tool": "multiply", "a": int(numbers[0]), "b": int(numbers[1])})
        return json.dumps({"tool": "weather", "city": "Lisbon" if "Lisbon" in said else "Oslo"})
    if "critique" in said:
        return "[scripted] The joke is short, which is the best thing about it."
    if "joke" in said:
        return "[scripted] Why do pirates test in production? Because they love the C."
    return f"[scripted] {said}"


class Scripted(BaseHTTPRequestHandler):
    """Answers `POST .../chat/completions`, streamed or whole."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pieces = re.findall(r"\S+\s*", scripted_answer(request))
        asked = sum(len(message["content"].split()) for message in request["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": len(pieces), "total_tokens": asked + len(pieces)}
        if request.get("stream"):
            self._reply("text/event-stream", _events(pieces, usage))
        else:
            message = {"role": "assistant", "content": "".join(pieces)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**_header("chat.completion"), "choices": [choice], "usage": usage}
            self._reply("application/json", json.dumps(whole))

    def _reply(self, content_type: str, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _header(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-scripted", "object": kind, "created": 0, "model": MODEL}


def _events(pieces: list[str], usage: dict[str, int]) -> str:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}}]} for piece in pieces
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": usage})
    header = _header("chat.completion.chunk")
    return "".join(f"data: {json.dumps(header | chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


if __name__ == "__main__":
    main()
