"""Which variables a script sees: what it defines, and of other modules what it imports and uses, but for decorators."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from types import ModuleType

from mlflow_flavor._kinds import is_a
from mlflow_flavor._parts import may_hold
from mlflow_flavor._statements import same_scope

__all__ = ["defined_by", "seen_by"]


def seen_by(script: ast.Module, modules: Mapping[str, ModuleType], package: str = "") -> Iterator[tuple[str, object]]:
    """The variables of these modules that a script uses, with their places: `shop.tools.TOOLS`.

    Args:
        script: The script, or the source of a module.
        modules: The modules.
        package: What relative imports start from; without it they count for nothing.
    """
    used = list(_outside_decorators(script))
    names = {node.id for node in used if isinstance(node, ast.Name)}
    imported: dict[str, str] = {}
    for node in ast.walk(script):
        if isinstance(node, ast.Import):
            whole = [(alias.asname, alias.name, alias.name.partition(".")[0]) for alias in node.names]
            imported.update({asname or top: name if asname else top for asname, name, top in whole})
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            given = vars(modules[origin]) if origin in modules else {}
            for alias in node.names:
                some = names & given.keys() if alias.name == "*" else {alias.asname or alias.name}
                imported.update((name, f"{origin}.{name if alias.name == '*' else alias.name}") for name in some)
    chains = {*names, *(chain for node in used if isinstance(node, ast.Attribute) if (chain := _dotted(node)))}
    inner = {id(node.value) for node in used if isinstance(node, ast.Attribute)}
    handed_on = {_dotted(n) for n in used if isinstance(n, (ast.Name, ast.Attribute)) and id(n) not in inner}
    for chain in sorted(chains):
        first, dot, rest = chain.partition(".")
        if first in imported:
            place = f"{imported[first]}{dot}{rest}"
            if chain in handed_on and place in modules:  # as it is, and who is given it may do anything with it
                yield from _all_of(place, modules[place])
            yield from _variable(place, modules)


def defined_by(script: ast.Module) -> set[str]:
    """The functions and classes of a script: what they are was made by their decorators too."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in same_scope(script) if isinstance(node, definitions)}


def _outside_decorators(script: ast.Module) -> Iterator[ast.AST]:
    todo: list[ast.AST] = [script]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(n for n in ast.iter_child_nodes(node) if n not in getattr(node, "decorator_list", ()))


def _dotted(node: ast.expr) -> str:
    """`shop.tools.TOOLS`; empty where it is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    before = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""


def _all_of(name: str, module: ModuleType) -> Iterator[tuple[str, object]]:
    return ((f"{name}.{each}", value) for each, value in list(vars(module).items()) if not is_a(value, ModuleType))


def _variable(place: str, modules: Mapping[str, ModuleType]) -> Iterator[tuple[str, object]]:
    """The variable at the beginning of a place, if it is one of these modules."""
    parts = place.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = modules.get(".".join(parts[:length]))
        if module is not None and parts[length] in vars(module):
            value = vars(module)[parts[length]]
            if not is_a(value, ModuleType):
                yield ".".join(parts[: length + 1]), value
            return
        if module is not None and "__getattr__" in vars(module):
            yield from _made_when_asked(module, parts[length], modules)


def _made_when_asked(module: ModuleType, name: str, modules: Mapping[str, ModuleType]) -> Iterator[tuple[str, object]]:
    """What a module gives that has no such variable (PEP 562), with the place of the variable that it is elsewhere."""
    try:
        value = getattr(module, name)
    except Exception:  # noqa: BLE001  # of the author's own; who needs it would see it
        return
    for other, variables in ((each, vars(found)) for each, found in list(modules.items())):
        same = (each for each, found in list(variables.items()) if found is value and (each == name or may_hold(value)))
        yield from ((f"{other}.{each}", value) for each in same)
