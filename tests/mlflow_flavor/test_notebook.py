"""The marked cells of a notebook as a model script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor

DEFINE = """# [USE IN MODEL]
%pip install nothing
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.text)
"""
CREATE = "# [USE IN MODEL]\nagent = Echo()"


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    def write(*cells: str) -> Path:
        path = tmp_path / "tutorial.ipynb"
        found = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
        path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# Title"}, *found]}))
        return path

    return write


async def test_a_notebooks_marked_cells_are_a_model(notebook: Callable[..., Path], tmp_path: Path):
    script = mlflow_flavor.script_from_notebook(notebook(DEFINE, "1 / 0", CREATE), tmp_path / "agent.py")
    mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"])
    assert await mlflow_flavor.load_model(str(tmp_path / "model")).run(text="hi") == "hi"


async def test_the_texts_of_a_cell_are_as_they_are(notebook: Callable[..., Path], tmp_path: Path):
    path = notebook(DEFINE.replace("ev.text", "ascii('a\u2028b' '\x85')"), CREATE)
    script = mlflow_flavor.script_from_notebook(path, tmp_path / "agent.py")
    mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"])
    assert await mlflow_flavor.load_model(str(tmp_path / "model")).run() == ascii("a\u2028b\x85")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["x = 1"], "has no code cell that begins with"),
        (
            [DEFINE, CREATE + "\ndisplay(agent)"],
            "a marked cell uses 'display', which only a notebook has: take that to",
        ),
        ([DEFINE, CREATE + "\nget_ipython()"], "a marked cell uses 'get_ipython', which only a notebook has"),
        ([DEFINE, CREATE + "\nimport mlflow_flavor\nmlflow_flavor.log_model(agent)"], r"calls mlflow_flavor.log_model"),
        ([DEFINE, "agent = Echo()"], "No marked cell of tutorial.ipynb sets 'agent'"),
        ([DEFINE, "# [USE IN MODEL]\nagent = ("], "code cell 2: line 2 is no plain Python"),
        ([DEFINE, CREATE + "\nawait agent.run()"], "code cell 2: line 3 is no plain Python .'await' outside function"),
        ([DEFINE, CREATE + "\nfiles = !ls"], "code cell 2: line 3 is no plain Python .invalid syntax.: files = !ls"),
        (
            ["def clean(text):\n    return text", DEFINE.replace("ev.text", "clean(ev.text)"), CREATE],
            r"tutorial.ipynb: marked cells use 'clean', which code cell 1 sets: begin it with '# \[USE IN MODEL\]' too",
        ),
    ],
)
def test_a_notebook_that_makes_no_model_is_refused(
    notebook: Callable[..., Path], tmp_path: Path, cells: list[str], message: str
):
    with pytest.raises(MlflowException, match=message):
        mlflow_flavor.script_from_notebook(notebook(*cells), tmp_path / "agent.py")


async def test_a_marked_cell_may_log_the_model_where_it_is_the_program(notebook: Callable[..., Path], tmp_path: Path):
    cell = f'{CREATE}\nif __name__ == "__main__":\n    mlflow_flavor.log_model(agent)'
    mlflow_flavor.script_from_notebook(notebook(DEFINE, cell), tmp_path / "agent.py")
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    assert await mlflow_flavor.load_model(str(tmp_path / "model")).run(text="hi") == "hi"


PROMPT = '"""You are\n! be brief\n% ok\n?\nhelp?\nend"""'


async def test_lines_of_a_string_or_an_expression_are_no_lines_for_the_notebook(
    notebook: Callable[..., Path], tmp_path: Path
):
    cell = f"# [USE IN MODEL]\nPROMPT = {PROMPT}\nLEFT = (7\n  % 4)\n!ls\nif LEFT:\n    %time\nPROMPT?"
    cells = notebook(cell, DEFINE.replace("ev.text", "(PROMPT, LEFT)"), CREATE)
    script = mlflow_flavor.script_from_notebook(cells, tmp_path / "agent.py")
    mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["mlflow"])
    loaded = mlflow_flavor.load_model(str(tmp_path / "model"))
    assert await loaded.run() == ("You are\n! be brief\n% ok\n?\nhelp?\nend", 3)


def test_local_variables_of_marked_cells_may_be_called_as_those_of_others(
    notebook: Callable[..., Path], tmp_path: Path
):
    cells = notebook("text = 1", DEFINE.replace("return", "text = ev.text\n        return"), CREATE)
    assert "text = 1" not in mlflow_flavor.script_from_notebook(cells, tmp_path / "agent.py").read_text()
