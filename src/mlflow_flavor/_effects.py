"""What a module does to others of the author's own: it imports one that fills a registry, or sets something there."""

from __future__ import annotations

import ast
import logging
import sys
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from importlib.util import resolve_name
from inspect import getattr_static
from pathlib import Path
from types import ModuleType

from mlflow_flavor._configuration import names_of_configuration, reads_configuration
from mlflow_flavor._model_code import imported_modules
from mlflow_flavor._names import names_in
from mlflow_flavor._origins import as_user_writes_it, local_places, own_tops
from mlflow_flavor._statements import (
    IMPORTS,
    LAMBDA,
    Position,
    Statement,
    first_name,
    has_lambda,
    root_name,
    same_scope,
)
from mlflow_flavor._written import Call

__all__ = [
    "Acts",
    "EffectImport",
    "acts_elsewhere",
    "bound_by_import",
    "imports_for_effect",
    "warn_of_imports_left_out",
]

COLLECTIONS = (dict, list, set, deque)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
SHOWING = ("print", "pprint", "pprint.pprint", "rich.print")

LEFT_OUT = (
    "%s imports '%s' and makes no use of it, and the model does not have that file: the import is left out. Pass "
    "code_paths=['%s'] if the agent needs what it does."
)

logger = logging.getLogger("workflows.mlflow")


@dataclass(frozen=True, slots=True)
class EffectImport:
    """An import of which its module makes no use: who has it there needs what the imported module does, if anything.

    Attributes:
        name: What the module calls what it imports.
        imported: The module that it imports.
        relative: Whether it is written as one of the same package, which a script can do in that package alone.
    """

    name: str
    imported: str
    relative: bool

    @property
    def top(self) -> str:
        """The imported module, or the outermost package that it is in."""
        return self.imported.partition(".")[0]

    def is_in(self, helpers: Iterable[Path]) -> bool:
        """Whether a model can do it that has these files and directories, and what is installed."""
        return self.is_brought(helpers) or not (self.relative or local_places([self.top]))

    def is_brought(self, helpers: Iterable[Path]) -> bool:
        """Whether the module is in one of these files and directories."""
        return self.top in {path.resolve().stem for path in helpers}


def imports_for_effect(source: str, home: ModuleType, helpers: Sequence[Path]) -> tuple[set[str], list[EffectImport]]:
    """Imports of modules of the author's own, local files or of the same package, that nothing in a module uses.

    An unused module of a library is mostly one that was forgotten, and would be a requirement. A name that nothing uses
    counts if its module reads the model's configuration, by which it may do something to others.

    Args:
        source: The module's source.
        home: The module.
        helpers: Files and directories that the model will have.

    Returns:
        The names by which the module knows those that the model can import; the others, which would fail at each load.
    """
    body = ast.parse(source).body
    spec = home.__spec__
    package = (spec.parent if spec is not None else None) or ""
    own = spec.name.partition(".")[0] if spec is not None else ""
    brought = {path.resolve().stem for path in helpers}
    found = [each for node in body for each in _imports_of_modules(node, package)]
    found += [each for node in body for each in _imports_of_settings(node, package, brought)]
    read = names_in(body).read if found else frozenset[str]()
    unused = [each for each in found if each.name not in read]
    own_unused = [e for e in unused if e.top == own or e.is_brought(helpers) or own_tops([e.top])]
    lacking = [each for each in own_unused if not each.is_in(helpers)]
    return {each.name for each in own_unused if each not in lacking}, lacking


def warn_of_imports_left_out(home: ModuleType, lacking: Iterable[EffectImport], bound: Set[str]) -> None:
    """Say which imports a script is without, and what the model needs to have them.

    Args:
        home: The module that the script is of.
        lacking: Those that the model cannot do.
        bound: Names that the script binds: with `import os, tools`, who needs one gets both.
    """
    for each in lacking:
        if each.name not in bound:
            logger.warning(LEFT_OUT, Path(str(home.__file__)).name, each.imported, as_user_writes_it(_place(each.top)))


@dataclass(frozen=True, slots=True)
class Acts:
    """What a module's statements do to modules that the model brings.

    Attributes:
        names: By which names they set or fill something, `conf.LIMIT = 9`, and the module that each is or is of.
        calls: Calls of something there, `registry.register(Tool())`, by the place that each is at.
        touched: The names, or the place, that a call stands for, by where it begins.
        named: What statements need that define nothing, and the functions that these or the program call.
    """

    names: Mapping[str, str]
    calls: Mapping[str, Call]
    touched: Mapping[Position, Set[str]]
    named: Set[str]


def acts_elsewhere(
    statements: Sequence[Statement],
    home: ModuleType,
    helpers: Sequence[Path],
    workflow: Set[str],
    program: Set[str] = frozenset(),
) -> Acts:
    """What a module's statements set, fill or call that is of modules which the model brings.

    What comes of the workflow itself, its results, say, is no part of it; nor is a call that only the author's own
    program makes, under `if __name__ == "__main__":`, for nobody who imports the module does.

    Args:
        statements: The module's statements.
        home: The module.
        helpers: Files and directories that the model will have.
        workflow: What the module calls the workflow and its class.
        program: Names that the program uses which logs the workflow, if that is another module.
    """
    brought = {path.resolve().stem for path in helpers}
    package = (home.__spec__.parent if home.__spec__ is not None else None) or ""
    imports = (node for s in statements for node in same_scope(s.node))
    found = (pair for node in imports for pair in bound_by_import(node, package))
    names = {name: module for name, module in found if module.partition(".")[0] in brought}
    own = {s for s in statements if not names.keys().isdisjoint(s.touches.union(map(first_name, s.fills)))}
    using = {s for s in own if not workflow.isdisjoint(_all_needs(s.needs, statements))}
    filled = {s.position: {first_name(f) for f in s.fills if _is_collection(f, names, home)} for s in own - using}
    touched = {name for s in own for name in s.touches} - {name for s in using for name in s.touches}
    touched = touched.union(*filled.values())
    loading = {s for s in statements if isinstance(s.node, DEFINITIONS) and not brought.isdisjoint(_tops(s, package))}
    everywhere = (node for s in statements for node in ast.walk(s.node))
    settings = names_of_configuration(everywhere, package, brought)
    calls = _calls(statements, names, loading, workflow, settings)
    return Acts(
        {name: module for name, module in names.items() if name in touched},
        {_at_place(s): call for s, call in calls.items()},
        {s.position: filled.get(s.position, set()) | ({_at_place(s)} if s in calls else set()) for s in statements},
        _named(statements, program, workflow),
    )


def _calls(
    statements: Sequence[Statement],
    names: Container[str],
    loading: Set[Statement],
    workflow: Set[str],
    settings: Set[str],
) -> dict[Statement, Call]:
    """Statements that call something of these names, or what their module makes or does with them, or loads.

    By the names in `settings` it reads the model's configuration.
    """
    imports = [ast.unparse(s.node) for s in statements if isinstance(s.node, IMPORTS)]
    acting = (s for s in statements if not isinstance(s.node, IMPORTS) and (s in loading or _uses(s, names)))
    using = {s: ast.unparse(s.node) for s in acting}
    own = {name for s in statements if isinstance(s.node, DEFINITIONS) for name in s.binds}
    found: dict[Statement, Call] = {}
    for statement in statements:
        if isinstance(statement.node, IMPORTS) or statement.guarded or not workflow.isdisjoint(statement.binds):
            continue
        made = _called(statement.node) if not _only_shows(statement.node) else []
        needs = _all_needs(statement.needs, statements) if made else set[str]()
        called = {root_name(call.func) for call in made}
        called |= {n.id for call in made for each in _given(call) for n in ast.walk(each) if isinstance(n, ast.Name)}
        leads = [ast.unparse(call) for call in made if _leads_to(call, names, own)]
        leads += [
            text
            for other, text in using.items()
            if not (needs if isinstance(other.node, DEFINITIONS) else called).isdisjoint(other.binds)
        ]
        if leads and workflow.isdisjoint(needs):
            needs |= {LAMBDA} if has_lambda(statement.node) else set[str]()
            configured = _is_configured(statement, statements, settings)
            is_defined = isinstance(statement.node, FUNCTIONS)  # then what others hold of it tells of its decorators
            if configured or not is_defined:
                found[statement] = Call(needs, "\n".join([*imports, *leads]), configured)
    return found


def _is_configured(statement: Statement, statements: Sequence[Statement], settings: Set[str]) -> bool:
    """Whether the model's configuration decides what a statement does when it is run."""
    node = statement.node
    run = [*map(ast.Expr, node.decorator_list)] if isinstance(node, FUNCTIONS) else [node]
    needs = _all_needs(names_in(run).read, statements)
    used = [s.node for s in statements if s is not statement and not needs.isdisjoint(s.binds)]
    return any(reads_configuration(each, settings) for each in (*run, *used))


def _tops(definition: Statement, package: str) -> set[str]:
    """The outermost packages of what a function, or those of a class, imports when it is called."""
    return {name.partition(".")[0] for name in imported_modules(definition.node, package)}


def _only_shows(node: ast.stmt) -> bool:
    """Whether a statement prints something, which nobody needs where an agent is loaded."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in SHOWING


def _leads_to(call: ast.Call, names: Container[str], own: Container[str]) -> bool:
    """Whether something of these names is called, or given to a function of the module's own."""
    root = root_name(call.func) or ""
    given = _given(call) if root in own else []
    return root in names or any(isinstance(n, ast.Name) and n.id in names for each in given for n in ast.walk(each))


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _uses(definition: Statement, names: Container[str]) -> bool:
    """Whether a function or class does something with some names, or a variable is made with them.

    One that is only decorated by them may do anything.
    """
    if not any(name in names for name in definition.needs):
        return False
    plain = copy(definition.node)
    if isinstance(plain, DEFINITIONS):
        plain.decorator_list = []
    return any(name in names for name in names_in([plain]).read)


def _named(statements: Sequence[Statement], program: Set[str], workflow: Set[str]) -> set[str]:
    active = [s for s in statements if not isinstance(s.node, (*DEFINITIONS, *IMPORTS))]
    named = set(program).union(*(s.needs for s in active)) - workflow
    named |= {LAMBDA} if any(has_lambda(s.node) for s in active) else set()
    definitions = [s for s in statements if isinstance(s.node, DEFINITIONS) and workflow.isdisjoint(s.binds)]
    while more := {name for s in definitions if not named.isdisjoint(s.binds) for name in s.needs} - named:
        named |= more
    return named


def _at_place(statement: Statement) -> str:
    return "line {}, {}".format(*statement.position)


def _called(node: ast.stmt) -> list[ast.Call]:
    """The calls that a statement makes when it is run, a class in its body, and what is defined by its decorators."""
    run = [node, *(node.body if isinstance(node, ast.ClassDef) else ())]
    inner = [found for each in run for found in same_scope(each)]
    decorators = [d for each in inner if isinstance(each, DEFINITIONS) for d in each.decorator_list]
    bare = [ast.Call(each, [], []) for each in decorators if not isinstance(each, ast.Call)]
    calls = [found for each in (*inner, *decorators) for found in same_scope(each) if isinstance(found, ast.Call)]
    return [*dict.fromkeys(calls), *bare]


def _is_collection(place: str, names: Container[str], home: ModuleType) -> bool:
    return first_name(place) in names and issubclass(type(_at(place, home)), COLLECTIONS)


def _all_needs(names: Set[str], statements: Sequence[Statement]) -> set[str]:
    """Some names that a statement needs, and what these need."""
    needs = set(names)
    while more := {name for s in statements if not needs.isdisjoint(s.binds) for name in s.needs} - needs:
        needs |= more
    return needs


def bound_by_import(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """What an import binds, and the module that this is, or is of."""
    match node:
        case ast.Import(names=names):
            for alias in names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)
        case ast.ImportFrom(module=module, level=level, names=names) if package or not level:
            parent = resolve_name("." * level + (module or ""), package)
            for alias in names:
                found = f"{parent}.{alias.name}"
                given = vars(sys.modules.get(parent, ast)) if alias.name == "*" else (alias.asname or alias.name,)
                yield from ((name, found if found in sys.modules else parent) for name in given)
        case _:
            pass


def _at(place: str, home: ModuleType) -> object:
    """What a module calls so, without running any code; None if that is not to be known."""
    found: object = home
    for part in place.split("."):
        found = getattr_static(found, part, None)
    return found


def _place(top: str) -> Path:
    """The file of a local module, or the folder of a package, which may be installed."""
    folders = getattr(sys.modules.get(top), "__path__", None)
    return local_places([top]).get(top) or Path(next(iter(folders or [top])))


def _imports_of_modules(node: ast.stmt, package: str) -> Iterator[EffectImport]:
    """The imports of modules, not of names of theirs, that a statement makes."""
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield EffectImport(alias.asname or alias.name.partition(".")[0], alias.name, relative=False)
        case ast.ImportFrom(module=module, level=level, names=names) if package or not level:
            parent = resolve_name("." * level + (module or ""), package)
            for alias in names:
                if (found := f"{parent}.{alias.name}") in sys.modules:
                    yield EffectImport(alias.asname or alias.name, found, relative=level > 0)
        case _:
            pass


def _imports_of_settings(node: ast.stmt, package: str, brought: Set[str]) -> Iterator[EffectImport]:
    """The imports of names, from modules that read the model's configuration, that a statement makes."""
    if isinstance(node, ast.ImportFrom) and (package or not node.level):
        parent = resolve_name("." * node.level + (node.module or ""), package)
        if parent.partition(".")[0] in brought:
            for name in names_of_configuration([node], package, brought):
                yield EffectImport(name, parent, relative=node.level > 0)
