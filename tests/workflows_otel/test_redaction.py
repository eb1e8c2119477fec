"""No secret leaves in a span, whoever wrote it: what stands before every exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.span_log import SpanLog
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.dispatcher import process_dispatcher
from workflows_otel import OtelHandler, Preset, otlp
from workflows_otel.batching import BatchProcessor

SECRET = "sk-abcdefghijklmnop"
MASK = "**********"


class CallsModel(Workflow):
    """Does what an instrumented client does, and fails where it is told to."""

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        with trace.get_tracer("some.client").start_as_current_span(f"POST https://me:{SECRET}@model") as span:
            span.set_attribute("http.request.header.authorization", ["Bearer whatever"])
            span.set_attribute("llm.input_messages.0.message.content", f"my key is {SECRET}")
            span.add_event("retry", {"detail": f"key {SECRET} refused"})
            span.add_link(SpanContext(1, 1, False, TraceFlags(1)), {"because": SECRET})
            span.set_status(Status(StatusCode.ERROR, f"401 for {SECRET}"))
        trace.get_current_span().set_attribute("my.note", f"used {SECRET}")
        trace.get_current_span().record_exception(ValueError(f"bad key {SECRET}"))
        return StopEvent(result="done")


@pytest.mark.usefixtures("no_provider")
async def test_no_secret_of_another_library_leaves_a_pipeline_of_setup(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await CallsModel().run()
    telemetry.shutdown()
    assert len(sink.spans) == 4
    assert SECRET.encode() not in sink.raw
    assert b"Bearer whatever" not in sink.raw


class WritesOurNames(Workflow):
    """Writes on spans of ours, under names of ours, as anybody can who looks them up."""

    @step
    async def tell(self, ev: StartEvent) -> StopEvent:
        span = trace.get_current_span()
        span.set_attribute(at.INPUT_VALUE, f"key {SECRET}")
        span.update_name(f"tell {SECRET}")
        span.add_event(at.SPAN_EVENT_UNHANDLED, {at.EVENT_TYPE: SECRET})
        span.add_link(SpanContext(1, 1, False, TraceFlags(1)), {at.LINK_TYPE: SECRET})
        with workflows_otel.tool(name=f"tool {SECRET}", description=SECRET) as call:
            call.span.set_attribute(at.METADATA, SECRET)
        return StopEvent()


@pytest.mark.usefixtures("no_provider")
async def test_no_secret_that_user_code_writes_under_our_names_leaves_a_pipeline_of_setup(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    with workflows_otel.context(session_id=SECRET, user_id=SECRET, tags=[SECRET], metadata={"key": SECRET}):
        await WritesOurNames().run()
    telemetry.shutdown()
    assert len(sink.spans) == 4
    assert SECRET.encode() not in sink.raw


async def test_no_secret_of_a_caller_or_a_helper_is_on_spans_of_an_applications_own_provider(spans: SpanLog) -> None:
    class Uses(Workflow):
        @step
        async def use(self, ev: StartEvent) -> StopEvent:
            with workflows_otel.tool(name=f"tool {SECRET}", description=SECRET):
                return StopEvent()

    with workflows_otel.context(session_id=SECRET, user_id=SECRET, tags=[SECRET], metadata={"key": SECRET}):
        await Uses().run()
    assert len(spans.finished) == 3
    assert not [span.name for span in spans.finished if SECRET in f"{span.name} {dict(span.attributes or {})}"]


def exported(*, redact: Any = None, **attributes: Any) -> ReadableSpan:
    """A span of another library, as it leaves `redacting`."""
    inner = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(workflows_otel.redacting(inner, redact=redact)))
    provider.get_tracer("some.client").start_span("call", attributes=attributes).end()
    (span,) = inner.get_finished_spans()
    return span


def test_a_span_without_secrets_passes_as_it_is() -> None:
    inner = InMemorySpanExporter()
    span = exported(url="http://model", count=3)
    assert workflows_otel.redacting(inner).export([span]).name == "SUCCESS"
    assert inner.get_finished_spans() == (span,)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("db.password", "hunter2", MASK),
        ("llm.token_count.prompt", 12, 12),
        ("headers", ["accept: text", "authorization: Basic dXNlcjpwYXNz"], ["accept: text", f"authorization: {MASK}"]),
        ("body", '{"api_key":"abc","n":1}', f'{{"api_key":"{MASK}","n":1}}'),
        ("text", "an ordinary text", "an ordinary text"),
    ],
)
def test_attributes_are_masked_by_name_and_by_look(key: str, value: Any, shown: Any) -> None:
    about: Mapping[str, Any] = exported(**{key: value}).attributes or {}
    got = about[key]
    assert (list(got) if isinstance(got, tuple) else got) == shown


def test_the_callback_sees_other_libraries_texts_by_attribute_name() -> None:
    span = exported(redact=lambda path, value: "nobody" if path == "enduser.name" else value, **{"enduser.name": "Ada"})
    assert dict(span.attributes or {}) == {"enduser.name": "nobody"}


def test_a_callback_that_raises_shows_nothing_of_the_value() -> None:
    def redact(path: str, value: Any) -> Any:
        raise RuntimeError("no")

    span = exported(redact=redact, text="hello")
    assert (span.name, dict(span.attributes or {})) == ("<redaction failed>", {"text": "<redaction failed>"})


class TellsOfAcme(Workflow):
    """Names a customer in everything that a span has, on a span of another library and on one of ours."""

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        with trace.get_tracer("some.client").start_as_current_span("GET /acme") as span:
            for one in (span, trace.get_current_span()):
                one.add_event("acme was late", {"who": "acme"})
                one.add_link(SpanContext(1, 1, False, TraceFlags(1)), {"who": "acme"})
                one.set_status(Status(StatusCode.ERROR, "no acme"))
        step_span = trace.get_current_span()
        step_span.update_name("ask acme")
        step_span.add_event("acme again")
        step_span.set_status(Status(StatusCode.ERROR, "acme is down"))
        return StopEvent()


@pytest.mark.usefixtures("no_provider")
async def test_the_callback_is_asked_about_every_text_that_others_write(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), redact=hiding("acme"))
    await TellsOfAcme().run()
    telemetry.shutdown()
    assert b"acme" not in sink.raw
    assert sink.named("GET /-").description == "no -"
    assert sink.named("ask -").description == "- is down"


def test_the_callback_is_told_which_text_of_a_span_it_is() -> None:
    inner, asked = InMemorySpanExporter(), dict[str, Any]()
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = workflows_otel.redacting(inner, redact=lambda path, value: asked.setdefault(path, value))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("some.client").start_span("call")
    span.add_event("late")
    span.set_status(Status(StatusCode.ERROR, "lost"))
    span.end()
    assert asked == {"span.name": "call", "span.status": "lost", "event.name": "late"}


class Fails(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("acme")


@pytest.mark.usefixtures("no_provider")
async def test_the_callback_is_asked_once_about_what_we_write(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(
        otlp(sink.endpoint), redact=lambda path, value: f"<{value}>" if isinstance(value, str) else value
    )
    with pytest.raises(ValueError, match="acme"):
        await Fails().run()
    telemetry.shutdown()
    assert sink.named("run_step fail").description == "ValueError: <acme>"


def test_a_span_that_cannot_be_copied_loses_its_content() -> None:
    class Broken(ReadableSpan):
        @property
        def attributes(self) -> Any:
            raise RuntimeError("broken")

    inner = InMemorySpanExporter()
    workflows_otel.redacting(inner).export([Broken(f"name {SECRET}")])
    (span,) = inner.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("<redaction failed>", {})


def test_links_without_secrets_keep_their_attributes() -> None:
    inner = InMemorySpanExporter()
    link = Link(SpanContext(1, 1, False, TraceFlags(1)), {"kind": "cause"})
    span = ReadableSpan("call", attributes={"password": "x"}, links=[link])
    workflows_otel.redacting(inner).export([span])
    assert [dict(link.attributes or {}) for link in inner.get_finished_spans()[0].links] == [{"kind": "cause"}]


def test_what_an_exporter_sent_is_counted_through_the_wrapper() -> None:
    inner = InMemorySpanExporter()
    processor = BatchProcessor(workflows_otel.redacting(inner))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("x").start_span("x").end()
    assert processor.flush().sent == 1
    processor.shutdown()


class Talk(StartEvent):
    words: str


class Talks(Workflow):
    @step
    async def reply(self, ev: Talk) -> StopEvent:
        return StopEvent(result={"answer": ev.words})


@pytest.mark.usefixtures("no_provider")
async def test_each_back_end_gets_its_own_share_of_payloads(sink: OtlpSink) -> None:
    with http_sink() as curious:
        telemetry = workflows_otel.setup([otlp(sink.endpoint), _full(curious)])
        await Talks().run(words="good morning")
        telemetry.shutdown()
    assert b"good morning" not in sink.raw
    assert sink.named("invoke_workflow Talks").attributes["input.value"] == (
        '{"type":"dict","fields":{"words":"<str 12>"}}'
    )
    assert curious.named("run_step reply").attributes["output.value"] == '{"result":{"answer":"good morning"}}'


@pytest.mark.usefixtures("no_provider")
async def test_a_back_end_that_is_added_later_takes_nothing_from_the_first(sink: OtlpSink) -> None:
    with http_sink() as curious:
        first = workflows_otel.setup(_full(curious))
        second = workflows_otel.setup(otlp(sink.endpoint))
        await Talks().run(words="good morning")
        for made in (first, second):
            made.shutdown()
    assert b"good morning" in curious.raw
    assert b"good morning" not in sink.raw


@pytest.mark.usefixtures("no_provider")
async def test_a_back_end_gets_start_markers_only_where_it_wants_them(sink: OtlpSink) -> None:
    with http_sink() as without:
        telemetry = workflows_otel.setup([otlp(sink.endpoint), _full(without)])
        await Talks().run(words="x")
        telemetry.shutdown()
    assert [sink.names().count("workflow.started"), without.names().count("workflow.started")] == [1, 0]


def _full(sink: OtlpSink) -> Preset:
    return Preset("curious", otlp(sink.endpoint).make_exporter, content="full", start_marker=False)


def hiding(word: str) -> Any:
    return lambda path, value: value.replace(word, "-") if isinstance(value, str) else value


@pytest.mark.usefixtures("no_provider")
async def test_what_one_callback_hides_no_back_end_gets(sink: OtlpSink) -> None:
    first, second, third = map(hiding, ("one", "two", "three"))
    with http_sink() as other:
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
        workflows_otel.instrument(redact=first)
        telemetry = [workflows_otel.setup(otlp(sink.endpoint), content="full", redact=second)]
        telemetry.append(workflows_otel.setup(otlp(other.endpoint), content="full", redact=third))
        workflows_otel.instrument()  # as auto-instrumentation does: it changes nothing
        await Talks().run(words="one two three four")
        for made in telemetry:
            made.shutdown()
        for raw in (sink.raw, other.raw):
            assert b"four" in raw
            assert not [word for word in (b"one two", b"two", b"three") if word in raw]


class SaysItIsSecret(Workflow):
    """Its step knows that what is said from now on is secret."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__()
        self._provider = provider

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        workflows_otel.instrument(self._provider, redact=lambda path, value: "hidden")
        return StopEvent(result="a name")


async def test_redact_said_while_a_run_is_open_is_asked_about_what_is_captured_from_then_on() -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full", start_marker=False)
    await SaysItIsSecret(log.provider).run(question="a question")
    workflows_otel.uninstrument(log.provider)
    about = log.named("invoke_workflow SaysItIsSecret").attributes or {}
    assert "a question" in str(about["input.value"])
    assert about["output.value"] == "hidden"


class Laughs(Workflow):
    """Its step says something of itself, as the bridge to llama-index lets `dispatcher.event` do."""

    @step
    async def hear(self, ev: StartEvent) -> StopEvent:
        for told in process_dispatcher.handlers:
            if isinstance(told.handler, OtelHandler):
                told.handler.note("Laughed", {"about": "Ada"})
        return StopEvent()


@pytest.mark.usefixtures("no_provider")
async def test_what_a_step_says_of_itself_is_withheld_from_who_gets_shapes(sink: OtlpSink) -> None:
    with http_sink() as curious:
        telemetry = workflows_otel.setup([_full(curious), otlp(sink.endpoint)])
        await Laughs().run()
        telemetry.shutdown()
    assert curious.named("run_step hear").events == [("Laughed", {"about": "Ada"})]
    assert sink.named("run_step hear").events == [("Laughed", {"about": "<str 3>"})]


class SaysItself(Workflow):
    """Its step sets what is ours to set, as code written for OpenInference does."""

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        trace.get_current_span().set_attribute("input.value", "What is tea?")
        return StopEvent(result="a drink")


@pytest.mark.usefixtures("no_provider")
async def test_a_text_of_a_steps_own_is_withheld_and_nothing_else_is_lost(sink: OtlpSink) -> None:
    with http_sink() as curious:
        telemetry = workflows_otel.setup([_full(curious), otlp(sink.endpoint)])
        await SaysItself().run()
        telemetry.shutdown()
    assert curious.named("run_step ask").attributes["input.value"] == "What is tea?"
    about = sink.named("run_step ask").attributes
    assert about["input.value"] == '{"type":"<str 12>"}'
    assert about["workflow.step.name"] == "ask"


@pytest.mark.usefixtures("no_provider")
async def test_what_was_drawn_in_full_is_withheld_when_less_is_drawn_now(sink: OtlpSink) -> None:
    with http_sink() as curious:
        made = [workflows_otel.setup(_full(curious)), workflows_otel.setup(otlp(sink.endpoint))]
        await Talks().run(words="good morning")
        made.append(workflows_otel.setup(_full(curious), content="types"))
        for one in made:
            one.shutdown()
    assert b"good morning" not in sink.raw


@pytest.mark.usefixtures("no_provider")
def test_a_call_outside_of_runs_is_withheld_when_less_is_drawn_now(sink: OtlpSink) -> None:
    with http_sink() as curious:
        made = [workflows_otel.setup(otlp(sink.endpoint)), workflows_otel.setup(_full(curious))]
        with workflows_otel.llm_call(model="m") as call:
            call.input("good morning").output("and to you")
        made.append(workflows_otel.setup(_full(curious), content="types"))
        for one in made:
            one.shutdown()
    assert b"good morning" in curious.raw
    assert b"good morning" not in sink.raw


@pytest.mark.usefixtures("no_provider")
async def test_what_was_drawn_as_shapes_stays_so_when_more_is_drawn_now(sink: OtlpSink) -> None:
    with http_sink() as curious:
        made = [workflows_otel.setup(otlp(sink.endpoint))]
        waits = Waits()
        handler = waits.run(**{"words": "good morning", "user-id": 7, 'a "b"': None})
        await waits.begun.wait()
        made.append(workflows_otel.setup(_full(curious)))
        waits.over.set()
        await handler
        for one in made:
            one.shutdown()
    assert sink.named("invoke_workflow Waits").attributes["input.value"] == (
        '{"type":"StartEvent","fields":{"words":"<str 12>","user-id":"<int>","a \\"b\\"":"<None>"}}'
    )


class Waits(Workflow):
    """Between its begin and its end there is time."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        self.begun.set()
        await self.over.wait()
        return StopEvent()
