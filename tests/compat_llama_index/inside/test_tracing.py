"""Other people's tracing of llama-index loads over our engine, and sees its runs."""

import json

import mlflow
import pytest
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Joke(Event):
    text: str


class Jokes(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> Joke:
        return Joke(text=f"about {ev.topic}")

    @step
    async def judge(self, ev: Joke) -> StopEvent:
        return StopEvent(result=f"{ev.text}: fine")


def test_the_events_that_tracers_look_for_have_their_names() -> None:
    from workflows.runtime.types.step_function import (
        SpanCancelledEvent,
        WorkflowRunOutputEvent,
        WorkflowStepOutputEvent,
    )

    assert WorkflowStepOutputEvent(output="x").class_name() == "step.output"
    assert WorkflowRunOutputEvent(output="x").class_name() == "workflow.output"
    assert SpanCancelledEvent(reason="x").reason == "x"


async def test_openinference_sees_the_run_and_its_steps() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        assert await Jokes().run(topic="pirates") == "about pirates: fine"
    finally:
        instrumentor.uninstrument()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"Jokes.run", "Jokes.write", "Jokes.judge"}
    assert _parent(spans["Jokes.write"]) == _parent(spans["Jokes.judge"]) == _id(spans["Jokes.run"])


@pytest.mark.usefixtures("mlflow_store")
async def test_mlflow_autolog_leaves_runs_as_they_are() -> None:
    mlflow.llama_index.autolog()
    try:
        assert await Jokes().run(topic="pirates") == "about pirates: fine"
    finally:
        mlflow.llama_index.autolog(disable=True)


@pytest.mark.usefixtures("mlflow_store")
async def test_mlflow_autolog_traces_a_workflow() -> None:
    mlflow.llama_index.autolog()
    try:
        await Jokes().run(topic="pirates")
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id() or "", flush=True)
    finally:
        mlflow.llama_index.autolog(disable=True)
    assert trace is not None
    assert [span.name for span in trace.data.spans] == ["Jokes.run", "Jokes.write", "Jokes.judge"]
    assert "pirates" in json.dumps(trace.data.spans[0].inputs)


def _id(span: ReadableSpan) -> int | None:
    return span.context.span_id if span.context else None


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None
