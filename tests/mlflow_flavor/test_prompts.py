"""What a model was made of is kept with it: its source, and the versions of the prompts that it names."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import mlflow
import mlflow.genai
import mlflow.models
import pytest
from mlflow.artifacts import download_artifacts

import mlflow_flavor
from mlflow_flavor import Difference

GREETS = """
import mlflow
from mlflow_flavor import set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Greets(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=mlflow.genai.load_prompt("prompts:/greeting@prod").format(name=ev.name))

set_model(Greets())
"""


@pytest.fixture
def registry(autolog: str) -> None:
    """A registry with a prompt in it; MLflow sets up logging anew when it makes one, so before the test."""
    mlflow.genai.register_prompt(name="other", template="Hi")


@pytest.fixture
def greets(autolog: str, tmp_path: Path) -> str:
    """The URI of a model that answers with a prompt of the registry, by its alias."""
    mlflow.genai.register_prompt(name="greeting", template="Hello {{name}}")
    mlflow.genai.set_prompt_alias("greeting", alias="prod", version=1)
    (tmp_path / "agent.py").write_text(GREETS)
    return mlflow_flavor.log_model(tmp_path / "agent.py", name="greets", pip_requirements=["mlflow"]).model_uri


def test_a_model_keeps_the_versions_of_its_prompts(greets: str):
    pinned = Path(download_artifacts(greets), "workflows", "prompts.json")
    assert json.loads(pinned.read_text()) == {"prompts:/greeting@prod": "prompts:/greeting/1"}
    assert mlflow.models.Model.load(greets).prompts == ["prompts:/greeting/1"]


@pytest.mark.parametrize(
    ("call", "pinned"),
    [
        ("mlflow.genai.load_prompt('other', version=1)", "prompts:/other/1"),
        ("mlflow.MlflowClient().load_prompt('other')", "prompts:/other@latest"),
        ("mlflow.genai.load_prompt(f'prompts:/{NAME}/{1}')", "prompts:/other/1"),
        ("load_prompt(NAME)", "prompts:/other@latest"),
        ("from_module(NAME, 1)", "prompts:/other/1"),
    ],
)
def test_prompts_are_pinned_however_they_are_named(
    registry: None, tmp_path: Path, call: str, pinned: str, caplog: pytest.LogCaptureFixture
):
    imports = "from mlflow.genai import load_prompt\nfrom mlflow.genai.prompts import load_prompt as from_module\n"
    script = GREETS.replace('mlflow.genai.load_prompt("prompts:/greeting@prod")', "PROMPT")
    script = script.replace("class Greets", f"{imports}NAME = 'other'\nPROMPT = {call}\n\nclass Greets")
    (tmp_path / "agent.py").write_text(script)
    with caplog.at_level(logging.WARNING):
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    assert list(json.loads((tmp_path / "model" / "workflows" / "prompts.json").read_text())) == [pinned]
    assert "does not have" not in caplog.text


async def test_a_prompt_that_is_another_one_now_is_named(greets: str):
    handler = mlflow_flavor.load_model(greets).run(name="Ada")
    assert await handler == "Hello Ada"
    mlflow.genai.register_prompt(name="greeting", template="Good day, {{name}}")
    mlflow.genai.set_prompt_alias("greeting", alias="prod", version=2)
    again = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    assert (
        Difference("prompt", "prompts:/greeting@prod", "prompts:/greeting/1", "prompts:/greeting/2")
        in again.differences
    )


AT_TOP = GREETS.replace(
    'result=mlflow.genai.load_prompt("prompts:/greeting@prod")',
    "result=PROMPT",
).replace("class Greets", 'PROMPT = mlflow.genai.load_prompt("prompts:/greeting@prod")\n\nclass Greets')
WITH_ANOTHER = AT_TOP.replace("class Greets", 'OTHER = mlflow.genai.load_prompt("prompts:/greeting/1")\n\nclass Greets')


@pytest.mark.parametrize("script", [GREETS, AT_TOP, WITH_ANOTHER], ids=["step", "top", "top, with another"])
@pytest.mark.usefixtures("autolog")
async def test_a_prompt_is_another_one_if_it_is_so_since_the_trace_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, request: pytest.FixtureRequest
):
    name = f"salute_{abs(hash(request.node.nodeid))}"
    monkeypatch.setenv("MLFLOW_ALIAS_PROMPT_CACHE_TTL_SECONDS", "0")
    for template in ("Good morning, {{name}}", "Good day, {{name}}"):
        mlflow.genai.register_prompt(name=name, template=template)
    mlflow.genai.set_prompt_alias(name, alias="prod", version=1)
    (tmp_path / "agent.py").write_text(script.replace("prompts:/greeting", f"prompts:/{name}"))
    model = mlflow_flavor.log_model(tmp_path / "agent.py", name="greets", pip_requirements=["mlflow"])
    mlflow.genai.set_prompt_alias(name, alias="prod", version=2)
    handler = mlflow_flavor.load_model(model.model_uri).run(name="Ada")
    assert await handler == "Good day, Ada"
    trace_id = str(mlflow_flavor.trace_id(handler))
    assert mlflow_flavor.reproduce(trace_id).differences == []
    mlflow.genai.set_prompt_alias(name, alias="prod", version=1)
    differs = Difference("prompt", f"prompts:/{name}@prod", f"prompts:/{name}/2", f"prompts:/{name}/1")
    assert differs in mlflow_flavor.reproduce(trace_id).differences


def test_a_prompt_that_is_not_there_is_told_when_the_model_is_logged(
    registry: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "agent.py").write_text(GREETS.replace("greeting@prod", "nowhere@prod"))
    with caplog.at_level(logging.WARNING):
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    assert "does not have: prompts:/nowhere@prod" in caplog.text


def test_a_script_that_was_changed_since_is_told_when_it_is_loaded(
    greets: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    changed = Path(download_artifacts(greets, dst_path=str(tmp_path / "copy")))
    mlflow_flavor.load_model(str(changed))
    assert "was changed after it was logged" not in caplog.text
    with (changed / "workflow.py").open("a") as script:
        script.write("\nprint('hello')\n")
    with caplog.at_level(logging.WARNING):
        mlflow_flavor.load_model(str(changed))
    assert "workflow.py of model" in caplog.text
    assert "was changed after it was logged" in caplog.text
