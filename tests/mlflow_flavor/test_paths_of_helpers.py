"""A path that a helper makes of its `__file__` is that of the model's own copy, whatever of the agent holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

PROMPTS = """
from pathlib import Path

class Prompts:
    def __init__(self, folder=Path(__file__).parent / "texts"):
        self.folder = folder

    def read(self):
        return (Path(self.folder) / "hello.txt").read_text()

WITHIN = Path(__file__).parent / "texts"
BESIDE = Path(__file__).parent.parent / "beside"
ABOVE = Path(__file__).parent.parent.parent / "above"
"""
AGENT = """
from tools_.prompts import ABOVE, BESIDE, WITHIN, Prompts

PROMPTS = Prompts({given})

class Agent(Workflow):
    folder = {folder}

    def __init__(self, prompts=PROMPTS):
        super().__init__()
        self.prompts, self.place = prompts, f"file://{{self.folder}}/hello.txt"

    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[self.prompts.read(), self.place.startswith("file:///"), self.folder == WITHIN])

agent = Agent()
"""

Agent = Callable[..., ModuleType]


@pytest.fixture
def agent(module: Callable[[str], ModuleType], package: Path, tmp_path: Path) -> Agent:
    for folder in (package / "texts", tmp_path / "beside", tmp_path.parent / "above"):
        folder.mkdir(exist_ok=True)
        (folder / "hello.txt").write_text("hello")
    (package / "__init__.py").touch()
    (package / "prompts.py").write_text(PROMPTS)

    def made(given: str = "", folder: str = "WITHIN") -> ModuleType:
        return module(HEAD + AGENT.format(given=given, folder=folder).replace("tools_", package.name))

    return made


@pytest.mark.parametrize("logs", ["agent", "Agent"])
@pytest.mark.parametrize("given", ["", "WITHIN", "str(WITHIN)"])
def test_a_model_reads_its_own_copy(agent: Agent, package: Path, tmp_path: Path, given: str, logs: str):
    logged = getattr(agent(given), logs)
    mlflow_flavor.save_model(logged, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
    package.rename(tmp_path / "moved")
    assert mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({}) == ["hello", True, True]


@pytest.mark.parametrize("given", ["BESIDE", "ABOVE"])
def test_a_path_of_what_the_model_does_not_have_is_told(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str
):
    made = agent(given)
    mlflow_flavor.save_model(
        made.Agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"], run_input_example=False
    )
    (record,) = caplog.records
    assert f"is the path of {made.PROMPTS.folder}, and the model has nothing there" in record.getMessage()


def test_what_lies_beside_a_package_may_be_given_as_well(agent: Agent, package: Path, tmp_path: Path):
    paths = [package, tmp_path / "beside"]
    mlflow_flavor.save_model(
        agent("BESIDE").agent,
        tmp_path / "model",
        code_paths=paths,
        pip_requirements=["mlflow"],
        run_input_example=False,
    )
    assert mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({})[0] == "hello"


def test_another_folder_is_another_one(agent: Agent, package: Path, tmp_path: Path):
    changed = agent().agent
    changed.prompts.folder = package / "others"
    with pytest.raises(MlflowException, match=r"folder is not what its source makes"):
        mlflow_flavor.save_model(changed, tmp_path / "model", code_paths=[package])
