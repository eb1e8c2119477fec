"""A module's top-level statements: what each binds, what it needs, and to what it adds something."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from mlflow_flavor._names import names_in

__all__ = [
    "IMPORTS",
    "LAMBDA",
    "Position",
    "Statement",
    "first_name",
    "has_lambda",
    "imported_names",
    "is_main_guard",
    "logging_call",
    "root_name",
    "same_scope",
    "statements_of",
]

LAMBDA = "<lambda>"
"""What every function without a name is called."""
IMPORTS = (ast.Import, ast.ImportFrom)
NEW_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
LOGGING = ("log_model", "start_run")
SAVING = ("mlflow_flavor.save_model", "save_model")
ENVIRONMENT = "environ"
FILLING = frozenset(  # methods of lists, dicts, sets and deques
    {
        *("append", "appendleft", "extend", "extendleft", "insert", "sort", "reverse", "rotate"),
        *("add", "update", "setdefault", "move_to_end", "subtract"),
        *("difference_update", "intersection_update", "symmetric_difference_update"),
        *("clear", "discard", "pop", "popitem", "popleft", "remove"),
    }
)
NEWLINE = re.compile(r"\r\n|\r|\n")  # where Python's parser counts a line: `str.splitlines` knows six more places
COMMENT = re.compile(r"#(?!!|.*?coding[:=][ \t]*[-\w.])")  # none that is for the first two lines of a file (PEP 263)
BLOCKS = (ast.With, ast.AsyncWith, ast.If, ast.Try, ast.TryStar, ast.For, ast.AsyncFor, ast.While, ast.Match)


Position = tuple[int, int]
"""Line and column."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: what it binds, what it needs, and to what it adds something.

    Attributes:
        environment: The names by which it sets variables of the process: `os` in `os.environ["A"] = "b"`.
        fills: What it fills or empties by a method, if that is a list, a dict or a set: `a.b` in `a.b.append(1)`.
        running: It is a block, or the head of one, in which the module still is.
        guarded: Only the author's own program runs it, and nobody who imports the module, or it is there for MLflow.
    """

    text: str
    line: int
    node: ast.stmt
    binds: frozenset[str]
    needs: frozenset[str]
    touches: frozenset[str]
    environment: frozenset[str] = frozenset()
    fills: frozenset[str] = frozenset()
    running: bool = False
    guarded: bool = False

    @property
    def position(self) -> Position:
        """Where it begins in its module."""
        return self.node.lineno, self.node.col_offset


@lru_cache(maxsize=1)  # one module is asked for many parts of it
def statements_of(source: str, line: int | None = None) -> tuple[Statement, ...]:
    """The top-level statements of a module, in its order.

    What stands under `if __name__ == "__main__":` counts as if it stood outside, and so does what stands in a `with`,
    `if` or `try` in which the module still is: each statement there that began before `line` has run once. So does what
    stands in a `with` that starts an MLflow run or logs a model; its head is a statement too, with all that it needs.
    The module's docstring binds `__doc__`.

    Args:
        source: The module's source.
        line: Where a module is that is still being run; what begins there or after it has not run, and is left out.

    Raises:
        SyntaxError: If it is not valid Python.
    """
    lines = NEWLINE.split(source)
    body = ast.parse(source).body
    starts = [_first_line(node, lines) for node in body]
    found: list[Statement] = []
    for number, node in enumerate(body):
        alone = (number == 0 or body[number - 1].end_lineno != node.lineno) and (
            number + 1 == len(body) or body[number + 1].lineno != node.end_lineno
        )
        text = "\n".join(lines[starts[number] - 1 : node.end_lineno]) if alone else ast.unparse(node)
        if number == 0 and isinstance(node, ast.Expr) and ast.get_docstring(ast.Module([node], [])) is not None:
            found.append(replace(_statement(node, text), binds=frozenset({"__doc__"})))
        else:
            found += _opened(node, text, lines, line)
    return tuple(found if line is None else _that_have_run(found, line))


def _that_have_run(statements: list[Statement], line: int) -> list[Statement]:
    at_line = [s for s in statements if not s.running and _spans([s.node], line)]
    unfinished = at_line if len(at_line) == 1 else []  # of several in one line nobody knows which it is
    return [s for s in statements if s.line <= line and s not in unfinished]


def _opened(node: ast.stmt, text: str, lines: list[str], line: int | None) -> Iterator[Statement]:
    """The statement; or those in it, if a script has to do without the block around them."""
    if isinstance(node, ast.If) and is_main_guard(node):
        head, block = None, node.body
    elif line is not None and isinstance(node, BLOCKS) and _spans([node], line):
        head, block = _running(node, line)
    elif isinstance(node, ast.With) and logging_call(node) is not None:
        bound = names_in([ast.With(node.items, [ast.Pass()], lineno=0)]).bound
        whole = _statement(node, text)
        head, block = replace(whole, binds=bound, touches=frozenset(), environment=frozenset()), node.body
    else:
        head, block = _statement(node, text), ()
    if head is not None:
        yield head
    guarded = head is None or (isinstance(node, ast.With) and logging_call(node) is not None)
    for inner in block:
        for found in _opened(inner, _text_of_inner(inner, lines), lines, line):
            yield replace(found, guarded=True) if guarded else found


def _text_of_inner(node: ast.stmt, lines: list[str]) -> str:
    """A block's statement as a module's, if it can be in the lines that it has: Python compiles it by those."""
    text = textwrap.dedent("\n".join(lines[_first_line(node, lines) - 1 : node.end_lineno]))
    try:
        found = ast.parse(text).body
    except SyntaxError:
        found = []
    return text if [ast.dump(statement) for statement in found] == [ast.dump(node)] else ast.unparse(node)


def _running(node: ast.stmt, line: int) -> tuple[Statement, Sequence[ast.stmt]]:
    """A block in which the module is: what it binds but for its statements, and these, if each of them runs once."""
    heads: list[ast.stmt] = []
    match node:
        case ast.With(items=items, body=block) | ast.AsyncWith(items=items, body=block):
            heads.append(ast.With(items, [ast.Pass()], lineno=0))
        case ast.If(test=test, body=body, orelse=orelse):
            heads.append(ast.Expr(test))
            block = body if _spans(body, line) else orelse
        case ast.Try(body=block) | ast.TryStar(body=block):
            pass
        case _:
            block = ()
    if not _spans(block, line):
        return replace(_statement(node, ""), running=True), ()
    return Statement("", node.lineno, node, names_in(heads).bound, frozenset(), frozenset(), running=True), block


def _spans(block: Sequence[ast.stmt], line: int) -> bool:
    return bool(block) and block[0].lineno <= line <= (block[-1].end_lineno or line)


def _first_line(node: ast.stmt, lines: list[str]) -> int:
    """The statement's first line, its decorators and the comment above it included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    while first > 1 and COMMENT.match(lines[first - 2]):
        first -= 1
    return first


def is_main_guard(node: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`, which no model's script goes into."""
    tests = ("__name__ == '__main__'", "'__main__' == __name__")
    return isinstance(node, ast.If) and ast.unparse(node.test).replace('"', "'") in tests


def _statement(node: ast.stmt, text: str) -> Statement:
    inner = list(same_scope(node))
    targets = [n for n in inner if isinstance(n, ast.Attribute | ast.Subscript) and not isinstance(n.ctx, ast.Load)]
    targets += [n.args[0] for n in inner if isinstance(n, ast.Call) and _sets_attribute(n)]
    environment = [n for n in targets if _is_environment(n)]
    names = names_in([node])
    return Statement(
        text,
        node.lineno,
        node,
        names.bound,
        names.read | names.declared,  # `total += 1` reads what is declared as well
        frozenset(_roots(n for n in targets if n not in environment)) | _owners(node),
        frozenset(_roots(environment)),
        frozenset(owner for n in inner for owner in _filled(n)),
    )


def _roots(nodes: Iterable[ast.expr]) -> Iterator[str]:
    return (root for node in nodes if (root := root_name(node)) is not None)


def _sets_attribute(call: ast.Call) -> bool:
    """Whether it is `setattr(a.b, name, value)`, which is `a.b.name = value`."""
    named = bool(call.args) and all(isinstance(n, ast.Name | ast.Attribute | ast.Load) for n in ast.walk(call.args[0]))
    return named and ast.unparse(call.func) == "setattr"


def _filled(node: ast.AST) -> Iterator[str]:
    """What a line that only calls a method puts something into, if it is a collection."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=method))) if method in FILLING:
            yield ast.unparse(owner)
        case _:
            pass


def _is_environment(target: ast.expr) -> bool:
    """Whether it is `os.environ`, or a variable there."""
    owner = target.value if isinstance(target, ast.Subscript) else target
    return ast.unparse(owner).rpartition(".")[2] == ENVIRONMENT


def same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is below it, but for the insides of functions and classes."""
    yield node
    if not isinstance(node, NEW_SCOPE):
        for child in ast.iter_child_nodes(node):
            yield from same_scope(child)


def has_lambda(node: ast.AST) -> bool:
    """Whether there is a function without a name in a statement, outside of other functions and of classes."""
    return any(isinstance(inner, ast.Lambda) for inner in same_scope(node))


def logging_call(tree: ast.AST) -> str | None:
    """The first call that starts an MLflow run, or logs or saves a model, outside of functions and classes."""
    calls = (ast.unparse(node.func) for node in same_scope(tree) if isinstance(node, ast.Call))
    return next((f"{call}()" for call in calls if call.rpartition(".")[2] in LOGGING or call in SAVING), None)


@lru_cache(maxsize=4096)  # one statement is asked for many parts of its module
def imported_names(node: ast.stmt) -> frozenset[str]:
    """What a statement imports."""
    return names_in(n for n in same_scope(node) if isinstance(n, ast.Import | ast.ImportFrom)).bound


def root_name(node: ast.expr) -> str | None:
    """`a` of `a.b["c"].d`; None if it does not begin with a name."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def first_name(expression: str) -> str:
    """`a` of `a`, `a()`, `a.b()` and `a["c"]`."""
    return re.split(r"[.(\[]", expression, maxsplit=1)[0]


def _owners(node: ast.stmt) -> set[str]:
    """Classes that a function's decorators give it to: `@step(workflow=Agent)`."""
    calls = [d for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Call)]
    values = [k.value for call in calls for k in call.keywords if k.arg == "workflow"]
    return {value.id for value in values if isinstance(value, ast.Name)}
