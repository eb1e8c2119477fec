"""`mlflow models serve` in a process of its own: predictions, a question and its answer, and traces of both."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from cryptography.fernet import Fernet
from mlflow.entities import Trace

import mlflow_flavor
from tests.mlflow_flavor.test_questions import BUYER
from tests.mlflow_flavor.trees import lines

pytestmark = pytest.mark.server

READY_SECONDS = 60


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"{url}/ping")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"mlflow models serve did not come up:\n{log.read_text()}")


@pytest.fixture
def served(experiment: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a server process of a logged model that asks before it buys."""
    (tmp_path / "agent.py").write_text(BUYER)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="buyer", pip_requirements=["mlflow"])
    url = f"http://127.0.0.1:{(port := _free_port())}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # it calls uvicorn by its name
        "PYTHONPATH": ":".join(sys.path),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_EXPERIMENT_ID": experiment,
        "WORKFLOWS_MLFLOW_RESUME_KEY": Fernet.generate_key().decode(),
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", info.model_uri]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_ready(url, process, log)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # the server is a child of the process that was started
            process.wait(timeout=20)


def _invoked(url: str, **body: Any) -> Any:
    reply = httpx.post(f"{url}/invocations", json=body, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()["predictions"]


def test_a_question_is_answered_over_rest_and_both_calls_are_traced(served: str, experiment: str):
    asked = _invoked(served, inputs={"item": "tea"}, params={"session_id": "s-1"})
    (wait,) = asked["waiting"]
    assert wait["event"] == {"type": "Ask", "data": {"price": 7}}
    answers = {wait["id"]: {"type": "Ans", "data": {"ok": True}}}
    resume = json.dumps({"token": asked["resume"], "answers": answers})
    assert _invoked(served, inputs={}, params={"resume": resume}) == "bought tea"

    first, second = _traces(experiment)
    assert lines(first) == ["Buyer.run WORKFLOW OK", "  quote TASK OK"]
    assert lines(second)[0] == "Buyer.run WORKFLOW OK"
    assert lines(second)[-1] == "  buy TASK OK"
    assert [t.info.tags["outcome"] for t in (first, second)] == ["suspended", "completed"]
    assert [t.info.trace_metadata["mlflow.trace.session"] for t in (first, second)] == ["s-1", "s-1"]
    assert second.data.spans[0].links[0].trace_id == first.info.trace_id


def _traces(experiment: str) -> list[Trace]:
    """The traces of both calls, once they are over for the store as well."""
    end = time.monotonic() + 10
    while True:
        found = mlflow.search_traces(locations=[experiment], return_type="list", order_by=["timestamp_ms ASC"])
        traces = [trace for trace in found if isinstance(trace, Trace)]
        if time.monotonic() > end or [t.info.state.value for t in traces] == ["OK", "OK"]:
            return traces
        time.sleep(0.1)
