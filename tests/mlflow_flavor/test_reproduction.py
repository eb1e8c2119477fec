"""Running the model version that made a trace once more: same input, and what came out otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

import mlflow_flavor
from mlflow_flavor import Difference, IncompleteInputError
from tests.mlflow_flavor.agents import Answer

WEATHER = """
import os
from mlflow_flavor import set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

class Place(StartEvent):
    name: str

class Sky(Event):
    text: str

class Weather(Workflow):
    @step
    async def look(self, ev: Place) -> Sky:
        return Sky(text=os.environ["SKY"])

    @step
    async def tell(self, ev: Sky) -> StopEvent:
        if ev.text == "hail":
            raise OSError("no roof")
        return StopEvent(result=f"It is {ev.text}.")

set_model(Weather())
"""


@pytest.fixture
def weather(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a model that says what the variable SKY holds."""
    monkeypatch.setenv("SKY", "blue")
    (tmp_path / "agent.py").write_text(WEATHER)
    return mlflow_flavor.log_model(tmp_path / "agent.py", name="weather", pip_requirements=["mlflow"]).model_uri


async def traced(uri: str, name: str = "Rome") -> str:
    """The trace of a run of the model."""
    handler = mlflow_flavor.load_model(uri).run(name=name)
    await handler
    return str(mlflow_flavor.trace_id(handler))


async def test_the_same_again_differs_in_nothing(weather: str):
    again = mlflow_flavor.reproduce(await traced(weather))
    assert (again.result, again.error, again.differences) == ("It is blue.", None, [])


async def test_a_step_that_made_something_else_of_the_same_input_is_named(weather: str):
    trace_id = await traced(weather)
    os.environ["SKY"] = "grey"
    assert mlflow_flavor.reproduce(trace_id).differences == [
        Difference("output", "look#1", {"Sky": {"text": "blue"}}, {"Sky": {"text": "grey"}}),
        Difference("result", "Weather.run", "It is blue.", "It is grey."),
    ]


async def test_a_run_that_fails_this_time_says_so(weather: str):
    trace_id = await traced(weather)
    os.environ["SKY"] = "hail"
    again = mlflow_flavor.reproduce(trace_id)
    assert isinstance(again.error, OSError)
    assert again.differences[-1] == Difference("result", "Weather.run", "It is blue.", "OSError")


async def test_a_cut_input_is_refused_unless_another_is_given(weather: str):
    trace_id = await traced(weather, name="x" * 100_000)
    with pytest.raises(IncompleteInputError, match=r"Pass input=, or call .*\(record_inputs=True\)"):
        mlflow_flavor.reproduce(trace_id)
    assert mlflow_flavor.reproduce(trace_id, input={"name": "Rome"}).result == "It is blue."


async def test_a_recorded_input_is_whole(weather: str, trace: Callable[[], Trace]):
    mlflow_flavor.autolog(record_inputs=True, publish_after_seconds=None)
    trace_id = await traced(weather, name="x" * 100_000)
    assert len(str(trace().data.to_dict())) < 200_000
    assert mlflow_flavor.reproduce(trace_id).result == "It is blue."


async def test_a_trace_of_another_workflow_than_its_model_is_refused(weather: str):
    mlflow_flavor.load_model(weather)  # it becomes MLflow's active model, unless there is one
    mlflow.set_active_model(model_id=weather.rpartition("/")[2])
    handler = Answer().run(question="x")
    await handler
    with pytest.raises(MlflowException, match="is of Answer, but the model it names is Weather"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))


async def test_what_cannot_be_repeated_is_refused(autolog: str):
    mlflow.clear_active_model()
    handler = Answer().run(question="x")
    await handler
    with pytest.raises(MlflowException, match="names no logged model"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    with pytest.raises(MlflowException, match="There is no trace 'tr-0'"):
        mlflow_flavor.reproduce("tr-0")
    with mlflow.start_span("other") as span:
        pass
    with pytest.raises(MlflowException, match="is of no workflow run"):
        mlflow_flavor.reproduce(span.trace_id)
