"""Helpers that import the module of the agent: where a script had its statements, they would have other classes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mlflow_flavor._model_code import imported_modules
from mlflow_flavor._unloaded import Unloaded, with_packages

__all__ = ["leads_back"]


def leads_back(text: str, home: ModuleType, helpers: Sequence[Path]) -> bool:
    """Whether some lines of a module import helpers that import the module, at their top or in a function.

    Args:
        text: These lines.
        home: The module.
        helpers: Files and directories that the model will have.
    """
    places = {path.resolve().stem: Unloaded(path.resolve().parent, ()) for path in helpers}
    if home.__name__.partition(".")[0] not in places:
        return False
    seen = set[str]()
    todo = list(imported_modules(ast.parse(text)))
    while todo:
        new = [each for each in with_packages(todo.pop()) if each not in seen | {home.__name__}]
        seen |= set(new)
        for name in new:
            place = places.get(name.partition(".")[0])
            if place is None or (source := place.source(name)) is None:
                continue
            imported = list(imported_modules(_as_run(source.tree), source.package))
            if any(home.__name__ in with_packages(each) for each in imported):
                return True
            todo += imported
    return False


def _as_run(tree: ast.Module) -> ast.Module:
    """A module without what is there for type checkers alone, at its top."""
    checked = (line for line in tree.body if isinstance(line, ast.If))
    never = [line for line in checked if ast.unparse(line.test).rpartition(".")[2] == "TYPE_CHECKING"]
    return ast.Module([line for line in tree.body if line not in never], [])
