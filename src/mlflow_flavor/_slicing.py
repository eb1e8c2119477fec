"""Cuts out of a module's source what a few of its names need: their statements, and those of what these use."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from mlflow_flavor._names import names_in
from mlflow_flavor._statements import (
    LAMBDA,
    Position,
    Statement,
    has_lambda,
    imported_names,
    logging_call,
    root_name,
    same_scope,
)

__all__ = ["ModuleSlice", "names_that_give", "over", "registered", "slice_module"]

PARSERS = frozenset({"ArgumentParser", "OptionParser"})


@dataclass(frozen=True, slots=True)
class ModuleSlice:
    """Part of a module that runs on its own.

    Attributes:
        text: Its source.
        bound: Names that its statements bind.
        made: Those of them that it makes itself; the others are imported.
        relative_import: The first import from the module's own package, which no script can run.
        lookup: The first expression that finds names of the module, or its file, only when it runs.
        command_line: The first expression that reads the command line, which each process has of its own.
        logs: The first call that starts an MLflow run, or logs or saves a model, which each load would do again.
        running: The line of a statement that has not run to its end.
    """

    text: str
    bound: frozenset[str]
    made: frozenset[str]
    relative_import: str | None
    lookup: str | None
    command_line: str | None
    logs: str | None
    running: int | None


def slice_module(statements: Iterable[Statement], names: Iterable[str]) -> ModuleSlice:
    """What `names` need of a module, in the module's order.

    A statement belongs to it if it binds a needed name, sets an attribute or an item of one, or is a function or class
    that a decorator or a base class gives to one (`@step(workflow=Agent)`, a registry's `@tool`). Calls for their
    effect alone do not, and neither do settings of the process (`os.environ["A"] = "b"`), of which each has its own.
    What stands under `if __name__ == "__main__":` counts as if it stood outside, and so does what has run of the block
    that makes the call, or stands in one that is there for MLflow.

    Args:
        statements: The module's statements, as `registered` gives them.
        names: The names to begin with.
    """
    statements = list(statements)
    needed = set(names)
    chosen: set[int] = set()
    while True:
        more = {n for n, s in enumerate(statements) if n not in chosen and _belongs(s, needed)}
        if not more:
            break
        chosen |= more
        needed.update(*(statements[n].needs for n in more))
    found = [statements[n] for n in sorted(chosen)]
    bound = frozenset[str]().union(*(s.binds for s in found))
    picked = _outermost(found)
    return ModuleSlice(
        text="\n\n".join(s.text for s in picked) + "\n",
        bound=bound,
        made=bound.difference(*(imported_names(s.node) for s in found)),
        relative_import=next((ast.unparse(s.node) for s in picked if _is_relative(s.node)), None),
        lookup=next((ast.unparse(n) for s in picked for n in ast.walk(s.node) if _is_lookup(n)), None),
        command_line=next(_readings_of_command_line([s.node for s in picked]), None),
        logs=next((call for s in picked if (call := logging_call(s.node)) is not None), None),
        running=next((s.line for s in picked if s.running), None),
    )


def names_that_give(statements: Sequence[Statement], names: Set[str]) -> set[str]:
    """Some names of a module, and those imported ones to which statements that use them add something.

    Args:
        statements: The module's statements.
        names: The names; also that of a lambda, which is no name.
    """
    imported = frozenset[str]().union(*(imported_names(s.node) for s in statements))
    using = [s for s in statements if not names.isdisjoint(s.needs) or (LAMBDA in names and has_lambda(s.node))]
    return {*names, *(name for s in using for name in (s.touches | s.binds) & imported)}


def over(source: str) -> set[str]:
    """What a module's `with` statements bind that nothing uses after them: `f` in `with open("prompt.txt") as f:`."""
    body = ast.parse(source).body
    found = set[str]()
    for node in body:
        inner = list(same_scope(node))
        managers = [each for each in inner if isinstance(each, ast.With | ast.AsyncWith)]
        if bound := names_in([ast.With(each.items, [ast.Pass()], lineno=0) for each in managers]).bound:
            others = names_in(each for each in body if each is not node)
            kept = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and part not in inner}
            found |= bound - others.read - others.bound - kept
    return found


def _outermost(statements: list[Statement]) -> list[Statement]:
    """The statements but for those in a block that is one of them."""
    inner = {node for s in statements for node in ast.walk(s.node) if node is not s.node}
    return [s for s in statements if s.node not in inner]


def registered(statements: Sequence[Statement], touched: Mapping[Position, Set[str]]) -> list[Statement]:
    """The statements, where those of functions and classes add to what their decorators and base classes fill.

    Args:
        statements: The statements of a module.
        touched: What they touch beside what their own words say, by where they begin.
    """
    made = {name for s in statements for name in s.binds - imported_names(s.node)}
    fills = {name: changed & made for s in statements for name, changed in _fills(s)}
    letting_go = frozenset(name for s in statements for name in _methods_that_keep_nothing(s, statements, made))
    return [
        replace(s, touches=s.touches.union(s.environment & made, own, _given_to(s.node, fills, made, letting_go)))
        for s in statements
        for own in [touched.get(s.position, ())]
    ]


def _fills(statement: Statement) -> Iterator[tuple[str, set[str]]]:
    """Names that decorate or are base classes, and what they may add to when they do."""
    match node := statement.node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            changed = {root for inner in ast.walk(node) if (root := _changed(inner)) is not None}
            yield node.name, changed & statement.needs
        case ast.ClassDef():
            if any(isinstance(n, ast.FunctionDef) and n.name == "__init_subclass__" for n in node.body):
                yield node.name, {node.name}
        case ast.Assign() | ast.AnnAssign():
            yield from ((name, {name}) for name in statement.binds)
        case _:
            pass


def _changed(node: ast.AST) -> str | None:
    match node:
        case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
            return root_name(node)
        case ast.Call(func=ast.Attribute() as method):
            return root_name(method)
        case ast.Name(ctx=ast.Store()):
            return node.id  # by `global`
        case _:
            return None


def _methods_that_keep_nothing(statement: Statement, statements: Sequence[Statement], made: Set[str]) -> Iterator[str]:
    """Methods of a class, `Timer.timed`, or of what is made of it, `timer.timed`, that only give back what they get."""
    node = statement.node
    if isinstance(node, ast.ClassDef):
        names = [node.name, *(name for s in statements if _is_made_of(s.node, node.name) for name in s.binds)]
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not _may_keep(n, made | {"self", "cls"})]
        yield from (f"{name}.{method.name}" for name in names for method in methods)


def _is_made_of(node: ast.stmt, cls: str) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign) and any(
        isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == cls
        for inner in ast.walk(node)
    )


def _may_keep(method: ast.FunctionDef, others: Set[str]) -> bool:
    """Whether a method puts what it gets, or a function of its own, into anything, or hands it to one of `others`."""
    own = {argument.arg for argument in ast.walk(method.args) if isinstance(argument, ast.arg)} - {"self", "cls"}
    inner = [node for statement in method.body for node in ast.walk(statement)]
    own |= {node.name for node in inner if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in inner:
        match node:
            case ast.Global():
                return True
            case ast.Assign() | ast.AnnAssign():
                parts = [node] if any(_changed(n) and not isinstance(n, ast.Name) for n in ast.walk(node)) else []
            case ast.Call(func=func, args=args, keywords=keywords) if root_name(func) in others:
                parts = [*args, *keywords]
            case _:
                parts = []
        if any(isinstance(n, ast.Name) and n.id in own for part in parts for n in ast.walk(part)):
            return True
    return False


def _given_to(node: ast.stmt, fills: Mapping[str, set[str]], made: Set[str], letting_go: Set[str]) -> set[str]:
    """What a function or class is given to: by a decorator or base class that fills something, or `@name.register`."""
    decorators: list[ast.expr] = [d.func if isinstance(d, ast.Call) else d for d in getattr(node, "decorator_list", [])]
    bases = [b.func if isinstance(b, ast.Call) else b for b in getattr(node, "bases", [])]
    decorators = [d for d in decorators if ast.unparse(d) not in letting_go]
    filled = {name for by in (*decorators, *bases) for name in fills.get(root_name(by) or "", ())}
    return filled | ({root_name(d) or "" for d in decorators if isinstance(d, ast.Attribute)} & made)


def _is_lookup(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="globals")):
            return True
        case ast.Name(id="__file__", ctx=ast.Load()):
            return True
        case ast.Subscript(slice=ast.Name(id="__name__")):
            return ast.unparse(node.value).rpartition(".")[2] == "modules"
        case _:
            return False


def _readings_of_command_line(nodes: Sequence[ast.stmt]) -> Iterator[str]:
    """Expressions that read the command line; in a function, `parse_args()` may be anything without such a parser."""
    everywhere = [inner for node in nodes for inner in ast.walk(node)]
    names = {getattr(node, "attr", getattr(node, "id", "")) for node in everywhere}
    parsing = everywhere if names & PARSERS else [inner for node in nodes for inner in same_scope(node)]
    for node in everywhere:
        match node:
            case ast.Attribute(value=ast.Name(id="sys"), attr="argv", ctx=ast.Load()):
                yield ast.unparse(node)
            case ast.ImportFrom(module="sys") if "argv" in (alias.name for alias in node.names):
                yield ast.unparse(node)
            case _:
                pass
    for node in parsing:
        match node:
            case ast.Call(func=ast.Attribute(attr="parse_args" | "parse_known_args"), args=[], keywords=keywords):
                if "args" not in (keyword.arg for keyword in keywords):
                    yield ast.unparse(node)
            case _:
                pass


def _belongs(statement: Statement, needed: set[str]) -> bool:
    node = statement.node
    if isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*"):
        return True
    return not needed.isdisjoint(statement.binds) or not needed.isdisjoint(statement.touches)


def _is_relative(node: ast.stmt) -> bool:
    return any(isinstance(inner, ast.ImportFrom) and inner.level > 0 for inner in ast.walk(node))
