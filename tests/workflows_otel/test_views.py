"""How a retried, fanned-out, failing and streaming run looks in Jaeger and in Langfuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, FanOut, Flaky, Slow, Streaming
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.views import SAFE_INTEGER, JaegerSpan, LangfuseRow, jaeger_view, langfuse_view
from workflows import Context, Workflow, step
from workflows.decorators import catch_error
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import StartEvent, StepFailedEvent, StopEvent
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


async def test_jaeger_knows_a_call_that_leaves_the_process_from_a_step(sink: OtlpSink) -> None:
    shown = await in_jaeger(sink, Calls())
    assert [span.tags["span.kind"] for span in shown] == ["client", "internal", "internal", "internal"]


async def test_jaegers_tags_are_plain_values(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    await FanOut().run(n=2)
    telemetry.shutdown()
    for span in jaeger_view(sink.spans):
        assert {type(value) for value in span.tags.values()} <= {str, int, float, bool}
        assert "error" not in span.tags  # whatever its value, the page would be red


async def test_jaeger_shows_a_retry_as_a_reference_to_the_attempt_before(
    clock: VirtualClockLoop, sink: OtlpSink
) -> None:
    await in_jaeger(sink, Flaky(failures=1))
    first, second = [span for span in sink.spans if span.name == "attempt fetch"]
    assert [link for link, _ in second.links] == [first.span_id]
    shown = {span.operation: span for span in jaeger_view(sink.spans)}
    assert [span.is_red for span in jaeger_view(sink.spans)] == [True, False, False, False]
    assert shown["run_step fetch"].tags["workflow.step.attempts"] == 2


async def test_jaeger_has_nothing_to_warn_of(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint))
    for run in (FanOut().run(n=3), Flaky(failures=1).run(), Streaming().run(n=2)):
        await run
    telemetry.shutdown()
    assert [warning for span in jaeger_view(sink.spans) for warning in span.warnings] == []
    spans = {span.span_id: span for span in sink.spans}
    for span in sink.spans:
        if span.parent_id:
            above = spans[span.parent_id]
            assert above.start_ns <= span.start_ns <= span.end_ns <= above.end_ns


async def test_jaeger_sees_a_run_when_it_begins(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint))
    seen: list[list[str]] = []

    class Looks(Workflow):
        @step
        async def look(self, ev: StartEvent) -> StopEvent:
            telemetry.flush()
            seen.append(sink.names())
            return StopEvent()

    await Looks().run()
    telemetry.shutdown()
    assert seen == [["workflow.started"]]


async def test_jaegers_logs_hold_an_exception_once_and_a_scheduled_retry(
    clock: VirtualClockLoop, sink: OtlpSink
) -> None:
    shown = await in_jaeger(sink, Flaky(failures=1))
    logs = [(span.operation, log["event"]) for span in shown for log in span.logs]
    assert logs == [("attempt fetch", "exception"), ("run_step fetch", "workflow.retry.scheduled")]


async def test_jaeger_is_told_of_a_resumed_run_in_one_tree(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(jaeger(sink.endpoint), start_marker=False)
    workflow = AskPerson(timeout=None)
    handler = workflow.run(patience=None)
    await asyncio.sleep(1)
    handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await asyncio.sleep(1)
    handler.ctx.send_event(Answer(text="yes"))
    await handler
    telemetry.shutdown()
    shown = jaeger_view(sink.spans)
    assert [span.operation for span in shown if span.parent is None] == ["invoke_workflow AskPerson"]
    assert {span.trace_id for span in sink.spans} == {sink.spans[0].trace_id}


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


async def test_langfuse_shows_a_handled_failure_as_warnings_alone(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    class Handled(Flaky):
        @catch_error
        async def recover(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="recovered")

    rows = await in_langfuse(sink, Handled(failures=3))
    assert {(row.name, row.level) for row in rows} == {
        ("attempt fetch", "WARNING"),
        ("run_step fetch", "WARNING"),
        ("run_step recover", "DEFAULT"),
        ("invoke_workflow Handled", "DEFAULT"),
    }


async def test_langfuse_finds_causes_and_streams_in_metadata(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Streaming(), n=3)
    assert rows[0].metadata["stream_count"] == 3
    rows = await in_langfuse(sink, FanOut(), n=1)
    (split,) = [span.span_id for span in sink.spans if span.name == "run_step split"]
    (work,) = [row for row in rows if row.name == "run_step work"]
    assert work.metadata["cause_span_ids"] == [split]


async def test_langfuse_finds_in_metadata_where_links_lead(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    rows = await in_langfuse(sink, Flaky(failures=1))
    first, _ = (span.span_id for span in sink.spans if span.name == "attempt fetch")
    assert [row.metadata.get("retry_of_span_id") for row in rows if row.name == "attempt fetch"] == [None, first]


async def test_langfuse_shows_each_outcome_at_its_level(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    preset = langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint)
    telemetry = workflows_otel.setup(preset)
    with pytest.raises(ValueError, match="broken"):
        await Failing().run(error=ValueError("broken"))
    with pytest.raises(WorkflowTimeoutError):
        await Slow(timeout=1).run()
    handler = Slow().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    telemetry.shutdown()
    shown = [(row.name, row.level, row.status_message) for row in langfuse_view(sink.spans)]
    assert [line for line in shown if line[1] == "WARNING"] == [
        ("run_step wait", "WARNING", "cancelled"),
        ("invoke_workflow Slow", "WARNING", "cancelled: workflow cancelled by user"),
    ]
    assert [(name, level) for name, level, _ in shown if level == "ERROR"] == [
        ("run_step fail", "ERROR"),
        ("invoke_workflow Failing", "ERROR"),
        ("run_step wait", "ERROR"),
        ("invoke_workflow Slow", "ERROR"),
    ]


async def test_langfuse_gets_no_span_event_that_it_would_take_for_a_message(
    clock: VirtualClockLoop, sink: OtlpSink
) -> None:
    await in_langfuse(sink, Flaky(failures=1))
    assert not any(name.startswith("gen_ai.") for span in sink.spans for name, _ in span.events)


async def test_langfuse_gets_numbers_that_it_keeps_exactly(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    await in_langfuse(sink, FanOut(), n=2)
    numbers = [v for span in sink.spans for v in span.attributes.values() if type(v) is int]
    assert numbers
    assert all(abs(number) <= SAFE_INTEGER for number in numbers)


async def test_langfuse_counts_nothing_on_a_span_that_it_would_drop_it_from(sink: OtlpSink) -> None:
    class Agent(Calls):
        __span_kind__ = "AGENT"

    rows = await in_langfuse(sink, Agent())
    assert [row.type for row in rows if row.name == "invoke_workflow Agent"] == ["agent"]
    assert [row.name for row in rows if row.usage] == ["chat m-1"]
    operations = {span.attributes.get("gen_ai.operation.name") for span in sink.spans}
    assert "invoke_agent" not in operations


async def test_every_langfuse_row_has_the_release(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint, release="v7"))
    await Calls().run()
    telemetry.shutdown()
    assert {row.release for row in langfuse_view(sink.spans)} == {"v7"}


async def test_langfuse_rows_of_a_child_run_belong_to_the_trace_of_the_first(sink: OtlpSink) -> None:
    class Parent(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Echo().run())

    rows = await in_langfuse(sink, Parent())
    assert {row.trace_name for row in rows} == {"Parent"}
    assert [row.name for row in rows if row.parent is None] == ["invoke_workflow Parent"]


async def test_langfuse_finds_a_run_below_a_remote_span_as_a_root(sink: OtlpSink) -> None:
    remote = NonRecordingSpan(SpanContext(0xA1, 0xB1, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(remote):
        rows = await in_langfuse(sink, Echo())
    assert [row.name for row in rows if row.parent is None] == ["invoke_workflow Echo"]


async def test_langfuses_own_client_would_keep_every_span(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    await in_langfuse(sink, Flaky(failures=1))
    kept = [any(key.startswith("gen_ai.") for key in span.attributes) for span in sink.spans]  # its default filter
    assert kept == [True] * 4
