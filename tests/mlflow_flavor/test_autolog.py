"""Who decides whether runs are traced, and what happens where MLflow has no room left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from mlflow_flavor._compat import autologging_is_on
from mlflow_flavor.handler import MlflowHandler
from tests.mlflow_flavor.agents import Answer
from tests.mlflow_flavor.fresh import Interpreter
from workflows.instrumentation import add_handler

SEQUENCE = """
import asyncio, mlflow, mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=mlflow.get_current_active_span() is not None)

def traced():
    async def run():
        return await Echo().run()
    return asyncio.run(run())

print(traced())
mlflow.autolog(silent=True); print(traced())
mlflow.autolog(silent=True, exclude_flavors=["workflows"]); print(traced())
mlflow.autolog(disable=True, silent=True); print(traced())
mlflow_flavor.autolog(); print(traced())
mlflow.autolog(silent=True)
mlflow_flavor.autolog(disable=True); print(traced())
"""


def test_mlflows_autolog_decides_until_ours_is_called(interpreter: Interpreter, tmp_path: Path, experiment: str):
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    done = interpreter.run(SEQUENCE, tmp_path, environment=environment)
    assert done.stdout.split() == ["False", "True", "False", "False", "True", "False"], done.stderr


TELLS_WHETHER_IT_IS_TRACED = """
import mlflow, mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=mlflow.get_current_active_span() is not None)

mlflow_flavor.set_model(Echo())
"""
SERVED = """
import mlflow
print(mlflow.pyfunc.load_model("model").predict({}))
"""


@pytest.mark.parametrize(
    ("autolog", "environment", "traced"),
    [
        (True, {}, "True"),
        (True, {"WORKFLOWS_MLFLOW_AUTOLOG": "false"}, "False"),
        (True, {"WORKFLOWS_MLFLOW_AUTOLOG": "0"}, "False"),
        (True, {"WORKFLOWS_MLFLOW_AUTOLOG": "true"}, "True"),
        (False, {}, "False"),
        (False, {"WORKFLOWS_MLFLOW_AUTOLOG": "true"}, "False"),
        (True, {"_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "false"}, "False"),
    ],
)
def test_a_served_model_is_traced_unless_its_author_or_the_environment_says_no(
    interpreter: Interpreter,
    tmp_path: Path,
    experiment: str,
    autolog: bool,
    environment: dict[str, str],
    traced: str,
):
    (tmp_path / "agent.py").write_text(TELLS_WHETHER_IT_IS_TRACED)
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", autolog=autolog, pip_requirements=["mlflow"])
    where = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    serving = {"_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "true"}
    done = interpreter.run(SERVED, tmp_path, environment={**where, **serving, **environment})
    assert done.stdout.strip() == traced, done.stderr


@pytest.mark.parametrize(("called", "traced"), [("max_open_seconds=77", "True 77"), ("disable=True", "False 1800")])
def test_what_a_served_script_says_of_autologging_holds(
    interpreter: Interpreter, tmp_path: Path, experiment: str, called: str, traced: str
):
    (tmp_path / "agent.py").write_text(f"{TELLS_WHETHER_IT_IS_TRACED}mlflow_flavor.autolog({called})\n")
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    mlflow_flavor.autolog()  # the script was run here, too
    environment = {
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_EXPERIMENT_ID": experiment,
        "_MLFLOW_IS_IN_SERVING_ENVIRONMENT": "true",
    }
    program = f"{SERVED}\nfrom mlflow_flavor.autolog import handler\nprint(round(handler.settings.max_open))"
    done = interpreter.run(program, tmp_path, environment=environment)
    assert done.stdout.split() == traced.split(), done.stderr


async def test_a_run_that_mlflow_has_no_room_for_is_not_traced_at_all(
    experiment: str, caplog: pytest.LogCaptureFixture
):
    mlflow_flavor.autolog(disable=True)  # its handler would come first
    full = MlflowHandler(is_on=lambda: True, pressure=lambda: 0.9)
    workflow = Answer()
    add_handler(full, workflow=workflow)
    assert await workflow.run(question="why") == "WHY!"
    assert (full.traced, full.untraced) == (0, 1)
    assert len(mlflow.search_traces(locations=[experiment], return_type="list")) == 0
    assert "runs are not traced until there is room" in caplog.text


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"log_stream_events": 1000}, r"log_stream_events=1000 is out of range\. Use 0 to 100"),
        ({"log_stream_events": "x"}, r"log_stream_events='x' is out of range"),
        ({"max_payload_bytes": 5}, r"max_payload_bytes=5 leaves no room for a payload\. Use 256 or more"),
        ({"publish_after_seconds": -1}, r"publish_after_seconds=-1 is over already"),
        ({"max_open_seconds": 0}, r"max_open_seconds=0 must be more than 0"),
        ({"max_open_seconds": 7200}, r"less than the 3600 s after which MLflow forgets an open trace"),
    ],
)
def test_a_limit_out_of_range_is_refused_and_changes_nothing(limits: dict[str, Any], message: str):
    mlflow_flavor.autolog(disable=True)
    with pytest.raises(MlflowException, match=message):
        mlflow_flavor.autolog(**limits)
    assert not autologging_is_on()
