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


def test_a_script_that_is_no_python_is_refused_by_its_own_name(script: Path, tmp_path: Path):
    script.write_text("word = 1\ndef f(:\n")
    with pytest.raises(MlflowException, match=r"^agent\.py: line 2 is no valid Python \(invalid syntax\): def f\(:$"):
        mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"])


def test_a_helper_that_is_no_python_is_refused_by_its_own_name(script: Path, tmp_path: Path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "more.py").write_text("def f(:\n")
    script.write_text(f"import words.more\n{SCRIPT}")
    with pytest.raises(MlflowException, match=r"^words/more\.py: line 1 is no valid Python"):
        mlflow_flavor.save_model(
            script, tmp_path / "model", code_paths=[tmp_path / "words"], pip_requirements=["mlflow"]
        )


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
    monkeypatch.chdir(tmp_path)
    return script


def test_a_local_module_that_is_not_logged_with_the_model_is_told(
    imports_a_file_beside_it: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    mlflow_flavor.save_model(imports_a_file_beside_it, tmp_path / "model", pip_requirements=["mlflow"])
    assert "agent.py imports 'lying_beside', a local file of no distribution: the model cannot be loaded where" in (
        caplog.text
    )
    assert "Pass code_paths=['lying_beside.py']." in caplog.text


@pytest.mark.parametrize("file", ["__init__.py", "words.py"], ids=["package", "folder of modules"])
def test_a_local_folder_that_is_not_logged_with_the_model_is_told_with_its_path(
    script: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    folder = f"lying_{file.strip('_').partition('.')[0]}"  # no two tests' modules have one name
    (tmp_path / "src" / folder).mkdir(parents=True)
    (tmp_path / "src" / folder / file).write_text("")
    script.write_text(f"import {folder}\n{SCRIPT}")
    monkeypatch.syspath_prepend(tmp_path / "src")
    monkeypatch.chdir(tmp_path)
    mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"])
    assert f"agent.py imports '{folder}', a local file of no distribution" in caplog.text
    assert f"Pass code_paths=['src/{folder}']." in caplog.text


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
