"""What `telemetry.py` measures of us alone: the parts of what a span costs, and the memory of open ones."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import limit
import telemetry_runs
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from telemetry_asking import asking

import workflows_otel
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import Record

OPEN_RUNS = 500


class Told:
    """A record handler that does nothing: what it costs to build the records and to tell them."""

    name = "opentelemetry"
    destination = None

    def handle(self, record: Record) -> None:
        """Nothing."""

    def carrier(self, run_id: str) -> None:
        """Nothing."""


class Shape(SpanProcessor):
    """Keeps the last span of a step: what it had when it started, and when it had ended."""

    def __init__(self) -> None:
        self.at_start: dict[str, Any] = {}
        self.span: ReadableSpan | None = None

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        if span.name == "run_step pong":
            self.at_start = dict(span.attributes or {})

    def on_end(self, span: ReadableSpan) -> None:
        if span.name == "run_step pong":
            self.span = span


class Answer(HumanResponseEvent):
    pass


class Waiting(Workflow):
    """Its only step waits until it is told to stop."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Answer)
        return StopEvent()


def measure(name: str, steps: int) -> Any:
    """One measurement, by name."""
    match name:
        case "asking":
            return asking()
        case "told":
            remove = add_handler(Told())
            try:
                return telemetry_runs.chain(steps)
            finally:
                remove()
        case "sdk":
            return telemetry_runs.cpu(lambda: limit.spans(steps), steps)
        case "same":
            return telemetry_runs.cpu(_same_spans(steps), steps)
        case "memory":
            return asyncio.run(_memory())
        case _:
            raise ValueError(f"{name!r} is no measurement")


def _same_spans(steps: int) -> Callable[[], None]:
    """The SDK's own calls for the very span that we draw of a step of the chain."""
    shape = _shape()
    assert shape.span is not None, "the chain has such a step"
    at_start, links = shape.at_start, [(link.context, dict(link.attributes or {})) for link in shape.span.links]
    at_end = {name: value for name, value in (shape.span.attributes or {}).items() if name not in at_start}

    def work() -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(telemetry_runs.Drop()))
        tracer = provider.get_tracer("bench")
        parent = trace.set_span_in_context(tracer.start_span("root"))
        for _ in range(steps):
            found = [trace.Link(linked, about) for linked, about in links]
            span = tracer.start_span("run_step pong", parent, attributes=at_start, links=found)
            context.detach(context.attach(trace.set_span_in_context(span, parent)))
            span.set_attributes(at_end)
            span.set_status(trace.StatusCode.OK)
            span.end()

    return work


@lru_cache
def _shape() -> Shape:
    shape = Shape()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(shape)
    workflows_otel.instrument(provider)
    telemetry_runs.chain(20)
    workflows_otel.uninstrument(provider)
    return shape


async def _memory() -> dict[str, float]:
    """Bytes of an open run that waits, of its two spans, of two of the SDK's, and of what is left of it at last."""
    plain, _ = await _bytes_of_open_runs()
    with telemetry_runs.traced():
        drawn, left = await _bytes_of_open_runs()
    return {"run": plain, "spans": drawn - plain, "left": left, "sdk": _bytes_of_sdk_spans()}


async def _bytes_of_open_runs() -> tuple[float, float]:
    workflow = Waiting(timeout=None)
    await _open(workflow, 10)
    before = _traced_bytes()
    handlers = [workflow.run() for _ in range(OPEN_RUNS)]
    await asyncio.sleep(0.2)
    during = _traced_bytes()
    await _end(handlers)
    del handlers
    await asyncio.sleep(1.2)  # the export thread has let go of the last spans by then
    after = _traced_bytes()
    tracemalloc.stop()
    return (during - before) / OPEN_RUNS, (after - before) / OPEN_RUNS


async def _open(workflow: Workflow, runs: int) -> None:
    await _end([workflow.run() for _ in range(runs)])


async def _end(handlers: list[Any]) -> None:
    await asyncio.sleep(0)
    for handler in handlers:
        await handler.cancel_run()
    await asyncio.gather(*handlers, return_exceptions=True)


def _traced_bytes() -> int:
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def _bytes_of_sdk_spans() -> float:
    shape = _shape()
    assert shape.span is not None, "the chain has such a step"
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench")
    before = _traced_bytes()
    links = [(link.context, dict(link.attributes or {})) for link in shape.span.links]
    held = [
        tracer.start_span("x", attributes=shape.at_start, links=[trace.Link(c, about) for c, about in links])
        for _ in range(2 * OPEN_RUNS)
    ]
    after = _traced_bytes()
    tracemalloc.stop()
    return (after - before) / len(held) * 2
