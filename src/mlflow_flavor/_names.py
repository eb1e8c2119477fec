"""Which names of a module some statements of it set, and which they read, by Python's own rules of scope."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import symtable
import typing
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

__all__ = ["Names", "names_in"]

# In brackets behind these stands a type, wherever that is: nobody looks up an item of them.
GENERIC = frozenset(
    name
    for module in (builtins, collections.abc, typing)
    for name, value in vars(module).items()
    if isinstance(value, type) or (module is typing and callable(value))
)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a module.

    Attributes:
        bound: What the statements set, define or import at its top level.
        read: What they read, their functions included; what is a parameter or a local variable there is none of them.
        declared: What functions of theirs declare `global`.
    """

    bound: frozenset[str]
    read: frozenset[str]
    declared: frozenset[str]


def names_in(statements: Iterable[ast.stmt]) -> Names:
    """The names of the module in some of its top-level statements, also in quoted annotations and evaluated texts.

    Raises:
        SyntaxError: If they are not valid Python.
    """
    return _names([_Spelled().visit(deepcopy(node)) for node in statements if not _is_future(node)])


def _names(body: list[ast.stmt]) -> Names:
    tables = list(_tables(symtable.symtable(ast.unparse(ast.Module(body, [])), "module", "exec")))
    symbols = [(table, symbol) for table in tables for symbol in table.get_symbols()]
    read = {s.get_name() for table, s in symbols if s.is_referenced() and (table is tables[0] or s.is_global())}
    both = {t.get_name() for t, s in symbols if t.get_type() == "class" and s.is_referenced() and s.is_assigned()}
    inner = (node for statement in body for node in ast.walk(statement))
    classes = (node for node in inner if isinstance(node, ast.ClassDef) and node.name in both)
    bound = {symbol.get_name() for symbol in tables[0].get_symbols() if _is_set(symbol)}
    return Names(
        bound=frozenset(bound.union(_walrus(body))),
        read=frozenset(read.union(*map(_read_before_set, classes))),
        declared=frozenset(s.get_name() for table, s in symbols if table is not tables[0] and s.is_declared_global()),
    )


def _is_future(node: ast.stmt) -> bool:
    """Whether it is the import by which Python evaluates no annotations; the engine and pydantic do all the same."""
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _is_set(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _walrus(body: Iterable[ast.AST]) -> Iterator[str]:
    """What `:=` sets, which in a comprehension is no symbol of the scope around it."""
    for node in body:
        if isinstance(node, ast.NamedExpr):
            yield node.target.id
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _walrus(ast.iter_child_nodes(node))


def _read_before_set(cls: ast.ClassDef) -> set[str]:
    """What the body of a class sets and has read before, `limit = limit`: that is the module's."""
    each = [_names([statement]) for statement in cls.body]
    own = frozenset[str]().union(*(names.bound for names in each))
    read, bound = set[str](), set[str]()
    for names in each:
        read |= (names.read & own) - bound
        bound |= names.bound
    return read


class _Spelled(ast.NodeTransformer):
    """Puts what a text says in its place, where Python or a library evaluates it."""

    def visit(self, node: ast.AST) -> Any:
        for field in ("annotation", "returns"):
            if isinstance(annotation := getattr(node, field, None), ast.expr):
                setattr(node, field, _Said().visit(annotation))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
            node.args = [_Said().visit(argument) for argument in node.args]
        if isinstance(node, ast.ClassDef):
            node.bases = [_Said().visit(b) if isinstance(b, ast.Subscript) else b for b in node.bases]
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in GENERIC:
            node = _Said().visit(node)
        return super().visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """A tuple of what is formatted: not every such text can be written again."""
        formatted = [value for value in node.values if isinstance(value, ast.FormattedValue)]
        parts = [part for value in formatted for part in (value.value, value.format_spec) if part is not None]
        return ast.Tuple([self.visit(part) for part in parts], ast.Load())


class _Said(ast.NodeTransformer):
    """Replaces texts by the expressions that they are, if they are any."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str):
            return node
        try:
            return ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError):  # it has a character that no source may have
            return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Of `Literal["a"]` and `Annotated[str, "a"]`, what is a type."""
        name = ast.unparse(node.value).rpartition(".")[2]
        if name == "Annotated" and isinstance(node.slice, ast.Tuple):
            node.slice.elts[0] = self.visit(node.slice.elts[0])
            return node
        return node if name == "Literal" else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node
