"""Logging an agent that uses a package which its author works on: it is installed by `pip install -e`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import mlflow
import pytest

from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD
from tests.mlflow_flavor.test_registries import AGENT

Run = Callable[[str], "CompletedProcess[str]"]

FILES = {
    "src/shop/__init__.py": "",
    "src/shop/registry.py": """
TOOLS, LISTED = {}, []

def tool(function):
    TOOLS[function.__name__] = function
    LISTED.append(function)
    return function
""",
    "src/shop/tools.py": "from shop.registry import tool\n\n@tool\ndef add(): pass\n",
    "src/shop/agent.py": f"from shop.registry import TOOLS\n{HEAD}{AGENT.format(use='[*TOOLS]')}",
    "src/extra/__init__.py": "from shop.registry import tool\n\n@tool\ndef more(): pass\n",
    "site/shop-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n",
    "site/shop-1.0.dist-info/RECORD": "",
}
USE = "(sorted(TOOLS), len({tool.__name__ for tool in LISTED}))"
OWN = f"""
from shop.registry import LISTED, TOOLS, tool
import shop.tools
{HEAD}
@tool
def own(): pass
{AGENT.format(use=USE)}
"""


@pytest.fixture
def run(tmp_path: Path, interpreter: Interpreter) -> Run:
    """Runs programs in processes of their own where the package is installed from where it is written."""
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    for name, text in {**FILES, "site/shop-1.0.dist-info/direct_url.json": json.dumps(origin)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "programs").mkdir()
    paths = [str(tmp_path / "site"), str(tmp_path / "src")]

    def in_a_process(program: str) -> CompletedProcess[str]:
        text = f"import logging, sys, mlflow_flavor\nsys.path[:0] = {paths}\nlogging.basicConfig(force=True)\n{program}"
        environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
        done = interpreter.run(text, tmp_path / "programs", environment=environment)
        assert done.returncode == 0, done.stderr
        return done

    return in_a_process


def answer_of(run: Run, model: str) -> str:
    return run(f"import mlflow\nprint(mlflow.pyfunc.load_model({model!r}).predict({{}}))").stdout.strip()


def test_what_its_registry_holds_of_the_agents_module_is_in_the_model(run: Run):
    run(f"{OWN}\nmlflow_flavor.save_model(agent, 'model', pip_requirements=[])")
    assert answer_of(run, "model") == "(['add', 'own'], 2)"


CALLED = OWN.replace("@tool\ndef own(): pass", "def own(): pass\n\ntool(own)")


def test_what_only_a_call_gives_it_is_told_since_the_author_has_it_already(run: Run):
    done = run(f"{CALLED}\nmlflow_flavor.save_model(agent, 'model', pip_requirements=[])\nprint(len(LISTED))")
    assert "shop.registry.TOOLS holds own, and in the model it will not" in done.stderr
    assert done.stdout.split() == ["2"]
    assert answer_of(run, "model") == "(['add'], 1)"


def test_it_is_in_the_model_that_has_the_registry_beside_it(run: Run, tmp_path: Path):
    options = f"code_paths=[{str(tmp_path / 'src' / 'shop')!r}], pip_requirements=[]"
    done = run(f"{CALLED}\nmlflow_flavor.save_model(agent, 'model', {options})\nprint(len(LISTED))")
    assert "holds" not in done.stderr
    assert done.stdout.split() == ["2"]
    assert answer_of(run, "model") == "(['add', 'own'], 2)"


def test_the_same_is_in_a_model_that_is_logged_once_more(run: Run):
    saving = "mlflow_flavor.save_model(agent, {!r}, pip_requirements=[])"
    run(f"{OWN}\n{saving.format('first')}\n{saving.format('second')}")
    assert answer_of(run, "second") == "(['add', 'own'], 2)"


def test_an_import_of_it_that_nothing_uses_is_in_the_model_and_told_by_nobody(run: Run):
    done = run(f"{OWN}\nmlflow_flavor.save_model(agent, 'model', pip_requirements=[])")
    assert "holds" not in done.stderr


@pytest.mark.parametrize("imported", ["shop.tools", "extra"])
def test_what_another_module_of_it_registers_that_only_the_program_imports_is_told(
    run: Run, tmp_path: Path, imported: str
):
    options = f"code_paths=[{str(tmp_path / 'src' / 'shop')!r}], pip_requirements=[]"
    done = run(f"import {imported}\nfrom shop.agent import Agent\nmlflow_flavor.save_model(Agent, 'model', {options})")
    assert f"of {imported}, and in the model it will not" in done.stderr
