"""More runs at once than MLflow's buffers hold: every run has a finished trace or none, and both are counted."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from tests.mlflow_flavor.fresh import Interpreter

RUNS = 1500
BUFFER = 50

PROGRAM = f"""
import asyncio, logging
import mlflow, mlflow_flavor
from mlflow_flavor.autolog import handler
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        if handler.traced + handler.untraced == {RUNS}:
            everybody.set()
        await everybody.wait()
        return StopEvent(result=ev.number)

async def main():
    global everybody
    everybody = asyncio.Event()
    workflow = Echo(timeout=None)
    handlers = [workflow.run(number=number) for number in range({RUNS})]
    results = [await h for h in handlers]
    assert results == list(range({RUNS}))

mlflow_flavor.autolog(publish_after_seconds=None)
asyncio.run(main())
mlflow.flush_trace_async_logging()
print(handler.traced, handler.untraced)
"""


@pytest.mark.server  # storing the traces of one limit of 5,000 takes a minute; a small one shows the same
def test_every_run_has_a_finished_trace_or_none(interpreter: Interpreter, tmp_path: Path, experiment: str):
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    environment |= {"MLFLOW_TRACE_BUFFER_MAX_SIZE": str(BUFFER)}
    done = interpreter.run(PROGRAM, tmp_path, environment=environment)
    traced, untraced = map(int, done.stdout.split())
    assert (traced, untraced) == (0.8 * BUFFER, RUNS - 0.8 * BUFFER)
    found = mlflow.search_traces(locations=[experiment], return_type="list", include_spans=False, max_results=RUNS)
    states = {trace.info.state.value for trace in found}  # pyright: ignore[reportAttributeAccessIssue]
    assert (len(found), states) == (traced, {"OK"})
    assert done.stderr.count("runs are not traced until there is room") == 1
