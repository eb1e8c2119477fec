"""`script_from_notebook`: the marked cells of a notebook as a model script."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow_flavor._compat import invalid

__all__ = ["MARKER", "script_from_notebook", "script_of_cells"]

MARKER = "# [USE IN MODEL]"


def script_from_notebook(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    marker: str = MARKER,
    model: str = "agent",
) -> Path:
    """Write the code cells that begin with `marker` to a script that `log_model` takes.

    Lines for the notebook alone (`%pip`, `!ls`, `?help`) are left out, and the script ends with
    `mlflow_flavor.set_model(<model>)`, unless a cell calls that.

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
    sources = ["".join(cell["source"]) for cell in _read(notebook) if cell.get("cell_type") == "code"]
    script = Path(out)
    script.write_text(script_of_cells(sources, notebook.name, marker=marker, model=model), encoding="utf-8")
    return script


def script_of_cells(sources: Iterable[str], where: str, *, marker: str = MARKER, model: str = "agent") -> str:
    """The marked ones among a notebook's code cells, as a script that sets the model.

    Args:
        sources: The code cells, in order.
        where: What errors call the notebook.
        marker: First line of the cells to take.
        model: What to set: a variable of the cells, or a call of a class of theirs.

    Raises:
        MlflowException: If no cell is marked, one is not valid Python, or `model` is of none of them.
    """
    cells = list(_marked_cells(sources, marker))
    if not cells:
        raise invalid(f"{where} has no code cell that begins with '{marker}'. Put it first in what to take.")
    bound: set[str] = set()
    called = False
    for number, source in cells:
        tree = _parse(source, f"{where}, code cell {number}")
        bound |= {name for node in ast.walk(tree) if (name := _bound(node)) is not None}
        called = called or any(_sets_model(node) for node in ast.walk(tree))
    parts = [source for _, source in cells]
    if not called:
        if model.rstrip("()") not in bound:
            raise invalid(f"No marked cell of {where} sets '{model}': mark its cell, or pass model=<its name>.")
        parts.append(f"import mlflow_flavor\n\nmlflow_flavor.set_model({model})")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _read(notebook: Path) -> list[dict[str, Any]]:
    if not notebook.is_file():
        raise invalid(f"notebook '{notebook}' not found.")
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"'{notebook}' is no notebook of format 4: {error}.") from error


def _marked_cells(sources: Iterable[str], marker: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and source of the marked cells, without the notebook's own lines."""
    for number, source in enumerate(sources, 1):
        if source.lstrip().startswith(marker):
            lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
            yield number, "\n".join(lines)


def _parse(source: str, where: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise invalid(f"{where}: line {error.lineno} is no plain Python ({error.msg}): {error.text}") from error


def _bound(node: ast.AST) -> str | None:
    match node:
        case ast.Name(ctx=ast.Store()):
            return node.id
        case ast.ClassDef():
            return node.name
        case _:
            return None


def _sets_model(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "set_model"
