"""A process that is killed while runs are under way: `python -m tests.workflows_otel.truth_killed <endpoint>`.

It lets random runs live until all of them stand still between two seconds, sends every span that has ended, writes how
many have begun and ended as a line of JSON, and then waits to be killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

import workflows_otel
from tests.workflows_otel.truth_runs import seen, workload
from tests.workflows_otel.truth_ticks import TickLog, as_data, streams_of
from workflows.testing import VirtualClockLoop

RUNS = 60
SEED = 3
KILLED_AT = 7.5  # seconds; everything happens at whole ones


class Counting(SpanProcessor):
    """Counts spans."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """One more is open."""
        self.begun += 1

    def on_end(self, span: ReadableSpan) -> None:
        """One less."""
        self.ended += 1


async def main(endpoint: str) -> None:
    """Run until it is time, tell, and wait for the end."""
    telemetry = workflows_otel.setup(workflows_otel.otlp(endpoint))
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(counting := Counting())
    runtime = TickLog()
    task = asyncio.create_task(workload(RUNS, SEED, runtime))
    await asyncio.sleep(KILLED_AT)
    truth = runtime.truth()
    streams_of(truth, seen.streamed)
    flushed = telemetry.flush(timeout=30)
    told = {"runs": as_data(truth), "begun": counting.begun, "ended": counting.ended, "sent": flushed.sent}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    task.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main(sys.argv[1]))
