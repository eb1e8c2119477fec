"""How a retried, fanned-out, failing and streaming run looks in Jaeger and in Langfuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import workflows_otel
from tests.workflows_otel.flows import Echo, Failing, FanOut, Flaky, Slow, Streaming
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.views import JaegerSpan, LangfuseRow, jaeger_view, langfuse_view
from workflows import Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop
from workflows_otel import jaeger, langfuse, llm_call, tool

pytestmark = pytest.mark.usefixtures("no_provider")


class Calls(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        with llm_call(model="m-1", provider="openai") as call:
            call.input("hello").output("hi").usage(input=10, output=4)
        with tool(name="search") as call:
            call.input({"q": "x"}).output("found")
        return StopEvent(result="done")


async def in_jaeger(sink: OtlpSink, workflow: Workflow) -> list[JaegerSpan]:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    await workflow.run()
    telemetry.shutdown()
    return jaeger_view(sink.spans)


async def in_langfuse(sink: OtlpSink, workflow: Workflow, **start: Any) -> list[LangfuseRow]:
    preset = langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint, environment="staging")
    telemetry = workflows_otel.setup(preset)
    with workflows_otel.context(session_id="s1", user_id="u1", tags=["a"]):
        await workflow.run(**start)
    telemetry.shutdown()
    return langfuse_view(sink.spans)


async def test_jaeger_finds_runs_by_service_and_a_few_operations(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    for _ in range(3):
        await Echo().run()
    telemetry.shutdown()
    shown = jaeger_view(sink.spans)
    assert {(span.service, span.operation) for span in shown} == {
        ("shop", "invoke_workflow Echo"),
        ("shop", "run_step reply"),
    }


async def test_jaeger_colours_a_failed_run_and_its_step_and_no_other(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    await Echo().run()
    with pytest.raises(ValueError, match="broken"):
        await Failing().run(error=ValueError("broken"))
    telemetry.shutdown()
    shown = jaeger_view(sink.spans)
    assert [span.operation for span in shown if span.is_red] == ["run_step fail", "invoke_workflow Failing"]
    assert [log["event"] for span in shown for log in span.logs] == ["exception"]


async def test_jaeger_shows_a_cancelled_run_without_red(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    handler = Slow().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    telemetry.shutdown()
    assert [span.is_red for span in jaeger_view(sink.spans)] == [False, False]


async def test_jaeger_leads_from_a_step_to_its_cause_by_reference_and_by_tag(
    clock: VirtualClockLoop, sink: OtlpSink
) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    await FanOut().run(n=2)
    telemetry.shutdown()
    shown = jaeger_view(sink.spans)
    (split,) = [span.span_id for span in sink.spans if span.name == "run_step split"]
    for work in (span for span in shown if span.operation == "run_step work"):
        assert work.references == [split]
        assert work.tags["workflow.cause.span_ids"] == f'["{split}"]'
    (root,) = [span for span in shown if span.operation == "invoke_workflow FanOut"]
    assert root.parent is None  # no link of a root leads into its own trace, or it would be moved there


async def test_jaeger_shows_generative_calls_as_such(sink: OtlpSink) -> None:
    shown = await in_jaeger(sink, Calls())
    assert [(span.operation, span.icon) for span in shown] == [
        ("chat m-1", "llm"),
        ("execute_tool search", "tool"),
        ("run_step work", None),
        ("invoke_workflow Calls", "agent"),
    ]


async def test_no_span_has_a_name_that_a_back_end_hijacks(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    await in_langfuse(sink, Calls())
    hijacked = {"input", "output", "prompt", "events", "model", "model_config", "error", "tool_arguments"}
    assert all(hijacked.isdisjoint(span.attributes) for span in sink.spans)
    steps = [span for span in sink.spans if span.name.startswith("run_step")]
    assert all("gen_ai.tool.name" not in span.attributes for span in steps)


async def test_every_langfuse_row_knows_its_trace(sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Calls())
    assert {(row.trace_name, row.session, row.user, tuple(row.tags), row.environment) for row in rows} == {
        ("Calls", "s1", "u1", ("a",), "staging")
    }


async def test_langfuse_types_names_and_payloads(sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Calls())
    assert [(row.name, row.type, row.input, row.output) for row in rows] == [
        ("chat m-1", "generation", "hello", "hi"),
        ("search", "tool", '{"q":"x"}', "found"),
        ("run_step work", "chain", "{}", '{"result":"done"}'),
        ("invoke_workflow Calls", "chain", "{}", "done"),
    ]


async def test_langfuse_counts_tokens_once(sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Calls())
    assert [row.usage for row in rows if row.usage] == [{"input": 10, "output": 4}]
    assert [row.name for row in rows if row.model] == ["chat m-1"]


async def test_langfuse_shows_a_retried_run_green_with_a_warning(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Flaky(failures=1))
    assert [(row.name, row.level, row.status_message) for row in rows] == [
        ("attempt fetch", "WARNING", "ConnectionError: no route"),
        ("attempt fetch", "DEFAULT", None),
        ("run_step fetch", "DEFAULT", None),
        ("invoke_workflow Flaky", "DEFAULT", None),
    ]
    assert rows[0].metadata["retry_delay_s"] == 30.0


async def test_langfuse_finds_causes_and_streams_in_metadata(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Streaming(), n=3)
    assert rows[0].metadata["stream_count"] == 3
    rows = await in_langfuse(sink, FanOut(), n=1)
    (split,) = [span.span_id for span in sink.spans if span.name == "run_step split"]
    (work,) = [row for row in rows if row.name == "run_step work"]
    assert work.metadata["cause_span_ids"] == [split]


async def test_langfuses_own_client_would_keep_every_span(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    await in_langfuse(sink, Flaky(failures=1))
    kept = [any(key.startswith("gen_ai.") for key in span.attributes) for span in sink.spans]  # its default filter
    assert kept == [True] * 4
