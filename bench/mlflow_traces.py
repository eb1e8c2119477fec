"""What tracing to MLflow costs a run, ours and the peer's: nothing, spans alone, spans that are stored.

    python bench/mlflow_traces.py [rounds] [python of the peer's venv]

CPU time of the whole process (MLflow's threads included), the variants taking turns; a figure is the median of the
rounds. "spans" has MLflow's exporter replaced by one that forgets; "bare" makes the spans of the same run with MLflow's
own functions and nothing else: same names, inputs, outputs, attributes and times, each made current.

The peer (llama-index-workflows with `mlflow.llama_index.autolog`) runs this file too, in a venv of its own that is made
once; there `mlflow_flavor` is missing, and that is how the file knows.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
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

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

try:
    import mlflow_flavor
except ImportError:
    mlflow_flavor = None

PEER = ["llama-index-workflows==2.26.1", "llama-index-core==0.14.25", f"mlflow=={mlflow.__version__}"]
PEER_VENV = Path(__file__).parents[1] / ".venv-peer-mlflow"

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


def autolog(on: bool) -> None:
    if mlflow_flavor is not None:
        mlflow_flavor.autolog(disable=not on)
    else:
        from mlflow import llama_index

        llama_index.autolog(disable=not on, silent=True)


def traced_runs() -> None:
    autolog(on=True)
    asyncio.run(runs())


def plain_runs() -> None:
    autolog(on=False)
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


def medians(rounds: int) -> dict[str, float]:
    """CPU milliseconds a run, of each variant, in this process."""
    with tempfile.TemporaryDirectory() as directory:
        mlflow.set_tracking_uri(f"sqlite:///{Path(directory) / 'mlflow.db'}")
        mlflow.set_experiment("bench")
        stored()
        variants = {"off": plain_runs, "spans": spans_only, "sqlite": stored}
        if mlflow_flavor is not None:
            (trace, *_) = mlflow.search_traces(return_type="list", max_results=1)

            def bare() -> None:
                with forgetting():
                    bare_spans(trace)  # pyright: ignore[reportArgumentType]  # return_type="list" gives traces

            variants["bare"] = bare
        figures: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, work in variants.items():
                figures[name].append(cpu(work))
        autolog(on=False)
    return {name: statistics.median(found) for name, found in figures.items()}


def of_peer(rounds: int, python: str | None) -> dict[str, float]:
    """The same, in the peer's venv."""
    python = python or _installed_peer()
    # PYTHONPATH would put our package in front of the peer's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, __file__, str(rounds)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The peer's runs failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _installed_peer() -> str:
    python = PEER_VENV / "bin" / "python"
    if not (PEER_VENV / ".installed").exists():
        print(f"Installing {PEER[0]} into {PEER_VENV.name} ...", file=sys.stderr)
        if uv := shutil.which("uv"):
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, PEER_VENV], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEER], check=True)
        else:
            subprocess.run([sys.executable, "-m", "venv", "--clear", PEER_VENV], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True)
        (PEER_VENV / ".installed").touch()
    return str(python)


def main(rounds: int, peer_python: str | None) -> None:
    found = medians(rounds)
    if mlflow_flavor is None:
        print(json.dumps(found))
        return
    peers = of_peer(rounds, peer_python)
    print("CPU ms a run      ours   x off       peer   x off   peer / ours")
    for name in ("off", "spans", "sqlite"):
        mine, theirs = found[name], peers[name]
        print(
            f"{name:10} {mine:11.2f} {mine / found['off']:7.1f} {theirs:10.2f} {theirs / peers['off']:7.1f} "
            f"{theirs / mine:13.1f}"
        )
    ours = found["spans"] - found["off"]
    print(f"bare       {found['bare']:11.2f}")
    print(f"what our spans add, against MLflow's bare spans of the same shape: {ours / found['bare']:.2f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11, sys.argv[2] if len(sys.argv) > 2 else None)
