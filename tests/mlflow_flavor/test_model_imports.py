"""What a loaded model's script sees: its own helpers by every way of import, and its own workflow as it is."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

SCRIPT = """
import importlib, importlib.resources, importlib.util, io, json, pickle, pkgutil, weakref
import mlflow_flavor
from importlib import import_module, resources
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

{before}

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        {inside}
        return StopEvent(result={result})

agent = Agent()
mlflow_flavor.set_model(agent)
"""

Save = Callable[..., str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a script, whose helpers are a module `helper` and a package `words`, as a model."""
    (tmp_path / "own" / "words").mkdir(parents=True)
    (tmp_path / "own" / "helper.py").write_text("WORD = 'own'\n")
    (tmp_path / "own" / "words" / "__init__.py").write_text("")
    (tmp_path / "own" / "words" / "more.py").write_text(
        "import importlib\nWORD = importlib.import_module('helper').WORD\n"
    )
    (tmp_path / "own" / "words" / "prompt.txt").write_text("own")

    def save(result: str, before: str = "", inside: str = "pass") -> str:
        (tmp_path / "agent.py").write_text(SCRIPT.format(result=result, before=before, inside=inside))
        code = [tmp_path / "own" / name for name in ("helper.py", "words")]
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "m", code_paths=code, pip_requirements=["mlflow"])
        return str(tmp_path / "m")

    return save


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other modules of the helpers' names are on Python's path."""
    (tmp_path / "other" / "words").mkdir(parents=True)
    for name in ("helper.py", "words/__init__.py", "words/more.py"):
        (tmp_path / "other" / name).write_text("WORD = 'other'\n")
    (tmp_path / "other" / "words" / "prompt.txt").write_text("other")
    monkeypatch.syspath_prepend(tmp_path / "other")


BY_NAME = [
    "importlib.import_module('helper').WORD",
    "importlib.import_module(name='helper').WORD",
    "import_module('words.more').WORD",
    "import_module('.more', 'words').WORD",
    "__import__('helper').WORD",
    "importlib.util.find_spec('helper').loader.get_source(importlib.util.find_spec('helper').name).split(chr(39))[1]",
    "resources.files('words').joinpath('prompt.txt').read_text()",
    "importlib.resources.files('words').joinpath('prompt.txt').read_text()",
    "pkgutil.get_data('words', 'prompt.txt').decode()",
    "pkgutil.resolve_name('helper:WORD')",
    "pickle.loads(NAME)",
    "pickle.load(io.BytesIO(NAME))",
    "type('Own', (pickle.Unpickler,), {})(io.BytesIO(NAME)).load()",
]
NAME = "NAME = b'chelper\\nWORD\\n.'  # a pickle of what the author calls helper.WORD"


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("expression", BY_NAME)
async def test_a_helper_that_is_asked_for_by_its_name_is_the_models_own(save: Save, expression: str):
    loaded = mlflow_flavor.load_model(save(f"[WORD, {expression}]", before=f"{NAME}\nWORD = {expression}"))
    assert await loaded.run() == ["own", "own"]
    assert {"helper", "words"}.isdisjoint(sys.modules)


def test_what_is_no_helper_is_pythons_business(save: Save):
    script = "assert import_module('json') is json and importlib.util.find_spec('nowhere') is None"
    assert Path(save("1", before=script)).exists()


FRESH = """
import asyncio, sys, mlflow_flavor

async def run():
    return await mlflow_flavor.load_model(sys.argv[1]).run()

print(asyncio.run(run()))
"""


def test_a_helper_is_found_by_its_name_in_a_fresh_process(save: Save, interpreter: Interpreter, tmp_path: Path):
    model = save("import_module('words.more').WORD")
    done = interpreter.run(FRESH, tmp_path, model)
    assert done.stdout.strip() == "own", done.stderr


def test_a_library_that_asks_for_a_helper_by_its_plain_name_is_told_of(save: Save):
    with pytest.raises(MlflowException) as caught:
        save("1", before="from importlib.metadata import EntryPoint\nEntryPoint('a', 'helper', 'b').load()")
    assert "agent.py could not import 'helper': the model has it, but another library asked for it" in str(caught.value)
    assert "give that library its helper.__name__" in str(caught.value)


async def test_a_library_finds_a_helper_by_the_name_that_it_has_here(save: Save):
    find = "from importlib.metadata import EntryPoint\nimport helper\nfind = EntryPoint('a', helper.__name__, 'b').load"
    assert await mlflow_flavor.load_model(save("[WORD, find().WORD]", before=f"{find}\nWORD = find().WORD")).run() == [
        "own",
        "own",
    ]


@pytest.mark.parametrize(
    ("result", "before", "inside"),
    [
        ("agent is self", "", "pass"),
        ("type(agent).__name__ == 'Agent'", "", "pass"),
        ("agent in SEEN", "SEEN = {}", "SEEN[agent] = 1"),
        ("agent in SEEN", "SEEN = weakref.WeakKeyDictionary()", "SEEN[self] = 1"),
        ("__import__('sys').modules[__name__].agent is self", "", "pass"),
    ],
)
async def test_a_script_may_hold_its_workflow_however_it_likes(save: Save, result: str, before: str, inside: str):
    assert await mlflow_flavor.load_model(save(result, before, inside)).run() is True


def test_a_workflow_that_its_script_holds_is_forgotten_with_its_modules(save: Save):
    model = save("1", before="import helper", inside="helper.AGENT = agent")
    gone = weakref.ref(loaded := mlflow_flavor.load_model(model))
    name = type(loaded).__module__
    assert f"{name}.helper" in sys.modules
    del loaded
    gc.collect()
    assert gone() is None
    assert [module for module in sys.modules if module.startswith(name)] == []
