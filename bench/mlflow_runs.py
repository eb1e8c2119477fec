"""The runs that `mlflow.py` measures, in a process of their own: `python -P bench/mlflow_runs.py <tracking uri>`.

The same file runs on us and on the peer, in a venv each. It reads the name of a measurement from each line of its
input and answers with a line of JSON. (`-P` because this folder has a `mlflow.py` of its own.)
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlflow
from mlflow.entities import Trace
from mlflow.tracing import provider
from mlflow.tracing.trace_manager import InMemoryTraceManager

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

try:
    import mlflow_flavor
except ImportError:
    mlflow_flavor = None

RUNS = 20
MANY = 1500
TEXT = "x" * 200
PAYLOADS: dict[str, Any] = {  # 1 MB of JSON each
    "rows": [{"id": number, "text": "x" * 80} for number in range(9_000)],
    "text": "The key: as ever, a quick brown fox jumps over the lazy dog. " * 16_000,
    "values": [f"value-{number}" for number in range(70_000)],
}


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


class Rows(Workflow):
    """1 MB in, 1 MB out."""

    @step
    async def copy(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.rows)


class Meet(Workflow):
    """Every run waits until all `MANY` are there."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.here = 0
        self.everybody = asyncio.Event()

    @step
    async def meet(self, ev: StartEvent) -> StopEvent:
        self.here += 1
        if self.here == MANY:
            self.everybody.set()
        await self.everybody.wait()
        return StopEvent(result=ev.number)


def autolog(on: bool) -> None:
    if mlflow_flavor is not None:
        mlflow_flavor.autolog(disable=not on)
    else:
        from mlflow import llama_index

        llama_index.autolog(disable=not on, silent=True)


# --- CPU a run --------------------------------------------------------------------------------------------------------


async def chains() -> None:
    workflow = Chain()
    for _ in range(RUNS):
        await workflow.run(question=TEXT)


def off() -> float:
    autolog(on=False)
    return cpu(lambda: asyncio.run(chains()))


def spans() -> float:
    autolog(on=True)
    with forgetting():
        return cpu(lambda: asyncio.run(chains()))


def stored() -> float:
    autolog(on=True)

    def work() -> None:
        asyncio.run(chains())
        mlflow.flush_trace_async_logging()

    return cpu(work)


def cpu(work: Callable[[], None]) -> float:
    """CPU milliseconds a run, of the whole process: MLflow's threads count."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1000 / RUNS


@contextmanager
def forgetting() -> Iterator[None]:
    """MLflow's exporter forgets every trace instead of storing it."""
    exporter: Any = provider._get_trace_exporter()  # pyright: ignore[reportPrivateUsage]  # there is no public way
    manager: Any = InMemoryTraceManager.get_instance()
    takes_spans = exporter._store_supports_log_spans

    def export(spans: Any) -> None:
        for span in spans:
            if span.parent is None:
                name = manager._otel_id_to_mlflow_trace_id.pop(span.context.trace_id, None)
                manager._traces.pop(name, None)

    exporter.export = export
    exporter._store_supports_log_spans = False  # so that nothing takes the traces over
    try:
        yield
        provider._get_span_processor().force_flush()  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]
    finally:
        del exporter.export
        exporter._store_supports_log_spans = takes_spans


# --- MLflow's own spans -----------------------------------------------------------------------------------------------


def bare() -> float:
    """The spans of a traced run once more, by MLflow's own functions and nothing else, each made current."""
    (trace,) = mlflow.search_traces(return_type="list", max_results=1, filter_string="name = 'Chain.run'")
    assert isinstance(trace, Trace)

    def work() -> None:
        for _ in range(RUNS):
            bare_run(trace)

    with forgetting():
        return cpu(work)


def bare_run(trace: Trace) -> None:
    root, *steps = sorted(trace.data.spans, key=lambda s: s.start_time_ns)
    outer = _start(root, None)
    token = provider.set_span_in_context(outer)
    mlflow.update_current_trace(tags={"workflow": "Chain"}, metadata={}, request_preview=TEXT)
    for span in steps:
        inner = _start(span, outer)
        inner_token = provider.set_span_in_context(inner)
        provider.detach_span_from_context(inner_token)
        inner.end(outputs=span.outputs, attributes=_late(span), end_time_ns=span.end_time_ns)
    mlflow.update_current_trace(tags={"outcome": "completed"}, response_preview=TEXT)
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


# --- large payloads, many runs ----------------------------------------------------------------------------------------


def blocked_off(payload: str) -> tuple[float, float]:
    autolog(on=False)
    return asyncio.run(longest_block(PAYLOADS[payload]))


def blocked(payload: str) -> tuple[float, float]:
    autolog(on=True)
    longest = asyncio.run(longest_block(PAYLOADS[payload]))
    mlflow.flush_trace_async_logging()
    return longest


async def longest_block(payload: Any) -> tuple[float, float]:
    """Longest time, in milliseconds, in which the event loop ran nothing else during a run with 1 MB in and 1 MB out.

    CPU time of the loop's thread, which other processes do not disturb, without that of the garbage collector, which
    comes when it likes; and time on the clock, with everything.
    """
    cpu_longest = clock_longest = 0.0
    over = False

    async def tick() -> None:
        nonlocal cpu_longest, clock_longest
        cpu_last, clock_last = own_time(), time.perf_counter()
        while not over:
            await asyncio.sleep(0)
            cpu_now, clock_now = own_time(), time.perf_counter()
            cpu_longest, cpu_last = max(cpu_longest, cpu_now - cpu_last), cpu_now
            clock_longest, clock_last = max(clock_longest, clock_now - clock_last), clock_now

    with without_collections() as own_time:
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        await Rows().run(rows=payload)
        over = True
        await ticking
    return cpu_longest * 1000, clock_longest * 1000


@contextmanager
def without_collections() -> Iterator[Callable[[], float]]:
    """Tells the CPU seconds of this thread, without those in which it collected garbage."""
    here, collecting = threading.get_ident(), 0.0

    def watch(phase: str, _: dict[str, int]) -> None:
        nonlocal collecting
        if threading.get_ident() == here:
            collecting += time.thread_time() if phase == "stop" else -time.thread_time()

    gc.callbacks.append(watch)
    try:
        yield lambda: time.thread_time() - collecting
    finally:
        gc.callbacks.remove(watch)


def many() -> dict[str, int]:
    """What became of `MANY` runs that were open at the same time."""
    autolog(on=True)

    async def meet() -> None:
        workflow = Meet()
        for handler in [workflow.run(number=number) for number in range(MANY)]:
            await handler

    asyncio.run(meet())
    mlflow.flush_trace_async_logging()
    found = mlflow.search_traces(
        return_type="list", include_spans=False, max_results=2 * MANY, filter_string="name = 'Meet.run'"
    )
    states = Counter(trace.info.state.value for trace in found if isinstance(trace, Trace))
    unnamed = mlflow.search_traces(
        return_type="list", include_spans=False, max_results=2 * MANY, filter_string="status = 'IN_PROGRESS'"
    )
    untraced = 0
    if mlflow_flavor is not None:
        from mlflow_flavor.autolog import handler

        untraced = handler.untraced
    return {"runs": MANY, "finished": states["OK"], "unfinished": len(unnamed), "untraced_on_purpose": untraced}


MEASUREMENTS: dict[str, Callable[[], Any]] = {
    "off": off,
    "spans": spans,
    "stored": stored,
    "bare": bare,
    **{f"blocked_off {payload}": partial(blocked_off, payload) for payload in PAYLOADS},
    **{f"blocked {payload}": partial(blocked, payload) for payload in PAYLOADS},
    "many": many,
}


def main(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(f"bench, {'ours' if mlflow_flavor else 'peer'}")
    stored()  # everything is imported, the store is made
    for line in sys.stdin:
        print(json.dumps(MEASUREMENTS[line.strip()]()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
