"""Running a run again right after it ended, while its traces are on their way, and not before."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.agents import Hang
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_reproduction import LONG

PROGRAM = """
import asyncio, os
from pathlib import Path
import mlflow_flavor
from workflows.testing import VirtualClockLoop

mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None, max_open_seconds=float(os.environ["OPEN_SECONDS"]))
Path("agent.py").write_text(os.environ["SCRIPT"])
info = mlflow_flavor.log_model("agent.py", name="agent", pip_requirements=["mlflow"])

async def traced():
    handler = mlflow_flavor.load_model(info.model_uri).run()
    trace_id = mlflow_flavor.trace_id(handler)  # the first, if it gets several
    await handler
    return trace_id

with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    trace_id = runner.run(traced())
again = mlflow_flavor.reproduce(trace_id, recorded=True)
print(again.result, again.differences, again.replayed)
"""


@pytest.mark.server
@pytest.mark.parametrize("open_seconds", [60, 5], ids=["one trace", "several traces"])
def test_a_run_that_has_just_ended_is_repeated_whole(
    interpreter: Interpreter, experiment: str, tmp_path: Path, open_seconds: int
):
    # The second run is on a loop with a real clock. All but the last trace of the first one are stored when it ends.
    script = LONG.replace("sleep(10)", "sleep(10 if 'Virtual' in type(asyncio.get_running_loop()).__name__ else 0)")
    script = script.replace("return StopEvent", "mlflow.flush_trace_async_logging(); return StopEvent")
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    done = interpreter.run(
        PROGRAM,
        tmp_path,
        environment={**environment, "SCRIPT": f"import mlflow\n{script}", "OPEN_SECONDS": str(open_seconds)},
    )
    assert done.stdout.splitlines()[-1:] == ["0 1 [] 2"], done.stderr


SLOW_STORE = """
import time
from mlflow.tracing.client import TracingClient

start_trace = TracingClient.start_trace

def slow(*args):
    time.sleep(2)  # the spans are stored by now
    return start_trace(*args)

TracingClient.start_trace = slow
"""


@pytest.mark.server
def test_a_run_is_repeated_though_its_spans_are_stored_before_its_model(
    interpreter: Interpreter, experiment: str, tmp_path: Path
):
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    script = LONG.replace("sleep(10)", "sleep(0)")
    program = SLOW_STORE + PROGRAM.replace("again = ", "import time\ntime.sleep(1)\nagain = ")
    done = interpreter.run(program, tmp_path, environment={**environment, "SCRIPT": script, "OPEN_SECONDS": "60"})
    assert done.stdout.splitlines()[-1:] == ["0 1 [] 2"], done.stderr


@pytest.mark.usefixtures("autolog")
async def test_a_run_that_has_not_ended_is_refused_as_such():
    handler = Hang(timeout=None).run(question="why")
    await anext(handler.stream_events())
    with pytest.raises(MlflowException, match=r"The run of trace tr-\w+ is still going on, or its process ended bef"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    await handler.cancel_run()
