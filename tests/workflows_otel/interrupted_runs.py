"""Runs in whose telemetry something comes in the middle: `python -m ... <what> <whose spans> <every how many lines>`.

At one line of telemetry's own code, another one in each run, the garbage collector ends a generator that says, at its
end, what the step was just saying. Printed is, as JSON, of each run what its spans say, and how many calls of each
model were measured. A process of its own, since a lock that a thread takes twice is never free again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextvars import copy_context
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import opentelemetry.attributes
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

import workflows_otel
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy
from workflows.instrumentation.dispatcher import process_dispatcher
from workflows_otel import OtelHandler, keep_errors_and_slow, showing
from workflows_otel.batching import BatchProcessor
from workflows_otel.exporting import RedactingExporter
from workflows_otel.sampling import TailProcessor

TELEMETRY = (str(Path(workflows_otel.__file__).parent), str(Path(opentelemetry.attributes.__file__).parents[1]))
READER, EXPORTER = InMemoryMetricReader(), InMemorySpanExporter()
LIMITS = {"ours": SpanLimits(), "of the SDK": SpanLimits(max_span_attributes=60)}  # by which one's spans draw a step


class Interruption:
    """At one line of telemetry's code, the garbage collector ends a generator that has something to do at its end.

    Args:
        line: Which one, from 1, of those that this thread comes through.
        do: What the generator does at its end.
        where: Files whose lines count.

    Attributes:
        came: There was such a line.
    """

    def __init__(self, line: int, do: Callable[[], None], where: tuple[str, ...]) -> None:
        self.came = False
        self._left = line
        self._do = do
        self._where = where

    def __enter__(self) -> Self:
        sys.settrace(self._called)
        threading.settrace(self._called)  # also of threads that begin in it
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore[reportArgumentType]  # which ends it

    def _called(self, frame: FrameType, kind: str, arg: object) -> Any:
        return self._came_to if frame.f_code.co_filename.startswith(self._where) else None

    def _came_to(self, frame: FrameType, kind: str, arg: object) -> Any:
        if kind == "line":
            self._left -= 1
            if self._left == 0:
                self.came = True
                _leave_in_a_cycle(_ending(self._do))
                gc.collect(0)
        return self._came_to


def _ending(do: Callable[[], None]) -> Generator[None]:
    try:
        yield
    finally:
        do()


def _leave_in_a_cycle(generator: Generator[None]) -> None:
    next(generator)
    cycle: list[Any] = [generator]
    cycle.append(cycle)


class Interrupted(Workflow):
    """Says something, in the middle of which something else is said."""

    def __init__(self, interruption: Interruption, say: Callable[[str], None]) -> None:
        super().__init__()
        self._interruption = interruption
        self._say = say

    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        with self._interruption:
            self._say("outer")
        return StopEvent(result=self._interruption.came)


def note(name: str) -> None:
    """As the bridge to llama-index does for `dispatcher.event`."""
    for told in process_dispatcher.handlers:
        if isinstance(told.handler, OtelHandler):
            told.handler.note(name, {"of": name})


def note_in_a_thread(name: str) -> None:
    _in_a_thread(note, name)


def _in_a_thread(do: Callable[..., None], *given: str) -> None:
    thread = threading.Thread(target=copy_context().run, args=(do, *given))
    thread.start()
    thread.join()


def attribute(name: str) -> None:
    get_current_span().set_attribute(name, 1)


def call(name: str) -> None:
    with workflows_otel.llm_call(model=name) as drawn:
        drawn.output("answer").usage(input=1, output=1)


def read(name: str) -> None:
    """A call, after which another thread reads what there is to read, as a reader of metrics does now and then."""
    call(name)
    _in_a_thread(_read_all)


def _read_all() -> None:
    READER.get_metrics_data()
    EXPORTER.get_finished_spans()


SAID = {
    "note": (note, note, TELEMETRY),
    "note of a thread": (note, note_in_a_thread, (showing.__file__,)),
    "attribute": (attribute, attribute, TELEMETRY),
    "call": (call, call, TELEMETRY),
    "call while metrics are read": (read, call, TELEMETRY),
}


def said(spans: Iterable[ReadableSpan]) -> list[str]:
    """What the spans of a run say of the two; a value of a note, which this back end is not to get, is told as well."""
    names = [name for span in spans for name in (span.name.removeprefix("chat "), *(span.attributes or {}))]
    for event in (event for span in spans for event in span.events):
        names += [event.name, *(value for value in (event.attributes or {}).values() if isinstance(value, str))]
    return sorted(name for name in names if name in ("inner", "outer"))


def measured() -> dict[str, int]:
    """How many calls of each model were measured."""
    data = READER.get_metrics_data()
    assert data is not None
    metrics = [metric for of in data.resource_metrics for scope in of.scope_metrics for metric in scope.metrics]
    points = [
        point for metric in metrics if metric.name == at.METRIC_CLIENT_DURATION for point in metric.data.data_points
    ]
    return {
        str((point.attributes or {})[at.GEN_AI_REQUEST_MODEL]): point.count
        for point in points
        if isinstance(point, HistogramDataPoint)
    }


async def run_all(what: str, every: int) -> None:
    outer, inner, where = SAID[what]
    line = 1
    while await Interrupted(Interruption(line, lambda: inner("inner"), where), outer).run():
        line += every


def main() -> None:
    what, whose, every = sys.argv[1:]
    exporter = InMemorySpanExporter()
    batches = BatchProcessor(RedactingExporter(exporter, ContentPolicy("types")))
    provider = TracerProvider(span_limits=LIMITS[whose])
    provider.add_span_processor(TailProcessor(keep_errors_and_slow(1.0), [batches]))
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    workflows_otel.instrument(provider, content="full", meter_provider=MeterProvider([READER]))
    asyncio.run(run_all(what, int(every)))
    assert batches.flush(10).ok
    runs: dict[int, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        assert span.context is not None
        runs.setdefault(span.context.trace_id, []).append(span)
    sys.stdout.write(json.dumps([[said(spans) for spans in runs.values()], measured()]))


if __name__ == "__main__":
    main()
