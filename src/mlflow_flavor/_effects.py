"""Imports that are there for what they do: a module of the author's own that fills a registry of another one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from types import ModuleType

from mlflow_flavor._names import names_in
from mlflow_flavor._origins import is_local

__all__ = ["imported_for_effect"]


def imported_for_effect(source: str, home: ModuleType) -> set[str]:
    """Names by which a module imports modules of the author's own, and of which it makes no use anywhere.

    Who imports such a module needs what that does; an unused module of a library is mostly one that was forgotten, and
    would be a requirement.

    Args:
        source: The module's source.
        home: The module.
    """
    body = ast.parse(source).body
    spec = home.__spec__
    package = spec.parent if spec is not None else None
    own = spec.name.partition(".")[0] if spec is not None else ""
    found = [each for node in body for each in _imported_modules(node, package or "")]
    unused = dict(found).keys() - names_in(body).read if found else set[str]()
    return {name for name, module in found if name in unused and (module.partition(".")[0] == own or is_local(module))}


def _imported_modules(node: ast.stmt, package: str) -> Iterator[tuple[str, str]]:
    """The modules, not names of theirs, that a statement imports: what it calls them, and what they are."""
    match node:
        case ast.Import(names=names):
            yield from ((alias.asname or alias.name.partition(".")[0], alias.name) for alias in names)
        case ast.ImportFrom(module=module, level=level, names=names) if package or not level:
            parent = resolve_name("." * level + (module or ""), package)
            modules = ((alias.asname or alias.name, f"{parent}.{alias.name}") for alias in names)
            yield from ((name, found) for name, found in modules if found in sys.modules)
        case _:
            pass
