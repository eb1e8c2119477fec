"""Modules of the author's that set something which a model reads, and that its script does not import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, MutableSet, Set
from importlib.util import resolve_name
from types import FunctionType, ModuleType
from typing import cast

from mlflow_flavor._fidelity import Sources, changed, of_author, script_of, unloaded_of
from mlflow_flavor._holdings import imports, places
from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import MODULE_PREFIX, code_of, imported_modules, modules_of_model
from mlflow_flavor._names import names_in
from mlflow_flavor._origins import own_tops
from mlflow_flavor._reading import read_by
from mlflow_flavor._statements import IMPORTS
from mlflow_flavor._unloaded import NOTHING_UNLOADED
from workflows import Workflow

__all__ = ["import_of", "set_by_others"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
MAY_BE_OWN = ("__main__", "builtins", "functools", "operator")  # a method of a list, what `partial` makes
READING = ("copy", "count", "get", "index", "items", "keys", "values")
SETTING = ("setattr", "delattr", "exec", "eval", "map", "__import__")
VALUES = (str, bytes, int, float, complex, tuple, frozenset)  # of which Python may keep one for many places


def set_by_others(sources: Sources, rebuilt: Workflow) -> Iterator[tuple[str, str]]:
    """Variables that a model's script leads to and that are not what the author's are: each with modules that set it.

    These are some of the author's that the model does not import, whose own lines lead there when they are imported.
    What a run has set is none of that; nor are lines that use the agent, as those of a program do.
    """
    copies = modules_of_model(rebuilt)
    script, unloaded = script_of(copies), unloaded_of(copies)
    authors = of_author({*copies, *unloaded.top_level_names()}, script)
    others = {name: module for name, module in authors.items() if module is not sources.home}
    left = sorted({place for place, _ in changed(places(script, sources.home, others, unloaded), rebuilt)})
    for name in _importers(authors, copies, sources.home) if left else ():
        module = sys.modules[name]
        tree = _own_lines(module, sources.home)
        known = {each: other for each, other in others.items() if each != name}
        reached = places(tree, module, known, NOTHING_UNLOADED).union(_reached_by_subclasses(module, known))
        found = {_held_at(place) for place in reached}
        imported = imports(tree, module, known)  # by the functions that it calls
        for place in left:
            if _held_at(place) in found or place.rpartition(".")[0] in imported:
                yield place, name


def _reached_by_subclasses(module: ModuleType, modules: Mapping[str, ModuleType]) -> Iterator[str]:
    """What bases, by `__init_subclass__`, and metaclasses read where a module defines classes."""
    for cls in list(vars(module).values()):
        if is_a(cls, type) and cls.__module__ == module.__name__:
            hooks = [vars(base).get("__init_subclass__") for base in type.mro(cls)[1:]]
            metaclasses = type.mro(cast("type", type(cls)))
            hooks += [vars(meta).get(name) for meta in metaclasses for name in ("__new__", "__init__")]
            for hook in hooks:
                function: object = getattr(hook, "__func__", hook)
                if is_a(function, FunctionType) and function.__module__ in modules:
                    yield from (place for place, _ in read_by(function, modules))


def _held_at(place: str) -> object:
    """What tells a variable from others: several modules may have names for one object."""
    module, _, name = place.rpartition(".")
    value = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return place if value is None or issubclass(type(value), VALUES) else id(value)


def import_of(home: ModuleType, module: str) -> str | None:
    """A name that a module has by an import from another one; None if there is none at its top."""
    tree = code_of(home)
    for line in tree.body if tree is not None else ():
        if isinstance(line, ast.ImportFrom) and line.module == module and not line.level:
            return line.names[0].asname or line.names[0].name
    return None


def _importers(authors: Mapping[str, ModuleType], copies: Mapping[str, ModuleType], home: ModuleType) -> Iterator[str]:
    """Modules of the author's that have something of others of theirs, and that the model has not imported."""
    loaded = [(name, module) for name, module in sys.modules.copy().items() if is_a(module, ModuleType)]
    new = {
        name: module
        for name, module in loaded
        if name not in copies and module is not home and not name.startswith(MODULE_PREFIX)
    }
    own = {"__main__", *own_tops({name.partition(".")[0] for name in new})}
    known = {id(module) for module in authors.values()}
    for name, module in new.items():
        if name.partition(".")[0] in own:
            values = list(getattr(module, "__dict__", {}).values())
            has_some = any(id(value) in known or _origin_of(value) in authors for value in values)
            if has_some or not authors.keys().isdisjoint(_imported_by(module)):
                yield name


def _imported_by(module: ModuleType) -> Iterator[str]:
    """The modules that the source of one imports, and others: names in them as if they were modules."""
    tree = code_of(module)
    for name in imported_modules(tree, module.__package__ or "") if tree is not None else ():
        yield name
        yield name.rpartition(".")[0]


def _origin_of(value: object) -> str:
    named = value if is_a(value, FunctionType) or is_a(value, type) else type(value)
    return str(named.__module__)


def _own_lines(module: ModuleType, home: ModuleType) -> ast.Module:
    """What may set something when a module is imported, and what it needs of the module.

    What uses the agent is left out.
    """
    tree = code_of(module)
    agents = {name for name, value in vars(module).items() if value is home or _is_agent(value, home)}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and node.level and module.__package__:
            node.module, node.level = resolve_name("." * node.level + (node.module or ""), module.__package__), 0
    lines = [
        line
        for line in (tree.body if tree is not None else ())
        if not any(isinstance(node, ast.Name) and node.id in agents for node in ast.walk(line))
    ]
    own = vars(module).keys() - _of_libraries(vars(module))
    body = [line for top in lines for line in _run_by_import(top) if _has_imports(line) or _may_set(line, own)]
    made = [line for line in lines if line not in body]
    todo = list(body)
    while todo:
        line = todo.pop()
        used = {node.id for node in ast.walk(line) if isinstance(node, ast.Name)}
        for each in [each for each in made if not used.isdisjoint(names_in([each]).bound)]:
            made.remove(each)
            if isinstance(each, DEFINITIONS):
                each.decorator_list = []
            body.append(each)
            todo.append(each)
    return ast.Module(body, [])


def _run_by_import(line: ast.stmt) -> list[ast.stmt]:
    """A line, or those in the body of a class; of a function, which is only made, the calls of its decorators."""
    if not isinstance(line, DEFINITIONS):
        return [line]
    decorated = [each if isinstance(each, ast.Call) else ast.Call(each, [], []) for each in line.decorator_list]
    inner = line.body if isinstance(line, ast.ClassDef) else []
    return [*map(ast.Expr, decorated), *(found for each in inner for found in _run_by_import(each))]


def _has_imports(line: ast.stmt) -> bool:
    return any(isinstance(node, IMPORTS) for node in ast.walk(line))


def _of_libraries(variables: Mapping[str, object]) -> set[str]:
    """Which of a module's variables are what only libraries have written, and no collections."""
    origins = {
        name: value.__name__ if is_a(value, ModuleType) else _origin_of(value)
        for name, value in variables.items()
        if not issubclass(type(value), MutableMapping | MutableSequence | MutableSet)
    }
    own = own_tops({origin.partition(".")[0] for origin in origins.values()}).union(MAY_BE_OWN)
    return {name for name, origin in origins.items() if origin.partition(".")[0] not in own}


def _may_set(line: ast.stmt, own: Set[str]) -> bool:
    """Whether it is more than to read: it sets a part of something, or calls what may, by one of these names."""
    for node in ast.walk(line):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.AugAssign):  # of a list, that is to fill it
            return True
        if isinstance(node, ast.Call) and not _only_reads(node.func, own):
            return True
    return False


def _only_reads(called: ast.expr, own: Set[str]) -> bool:
    """Whether it is a function of Python's or a library's, but `setattr` and the like, or reads a collection."""
    if isinstance(called, ast.Attribute) and called.attr in READING:
        return True
    while isinstance(called, ast.Attribute | ast.Subscript | ast.Call):
        called = called.func if isinstance(called, ast.Call) else called.value
    return isinstance(called, ast.Name) and called.id not in own and called.id not in SETTING


def _is_agent(value: object, home: ModuleType) -> bool:
    cls: type = value if is_a(value, type) else type(value)
    return cls.__module__ == home.__name__ or issubclass(cls, Workflow)
