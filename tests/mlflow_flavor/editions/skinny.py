"""With mlflow-skinny (neither numpy nor pandas): runs are traced, workflows are logged and loaded. Run as a program."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # mlflow-skinny has no database

import mlflow

import mlflow_flavor
from workflows import Workflow

SCRIPT = """
from mlflow_flavor import config, set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Name(StartEvent):
    name: str

class Greeter(Workflow):
    @step
    async def greet(self, ev: Name) -> StopEvent:
        return StopEvent(result=f"{config({'greeting': 'Hello'})['greeting']}, {ev.name}!")

set_model(Greeter())
"""


async def answered(workflow: Workflow) -> str | None:
    handler = workflow.run(name="Ann")
    assert await handler == "Hello, Ann!"
    return mlflow_flavor.trace_id(handler)


def main() -> None:
    assert importlib.util.find_spec("pandas") is None, "this is not mlflow-skinny"
    directory = Path(tempfile.mkdtemp())
    (directory / "agent.py").write_text(SCRIPT)
    mlflow.set_tracking_uri((directory / "mlruns").as_uri())
    mlflow_flavor.autolog()
    info = mlflow_flavor.log_model(directory / "agent.py", name="greeter")
    trace_id = asyncio.run(answered(mlflow_flavor.load_model(info.model_uri)))
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(str(trace_id))
    assert trace is not None
    assert [span.name for span in trace.data.spans] == ["Greeter.run", "greet"]
    assert trace.info.trace_metadata["mlflow.modelId"] == info.model_id
    try:
        mlflow_flavor.save_model(directory / "agent.py", directory / "other", input_example={"name": "A"})
    except mlflow.MlflowException as error:
        assert "needs numpy and pandas" in str(error)  # noqa: PT017  # pytest is not installed here
    else:
        raise AssertionError("an example was taken")


main()
