"""Modules of the author's that set something which a model reads, and that its script does not import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from types import FunctionType, ModuleType

from mlflow_flavor._fidelity import Sources, changed, of_author, script_of, unloaded_of
from mlflow_flavor._holdings import places
from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import modules_of_model, parsed
from mlflow_flavor._origins import own_tops
from mlflow_flavor._unloaded import NOTHING_UNLOADED
from workflows import Workflow

__all__ = ["import_of", "set_by_others"]


def set_by_others(sources: Sources, rebuilt: Workflow) -> Iterator[tuple[str, str]]:
    """Variables that a model's script leads to and that are not what the author's are: each with a module that sets it.

    That is one of the author's that the model does not import, whose own lines lead there when it is imported. What a
    run has set is none of that; nor are lines that use the agent, as those of a program do.
    """
    copies = modules_of_model(rebuilt)
    script, unloaded = script_of(copies), unloaded_of(copies)
    authors = of_author({*copies, *unloaded.top_level_names()}, script)
    others = {name: module for name, module in authors.items() if module is not sources.home}
    used = places(script, sources.home, others, unloaded)
    left = {place for place, _ in changed(used, rebuilt)}
    for name in _importers(authors, copies, sources.home) if left else ():
        module = sys.modules[name]
        tree = _own_lines(module, sources.home)
        found = places(tree, module, {each: other for each, other in others.items() if each != name}, NOTHING_UNLOADED)
        yield from ((place, name) for place in sorted(found & left))
        left -= found


def import_of(home: ModuleType, module: str) -> str | None:
    """A name that a module has by an import from another one; None if there is none at its top."""
    tree = parsed(Path(str(getattr(home, "__file__", ""))))
    for line in tree.body if tree is not None else ():
        if isinstance(line, ast.ImportFrom) and line.module == module and not line.level:
            return line.names[0].asname or line.names[0].name
    return None


def _importers(authors: Mapping[str, ModuleType], copies: Mapping[str, ModuleType], home: ModuleType) -> Iterator[str]:
    """Modules of the author's that have something of others of theirs, and that the model has not imported."""
    loaded = [(name, module) for name, module in sys.modules.copy().items() if is_a(module, ModuleType)]
    new = {name: module for name, module in loaded if name not in copies and module is not home}
    own = {"__main__", *own_tops({name.partition(".")[0] for name in new})}
    known = {id(module) for module in authors.values()}
    for name, module in new.items():
        if name.partition(".")[0] in own:
            values = list(getattr(module, "__dict__", {}).values())
            if any(id(value) in known or _origin_of(value) in authors for value in values):
                yield name


def _origin_of(value: object) -> str:
    named = value if is_a(value, FunctionType) or is_a(value, type) else type(value)
    return str(named.__module__)


def _own_lines(module: ModuleType, home: ModuleType) -> ast.Module:
    """What runs when a module is imported, without what its decorators do, and what uses the agent."""
    file = Path(str(getattr(module, "__file__", "")))
    tree = parsed(file) if file.suffix == ".py" and file.is_file() else None
    agents = {name for name, value in vars(module).items() if value is home or _is_agent(value, home)}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and node.level and module.__package__:
            node.module, node.level = resolve_name("." * node.level + (node.module or ""), module.__package__), 0
    body = [
        line
        for line in (tree.body if tree is not None else ())
        if not isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not any(isinstance(node, ast.Name) and node.id in agents for node in ast.walk(line))
    ]
    return ast.Module(body, [])


def _is_agent(value: object, home: ModuleType) -> bool:
    cls: type = value if is_a(value, type) else type(value)
    return cls.__module__ == home.__name__ or issubclass(cls, Workflow)
