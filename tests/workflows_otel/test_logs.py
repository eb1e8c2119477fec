"""Log events of runs, and the ids of a run in an application's own logs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, Flaky, Streaming
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation.content import Mode
from workflows.testing import VirtualClockLoop
from workflows_otel import otlp, phoenix
from workflows_otel.settings import Streams


class Logs:
    """What a logger provider was told."""

    def __init__(self) -> None:
        self._exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))

    @property
    def events(self) -> list[Any]:
        return [data.log_record for data in self._exporter.get_finished_logs()]

    def lines(self) -> list[str]:
        return [f"{event.severity_text} {event.event_name}: {event.body}" for event in self.events]


@pytest.fixture
def log_events(spans: SpanLog) -> Logs:
    found = Logs()
    workflows_otel.uninstrument(spans.provider)
    workflows_otel.instrument(spans.provider, start_marker=False, logger_provider=found.provider, streams="log")
    return found


async def test_a_run_is_told_from_start_to_end(log_events: Logs) -> None:
    await Echo().run()
    assert log_events.lines() == [
        "INFO workflow.run.started: Echo started",
        "INFO workflow.run.completed: run completed",
    ]


async def test_a_failed_run_is_an_error_without_its_secrets(log_events: Logs) -> None:
    with pytest.raises(ValueError, match="sk-"):
        await Failing().run(error=ValueError("bad key sk-abcdefghijklmnop"))
    assert log_events.lines()[-1] == "ERROR workflow.run.failed: run failed: ValueError: bad key **********"
    assert log_events.events[-1].attributes["workflow.run.failed_step"] == "fail"


async def test_a_retry_is_a_warning(clock: VirtualClockLoop, log_events: Logs) -> None:
    await Flaky(failures=1).run()
    assert log_events.lines()[1] == (
        "WARN workflow.step.retry: step fetch is tried again in 30 s: ConnectionError: no route"
    )


async def test_waits_are_told(clock: VirtualClockLoop, log_events: Logs) -> None:
    handler = AskPerson().run()
    assert handler.ctx is not None
    clock.call_later(5, handler.ctx.send_event, Answer(text="yes"))
    await handler
    assert log_events.lines()[1:3] == [
        "INFO workflow.wait.started: wait for Answer started",
        "INFO workflow.wait.resolved: wait for Answer resolved",
    ]


async def test_every_streamed_event_is_told_where_asked_for(clock: VirtualClockLoop, log_events: Logs) -> None:
    await Streaming().run(n=20)
    assert log_events.lines().count("DEBUG workflow.stream.event: Progress streamed") == 20


async def test_log_events_carry_the_ids_of_their_spans(log_events: Logs, spans: SpanLog) -> None:
    await Echo().run()
    run = spans.named("invoke_workflow Echo").get_span_context()
    assert run is not None
    assert {event.trace_id for event in log_events.events} == {run.trace_id}
    assert {event.span_id for event in log_events.events} == {run.span_id}


async def test_an_answer_from_outside_is_told_with_the_ids_of_the_run(
    clock: VirtualClockLoop, log_events: Logs, spans: SpanLog
) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(5)
    with trace.get_tracer("web").start_as_current_span("POST /answer"):
        handler.ctx.send_event(Answer(text="yes"))
    await handler
    run = spans.named("invoke_workflow AskPerson").get_span_context()
    assert run is not None
    assert {event.trace_id for event in log_events.events} == {run.trace_id}


class Logging(Workflow):
    """Its step writes to the application's log."""

    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        logging.getLogger("my.app").warning("hello")
        return StopEvent(result=workflows_otel.add_run_ids(None, "info", {"event": "hello"}))


async def test_the_applications_logs_say_which_attempt_wrote_them(
    spans: SpanLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(ids := workflows_otel.RunIdFilter())
    handler = Logging().run()
    by_structlog = await handler
    caplog.handler.removeFilter(ids)
    say = spans.named("run_step say").get_span_context()
    assert say is not None
    wanted = {"run_id": handler.run_id, "step": "say", "attempt": 1}
    wanted |= {"trace_id": f"{say.trace_id:032x}", "span_id": f"{say.span_id:016x}"}
    (written,) = [record for record in caplog.records if record.name == "my.app"]
    assert {name: getattr(written, name) for name in wanted} == wanted
    assert by_structlog == {"event": "hello", **wanted}


def test_outside_every_run_the_ids_are_empty() -> None:
    record = logging.makeLogRecord({"msg": "hello"})
    assert workflows_otel.RunIdFilter().filter(record)
    assert [record.__dict__[name] for name in ("run_id", "step", "trace_id")] == ["", "", ""]
    assert workflows_otel.add_run_ids(None, "info", {"event": "x"}) == {"event": "x"}


def test_an_id_that_a_log_line_brings_along_stays() -> None:
    record = logging.makeLogRecord({"msg": "a run was stuck", "run_id": "slow"})
    assert workflows_otel.RunIdFilter().filter(record)
    assert record.__dict__["run_id"] == "slow"


@pytest.mark.parametrize(("first", "then", "told"), [("summary", "log", True), ("log", "off", False)])
async def test_a_later_call_says_whether_streamed_events_are_logged(
    spans: SpanLog, first: Streams, then: Streams, told: bool
) -> None:
    found = Logs()
    workflows_otel.uninstrument(spans.provider)
    workflows_otel.instrument(spans.provider, logger_provider=found.provider, streams=first)
    workflows_otel.instrument(spans.provider, streams=then)
    await Streaming().run(n=1)
    assert any("workflow.stream.event" in line for line in found.lines()) == told


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize(("content", "told"), [(None, False), ("full", True)])
async def test_logs_show_what_somebody_asked_for_and_not_what_a_back_end_is_for(
    spans: SpanLog, sink: OtlpSink, content: Mode | None, told: bool
) -> None:
    found = Logs()
    workflows_otel.uninstrument()
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), content=content, streams="log")
    workflows_otel.instrument(telemetry.provider, logger_provider=found.provider)
    await Streaming().run(n=1)
    telemetry.shutdown()
    (line,) = [line for line in found.lines() if "workflow.stream.event" in line]
    assert ("{" in line) == told


async def test_a_callback_of_another_provider_is_asked_about_logs(spans: SpanLog) -> None:
    found, other = Logs(), SpanLog()
    workflows_otel.uninstrument(spans.provider)
    workflows_otel.instrument(
        spans.provider, content="full", redact=_hidden, streams="log", logger_provider=found.provider
    )
    workflows_otel.instrument(other.provider)
    await Streaming().run(n=1)
    workflows_otel.uninstrument(other.provider)
    (line,) = [line for line in found.lines() if "workflow.stream.event" in line]
    assert "hidden" in line


async def test_logs_show_no_more_than_those_asked_for_who_are_left(spans: SpanLog) -> None:
    found, other = Logs(), SpanLog()
    workflows_otel.instrument(spans.provider, streams="log", logger_provider=found.provider)
    workflows_otel.instrument(other.provider, content="full")
    workflows_otel.uninstrument(other.provider)
    await Streaming().run(n=1)
    assert _streamed(found) == ["DEBUG workflow.stream.event: Progress streamed"]


async def test_streamed_events_are_not_logged_when_who_asked_for_them_has_gone(spans: SpanLog) -> None:
    found, other = Logs(), SpanLog()
    workflows_otel.instrument(other.provider, streams="log", logger_provider=found.provider)
    workflows_otel.uninstrument(other.provider)
    await Streaming().run(n=1)
    assert _streamed(found) == []


@pytest.mark.usefixtures("no_provider")
async def test_logs_show_no_more_when_the_setup_that_asked_for_it_has_gone(spans: SpanLog, sink: OtlpSink) -> None:
    found = Logs()
    workflows_otel.uninstrument()
    left = workflows_otel.setup(otlp(sink.endpoint), streams="log")
    workflows_otel.instrument(left.provider, logger_provider=found.provider)
    workflows_otel.setup(phoenix(endpoint=sink.endpoint), content="full").shutdown()
    await Streaming().run(n=1)
    left.shutdown()
    assert _streamed(found) == ["DEBUG workflow.stream.event: Progress streamed"]


def _streamed(found: Logs) -> list[str]:
    return [line for line in found.lines() if "workflow.stream.event" in line]


def _hidden(path: str, value: Any) -> Any:
    return "hidden" if path == "n" else value
