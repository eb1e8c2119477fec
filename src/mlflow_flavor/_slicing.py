"""Cuts out of a module's source what a few of its names need: their statements, and those of what these use."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["ModuleSlice", "slice_module"]

NEW_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class ModuleSlice:
    """Part of a module that runs on its own.

    Attributes:
        text: Its source.
        bound: Names that its statements bind.
        assigned: Those of them that hold a value, not a function, a class or an import.
        relative_import: The first import from the module's own package, which no script can run.
    """

    text: str
    bound: frozenset[str]
    assigned: frozenset[str]
    relative_import: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: what it binds, what it needs, and whose attributes or items it sets."""

    text: str
    line: int
    node: ast.stmt
    binds: frozenset[str]
    needs: frozenset[str]
    touches: frozenset[str]


def slice_module(source: str, names: Iterable[str], until_line: int | None = None) -> ModuleSlice:
    """What `names` need of a module, in the module's order.

    A statement belongs to it if it binds a needed name, sets an attribute or an item of one, or is a function that a
    decorator gives to one (`@step(workflow=Agent)`). Calls for their effect alone do not. What stands under
    `if __name__ == "__main__":` counts as if it stood outside.

    Args:
        source: The module's source.
        names: The names to begin with.
        until_line: Statements that begin after it have not run.

    Raises:
        SyntaxError: If it is not valid Python.
    """
    statements = [s for s in _statements(source) if until_line is None or s.line <= until_line]
    needed = set(names)
    chosen: set[int] = set()
    while True:
        more = {n for n, s in enumerate(statements) if n not in chosen and _belongs(s, needed)}
        if not more:
            break
        chosen |= more
        needed.update(*(statements[n].needs for n in more))
    picked = [statements[n] for n in sorted(chosen)]
    return ModuleSlice(
        text="\n\n".join(s.text for s in picked) + "\n",
        bound=frozenset[str]().union(*(s.binds for s in picked)),
        assigned=frozenset[str]().union(*(s.binds for s in picked if isinstance(s.node, ast.Assign | ast.AnnAssign))),
        relative_import=next((ast.unparse(s.node) for s in picked if _is_relative(s.node)), None),
    )


def _belongs(statement: Statement, needed: set[str]) -> bool:
    node = statement.node
    if isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*"):
        return True
    return not needed.isdisjoint(statement.binds) or not needed.isdisjoint(statement.touches)


def _is_relative(node: ast.stmt) -> bool:
    return any(isinstance(inner, ast.ImportFrom) and inner.level > 0 for inner in ast.walk(node))


def _statements(source: str) -> Iterator[Statement]:
    lines = source.splitlines()
    body = ast.parse(source).body
    starts = [_first_line(node, lines) for node in body]
    for number, node in enumerate(body):
        alone = (number == 0 or body[number - 1].end_lineno != node.lineno) and (
            number + 1 == len(body) or body[number + 1].lineno != node.end_lineno
        )
        if isinstance(node, ast.If) and _is_main_guard(node.test):
            yield from (_statement(inner, ast.unparse(inner)) for inner in node.body)
        elif alone:
            yield _statement(node, "\n".join(lines[starts[number] - 1 : node.end_lineno]))
        else:
            yield _statement(node, ast.unparse(node))


def _first_line(node: ast.stmt, lines: list[str]) -> int:
    """The statement's first line, its decorators and the comment above it included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    while first > 1 and lines[first - 2].startswith("#") and not lines[first - 2].startswith("#!"):
        first -= 1
    return first


def _is_main_guard(test: ast.expr) -> bool:
    return ast.unparse(test).replace('"', "'") in ("__name__ == '__main__'", "'__main__' == __name__")


def _statement(node: ast.stmt, text: str) -> Statement:
    inner = list(_same_scope(node))
    targets = [n for n in inner if isinstance(n, ast.Attribute | ast.Subscript) and isinstance(n.ctx, ast.Store)]
    touched = {root for target in targets if (root := _root(target)) is not None}
    return Statement(
        text, node.lineno, node, frozenset(_bound(inner)), frozenset(_needed(node)), frozenset(touched | _owners(node))
    )


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is below it, but for the insides of functions and classes."""
    yield node
    if not isinstance(node, NEW_SCOPE):
        for child in ast.iter_child_nodes(node):
            yield from _same_scope(child)


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case _:
                pass


def _needed(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield inner.id
        for annotation in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            if isinstance(annotation, ast.expr):
                yield from _in_strings(annotation)


def _in_strings(annotation: ast.expr) -> Iterator[str]:
    """Names in the strings of an annotation, which stand for the classes they name."""
    for inner in ast.walk(annotation):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            try:
                quoted = ast.parse(inner.value, mode="eval")
            except SyntaxError:
                continue
            yield from (name.id for name in ast.walk(quoted) if isinstance(name, ast.Name))


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _owners(node: ast.stmt) -> set[str]:
    """Classes that a function's decorators give it to: `@step(workflow=Agent)`."""
    calls = [d for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Call)]
    values = [k.value for call in calls for k in call.keywords if k.arg == "workflow"]
    return {value.id for value in values if isinstance(value, ast.Name)}
