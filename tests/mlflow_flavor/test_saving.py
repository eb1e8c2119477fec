"""What `save_model` refuses before it writes anything, and what it says about what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor

SCRIPT = """
import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=mlflow_flavor.config({"word": "hello"})["word"])

mlflow_flavor.set_model(Agent())
"""
CONDA = {"name": "agent", "dependencies": ["python=3.11", "pip", {"pip": ["mlflow"]}]}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "agent.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    "requirements",
    [
        {"conda_env": CONDA, "pip_requirements": ["requests==2.0"]},
        {"conda_env": CONDA, "extra_pip_requirements": ["requests==2.0"]},
        {"pip_requirements": ["mlflow"], "extra_pip_requirements": ["requests==2.0"]},
    ],
)
def test_requirements_that_are_given_twice_are_refused(script: Path, tmp_path: Path, requirements: dict[str, Any]):
    with pytest.raises(MlflowException, match="Only one of conda_env, pip_requirements and extra_pip_requirements can"):
        mlflow_flavor.save_model(script, tmp_path / "model", **requirements)
    assert not (tmp_path / "model").exists()


def test_a_conda_environment_without_dependencies_is_refused(script: Path, tmp_path: Path):
    with pytest.raises(MlflowException, match="conda_env has no 'dependencies'"):
        mlflow_flavor.save_model(script, tmp_path / "model", conda_env={"name": "agent"})


def test_a_conda_environment_is_what_the_model_needs(script: Path, tmp_path: Path):
    mlflow_flavor.save_model(script, tmp_path / "model", conda_env=CONDA)
    assert (tmp_path / "model" / "requirements.txt").read_text() == "mlflow"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_config": 5}, "model_config needs a dict, or the path of a YAML file, got int"),
        ({"model_config": {"client": object()}}, "model_config holds what YAML cannot"),
        ({"signature": "text"}, "signature needs a ModelSignature, or False for none, got str"),
    ],
)
def test_arguments_of_another_kind_are_refused(script: Path, tmp_path: Path, arguments: dict[str, Any], message: str):
    with pytest.raises(MlflowException, match=message):
        mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"], **arguments)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("existed", [True, False])
def test_a_save_that_failed_can_be_tried_again(script: Path, tmp_path: Path, existed: bool):
    target = tmp_path / "model"
    if existed:
        target.mkdir()
    script.write_text("x = 1")
    with pytest.raises(MlflowException, match="never called"):
        mlflow_flavor.save_model(script, target, pip_requirements=["mlflow"])
    assert (target.exists(), list(target.glob("*"))) == (existed, [])
    script.write_text(SCRIPT)
    mlflow_flavor.save_model(script, target, pip_requirements=["mlflow"])
    assert mlflow.pyfunc.load_model(str(target)).predict({}) == "hello"


def test_a_configuration_may_be_the_path_of_a_file(script: Path, tmp_path: Path):
    (tmp_path / "config.yaml").write_text("word: hi")
    mlflow_flavor.save_model(
        script, tmp_path / "model", model_config=tmp_path / "config.yaml", pip_requirements=["mlflow"]
    )
    assert mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({}) == "hi"


@pytest.fixture
def imports_a_file_beside_it(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script.write_text(f"import lying_beside\n{SCRIPT}")
    (tmp_path / "lying_beside.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return script


def test_a_local_module_that_is_not_logged_with_the_model_is_told(
    imports_a_file_beside_it: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    mlflow_flavor.save_model(imports_a_file_beside_it, tmp_path / "model", pip_requirements=["mlflow"])
    assert "agent.py imports 'lying_beside', a local file of no distribution: the model cannot be loaded where" in (
        caplog.text
    )
    assert "Pass code_paths=['lying_beside.py']." in caplog.text


def test_a_local_module_that_is_logged_with_the_model_is_not_worth_a_word(
    imports_a_file_beside_it: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    mlflow_flavor.save_model(
        imports_a_file_beside_it,
        tmp_path / "model",
        code_paths=[tmp_path / "lying_beside.py"],
        pip_requirements=["mlflow"],
    )
    assert caplog.text == ""
