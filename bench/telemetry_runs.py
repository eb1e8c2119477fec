"""The measurements of `telemetry.py`, in a process of their own: `python bench/telemetry_runs.py <steps>`.

The same file runs on us and on the peer, in a venv each. It reads the name of a measurement from each line of its
input and answers with a line of JSON: CPU microseconds a step (of the whole process, the export thread included), or
bytes. What only we are asked for is in `telemetry_ours.py`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import engine
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

try:
    import workflows_otel
except ImportError:
    workflows_otel = None

SMALL, LARGE = "x" * 100, "x" * 100_000
PASSES = 10  # how often a payload is handed on in one run


class Drop(SpanExporter):
    """Takes every span, and forgets it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Load(Event):
    text: str
    left: int


class Carry(Workflow):
    """Hands a payload on from step to step."""

    @step
    async def take(self, ev: StartEvent) -> Load:
        return Load(text=ev.text, left=PASSES)

    @step
    async def pass_on(self, ev: Load) -> Load | StopEvent:
        return Load(text=ev.text, left=ev.left - 1) if ev.left else StopEvent(result=len(ev.text))


@contextmanager
def traced(content: Literal["types", "full"] = "types") -> Iterator[None]:
    """Spans of every run, to a batch processor whose exporter forgets them; the peer has OpenInference make them."""
    provider = TracerProvider(shutdown_on_exit=False)
    if workflows_otel is not None:
        from workflows_otel.batching import BatchProcessor

        provider.add_span_processor(BatchProcessor(Drop()))
        workflows_otel.instrument(provider, content=content)
        end = workflows_otel.uninstrument
    else:
        # Only in the peer's venv.
        from openinference.instrumentation.llama_index import (  # pyright: ignore[reportMissingImports]
            LlamaIndexInstrumentor,
        )

        provider.add_span_processor(BatchSpanProcessor(Drop()))
        LlamaIndexInstrumentor().instrument(tracer_provider=provider, skip_dep_check=True)
        end = LlamaIndexInstrumentor().uninstrument
    try:
        yield
    finally:
        end()
        provider.shutdown()


def chain(steps: int) -> float:
    """A chain of so many steps."""
    return cpu(lambda: asyncio.run(engine.chain(steps)), steps)


def carry(text: str, steps: int) -> float:
    """Runs that hand `text` on, of about half so many steps in all."""
    runs = max(steps // (2 * (PASSES + 2)), 1)

    async def all_runs() -> None:
        workflow = Carry(timeout=None)
        for _ in range(runs):
            await workflow.run(text=text)

    return cpu(lambda: asyncio.run(all_runs()), runs * (PASSES + 2))


def cpu(work: Callable[[], None], units: int) -> float:
    """CPU microseconds of the whole process for one of so many units of work."""
    gc.collect()
    start = time.process_time()
    work()
    return (time.process_time() - start) / units * 1e6


def measure(name: str, steps: int) -> Any:
    """One measurement, by name."""
    match name:
        case "plain":
            return chain(steps)
        case "traced":
            with traced():
                return chain(steps)
        case "small" | "large":
            return carry(LARGE if name == "large" else SMALL, steps)
        case "small traced" | "large traced":
            with traced("full"):
                return carry(LARGE if name.startswith("large") else SMALL, steps)
        case _:
            import telemetry_ours

            return telemetry_ours.measure(name, steps)


def main() -> None:
    """Answer until nobody asks any more."""
    logging.disable(logging.WARNING)
    steps = int(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(measure(line.strip(), steps)), flush=True)


if __name__ == "__main__":
    main()
