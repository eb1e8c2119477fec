"""`script_from_notebook`: the marked cells of a notebook as a model script."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow_flavor._cells import is_python, plain_python
from mlflow_flavor._compat import invalid
from mlflow_flavor._part_names import OF_IPYTHON, PartNames, names_of_part, set_by_steps_alone
from mlflow_flavor._statements import first_name, is_main_guard, logging_call

__all__ = ["MARKER", "script_from_notebook", "script_of_cells", "sets_model"]

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
        MlflowException: If it is no notebook, no cell is marked, one is not valid Python, logs or saves a model itself
            or uses what only a cell without the mark sets, or `model` is never set.
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
        MlflowException: If no cell is marked, one is not valid Python, logs or saves a model itself or uses what only a
            cell without the mark sets, or `model` is of none of them.
    """
    marked, others = _sorted_by_mark(sources, marker)
    if not marked:
        raise invalid(f"{where} has no code cell that begins with '{marker}'. Put it first in what to take.")
    trees = [_parse(source, f"{where}, code cell {number}") for number, source in marked.items()]
    run = [node for tree in trees for node in tree.body if not is_main_guard(node)]
    if (call := next(filter(None, map(logging_call, run)), None)) is not None:
        raise invalid(f"{where}: a marked cell calls {call}, and each load would do so again: begin another with that.")
    names = names_of_part(marked.values())
    if of_notebook := sorted(names.needed & OF_IPYTHON):
        raise invalid(
            f"{where}: a marked cell uses '{of_notebook[0]}', which only a notebook has: take that to a cell without "
            "the mark, or import it from IPython."
        )
    for name, number in _set_by_others(names, marked, others):
        raise invalid(
            f"{where}: marked cells use '{name}', which code cell {number} sets: begin it with '{marker}' too."
        )
    if by_functions := names.needed & names.declared:
        by_functions -= set_by_steps_alone([*marked.values(), *filter(is_python, others.values())])
    for name in sorted(by_functions):
        raise invalid(f"{where}: marked cells use '{name}', which only a function sets: set it by an assignment too.")
    parts = list(marked.values())
    if not sets_model(parts):
        if first_name(model) not in names.bound:
            raise invalid(f"No marked cell of {where} sets '{model}': mark its cell, or pass model=<its name>.")
        parts.append(f"import mlflow_flavor\n\nmlflow_flavor.set_model({model})")
    script = "\n\n".join(part.strip("\n") for part in parts) + "\n"
    _parse(script, f"the script of {where}")
    return script


def _set_by_others(names: PartNames, marked: Mapping[int, str], others: Mapping[int, str]) -> Iterator[tuple[str, int]]:
    """What marked cells only use and another cell sets, itself or by a function of theirs that it calls; its number."""
    for number, source in others.items() if names.needed else ():
        if is_python(source):  # what is none, nobody wants in the script
            found = names.needed & names_of_part([*marked.values(), source]).bound
            yield from ((name, number) for name in sorted(found))


def _sorted_by_mark(sources: Iterable[str], marker: str) -> tuple[dict[int, str], dict[int, str]]:
    """The marked cells and the others, by number (from 1), without the notebook's own lines."""
    cells = {number: (source, plain_python(source)) for number, source in enumerate(sources, 1)}
    marked = {number: plain for number, (source, plain) in cells.items() if source.lstrip().startswith(marker)}
    return marked, {number: plain for number, (_, plain) in cells.items() if number not in marked}


def _read(notebook: Path) -> list[dict[str, Any]]:
    if not notebook.is_file():
        raise invalid(f"notebook '{notebook}' not found.")
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise invalid(f"'{notebook}' is no notebook of format 4: {error}.") from error


def _parse(source: str, where: str) -> ast.Module:
    try:
        compile(source, where, "exec", dont_inherit=True)  # finds more than parsing: an `await` outside of a function
        return ast.parse(source)
    except SyntaxError as error:
        line = source.split("\n")[(error.lineno or 1) - 1 : error.lineno or 1]
        raise invalid(f"{where}: line {error.lineno} is no plain Python ({error.msg}): {' '.join(line)}") from error


def sets_model(cells: Iterable[str]) -> bool:
    """Whether one of these cells, all of them Python, calls `set_model` itself."""
    calls = (node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func).rpartition(".")[2] == "set_model" for call in calls)
