"""What MLflow's OTLP endpoint makes of what we send: its own code, behind a server on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workflows_otel
from tests.workflows_otel.flows import Slow
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows_otel import llm_call, otlp, tool

mlflow = pytest.importorskip("mlflow", reason="runs with MLflow: `pip install 'spanflow[mlflow]'`")

pytestmark = [
    pytest.mark.server,
    pytest.mark.usefixtures("no_provider"),
    pytest.mark.filterwarnings("default"),  # MLflow's parts warn
]


class Found(Event):
    shop: str


class Shopping(Workflow):
    """Calls a model and a tool, and tries its second step twice."""

    @step
    async def look(self, ev: StartEvent) -> Found:
        with llm_call(model="gpt-4o", provider="openai") as call:
            call.input("where?").output("north").usage(input=1000, output=500)
        with tool(name="map") as call:
            call.input({"at": "north"}).output("a shop")
        return Found(shop="north")

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(2)))
    async def buy(self, ctx: Context, ev: Found) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("closed for a moment")
        return StopEvent(result={"bought": ev.shop})


# In a process of its own: FastAPI draws each request as spans of the process's tracer provider, which is ours here.
SERVER = """
import sys
import fastapi, uvicorn
from mlflow.server.otel_api import otel_router

app = fastapi.FastAPI()
app.include_router(otel_router)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""
START_SECONDS = 120


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with MLflow's endpoint for OTLP, over a store of its own."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    mlflow.create_experiment("makes the tables")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "_MLFLOW_SERVER_FILE_STORE": store, "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder)}
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, str(port)], env=environment)
    _wait_for(port, server)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)
    mlflow.set_tracking_uri(before)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    pytest.fail("MLflow's endpoint did not start")


@pytest.fixture
def telemetry(mlflow_url: str, request: pytest.FixtureRequest) -> Iterator[workflows_otel.Setup]:
    experiment = mlflow.create_experiment(request.node.name)
    mlflow.set_experiment(experiment_id=experiment)
    endpoint = otlp(mlflow_url, headers={"x-mlflow-experiment-id": experiment}, timeout=START_SECONDS)
    made = workflows_otel.setup(endpoint, content="full")
    yield made
    made.shutdown()


def traces() -> list[Any]:
    experiment = mlflow.tracking.fluent._get_experiment_id()
    return mlflow.search_traces(locations=[experiment], return_type="list")


def tree(found: Any) -> list[str]:
    """Lines `name TYPE STATUS`, children below their parents."""
    spans = sorted(found.data.spans, key=lambda span: span.start_time_ns)

    def below(parent: str | None, depth: int) -> Iterator[str]:
        for span in spans:
            if span.parent_id == parent:
                yield f"{'  ' * depth}{span.name} {span.span_type} {span.status.status_code.value}"
                yield from below(span.span_id, depth + 1)

    return [line for line in below(None, 0) if "workflow.started" not in line]


async def test_a_run_is_one_tree_with_types_and_statuses(telemetry: workflows_otel.Setup) -> None:
    await Shopping().run()
    assert telemetry.flush(START_SECONDS).ok
    (found,) = traces()
    assert tree(found) == [
        "invoke_workflow Shopping WORKFLOW OK",
        "  run_step look CHAIN OK",
        "    chat gpt-4o LLM OK",
        "    execute_tool map TOOL OK",
        "  run_step buy CHAIN OK",
        "    attempt buy CHAIN ERROR",
        "    attempt buy CHAIN OK",
    ]


async def test_name_payloads_session_and_user_are_where_mlflow_looks(telemetry: workflows_otel.Setup) -> None:
    with workflows_otel.context(session_id="s1", user_id="u1"):
        await Shopping().run(item="lamp")
    telemetry.flush(START_SECONDS)
    (found,) = traces()
    assert found.info.tags["mlflow.traceName"] == "Shopping.run"
    assert (found.info.request_preview, found.info.response_preview) == ('{"item":"lamp"}', '{"bought":"north"}')
    assert found.info.trace_metadata["mlflow.trace.session"] == "s1"
    assert found.info.trace_metadata["mlflow.trace.user"] == "u1"


async def test_tokens_are_counted_once(telemetry: workflows_otel.Setup) -> None:
    await Shopping().run()
    telemetry.flush(START_SECONDS)
    (found,) = traces()
    assert found.info.token_usage == {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}


async def test_a_run_is_seen_in_progress_and_a_cancelled_one_is_no_error(telemetry: workflows_otel.Setup) -> None:
    handler = Slow(timeout=None).run()
    await asyncio.sleep(0.05)
    telemetry.flush(START_SECONDS)
    assert [found.info.state.value for found in traces()] == ["IN_PROGRESS"]
    await handler.cancel_run()
    await asyncio.gather(handler, return_exceptions=True)
    telemetry.flush(START_SECONDS)
    assert [found.info.state.value for found in traces()] == ["OK"]
