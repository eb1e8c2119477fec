"""Logging a script as a model and loading it again: here, in another process, and through `pyfunc`."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from workflows import Workflow

Write = Callable[..., Path]
REQUIREMENTS = ["mlflow"]  # given, or MLflow starts a process to find them out

GREETER = """
import mlflow
from mlflow_flavor import config
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

GREETING = config({"greeting": "Hello"})["greeting"]

class Name(StartEvent):
    name: str

class Greeter(Workflow):
    @step
    async def greet(self, ev: Name) -> StopEvent:
        return StopEvent(result=f"{GREETING}, {ev.name}!")

mlflow.models.set_model(Greeter())
"""

USES_HELPER = """
from mlflow.models import set_model
from helper import WORD, shout
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Helped(Workflow):
    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=shout(WORD))

set_model(Helped())
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file into a directory of the test's own."""

    def write(text: str, name: str = "agent.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def save(write: Write, tmp_path: Path) -> Callable[..., Path]:
    """Saves a script's text as a model; gives the model's directory."""

    def save(text: str, name: str = "model", **options: Any) -> Path:
        options.setdefault("pip_requirements", REQUIREMENTS)
        mlflow_flavor.save_model(write(text, f"{name}.py"), tmp_path / "saved" / name, **options)
        return tmp_path / "saved" / name

    return save


Save = Callable[..., Path]


async def test_a_logged_script_loads_as_its_workflow(experiment: str, write: Write):
    info = mlflow_flavor.log_model(write(GREETER), name="greeter", pip_requirements=REQUIREMENTS)
    loaded = mlflow_flavor.load_model(info.model_uri)
    assert isinstance(loaded, Workflow)
    assert await loaded.run(name="Ann") == "Hello, Ann!"


FRESH = """
import sys, mlflow
print(mlflow.pyfunc.load_model(sys.argv[1]).predict({"name": "Ann"}))
print([name for name in sys.modules if name.startswith("llama_index")])
"""


def test_a_model_answers_the_same_in_another_process_and_needs_no_llama_index(
    save: Save, interpreter: Interpreter, tmp_path: Path
):
    done = interpreter.run(FRESH, tmp_path, str(save(GREETER)))
    assert done.stdout.splitlines() == ["Hello, Ann!", "[]"], done.stderr


def test_a_model_holds_its_own_files_and_no_settings_of_the_process(save: Save):
    model = save(GREETER)
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    facts = {"workflows/events.schema.json", "workflows/graph.json", "workflows/graph.mmd"}
    assert files == {"MLmodel", "workflow.py", "conda.yaml", "python_env.yaml", "requirements.txt", *facts}


def test_no_file_of_a_model_holds_a_path_of_this_machine(experiment: str, write: Write, tmp_path: Path, store: Path):
    helper = write("WORD = 'hi'\nshout = str.upper\n", "helper.py")
    info = mlflow_flavor.log_model(
        write(USES_HELPER), name="m", code_paths=[helper], input_example={}, pip_requirements=REQUIREMENTS
    )
    directory = Path(download_artifacts(info.model_uri))
    texts = {path.name: path.read_text() for path in directory.rglob("*") if path.is_file()}
    private = [str(tmp_path), str(store), str(Path.home()), str(Path(sys.prefix))]
    assert [name for name, text in texts.items() if any(place in text for place in private)] == []
    assert {"MLmodel", "workflow.py", "helper.py", "events.schema.json", "graph.json", "graph.mmd"} <= texts.keys()


def test_the_stored_facts_are_those_of_the_model(save: Save):
    facts = yaml.safe_load((save(GREETER) / "MLmodel").read_text())["flavors"]["workflows"]
    assert facts["module"] == f"workflows_model_{facts['source_sha256'][:16]}"
    assert (facts["workflow_class"], facts["start_event"], facts["stop_event"]) == ("Greeter", "Name", "StopEvent")


def test_two_scripts_logged_in_a_row_do_not_mix(save: Save):
    first, second = save(GREETER, "first"), save(GREETER.replace("Hello", "Bye"), "second")
    answers = [mlflow.pyfunc.load_model(str(model)).predict({"name": "A"}) for model in (first, second)]
    assert answers == ["Hello, A!", "Bye, A!"]


async def test_models_with_helpers_of_one_name_do_not_share_them(save: Save, write: Write):
    one = save(USES_HELPER, "one", code_paths=[write("WORD = 'one'\nshout = str.upper\n", "1/helper.py")])
    two = save(USES_HELPER, "two", code_paths=[write("WORD = 'two'\nshout = str.title\n", "2/helper.py")])
    assert [await mlflow_flavor.load_model(str(model)).run() for model in (one, two)] == ["ONE", "Two"]
    assert "helper" not in sys.modules


async def test_a_helper_package_may_import_its_own_modules(save: Save, write: Write):
    write(
        "from .words import WORD\nimport helper.words\nfrom helper import words\n\nshout = str.upper\n",
        "helper/__init__.py",
    )
    write("WORD = 'inner'\n", "helper/words.py")
    model = save(USES_HELPER, code_paths=[write("", "helper/py.typed").parent])
    assert await mlflow_flavor.load_model(str(model)).run() == "INNER"


def test_classes_of_a_model_name_a_module_that_any_process_agrees_on(save: Save):
    model = save(GREETER)
    facts = yaml.safe_load((model / "MLmodel").read_text())["flavors"]["workflows"]
    loaded = [mlflow_flavor.load_model(str(model)) for _ in range(2)]
    names = [type(workflow).__module__ for workflow in loaded]
    assert names[0].startswith(facts["module"])
    assert names[0] != names[1]


def test_loading_a_model_often_leaves_no_module_behind(save: Save):
    model = str(save(GREETER))
    kept = mlflow_flavor.load_model(model)
    gc.collect()  # models of other tests, which would go in the middle of this one
    before = loaded_modules()
    for _ in range(20):
        assert mlflow.pyfunc.load_model(model).predict({"name": "A"}) == "Hello, A!"
    gc.collect()
    assert loaded_modules() == before
    assert type(kept).__module__ in before


def loaded_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("workflows_model_")}


async def test_a_script_may_use_its_own_workflow(save: Save):
    script = GREETER.replace('f"{GREETING}, {ev.name}!"', 'f"{agent.start_event_class.__name__}"')
    script = script.replace("mlflow.models.set_model(Greeter())", "agent = Greeter()\nmlflow.models.set_model(agent)")
    assert await mlflow_flavor.load_model(str(save(script))).run(name="A") == "Name"


def test_configuration_is_logged_and_can_be_overridden(save: Save, monkeypatch: pytest.MonkeyPatch):
    model = str(save(GREETER, model_config={"greeting": "Hey"}))
    assert mlflow.pyfunc.load_model(model).predict({"name": "A"}) == "Hey, A!"
    assert mlflow.pyfunc.load_model(model, model_config={"greeting": "Yo"}).predict({"name": "A"}) == "Yo, A!"
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", json.dumps({"greeting": "Hi"}))
    assert mlflow.pyfunc.load_model(model).predict({"name": "A"}) == "Hi, A!"


async def test_a_key_that_was_not_logged_is_ignored_with_a_warning(save: Save, caplog: pytest.LogCaptureFixture):
    model = str(save(GREETER, model_config={"greeting": "Hey"}))
    loaded = mlflow_flavor.load_model(model, model_config={"greting": "typo"})
    assert await loaded.run(name="A") == "Hey, A!"
    assert "greting were not logged with this model and are ignored; it has: greeting" in caplog.text


async def test_mlflows_own_model_config_works_in_a_script(save: Save):
    script = GREETER.replace(
        'config({"greeting": "Hello"})["greeting"]',
        'mlflow.models.ModelConfig(development_config={"greeting": "Dev"}).get("greeting")',
    )
    without, with_config = save(script, "without"), save(script, "with_config", model_config={"greeting": "Prod"})
    assert [await mlflow_flavor.load_model(str(m)).run(name="A") for m in (without, with_config)] == [
        "Dev, A!",
        "Prod, A!",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"model\.py ran but never called mlflow\.models\.set_model\(<Workflow instance>\)\."),
        (GREETER + "\nmlflow.models.set_model(Greeter())", r"model\.py called set_model\(\) 2 times"),
        (
            GREETER.replace("set_model(Greeter())", "set_model(Greeter)"),
            r"set_model\(\) needs a Workflow instance, got type Greeter: call it \(Greeter\(\)\)\.",
        ),
        (
            "import scripted\n" + GREETER,
            r"model\.py could not import 'scripted'. If it is a local file, pass code_paths=\['scripted\.py'\]\.",
        ),
    ],
    ids=["no set_model", "two set_model", "a class", "missing import"],
)
def test_a_script_that_makes_no_model_is_refused(save: Save, text: str, message: str):
    with pytest.raises(MlflowException, match=message):
        save(text)


def test_a_script_that_fails_leaves_no_module_behind(save: Save):
    gc.collect()  # as above
    before = loaded_modules()
    with pytest.raises(ZeroDivisionError):
        save("1 / 0")
    assert loaded_modules() == before


def test_a_refused_script_leaves_no_model_in_mlflow(experiment: str, write: Write):
    with pytest.raises(MlflowException, match="never called"):
        mlflow_flavor.log_model(write("x = 1"), name="m", pip_requirements=REQUIREMENTS)
    assert mlflow.search_logged_models(experiment_ids=[experiment], output_format="list") == []


def test_a_forgotten_suffix_is_named(write: Write, tmp_path: Path):
    write(GREETER)
    with pytest.raises(MlflowException, match=r"agent' not found\. Did you mean '.*agent\.py'\?"):
        mlflow_flavor.save_model(tmp_path / "agent", tmp_path / "m")


@pytest.mark.parametrize("config", [{"openai_api_key": "abc"}, {"llm": {"url": "https://u:secret@host"}}])
def test_a_secret_in_the_configuration_is_refused(save: Save, config: dict[str, Any]):
    with pytest.raises(MlflowException, match="looks like a secret"):
        save(GREETER, model_config=config)


def test_running_model_code_can_be_forbidden(save: Save, monkeypatch: pytest.MonkeyPatch):
    model = save(GREETER)
    monkeypatch.setenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "false")
    with pytest.raises(MlflowException, match="MLFLOW_ALLOW_MODEL_CODE_EXECUTION"):
        mlflow_flavor.load_model(str(model))


def test_the_signature_comes_from_the_start_event(save: Save):
    signature = get_model_info(str(save(GREETER))).signature
    assert signature is not None
    assert json.loads(signature.to_dict()["inputs"]) == [{"type": "string", "name": "name", "required": True}]
    assert [p["name"] for p in json.loads(signature.to_dict()["params"])] == ["session_id", "user", "resume"]


def counting(runs: Path) -> str:
    """A script whose workflow adds a character to a file in each run."""
    return GREETER.replace(
        "        return", f"        with open({str(runs)!r}, 'a') as runs:\n            runs.write('x')\n        return"
    )


def test_the_input_example_runs_once_also_where_requirements_are_inferred(save: Save, tmp_path: Path):
    model = save(counting(tmp_path / "runs"), input_example={"name": "A"}, pip_requirements=None)
    assert "spanflow" in (model / "requirements.txt").read_text()
    assert (tmp_path / "runs").read_text() == "x"


def test_the_input_example_can_be_kept_without_running_it(save: Save, tmp_path: Path):
    model = save(counting(tmp_path / "runs"), input_example={"name": "A"}, run_input_example=False)
    assert not (tmp_path / "runs").exists()
    assert json.loads((model / "input_example.json").read_text()) == {"name": "A"}


def test_requirements_are_what_the_source_imports(save: Save, write: Write):
    helper = write("def lazily():\n    import pydantic.fields\n    from mlflow.entities import Span\n", "helper.py")
    model = save("import json, helper, yaml\n" + GREETER, code_paths=[helper], pip_requirements=None)
    names = [line.partition("==")[0] for line in (model / "requirements.txt").read_text().splitlines()]
    assert {"spanflow", "pydantic", "PyYAML"} <= set(names)
    assert {"json", "helper", "numpy", "pandas"}.isdisjoint(names)


def test_a_script_that_calls_our_set_model_is_a_program_as_well(save: Save, interpreter: Interpreter, tmp_path: Path):
    script = GREETER.replace("mlflow.models.set_model(", "import mlflow_flavor\nmlflow_flavor.set_model(")
    assert interpreter.run(script, tmp_path).returncode == 0
    assert (save(script) / "MLmodel").is_file()


LATE = """
from mlflow_flavor import config, set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Late(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=config({"k": "default", "other": 1}))

set_model(Late())
"""


async def test_a_step_reads_the_configuration_of_its_own_model(tmp_path: Path):
    (tmp_path / "agent.py").write_text(LATE)
    for name in ("a", "b"):
        mlflow_flavor.save_model(
            tmp_path / "agent.py", tmp_path / name, model_config={"k": name}, pip_requirements=["mlflow"]
        )
    loaded = [mlflow_flavor.load_model(str(tmp_path / name)) for name in ("a", "b")]
    assert [await model.run() for model in loaded] == [{"k": "a", "other": 1}, {"k": "b", "other": 1}]
