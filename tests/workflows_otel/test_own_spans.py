"""The cheap spans of steps are to everybody what the SDK's spans are: the same run drawn both ways, compared whole."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, TraceState

import workflows_otel
from tests.workflows_otel.flows import FanOut
from tests.workflows_otel.span_log import SpanLog
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop
from workflows_otel.own_spans import OwnSpan

# Any limit on the length of values makes every span the SDK's; this one cuts nothing here.
AS_THE_SDK = SpanLimits(max_span_attribute_length=1_000_000)

tracer = trace.get_tracer("application")


class Next(Event):
    pass


class Counted(IdGenerator):
    """Ids in the order in which they are asked for."""

    def __init__(self) -> None:
        self._next = count(1)

    def generate_span_id(self) -> int:
        return next(self._next)

    def generate_trace_id(self) -> int:
        return next(self._next)


class Meddling(Workflow):
    """Its steps do everything to their span that an application may do."""

    @step
    async def plain(self, ev: StartEvent) -> Next:
        span = trace.get_current_span()
        span.set_attribute("answer", 42)
        span.set_attributes({"list": ["a", "b"], "dict": {"k": 1}, "none": None, "": "dropped", "flag": True})
        span.add_event("noted", {"why": "because"}, 5)
        span.add_link(trace.SpanContext(7, 8, is_remote=True), {"about": "a link"})
        span.record_exception(ValueError("recorded"))
        span.set_status(StatusCode.ERROR, "soon overruled")
        span.update_name("run_step renamed")
        return Next()

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def flaky(self, ctx: Context, ev: Next) -> StopEvent:
        trace.get_current_span().set_attributes({f"many.{n}": n for n in range(200)})
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("once")
        trace.get_current_span().end(5)
        trace.get_current_span().set_attribute("late", "lost")
        return StopEvent()


def _exported(spans: Sequence[ReadableSpan]) -> list[dict[str, Any]]:
    """Spans as they are on the wire, attributes by name; without stack traces, whose lines are the test's own."""
    request = MessageToDict(encode_spans(spans), preserving_proto_field_name=True)
    found = [
        span for of in request["resource_spans"] for scope in of["scope_spans"] for span in _sorted(scope)["spans"]
    ]
    return sorted(found, key=lambda span: span["span_id"])


def _sorted(part: Any) -> Any:
    if isinstance(part, list):
        return [_sorted(item) for item in part]
    if not isinstance(part, dict):
        return part
    by_name = {key: _sorted(value) for key, value in part.items()}
    if isinstance(named := by_name.get("attributes"), list):
        by_name["attributes"] = {
            item["key"]: item["value"] for item in named if item["key"] not in ("exception.stacktrace",)
        }
    return by_name


async def _drawn(make: Any, limits: SpanLimits | None, sampler: Sampler) -> SpanLog:
    """One run of a workflow."""
    log = SpanLog(TracerProvider(sampler, span_limits=limits, id_generator=Counted(), shutdown_on_exit=False))
    workflows_otel.instrument(log.provider)
    try:
        workflow, fields = make()
        await workflow.run(**fields)
    finally:
        workflows_otel.uninstrument(log.provider)
    return log


def _shifted(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spans with times and run ids relative to the first."""
    first = min(int(span["start_time_unix_nano"]) for span in spans)
    for span in spans:
        for key in ("start_time_unix_nano", "end_time_unix_nano"):
            if int(span[key]) >= first:
                span[key] = int(span[key]) - first
        for event in span.get("events", ()):
            if int(event["time_unix_nano"]) >= first:
                event["time_unix_nano"] = 0
        for key in ("workflow.run.id", "workflow.root_run.id", "workflow.retry.elapsed_s"):
            span["attributes"].pop(key, None)
    return spans


class Picky(Sampler):
    """Drops some spans, only records others, and writes on the rest."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        attributes = rest[1] if len(rest) > 1 else more.get("attributes")
        if "join" in name:
            return SamplingResult(Decision.DROP)
        decision = Decision.RECORD_ONLY if "split" in name else Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, {**(attributes or {}), "sampled.by": ["picky"]}, TraceState([("k", "v")]))

    def get_description(self) -> str:
        return "Picky"


CASES = {
    "what an application does": lambda: (Meddling(timeout=None), {}),
    "fan-out": lambda: (FanOut(timeout=None), {"n": 4}),
}
SAMPLERS = {"default": ParentBased(ALWAYS_ON), "always": ALWAYS_ON, "picky": Picky()}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
async def test_a_run_is_exported_as_with_the_spans_of_the_sdk(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, make: Any, sampler: Sampler
) -> None:
    ours = await _drawn(make, None, sampler)
    theirs = await _drawn(make, AS_THE_SDK, sampler)
    assert _shifted(_exported(ours.finished)) == _shifted(_exported(theirs.finished))


class Types(SpanProcessor):
    """What class each span is of, when it starts and when it has ended."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[bool, bool]] = {}

    def on_start(self, span: sdk.Span, parent_context: Any = None) -> None:
        self.found[span.name] = (isinstance(span, OwnSpan), False)

    def on_end(self, span: ReadableSpan) -> None:
        self.found[span.name] = (isinstance(span, OwnSpan), isinstance(span, sdk.Span))


@pytest.mark.parametrize(("limits", "own"), [(None, True), (AS_THE_SDK, False), (SpanLimits(max_links=8), False)])
async def test_low_limits_are_left_to_the_sdk(records: RecordLog, limits: SpanLimits | None, own: bool) -> None:
    provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(types := Types())
    workflows_otel.instrument(provider)
    await FanOut().run(n=1)
    workflows_otel.uninstrument(provider)
    assert types.found["invoke_workflow FanOut"][0] is False
    assert types.found["run_step split"][0] is own


async def test_threads_of_a_step_may_write_on_its_span(spans: SpanLog) -> None:
    class Threaded(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            span = trace.get_current_span()
            threads = [threading.Thread(target=_write_many, args=(span, n)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return StopEvent()

    await Threaded().run()
    span = spans.named("run_step work")
    assert span.attributes is not None
    assert len(span.attributes) == 128
    # Ours at its start and written last, whose id and kind were lost to the threads' and are told again.
    assert span.dropped_attributes + len(span.attributes) >= 8 * 50 + 12
    assert len(span.events) == 128
    assert span.dropped_events == 8 * 50 - 128


def _write_many(span: trace.Span, thread: int) -> None:
    for n in range(50):
        span.set_attribute(f"thread.{thread}.{n}", n)
        span.add_event("written")


async def test_spans_below_a_step_have_it_as_their_parent(spans: SpanLog) -> None:
    class Calling(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            with spans.provider.get_tracer("library").start_as_current_span("call", kind=SpanKind.CLIENT):
                return StopEvent()

    await Calling().run()
    assert spans.parent(spans.named("call")) == "run_step call"
    assert spans.named("call").links == ()


async def test_an_error_that_leaves_the_span_of_a_step_is_recorded_and_passes(spans: SpanLog) -> None:
    class Entering(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            with contextlib.suppress(KeyError), trace.get_current_span():
                raise KeyError("gone")
            return StopEvent()

    await Entering().run()
    assert [event.name for event in spans.named("run_step work").events] == ["exception"]
