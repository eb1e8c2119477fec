"""W3C trace context and baggage: into a run from whoever called, and out of a step to whoever it calls."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.sdk.trace import ReadableSpan

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.processes import run
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INCOMING = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "baggage": "session.id=s1,secret=x"}


class Calls(Workflow):
    """Its step, which fails once, writes down the headers with which it would call another service."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, str]] = []

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def call(self, ctx: Context, ev: StartEvent) -> StopEvent:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        self.sent.append(headers)
        if len(self.sent) == 1:
            raise ConnectionError("no route")
        return StopEvent()


async def called_with(headers: dict[str, str]) -> Calls:
    workflow = Calls()
    token = otel_context.attach(propagate.extract(headers))
    try:
        await workflow.run()
    finally:
        otel_context.detach(token)
    return workflow


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


async def test_a_run_goes_on_in_the_trace_of_its_caller(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await called_with(INCOMING)
    run = spans.named("invoke_workflow Calls")
    assert run.parent is not None
    assert (ids(run)[0], f"{run.parent.span_id:016x}", run.parent.is_remote) == (TRACE, PARENT, True)


async def test_what_a_step_calls_gets_the_span_of_the_attempt(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = await called_with(INCOMING)
    wanted = [f"00-{TRACE}-{ids(span)[1]}-01" for span in spans.all_named("attempt call")]
    assert [headers["traceparent"] for headers in workflow.sent] == wanted
    assert [headers["tracestate"] for headers in workflow.sent] == ["vendor=1"] * 2


async def test_baggage_goes_through_untouched_and_names_the_session(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = await called_with(INCOMING)
    assert all(set(headers["baggage"].split(",")) == {"session.id=s1", "secret=x"} for headers in workflow.sent)
    assert {about(span)["session.id"] for span in spans.finished} == {"s1"}
    assert not any("secret" in about(span) for span in spans.finished)


async def test_no_content_of_ours_gets_into_baggage(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with workflows_otel.context(session_id="s1", metadata={"plan": "pro"}):
        workflow = await called_with({})
    assert all("plan" not in headers.get("baggage", "") for headers in workflow.sent)


async def test_a_caller_that_is_not_sampled_is_not_drawn_and_says_so_on(
    clock: VirtualClockLoop, spans: SpanLog
) -> None:
    workflow = await called_with({"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert spans.finished == ()
    assert all(headers["traceparent"].startswith(f"00-{TRACE}-") for headers in workflow.sent)
    assert all(headers["traceparent"].endswith("-00") for headers in workflow.sent)


CALLED = """
    import asyncio, sys
    from opentelemetry import context, propagate
    import workflows_otel
    from tests.workflows_otel.flows import Echo

    async def main():
        context.attach(propagate.extract({"traceparent": sys.argv[2]}))
        await Echo().run()

    workflows_otel.setup(workflows_otel.otlp(sys.argv[1]), start_marker=False)
    asyncio.run(main())
"""


@pytest.mark.usefixtures("no_provider")
async def test_two_services_make_one_trace(sink: OtlpSink) -> None:
    class Caller(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            headers: dict[str, str] = {}
            propagate.inject(headers)
            run(CALLED, sink.endpoint, headers["traceparent"])
            return StopEvent()

    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint), start_marker=False)
    await Caller().run()
    telemetry.shutdown()
    assert sink.named("invoke_workflow Echo").parent_id == sink.named("run_step call").span_id
    assert {span.trace_id for span in sink.spans} == {sink.spans[0].trace_id}
