"""A real Phoenix server for tests: started once, on this machine only, and read through its own API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 180  # a first start creates its database; seen: 10 to 90 s
READ_SECONDS = 30

T = TypeVar("T")


class Phoenix:
    """The server, and what it shows; every reading is repeated until it holds what is waited for."""

    def __init__(self, endpoint: str, grpc_endpoint: str) -> None:
        self.endpoint = endpoint
        self.grpc_endpoint = grpc_endpoint
        self._client = httpx.Client(base_url=endpoint, timeout=30, trust_env=False)

    def spans(self, project: str, count: int) -> list[dict[str, Any]]:
        """The spans of a project, once there are `count`, in the order in which they began."""

        def read() -> list[dict[str, Any]] | None:
            found = self._get(f"/v1/projects/{project}/spans?limit=1000")
            return sorted(found, key=lambda span: span["start_time"]) if len(found) >= count else None

        return _polled(read, f"{count} spans in {project}")

    def sessions(self, project: str, count: int) -> list[dict[str, Any]]:
        """The sessions of a project, once there are `count`."""

        def read() -> list[dict[str, Any]] | None:
            found = self._get(f"/v1/projects/{project}/sessions?limit=100")
            return found if len(found) >= count else None

        return _polled(read, f"{count} sessions in {project}")

    def annotation(self, project: str, span_id: str, label: str) -> dict[str, Any]:
        """The only thing that was said about a span, once it is `label`."""

        def read() -> dict[str, Any] | None:
            found = self._get(f"/v1/projects/{project}/span_annotations?span_ids={span_id}")
            return found[0] if [one["result"]["label"] for one in found] == [label] else None

        return _polled(read, f"{label} at {span_id}")

    def found_by(self, project: str, condition: str) -> list[str]:
        """The names of the spans that the filter of its pages finds."""
        return sorted(span["name"] for span in self._queried(project, condition, "name"))

    def shown(self, project: str, fields: str) -> list[dict[str, Any]]:
        """Fields of each span, as its pages ask for them."""
        return self._queried(project, "", fields)

    def status_of_page(self, url: str) -> int:
        """What its pages answer to a browser."""
        return self._client.get(url).status_code

    def _queried(self, project: str, condition: str, fields: str) -> list[dict[str, Any]]:
        spans = f"spans(filterCondition: $f, first: 200) {{edges {{node {{{fields}}}}}}}"
        query = f"query($f: String) {{projects {{edges {{node {{name {spans}}}}}}}}}"
        answer = self._client.post("/graphql", json={"query": query, "variables": {"f": condition}}).json()
        (found,) = [edge["node"] for edge in answer["data"]["projects"]["edges"] if edge["node"]["name"] == project]
        return [edge["node"] for edge in found["spans"]["edges"]]

    def is_up(self) -> bool:
        try:
            return self._client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._client.close()

    def _get(self, path: str) -> list[dict[str, Any]]:
        response = self._client.get(path)
        return response.json()["data"] if response.status_code == 200 else []  # 404: no such project yet


def outline(spans: list[dict[str, Any]]) -> list[str]:
    """The trees of spans as indented lines: name, kind, status."""
    known = {span["context"]["span_id"] for span in spans}

    def lines(parent: str | None, depth: int) -> list[str]:
        found: list[str] = []
        for span in spans:
            above = span["parent_id"] if span["parent_id"] in known else None
            if above == parent:
                found.append(f"{'  ' * depth}{span['name']} {span['span_kind']} {span['status_code']}")
                found += lines(span["context"]["span_id"], depth + 1)
        return found

    return lines(None, 0)


@contextmanager
def running(folder: Path) -> Generator[Phoenix]:
    """A Phoenix server that keeps its data in `folder`."""
    port, grpc_port = _free_ports(2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PHOENIX_", "OTEL_"))}
    environment |= {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }
    script = str(Path(__file__).with_name("phoenix_on_loopback.py"))
    log = folder / "phoenix.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [str(_python()), script, "serve"], env=environment, stdout=written, stderr=subprocess.STDOUT, cwd=folder
        )
    server = Phoenix(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{grpc_port}")
    try:
        _wait_until_up(server, process, log)
        yield server
    finally:
        server.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _python() -> Path:
    python = Path(os.environ.get("SPANFLOW_PHOENIX_PYTHON") or ROOT / ".venv-phoenix" / "bin" / "python")
    if not python.exists():
        why = f"{python} does not exist; `make .venv-phoenix/.installed` makes it"
        if os.environ.get("SPANFLOW_SERVERS") == "required":
            pytest.fail(why)
        pytest.skip(why)
    return python


def _wait_until_up(server: Phoenix, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"Phoenix did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.2)


def _polled(read: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + READ_SECONDS
    while (found := read()) is None:
        if time.monotonic() > deadline:
            pytest.fail(f"Phoenix does not show {what}")
        time.sleep(0.1)
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    sys.exit("This is for tests; `phoenix serve` starts a server.")
