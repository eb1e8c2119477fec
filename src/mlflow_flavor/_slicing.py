"""Cuts out of a module's source what a few of its names need: their statements, and those of what these use."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

__all__ = ["ModuleSlice", "quoted_names", "slice_module"]

NEW_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class ModuleSlice:
    """Part of a module that runs on its own.

    Attributes:
        text: Its source.
        bound: Names that its statements bind.
        made: Those of them that it makes itself; the others are imported.
        relative_import: The first import from the module's own package, which no script can run.
        lookup: The first expression that finds names of the module only when it runs.
    """

    text: str
    bound: frozenset[str]
    made: frozenset[str]
    relative_import: str | None
    lookup: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: what it binds, what it needs, and to what it adds something."""

    text: str
    line: int
    node: ast.stmt
    binds: frozenset[str]
    needs: frozenset[str]
    touches: frozenset[str]


def slice_module(source: str, names: Iterable[str], until_line: int | None = None) -> ModuleSlice:
    """What `names` need of a module, in the module's order.

    A statement belongs to it if it binds a needed name, sets an attribute or an item of one, or is a function or class
    that a decorator or a base class gives to one (`@step(workflow=Agent)`, a registry's `@tool`). Calls for their
    effect alone do not. What stands under `if __name__ == "__main__":` counts as if it stood outside.

    Args:
        source: The module's source.
        names: The names to begin with.
        until_line: Statements that begin after it have not run.

    Raises:
        SyntaxError: If it is not valid Python.
    """
    statements = _registered([s for s in _statements(source) if until_line is None or s.line <= until_line])
    needed = set(names)
    chosen: set[int] = set()
    while True:
        more = {n for n, s in enumerate(statements) if n not in chosen and _belongs(s, needed)}
        if not more:
            break
        chosen |= more
        needed.update(*(statements[n].needs for n in more))
    picked = [statements[n] for n in sorted(chosen)]
    bound = frozenset[str]().union(*(s.binds for s in picked))
    return ModuleSlice(
        text="\n\n".join(s.text for s in picked) + "\n",
        bound=bound,
        made=bound.difference(*(_imported(s.node) for s in picked)),
        relative_import=next((ast.unparse(s.node) for s in picked if _is_relative(s.node)), None),
        lookup=next((ast.unparse(n) for s in picked for n in ast.walk(s.node) if _is_lookup(n)), None),
    )


def _registered(statements: list[Statement]) -> list[Statement]:
    """The statements, where those of functions and classes add to what their decorators and base classes fill."""
    made = {name for s in statements for name in s.binds - {*_imported(s.node)}}
    fills = {name: filled & made for s in statements for name, filled in _fills(s.node)}
    return [replace(s, touches=s.touches | _given_to(s.node, fills)) for s in statements]


def _fills(node: ast.stmt) -> Iterator[tuple[str, set[str]]]:
    """Names that decorate or are base classes, and what they may add to when they do."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name, {root for inner in ast.walk(node) if (root := _changed(inner)) is not None}
        case ast.ClassDef():
            if any(isinstance(n, ast.FunctionDef) and n.name == "__init_subclass__" for n in node.body):
                yield node.name, {node.name}
        case ast.Assign() | ast.AnnAssign():
            yield from ((name, {name}) for name in _bound(_same_scope(node)))
        case _:
            pass


def _changed(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
            return _root(node)
        case ast.Call(func=ast.Attribute() as method):
            return _root(method)
        case ast.Name(ctx=ast.Store()):
            return node.id  # if it is of the module, by `global`
        case _:
            return None


def _given_to(node: ast.stmt, fills: Mapping[str, set[str]]) -> set[str]:
    calls: list[ast.expr] = [*getattr(node, "decorator_list", []), *getattr(node, "bases", [])]
    roots = {_root(call.func if isinstance(call, ast.Call) else call) for call in calls}
    return {name for root in roots if root is not None for name in fills.get(root, ())}


def _is_lookup(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="globals")):
            return True
        case ast.Subscript(slice=ast.Name(id="__name__")):
            return ast.unparse(node.value).rpartition(".")[2] == "modules"
        case _:
            return False


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


def _imported(node: ast.stmt) -> Iterator[str]:
    return _bound(n for n in _same_scope(node) if isinstance(n, ast.Import | ast.ImportFrom))


def _needed(node: ast.stmt) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield inner.id
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) in ("eval", "exec"):
            yield from (name for argument in inner.args for name in _in_strings(argument))
    yield from quoted_names(node)


def quoted_names(node: ast.AST) -> Iterator[str]:
    """Names in the annotations below a node that are strings."""
    for inner in ast.walk(node):
        for annotation in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            if isinstance(annotation, ast.expr):
                yield from _in_strings(annotation)


def _in_strings(expression: ast.expr) -> Iterator[str]:
    """Names in the strings of an annotation, which stand for the classes they name, or of what is evaluated."""
    for inner in ast.walk(expression):
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
