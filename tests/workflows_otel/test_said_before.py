"""What earlier calls of `instrument()` and `setup()` said holds on where a later one says nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.span_log import SpanLog
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation.content import ContentPolicy
from workflows_otel import Preset, otlp, phoenix

pytestmark = pytest.mark.usefixtures("no_provider")

LOGGER = "workflows.otel"


class Called(Workflow):
    """A step in which another library draws a span."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with trace.get_tracer("library").start_as_current_span("call", attributes={"said": "by Ada"}):
            return StopEvent(result="by Ada")


@pytest.fixture
def own() -> SpanLog:
    """An application's own provider and exporter."""
    log = SpanLog()
    trace.set_tracer_provider(log.provider)
    return log


def _without_ada(path: str, value: Any) -> Any:
    return value.replace("Ada", "[name]") if isinstance(value, str) else value


async def test_no_payload_leaves_where_instrument_was_told_so(own: SpanLog, sink: OtlpSink) -> None:
    workflows_otel.instrument(own.provider, content="off", run_parent="root", start_marker=False)
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    with trace.get_tracer("app").start_as_current_span("request"):
        await Called().run()
    telemetry.shutdown()
    for attributes in (dict(own.named("run_step call").attributes or {}), sink.named("run_step call").attributes):
        assert "output.value" not in attributes
    assert own.named("invoke_workflow Called").parent is None
    assert sink.named("invoke_workflow Called").parent_id == ""


async def test_what_a_back_end_is_told_for_itself_is_more_than_what_instrument_was_told(
    own: SpanLog, sink: OtlpSink
) -> None:
    workflows_otel.instrument(own.provider, content="off")
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), content="full")
    await Called().run()
    telemetry.shutdown()
    assert "by Ada" in sink.named("run_step call").attributes["output.value"]


async def test_an_applications_exporter_keeps_the_payloads_that_it_asked_for(own: SpanLog, sink: OtlpSink) -> None:
    workflows_otel.instrument(own.provider, content="full", start_marker=False)
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Called().run()
    telemetry.shutdown()
    assert "by Ada" in str((own.named("run_step call").attributes or {})["output.value"])
    assert "by Ada" not in sink.named("run_step call").attributes["output.value"]


async def test_what_a_later_instrument_does_not_name_stays(own: SpanLog) -> None:
    workflows_otel.instrument(own.provider, content="full", start_marker=False)
    workflows_otel.instrument(own.provider, run_parent="root")
    workflows_otel.instrument(own.provider, redact=_without_ada)
    with trace.get_tracer("app").start_as_current_span("request"):
        await Called().run()
    assert "workflow.started" not in [span.name for span in own.finished]
    assert own.named("invoke_workflow Called").parent is None
    assert "by [name]" in str((own.named("run_step call").attributes or {})["output.value"])


async def test_a_callback_stays_where_a_later_instrument_says_how_much_is_shown(own: SpanLog) -> None:
    workflows_otel.instrument(own.provider, redact=_without_ada)
    workflows_otel.instrument(own.provider, content="full")
    await Called().run()
    assert "by [name]" in str((own.named("run_step call").attributes or {})["output.value"])


async def test_who_gave_instrument_a_callback_has_said_nothing_of_how_much_a_back_end_gets(
    own: SpanLog, sink: OtlpSink
) -> None:
    workflows_otel.instrument(own.provider, redact=_without_ada)
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    await Called().run()
    telemetry.shutdown()
    assert "by [name]" in sink.named("run_step call").attributes["output.value"]


async def test_what_a_back_end_needs_stays_after_a_later_instrument(own: SpanLog, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    workflows_otel.instrument(own.provider, start_marker=False)
    await Called().run()
    telemetry.shutdown()
    assert "by Ada" in sink.named("run_step call").attributes["output.value"]


@pytest.mark.parametrize("ours", [0, 1])
async def test_every_callback_is_asked_about_what_goes_anywhere(sink: OtlpSink, ours: int) -> None:
    with http_sink() as other:
        places = [otlp(sink.endpoint), otlp(other.endpoint)]
        handles = [
            workflows_otel.setup(place, redact=_without_ada if number == ours else None)
            for number, place in enumerate(places)
        ]
        await Called().run()
        for handle in handles:
            handle.shutdown()
        assert [place.named("call").attributes["said"] for place in (sink, other)] == ["by [name]"] * 2


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda endpoint: phoenix(endpoint=endpoint), 1), (otlp, 0)],
    ids=["phoenix", "otlp"],
)
async def test_that_an_applications_exporter_gets_payloads_is_told_once(
    own: SpanLog, sink: OtlpSink, caplog: pytest.LogCaptureFixture, make: Callable[[str], Preset], told: int
) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        handles = [workflows_otel.setup(make(sink.endpoint)) for _ in range(2)]
    await Echo().run()
    for handle in handles:
        handle.shutdown()
    assert sum("this provider's own SimpleSpanProcessor sends" in message for message in caplog.messages) == told


async def test_an_exporter_of_the_applications_that_feeds_the_back_end_is_not_told_of(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{sink.endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    with caplog.at_level(logging.WARNING, LOGGER):
        telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    await Echo().run()
    telemetry.shutdown()
    assert "sends those too" not in caplog.text


async def test_an_exporter_that_comes_later_is_told_of(sink: OtlpSink, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    telemetry.provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    with caplog.at_level(logging.WARNING, LOGGER):
        await Echo().run()
    telemetry.shutdown()
    assert "this provider's own SimpleSpanProcessor sends" in caplog.text


def _without_bob(path: str, value: Any) -> Any:
    return value.replace("Bob", "[other]") if isinstance(value, str) else value


async def test_a_callback_of_a_later_instrument_is_asked_beside_that_of_setup(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), content="full", redact=_without_ada)
    workflows_otel.instrument(redact=_without_bob)
    await Echo().run(text="Ada and Bob")
    telemetry.shutdown()
    assert "[name] and [other]" in sink.named("run_step reply").attributes["input.value"]


async def test_a_callback_that_both_were_given_stays_where_setup_is_called_without_it(
    own: SpanLog, sink: OtlpSink
) -> None:
    workflows_otel.instrument(own.provider, content="full", redact=_without_ada)
    handles = [workflows_otel.setup(otlp(sink.endpoint), redact=redact) for redact in (_without_ada, None)]
    await Called().run()
    for handle in handles:
        handle.shutdown()
    assert "by [name]" in str((own.named("run_step call").attributes or {})["output.value"])


@dataclass
class _Replacing:
    """A callback that is not hashable."""

    name: str

    def __call__(self, path: str, value: Any) -> Any:
        return value.replace(self.name, "[name]") if isinstance(value, str) else value


async def test_a_callback_need_not_be_hashable(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), content="full", redact=_Replacing("Ada"))
    await Called().run()
    telemetry.shutdown()
    assert "by [name]" in sink.named("run_step call").attributes["output.value"]


async def test_what_instrument_says_later_opens_and_closes_no_more_than_it_says(own: SpanLog, sink: OtlpSink) -> None:
    with http_sink() as typed, http_sink() as added:
        handles = [
            workflows_otel.setup(phoenix(endpoint=sink.endpoint)),
            workflows_otel.setup(otlp(typed.endpoint), content="types"),
        ]
        workflows_otel.instrument(own.provider, content="full")
        await Called().run()
        handles[1].flush()
        assert "by Ada" not in typed.named("run_step call").attributes["output.value"]
        workflows_otel.instrument(own.provider, content="off")
        handles.append(workflows_otel.setup(otlp(added.endpoint)))
        await Called().run()
        for handle in handles:
            handle.shutdown()
        last = [span for span in sink.spans if span.name == "run_step call"][-1]
        assert "output.value" not in last.attributes
        assert "output.value" not in added.named("run_step call").attributes


async def test_the_longest_payload_that_anybody_asked_for_is_drawn(own: SpanLog, sink: OtlpSink) -> None:
    workflows_otel.instrument(own.provider, content=ContentPolicy(mode="full", max_chars=10_000))
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint))
    await Echo().run(text="x" * 5000)
    telemetry.shutdown()
    assert "x" * 5000 in str((own.named("run_step reply").attributes or {})["input.value"])


async def test_runs_that_instrument_was_asked_for_are_drawn_after_a_shutdown(own: SpanLog, sink: OtlpSink) -> None:
    workflows_otel.instrument(own.provider, content="full", start_marker=False)
    workflows_otel.setup(otlp(sink.endpoint), run_parent="root").shutdown()
    with trace.get_tracer("app").start_as_current_span("request"):
        await Called().run()
    assert "by Ada" in str((own.named("run_step call").attributes or {})["output.value"])
    assert own.named("invoke_workflow Called").parent is not None


class _Tenant(SpanProcessor):
    """As most services have one: it sends nothing."""


async def test_a_processor_that_sends_nothing_is_not_told_of(sink: OtlpSink, caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Tenant())
    trace.set_tracer_provider(provider)
    with caplog.at_level(logging.WARNING, LOGGER):
        workflows_otel.setup(phoenix(endpoint=sink.endpoint)).shutdown()
    assert "sends those too" not in caplog.text


async def test_a_back_end_gets_its_payloads_by_another_provider_that_feeds_it(sink: OtlpSink) -> None:
    """As `setup("phoenix")` and, later, `phoenix.otel.register(auto_instrument=True)`."""
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), redact=_without_ada)
    theirs = TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{sink.endpoint}/v1/traces")))
    workflows_otel.instrument(theirs)
    await Called().run()
    sink.spans.clear()
    await Called().run()
    telemetry.shutdown()
    theirs.shutdown()
    assert "by [name]" in sink.named("run_step call").attributes["output.value"]
