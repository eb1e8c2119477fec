"""`script_from_notebook`: the marked cells of a notebook as a model script."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow_flavor._compat import invalid

__all__ = ["script_from_notebook"]


def script_from_notebook(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    marker: str = "# [USE IN MODEL]",
    model: str = "agent",
) -> Path:
    """Write the code cells that begin with `marker` to a script that `log_model` takes.

    Lines for the notebook alone (`%pip`, `!ls`, `?help`) are left out, and the script ends with
    `mlflow.models.set_model(<model>)`, unless a cell calls that.

    Args:
        path: The notebook (`.ipynb`).
        out: The script to write; an existing file is replaced.
        marker: First line of the cells to take.
        model: Name of the variable that holds the workflow.

    Returns:
        The script's path.

    Raises:
        MlflowException: If it is no notebook, no cell is marked, a cell is not valid Python, or `model` is never set.
    """
    notebook = Path(path)
    cells = list(_marked_cells(_read(notebook), marker))
    if not cells:
        raise invalid(f"{notebook.name} has no code cell that begins with '{marker}'. Put it first in what to take.")
    bound: set[str] = set()
    called = False
    for number, source in cells:
        tree = _parse(source, f"{notebook.name}, code cell {number}")
        bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        called = called or any(_sets_model(node) for node in ast.walk(tree))
    parts = [source for _, source in cells]
    if not called:
        if model not in bound:
            raise invalid(f"No marked cell of {notebook.name} sets '{model}': mark its cell, or pass model=<its name>.")
        parts.append(f"import mlflow\n\nmlflow.models.set_model({model})")
    script = Path(out)
    script.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n", encoding="utf-8")
    return script


def _read(notebook: Path) -> list[dict[str, Any]]:
    if not notebook.is_file():
        raise invalid(f"notebook '{notebook}' not found.")
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"'{notebook}' is no notebook of format 4: {error}.") from error


def _marked_cells(cells: list[dict[str, Any]], marker: str) -> Iterator[tuple[int, str]]:
    """Number (from 1, code cells only) and source of the marked cells, without the notebook's own lines."""
    code = [cell for cell in cells if cell.get("cell_type") == "code"]
    for number, cell in enumerate(code, 1):
        source = "".join(cell["source"])
        if source.lstrip().startswith(marker):
            lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
            yield number, "\n".join(lines)


def _parse(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise invalid(f"{where}: line {error.lineno} is no plain Python ({error.msg}): {error.text}") from error


def _sets_model(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "set_model"
