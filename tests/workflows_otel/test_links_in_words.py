"""What a link says is in attributes as well, since Phoenix and Langfuse show no links."""

from __future__ import annotations

import asyncio
import json

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

import workflows_otel
from tests.workflows_otel.flows import Answer, FanOut, Flaky, Form
from tests.workflows_otel.otlp_sink import OtlpSink, ReceivedSpan
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context
from workflows.testing import VirtualClockLoop

CALLERS_TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def _asked_for_elsewhere_and_answered_later() -> None:
    workflow = Form(timeout=None)
    token = otel_context.attach(propagate.extract({"traceparent": f"00-{CALLERS_TRACE}-{CALLER}-01"}))
    handler = workflow.run()
    otel_context.detach(token)
    await asyncio.sleep(1)
    snapshot = json.loads(json.dumps(await handler.suspend()))
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    with trace.get_tracer("app").start_as_current_span("answer"):
        handler.ctx.send_event(Answer(text="yes"))
    await handler


def _unsaid(span: ReceivedSpan, trace_ids: dict[str, str]) -> list[str]:
    """Types of links whose target the attributes do not name: its span, and its trace where that is another."""
    said = str(span.attributes)
    return [
        about_link["workflow.link.type"]
        for span_id, about_link in span.links
        if span_id not in said or trace_ids[span_id] not in (span.trace_id, *said.split("'"))
    ]


@pytest.mark.usefixtures("no_provider")
async def test_every_link_is_in_attributes_too(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint), run_parent="link", resume_trace="link")
    await _asked_for_elsewhere_and_answered_later()
    await Flaky(failures=2).run()
    await FanOut().run(n=3)
    telemetry.shutdown()
    trace_ids = {CALLER: CALLERS_TRACE} | {span.span_id: span.trace_id for span in sink.spans}
    assert [(span.name, unsaid) for span in sink.spans if (unsaid := _unsaid(span, trace_ids))] == []
    assert {about_link["workflow.link.type"] for span in sink.spans for _, about_link in span.links} == {
        "trigger",
        "collect_member",
        "retry_of",
        "wait_resolved_by",
        "external_sender",
        "resumed_from",
        "spawned_by",
    }


async def test_a_span_of_the_same_trace_is_named_without_its_trace(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await Flaky(failures=1).run()
    first, second = spans.all_named("attempt fetch")
    assert first.context is not None
    assert about(second)["workflow.retry_of.span_id"] == f"{first.context.span_id:016x}"
    assert [name for span in spans.finished for name in about(span) if name.endswith(("trace_id", "trace_ids"))] == []
