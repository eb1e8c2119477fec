"""What tracing to MLflow costs a run: nothing, spans alone, spans that are stored; and MLflow's own spans beside them.

    python bench/mlflow_traces.py [rounds]

CPU time of the whole process (MLflow's threads included), the variants taking turns; a figure is the median of the
rounds. "spans" has MLflow's exporter replaced by one that forgets; "bare" makes the spans of the same run with MLflow's
own functions and nothing else: same names, inputs, outputs, attributes and times, each made current.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Trace
from mlflow.tracing import provider
from mlflow.tracing.trace_manager import InMemoryTraceManager

import mlflow_flavor
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

RUNS = 20
TEXT = "x" * 200


class Ask(StartEvent):
    question: str


class First(Event):
    text: str


class Second(Event):
    text: str


class Third(Event):
    text: str


class Chain(Workflow):
    """Four steps, 200 characters from each to the next."""

    @step
    async def one(self, ev: Ask) -> First:
        return First(text=ev.question)

    @step
    async def two(self, ev: First) -> Second:
        return Second(text=ev.text)

    @step
    async def three(self, ev: Second) -> Third:
        return Third(text=ev.text)

    @step
    async def four(self, ev: Third) -> StopEvent:
        return StopEvent(result=ev.text)


async def runs() -> None:
    workflow = Chain()
    for _ in range(RUNS):
        await workflow.run(question=TEXT)


def bare_spans(trace: Trace) -> None:
    """The spans of `trace` once more, by MLflow's own functions alone."""
    root, *steps = sorted(trace.data.spans, key=lambda s: s.start_time_ns)
    for _ in range(RUNS):
        outer = _start(root, None)
        token = provider.set_span_in_context(outer)
        mlflow.update_current_trace(tags={"workflow.name": "Chain"}, metadata={}, request_preview=TEXT)
        for span in steps:
            inner = _start(span, outer)
            inner_token = provider.set_span_in_context(inner)
            provider.detach_span_from_context(inner_token)
            inner.end(outputs=span.outputs, attributes=_late(span), end_time_ns=span.end_time_ns)
        mlflow.update_current_trace(tags={"workflow.run.outcome": "completed"}, response_preview=TEXT)
        provider.detach_span_from_context(token)
        outer.end(outputs=root.outputs, attributes=_late(root), end_time_ns=root.end_time_ns)


def _start(span: Any, parent: Any) -> Any:
    return mlflow.start_span_no_context(
        span.name,
        span_type=span.span_type,
        parent_span=parent,
        inputs=span.inputs,
        attributes={k: v for k, v in _own(span).items() if k not in _late(span)},
        start_time_ns=span.start_time_ns,
    )


def _own(span: Any) -> dict[str, Any]:
    return {k: v for k, v in span.attributes.items() if not k.startswith("mlflow.")}


def _late(span: Any) -> dict[str, Any]:
    """What is only known at a span's end: about a third of the attributes."""
    late = ("outcome", "emitted", "run.steps", "run.events")
    return {k: v for k, v in _own(span).items() if any(part in k for part in late)}


@contextmanager
def forgetting() -> Iterator[None]:
    """MLflow's exporter forgets every trace instead of storing it."""
    exporter: Any = provider._get_trace_exporter()  # pyright: ignore[reportPrivateUsage]  # there is no public way
    manager: Any = InMemoryTraceManager.get_instance()

    def export(spans: Any) -> None:
        for span in spans:
            if span.parent is None:
                name = manager._otel_id_to_mlflow_trace_id.pop(span.context.trace_id, None)
                manager._traces.pop(name, None)

    exporter.export = export
    try:
        yield
        provider._get_span_processor().force_flush()  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    finally:
        del exporter.export


def traced_runs() -> None:
    mlflow_flavor.autolog()
    asyncio.run(runs())


def plain_runs() -> None:
    mlflow_flavor.autolog(disable=True)
    asyncio.run(runs())


def cpu(work: Callable[[], None]) -> float:
    """CPU milliseconds a run."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1000 / RUNS


def spans_only() -> None:
    with forgetting():
        traced_runs()


def stored() -> None:
    traced_runs()
    mlflow.flush_trace_async_logging()


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        mlflow.set_tracking_uri(f"sqlite:///{Path(directory) / 'mlflow.db'}")
        mlflow.set_experiment("bench")
        stored()
        (trace, *_) = mlflow.search_traces(return_type="list", max_results=1)

        def bare() -> None:
            with forgetting():
                bare_spans(trace)  # pyright: ignore[reportArgumentType]  # return_type="list" gives traces

        variants = {"off": plain_runs, "bare": bare, "spans": spans_only, "sqlite": stored}
        figures: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, work in variants.items():
                figures[name].append(cpu(work))
        mlflow_flavor.autolog(disable=True)
    medians = {name: statistics.median(found) for name, found in figures.items()}
    for name, found in medians.items():
        print(f"{name:8} {found:8.2f} ms CPU a run   {found / medians['off']:6.1f} x off")
    ours = medians["spans"] - medians["off"]
    print(f"what our spans add, against MLflow's bare spans of the same shape: {ours / medians['bare']:.2f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
