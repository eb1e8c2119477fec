"""What spans cost: CPU time of a step with nobody listening, and with every span drawn, against the SDK's own calls.

usage: python bench/otel.py [--steps N] [--rounds N]

Each round runs the same chain of steps with nobody listening and with spans, and the bare SDK calls for as many spans
of the same shape (`limit.py`: attributes at start and end, a link, sequences, status, made current), once in a tight
loop and once in place: made by a bare record handler in the same chain, where they cost about half as much again. A
handler that does nothing shows what building records costs; `drawn` is without that. All of it is CPU time of the whole
process, the export thread included, in turns, and the figures are medians: wall time says nothing on a shared machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import engine
import limit
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import workflows_otel
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import Record, StepEnded, StepStarted
from workflows_otel.batching import BatchProcessor


class Drop(SpanExporter):
    """Takes every span, and forgets it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Told:
    """A record handler that does nothing: what it costs to build the records and to tell them."""

    name = "opentelemetry"
    destination = None

    def handle(self, record: Record) -> None:
        """Nothing."""

    def carrier(self, run_id: str) -> None:
        """Nothing."""


class Bare:
    """A record handler that makes the SDK's calls of `limit.spans` for each step, and does nothing else."""

    name = "opentelemetry"
    destination = None

    def __init__(self, tracer: trace.Tracer) -> None:
        self.at_start = {f"workflow.attribute.{i}": f"value {i}" for i in range(15)} | {"workflow.causes": ["0" * 16]}
        self.at_end = {f"workflow.result.{i}": i for i in range(7)} | {"workflow.emitted": ["Work:e3", "Work:e4"]}
        self.about = {"workflow.link.type": "trigger", "workflow.event.id": "e3", "workflow.event.type": "Work"}
        self.tracer = tracer
        self.root = tracer.start_span("root")
        self.parent = trace.set_span_in_context(self.root)
        self.open: dict[str, tuple[trace.Span, Any]] = {}

    def handle(self, record: Record) -> None:
        """One span a step."""
        if type(record) is StepStarted:
            links = [trace.Link(self.root.get_span_context(), self.about)]
            span = self.tracer.start_span("run_step x", self.parent, attributes=self.at_start, links=links)
            self.open[record.exec_id] = span, context.attach(trace.set_span_in_context(span, self.parent))
        elif type(record) is StepEnded:
            span, token = self.open.pop(record.exec_id)
            context.detach(token)
            span.set_attributes(self.at_end)
            span.set_status(trace.StatusCode.OK)
            span.end()

    def carrier(self, run_id: str) -> None:
        """Nothing."""


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="bench/otel.py")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    steps = options.steps
    kept: dict[str, list[float]] = {"step": [], "traced_step": [], "bare_step": [], "told_step": [], "sdk_span": []}
    for round_number in range(options.rounds + 1):
        figures = (
            cpu(lambda: chain(steps), steps),
            listened(workflows_otel.instrument, workflows_otel.uninstrument, steps),
            listened(add_bare, lambda _: bare.pop()(), steps),
            listened(add_told, lambda _: bare.pop()(), steps),
            cpu(lambda: limit.spans(steps), steps),
        )
        if round_number:  # the first one warms up
            for values, figure in zip(kept.values(), figures, strict=True):
                values.append(figure)
    added, in_place = minus(kept["traced_step"], kept["step"]), minus(kept["bare_step"], kept["step"])
    table: dict[str, float] = {f"{name}_us": micro(values) for name, values in kept.items()}
    ours, sdk = minus(kept["traced_step"], kept["told_step"]), minus(kept["bare_step"], kept["told_step"])
    table["added_us"] = micro(added)
    table["added/sdk"] = ratio(added, kept["sdk_span"])
    table["added/sdk in place"] = ratio(added, in_place)
    table["drawn/sdk in place"] = ratio(ours, sdk)
    table["traced/plain"] = ratio(kept["traced_step"], kept["step"])
    print(json.dumps(table))


bare: list[Callable[[], None]] = []


def add_bare(provider: TracerProvider) -> None:
    """Make the SDK's calls, and nothing else, for each step."""
    bare.append(add_handler(Bare(provider.get_tracer("bare"))))


def add_told(provider: TracerProvider) -> None:
    """Have records built, and do nothing with them."""
    bare.append(add_handler(Told()))


def chain(steps: int) -> None:
    """A chain of so many steps."""
    asyncio.run(engine.chain(steps))


def listened(begin: Callable[[TracerProvider], None], end: Callable[[TracerProvider], None], steps: int) -> float:
    """CPU seconds of a step of a chain to which somebody listens, who exports spans."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchProcessor(Drop()))
    begin(provider)
    try:
        return cpu(lambda: chain(steps), steps)
    finally:
        end(provider)
        provider.shutdown()


def cpu(work: Callable[[], None], units: int) -> float:
    """CPU seconds of the whole process for one of so many units of work."""
    gc.collect()
    start = time.process_time()
    work()
    return (time.process_time() - start) / units


def minus(upper: list[float], lower: list[float]) -> list[float]:
    """The differences, pair by pair."""
    return [u - b for u, b in zip(upper, lower, strict=True)]


def ratio(upper: list[float], lower: list[float]) -> float:
    """The median of the ratios, pair by pair."""
    return round(statistics.median(u / b for u, b in zip(upper, lower, strict=True)), 2)


def micro(seconds: list[float]) -> float:
    """The median in microseconds."""
    return round(statistics.median(seconds) * 1e6, 1)


if __name__ == "__main__":
    main()
