"""What part of a module, cells or some of its statements, sets for itself and needs of the rest.

What a function sets by `global` is there for others only if somebody calls that function: a top-level statement of the
part, or the function that reads it, before it does. Nothing counts that stands in a branch or a loop.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from mlflow_flavor._names import names_in
from mlflow_flavor._statements import is_main_guard, same_scope

__all__ = ["OF_IPYTHON", "PartNames", "names_of_part", "set_by_steps_alone"]

# IPython puts them among Python's own names; where no notebook is, nobody has them.
OF_IPYTHON = frozenset({"display", "get_ipython"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Setters = Mapping[str, Set[str]]
"""What functions, by their names, set whenever they are called."""
Place = tuple[int, int]
"""Line and column."""

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SIMPLE = (ast.Assign, ast.AnnAssign, ast.Expr, ast.Return, ast.Import, ast.ImportFrom, *DEFINITIONS)
BRANCHES = (ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)


@dataclass(frozen=True, slots=True)
class PartNames:
    """Names of the top level of a part.

    Attributes:
        bound: What the part sets, defines or imports.
        needed: What it reads, its functions included, and neither sets itself nor finds among Python's own.
        declared: What its functions set or change by `global`.
        star_imports: Modules of which it imports `*`; what those give is needed too, as far as it is read.
    """

    bound: frozenset[str]
    needed: frozenset[str]
    declared: frozenset[str]
    star_imports: frozenset[str]


def names_of_part(texts: Iterable[str]) -> PartNames:
    """The names of texts that run one after the other.

    Raises:
        SyntaxError: If one is not valid Python.
    """
    body = [node for node in ast.parse("\n".join(texts)).body if not is_main_guard(node)]  # no model runs that
    everywhere = [inner for node in body for inner in ast.walk(node)]
    setters = _setters([node for node in body if isinstance(node, Function)])
    whole = names_in(body)
    bound = whole.bound.union(*(_set_by(node, frozenset(), setters) for node in _sure(body)))
    kept = {name for node in everywhere if isinstance(node, Function) for name in _left_open(node, setters)}
    needed = names_in(body).read | kept
    stars = [node for node in everywhere if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    return PartNames(
        bound,
        needed - bound - (vars(builtins).keys() - OF_IPYTHON),
        whole.declared,
        frozenset(node.module or "" for node in stars),
    )


def set_by_steps_alone(texts: Iterable[str]) -> set[str]:
    """Variables that steps declare `global`, and that nothing else in these texts sets: no run begins with them.

    Raises:
        SyntaxError: If one is not valid Python.
    """
    tree = ast.parse("\n".join(texts))
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    by_steps, by_others = set[str](), set(names_in(tree.body).bound)
    for function in functions:
        (by_steps if _is_step(function) else by_others).update(_declared(function))
    return by_steps - by_others


def _is_step(function: Function) -> bool:
    decorators = [d.func if isinstance(d, ast.Call) else d for d in function.decorator_list]
    return any(ast.unparse(decorator).rpartition(".")[2] == "step" for decorator in decorators)


def _setters(functions: Sequence[Function]) -> Setters:
    """Found from those that set to those that call them: asking each anew for every link of a chain takes minutes."""
    named = {function.name: function for function in functions}
    callers: defaultdict[str, set[str]] = defaultdict(set)
    for name, function in named.items():
        for call in _calls_for_sure(function):
            callers[call].add(name)
    found = {name: set(_first_set(function, {})) for name, function in named.items()}
    news = [(name, variable) for name, own in found.items() for variable in own]
    while news:
        called, variable = news.pop()
        for caller in callers[called]:
            if variable not in found[caller]:
                found[caller].add(variable)
                news.append((caller, variable))
    return found


def _calls_for_sure(function: Function) -> Iterator[str]:
    inner = (inner for node in function.body for inner in same_scope(node))
    if not any(_asks_whether_set(node) for node in inner):
        yield from (call for node in _sure(function.body) for call in _called(_evaluated(node)))


def _left_open(function: Function, setters: Setters) -> Iterator[str]:
    """Variables that a function changes and does not set before; reads of what it sets get the name of Python's own."""
    first = _first_set(function, setters)
    declared = _declared(function)
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name in first and first[name] <= _start(node):
                node.id = object.__name__
            case ast.AugAssign(target=ast.Name(id=name)) | ast.Name(id=name, ctx=ast.Del()):
                if name in declared and not (name in first and first[name] <= _start(node)):
                    yield name
            case _:
                pass


def _first_set(function: Function, setters: Setters) -> dict[str, Place]:
    """Variables of the module that a call of a function sets in any case, and where that is first done."""
    declared = _declared(function)
    inner = [inner for node in function.body for inner in same_scope(node)]
    if any(_asks_whether_set(node) for node in inner):
        return {name: (0, 0) for node in inner for name in _stored(node) if name in declared}
    found: dict[str, Place] = {}
    for node in _sure(function.body):
        found = dict.fromkeys(_set_by(node, declared, setters), _end(node)) | found
    return found


def _declared(function: Function) -> set[str]:
    inner = (inner for node in function.body for inner in same_scope(node))
    return {name for node in inner if isinstance(node, ast.Global) for name in node.names}


def _asks_whether_set(node: ast.AST) -> bool:
    """Whether a function finds out by this that nobody has set a variable yet."""
    if isinstance(node, ast.ExceptHandler):
        return "NameError" in ast.unparse(node.type or node)
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "globals"


def _sure(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that are run whenever these are."""
    for node in body:
        yield node
        if isinstance(node, ast.With | ast.AsyncWith | ast.Try | ast.TryStar):
            yield from _sure(node.body)


def _set_by(node: ast.stmt, declared: Set[str], setters: Setters) -> set[str]:
    """Variables of the module that a statement, without those in it, sets in any case: itself or by what it calls."""
    evaluated = _evaluated(node)
    own = {name for part in evaluated for name in _stored(part) if name in declared}
    return own.union(*(setters.get(call, ()) for call in _called(evaluated)))


def _evaluated(node: ast.stmt) -> list[ast.AST]:
    """What is evaluated whenever a statement is, without those in it."""
    match node:
        case ast.With(items=items) | ast.AsyncWith(items=items):
            parts: list[ast.AST] = [*items]
        case _:
            parts = [node] if isinstance(node, SIMPLE) else []
    return [inner for part in parts for inner in _straight(part)]


def _called(evaluated: Sequence[ast.AST]) -> Iterator[str]:
    return (node.func.id for node in evaluated if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))


def _straight(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated whenever the node is."""
    yield node
    if not isinstance(node, (*BRANCHES, *DEFINITIONS)):
        for child in ast.iter_child_nodes(node):
            yield from _straight(child)


def _stored(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.Name(ctx=ast.Store()):
            yield node.id
        case _:
            pass


def _start(node: ast.expr | ast.stmt) -> Place:
    return node.lineno, node.col_offset


def _end(node: ast.stmt) -> Place:
    """Where a statement has set what it sets: what stands on the right comes first, and a block last."""
    if isinstance(node, ast.With | ast.AsyncWith):
        return node.body[0].lineno, node.body[0].col_offset
    return node.end_lineno or 0, node.end_col_offset or 0
