"""Which functions and classes modules of the author's own are given: by a decorator or a base class that keeps them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mlflow_flavor._origins import is_local
from mlflow_flavor._statements import Statement, root_name, same_scope, statements_of

__all__ = ["given_to_helpers"]

Registering = Callable[[list[Statement]], list[Statement]]
"""Lets the statements of a module say to what else of it their decorators and base classes give them."""


class _Import(NamedTuple):
    module: str
    name: str  # there; empty for the module itself


def given_to_helpers(statements: Sequence[Statement], registered: Registering) -> Iterator[set[str]]:
    """For each statement, the names imported from a module of the author's which has kept what the statement defines.

    `from tools import tool, TOOLS`: a function below `@tool` is needed by whoever uses `TOOLS`.
    """
    imports = {name: found for s in statements for name, found in _imports(s.node)}
    for statement in statements:
        touched: set[str] = set()
        for by, given in _givings(statement.node):
            root = root_name(by.func if isinstance(by, ast.Call) else by) or ""
            if (found := imports.get(root)) is not None and is_local(found.module):
                there = _There(root, found.name).visit(ast.parse(ast.unparse(by), mode="eval"))
                kept = _kept_in(found.module, given.format(ast.unparse(there)), registered)
                touched |= {n for n, other in imports.items() if other.module == found.module and other.name in kept}
        yield touched


def _imports(node: ast.stmt) -> Iterator[tuple[str, _Import]]:
    for inner in same_scope(node):
        match inner:
            case ast.ImportFrom(module=str() as module, level=0, names=names):
                for alias in names:
                    below = f"{module}.{alias.name}"
                    found = _Import(below, "") if below in sys.modules else _Import(module, alias.name)
                    yield alias.asname or alias.name, found
            case ast.Import(names=names):
                yield from ((a.asname or a.name, _Import(a.name, "")) for a in names if a.asname or "." not in a.name)
            case _:
                pass


def _givings(node: ast.stmt) -> Iterator[tuple[ast.expr, str]]:
    """The decorators and base classes of a definition, and how something is given to one that is called `{}`."""
    yield from ((decorator, "@{}\ndef _given(): pass") for decorator in getattr(node, "decorator_list", ()))
    yield from ((base, "class _given({}): pass") for base in getattr(node, "bases", ()))


class _There(ast.NodeTransformer):
    """An expression as the module would write it from which a name of it is imported."""

    def __init__(self, here: str, there: str) -> None:
        self._here = here
        self._there = there

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`tools.tool` is `tool` there."""
        if not self._there and isinstance(node.value, ast.Name) and node.value.id == self._here:
            return ast.Name(node.attr, ast.Load())
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """It may have another name here."""
        return ast.Name(self._there or node.id, ast.Load()) if node.id == self._here else node


def _kept_in(module: str, text: str, registered: Registering) -> frozenset[str]:
    """The names of a module that lead to what would be kept of a definition there; "" stands for the module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or Path(file).suffix != ".py":
        return frozenset()
    return _kept(Path(file).read_text(encoding="utf-8"), text, registered)


@lru_cache(maxsize=256)
def _kept(source: str, text: str, registered: Registering) -> frozenset[str]:
    statements = registered([*statements_of(source), *statements_of(text)])
    kept = statements[-1].touches - {name for s in statements if "getLogger(" in s.text for name in s.binds}
    if not kept:
        return frozenset()
    return frozenset({"", *kept, *(name for s in statements if s.needs & kept for name in s.binds)})
