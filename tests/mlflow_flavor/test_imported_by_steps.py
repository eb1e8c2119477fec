"""What a step imports is of the agent as well: what the agent's file gives to modules for it is in the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

KIT = """
TOOLS, LIMIT = {}, 3

def register(function):
    TOOLS[function.__name__] = function

def limit(number):
    global LIMIT
    LIMIT = number
"""
RUNNER = """
from . import kit

def run():
    return [sorted(kit.TOOLS), kit.LIMIT]
"""
AGENT = """
def add(): pass

{calls}

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        {imports}
        return StopEvent(result=run())
"""

Save = Callable[..., Path]


@pytest.fixture
def save(module: Callable[[str], ModuleType], package: Path, tmp_path: Path) -> Save:
    """Saves the model of an agent whose tools are run by a module that only its step imports."""
    for file, text in {"__init__.py": "", "kit.py": KIT, "runner.py": RUNNER}.items():
        (package / file).write_text(text)

    def saved(calls: str, imports: str = "from tools_.runner import run", **files: str) -> Path:
        for file, text in files.items():
            (package / f"{file}.py").write_text(text.replace("tools_", package.name))
        text = HEAD + AGENT.format(calls=calls, imports=imports)
        agent = module(text.replace("tools_", package.name)).Agent
        mlflow_flavor.save_model(agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
        return tmp_path / "model"

    return saved


async def answer(model: Path) -> object:
    return await mlflow_flavor.load_model(str(model)).run()


CALLS = "from tools_ import kit\nkit.register(add)\nkit.limit(9)"


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (CALLS, [["add"], 9]),
        (CALLS.replace("kit.limit(9)", "kit.LIMIT = 7"), [["add"], 7]),
        ("from tools_.kit import register\nregister(add)", [["add"], 3]),
        (f"{CALLS}\nfrom tools_ import runner\nrunner.run()", [["add"], 9]),  # which a run may have imported before
    ],
)
async def test_what_calls_give_to_what_it_uses_is_in_the_model(
    save: Save, caplog: pytest.LogCaptureFixture, calls: str, said: object
):
    assert await answer(save(calls)) == said
    assert not [each for each in caplog.records if each.name == "workflows.mlflow"]


@pytest.mark.parametrize(
    ("imports", "files"),
    [
        (
            "from tools_.deep import run",
            {"deep": "def run():\n    from . import runner\n    return runner.run()\n"},
        ),
        (
            "from tools_.same import run",
            {"same": "from .kit import TOOLS as ALL\nfrom . import kit\ndef run(): return [sorted(ALL), kit.LIMIT]\n"},
        ),
        ("import tools_.runner as runner; run = runner.run", {}),
        ("from tools_ import kit; run = lambda: [sorted(kit.TOOLS), kit.LIMIT]", {}),
    ],
)
async def test_however_it_is_imported(save: Save, imports: str, files: dict[str, str]):
    assert await answer(save(CALLS, imports, **files)) == [["add"], 9]


async def test_a_helper_that_is_there_from_the_start_may_import_it_as_well(save: Save):
    helper = "def run():\n    from .runner import run\n    return run()\n"
    assert await answer(save(f"{CALLS}\nfrom tools_.helper import run", "pass", helper=helper)) == [["add"], 9]


async def test_what_it_registers_itself_is_no_concern_of_the_model(save: Save, caplog: pytest.LogCaptureFixture):
    own = f"{RUNNER}\ndef mine(): pass\nkit.register(mine)\n"
    model = save(f"{CALLS}\nimport tools_.runner", runner=own)
    assert await answer(model) == [["add", "mine"], 9]
    assert "holds" not in caplog.text


async def test_a_module_of_which_no_step_makes_use_has_no_calls(save: Save):
    model = save(CALLS, "run = int")
    assert "register" not in (model / "workflow.py").read_text()
    assert await answer(model) == 0


async def test_a_file_that_is_no_python_may_be_among_the_helpers(save: Save):
    assert await answer(save(CALLS, template="def {{ name }}(:")) == [["add"], 9]
