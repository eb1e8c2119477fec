"""What `log_model` does with each of its options: what MLflow's own flavors do, so each test logs with both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models.auth_policy import AuthPolicy, SystemAuthPolicy, UserAuthPolicy
from mlflow.models.model import ModelInfo
from mlflow.models.resources import DatabricksServingEndpoint

import mlflow_flavor

Log = Callable[..., ModelInfo]

AGENT = """
import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="hello")

mlflow_flavor.set_model(Agent())
"""
PYTHON_MODEL = """
import mlflow

class Greeter(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return ["hello" for _ in model_input]

mlflow.models.set_model(Greeter())
"""
ENDPOINT = DatabricksServingEndpoint(endpoint_name="small-model")
POLICY = AuthPolicy(
    user_auth_policy=UserAuthPolicy(["serving.serving-endpoints"]), system_auth_policy=SystemAuthPolicy([ENDPOINT])
)


@pytest.fixture
def log_ours(experiment: str, tmp_path: Path) -> Log:
    """`mlflow_flavor.log_model` for a workflow that is there."""
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    return lambda **options: mlflow_flavor.log_model(script, pip_requirements=["mlflow"], **options)


@pytest.fixture(params=["workflow", "python model of MLflow"])
def log(experiment: str, tmp_path: Path, request: pytest.FixtureRequest) -> Log:
    """`log_model` of one of the two flavors, for a model that is there."""
    if request.param == "workflow":
        return request.getfixturevalue("log_ours")
    script = tmp_path / "greeter.py"
    script.write_text(PYTHON_MODEL)
    return lambda **options: mlflow.pyfunc.log_model(python_model=script, pip_requirements=["mlflow"], **options)


def _stored(info: ModelInfo) -> dict[str, Any]:
    """`MLmodel` as it lies in the store."""
    return yaml.safe_load(Path(download_artifacts(info.model_uri), "MLmodel").read_text())


def _of_the_user(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.")}


def test_params_and_tags_are_those_of_the_logged_model(log: Log):
    found = mlflow.get_logged_model(log(name="model", params={"temperature": 1}, tags={"team": "a"}).model_id)
    assert (found.params, _of_the_user(found.tags)) == ({"temperature": "1"}, {"team": "a"})


def test_metadata_is_kept_with_the_model(log: Log):
    info = log(name="model", metadata={"reviewed": True})
    assert (info.metadata, _stored(info)["metadata"]) == ({"reviewed": True}, {"reviewed": True})


def test_a_model_is_of_the_active_run_and_its_output_at_the_step_that_is_named(log: Log):
    with mlflow.start_run() as active:
        info = log(name="model", step=3)
    assert mlflow.get_logged_model(info.model_id).source_run_id == active.info.run_id
    assert _outputs(active.info.run_id) == [(info.model_id, 3)]


def test_a_model_is_of_the_run_that_is_named(log_ours: Log):
    with mlflow.start_run() as named:
        pass
    with mlflow.start_run() as active:
        info = log_ours(name="model", run_id=named.info.run_id)
    assert mlflow.get_logged_model(info.model_id).source_run_id == named.info.run_id
    assert (_outputs(named.info.run_id), _outputs(active.info.run_id)) == ([(info.model_id, 0)], [])


def _outputs(run_id: str) -> list[tuple[str, int]]:
    outputs = mlflow.get_run(run_id).outputs
    return [] if outputs is None else [(output.model_id, output.step) for output in outputs.model_outputs]


def test_a_logged_model_that_is_named_is_filled_instead_of_a_new_one(log: Log, experiment: str):
    begun = mlflow.initialize_logged_model(name="begun")
    assert log(model_id=begun.model_id).model_uri == f"models:/{begun.model_id}"
    found = mlflow.search_logged_models(experiment_ids=[experiment], output_format="list")
    assert [(model.model_id, model.name, model.status.value) for model in found] == [(begun.model_id, "begun", "READY")]


def test_resources_are_kept_with_the_model(log: Log):
    stored = _stored(log(name="model", resources=[ENDPOINT]))
    assert stored["resources"]["databricks"] == {"serving_endpoint": [{"name": "small-model"}]}


def test_the_way_to_access_is_kept_with_the_model(log: Log):
    stored = _stored(log(name="model", auth_policy=POLICY))["auth_policy"]
    assert stored["user_auth_policy"] == {"api_scopes": ["serving.serving-endpoints"]}
    assert stored["system_auth_policy"]["resources"]["databricks"] == {"serving_endpoint": [{"name": "small-model"}]}


def test_resources_and_the_way_to_access_cannot_both_be_given(log: Log):
    with pytest.raises((MlflowException, ValueError), match="resources"):  # MLflow's own flavors: a ValueError
        log(name="model", resources=[ENDPOINT], auth_policy=POLICY)


@pytest.mark.filterwarnings("ignore:.*artifact_path.*")
def test_the_older_name_of_the_name_still_names_the_model(log: Log):
    assert mlflow.get_logged_model(log(artifact_path="older").model_id).name == "older"


def test_a_name_and_its_older_name_cannot_both_be_given(log: Log):
    with pytest.raises(MlflowException, match=r"artifact_path.*name"):
        log(name="model", artifact_path="older")


def test_a_model_that_is_registered_is_the_next_version_whether_it_is_waited_for_or_not(log: Log, experiment: str):
    name = f"registered_{experiment}"
    versions = [
        log(name="model", registered_model_name=name, await_registration_for=seconds).registered_model_version
        for seconds in (0, 5)
    ]
    found = MlflowClient().search_model_versions(f"name = '{name}'")
    assert (versions, sorted(version.version for version in found)) == ([1, 2], [1, 2])


def test_a_model_is_of_the_type_that_is_named(log: Log):
    assert mlflow.get_logged_model(log(name="model", model_type="judge").model_id).model_type == "judge"
