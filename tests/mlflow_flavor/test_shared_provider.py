"""MLflow and an application's OpenTelemetry: one provider for both, or MLflow's own server as the OTLP endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
from fastapi import FastAPI
from mlflow.entities import Trace
from mlflow.server.otel_api import otel_router
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import workflows_otel
from tests.mlflow_flavor.agents import Ask, Plan
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.trees import lines, span_named
from tests.mlflow_flavor.versions import from_3_15
from workflows import Workflow, step
from workflows.events import StopEvent
from workflows.instrumentation import context
from workflows.retry_policy import retry_policy as policy
from workflows.retry_policy import stop_after_attempt, wait_fixed

SHARED = """
import asyncio, logging
logging.basicConfig(level=logging.INFO)
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

elsewhere = InMemorySpanExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(elsewhere))

import mlflow, mlflow_flavor, workflows_otel
from tests.mlflow_flavor.agents import Answer

mlflow_flavor.autolog()
workflows_otel.instrument(content='full')

async def main():
    await Answer().run(question="why")

asyncio.run(main())
mlflow.flush_trace_async_logging()
print(sorted(span.name for span in elsewhere.get_finished_spans()))
"""


def test_runs_on_a_shared_provider_are_drawn_once(interpreter: Interpreter, tmp_path: Path, experiment: str):
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    environment |= {"MLFLOW_USE_DEFAULT_TRACER_PROVIDER": "false"}
    done = interpreter.run(SHARED, tmp_path, environment=environment)
    steps = ["run_step answer", "run_step plan", "workflow.started"]
    assert done.stdout.strip() == str(["invoke_workflow Answer", *steps]), done.stderr
    assert "mlflow_flavor draws none" in done.stderr
    (found,) = mlflow.search_traces(locations=[experiment], return_type="list")
    assert isinstance(found, Trace)
    assert sorted(span.name for span in found.data.spans) == ["invoke_workflow Answer", *steps]


class Failing(Workflow):
    """One step fails and is repeated, the other asks a tool."""

    failures = 1

    @step(retry_policy=policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def fetch(self, ev: Ask) -> Plan:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionError("no route")
        return Plan(text=ev.question)

    @step
    async def answer(self, ev: Plan) -> StopEvent:
        return StopEvent(result=ev.text.upper())


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What `workflows_otel` draws of runs, on a provider of its own."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    workflows_otel.instrument(provider, content="full", start_marker=False)
    yield exporter
    workflows_otel.uninstrument(provider)


@pytest.fixture
async def endpoint(store: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the part of MLflow's server that takes OpenTelemetry's spans, on the store of the tests."""
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", mlflow.get_tracking_uri())
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(store))
    app = FastAPI()
    app.include_router(otel_router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mlflow") as client:
        yield client


def shape(trace: Trace) -> list[str]:
    """The tree in words that both ways have in common."""
    renamed = [line.replace("invoke_workflow Failing", "Failing.run").replace("run_step ", "") for line in lines(trace)]
    return [line.replace(" CHAIN ", " TASK ").replace(" UNSET", " OK") for line in renamed]


@from_3_15
async def test_a_run_gives_the_same_tree_by_mlflow_and_over_otlp(
    endpoint: httpx.AsyncClient, spans: InMemorySpanExporter, trace: Callable[[], Trace]
):
    with context(session_id="s-1", user_id="u-1"):
        assert await Failing().run(question="why") == "WHY"
    elsewhere = mlflow.create_experiment(f"otlp {trace().info.trace_id}")
    reply = await endpoint.post(
        "/v1/traces",
        content=encode_spans(spans.get_finished_spans()).SerializeToString(),
        headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": elsewhere},
    )
    assert reply.status_code == 200, reply.text
    (found,) = mlflow.search_traces(locations=[elsewhere], return_type="list")
    assert isinstance(found, Trace)
    assert shape(found) == shape(trace())
    assert found.info.tags["mlflow.traceName"] == trace().info.tags["mlflow.traceName"] == "Failing.run"
    for name in ("mlflow.trace.session", "mlflow.trace.user"):
        assert found.info.trace_metadata[name] == trace().info.trace_metadata[name]
    assert found.info.request_preview == '{"question":"why"}'  # ours says `why`: over OTLP, MLflow makes its own
    root, ours = (span_named(t, name) for t, name in ((found, "invoke_workflow Failing"), (trace(), "Failing.run")))
    assert (root.inputs, root.outputs) == (ours.inputs, ours.outputs) == ({"question": "why"}, "WHY")
