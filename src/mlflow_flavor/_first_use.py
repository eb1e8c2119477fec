"""Which attributes a class fills by itself when they are first used: a client, say, that is made for its first call."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import fields, is_dataclass

from mlflow_flavor._author_text import text_of_module
from mlflow_flavor._origins import is_local
from mlflow_flavor._statements import same_scope

__all__ = ["fills_when_used"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
Names = Set[str]
Put = tuple[ast.expr | None, bool]
"""What is put into an attribute, None if nobody can say, and whether that is done only where nothing is in it yet."""


def fills_when_used(cls: type, attribute: str) -> bool:
    """Whether `self.<attribute>` is None in the source of a class until its own code makes something to put there.

    That counts where the code has tested that nothing is there, makes it of no parameter and everywhere alike, and
    where all methods that use it do so, call one that does, or test it too. All else that is put there may have been
    given to the object, or is made by a method that the model's user would have to call.
    """
    if _is_set_elsewhere(cls, attribute):
        return False
    methods = [(method, _names_in(base, attribute)) for base in cls.__mro__[:-1] for method in _methods(base)]
    puts = [(method, *put) for method, names in methods for put in _puts(method.body, names, unset=False)]
    made = [(method, value, first) for method, value, first in puts if not _is_none(value)]
    makers = {method.name for method, _, _ in made}
    return (
        len({ast.unparse(value) if value is not None else "" for _, value, _ in made}) == 1
        and all(value is not None and first and not _given(m) & _names(value) for m, value, first in made)
        and all(_is_ready(method, names, makers) for method, names in methods)
    )


def _is_set_elsewhere(cls: type, attribute: str) -> bool:
    """Whether the attribute may be set by its name, by what makes a dataclass, or from outside of the class."""
    if attribute in _fields(cls):
        return True
    for module in (cls.__module__, "__main__"):
        stored = (node for node in ast.walk(_tree(module)) if _is_stored(node, {attribute}))
        if any(isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self" for node in stored):
            return True
    bases = [base for base in cls.__mro__[:-1] if any(_is_set_by_name(node, attribute) for node in _nodes(base))]
    return any(is_local(base.__module__) for base in bases)  # a library's class sets what it knows itself


def _fields(cls: type) -> set[str]:
    return {field.name for field in fields(cls) if field.init} if is_dataclass(cls) else set()


def _tree(module: str) -> ast.Module:
    found = sys.modules.get(module)
    try:
        return ast.parse((text_of_module(found) if found is not None else None) or "")
    except SyntaxError:  # the file of a program that is no Python
        return ast.Module([], [])


def _names_in(cls: type, attribute: str) -> Names:
    """What the attribute may be called in a class: `__a` is `_Class__a` outside."""
    return {attribute, attribute.removeprefix(f"_{cls.__name__.lstrip('_')}")}


def _nodes(cls: type) -> Iterator[ast.AST]:
    classes = [n for n in ast.walk(_tree(cls.__module__)) if isinstance(n, ast.ClassDef) and n.name == cls.__name__]
    return (node for found in classes[-1:] for node in ast.walk(found))


def _methods(cls: type) -> Iterator[Function]:
    body = next((node.body for node in _nodes(cls) if isinstance(node, ast.ClassDef)), ())
    return (inner for part in body for inner in same_scope(part) if isinstance(inner, Function))


def _is_ready(method: Function, names: Names, makers: Names) -> bool:
    """Whether a method finds the attribute filled: it tests that, calls what fills it, or does not use it."""
    inner = list(ast.walk(method))
    used = {node.attr for node in inner if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    return used.isdisjoint(names) or not used.isdisjoint(makers) or any(_is_tested(node, names) for node in inner)


def _is_tested(node: ast.AST, names: Names) -> bool:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
            tests = [test]
        case ast.BoolOp(values=tests):
            pass
        case _:
            tests = []
    return any(_says_unset(test, names, holds=holds) for test in tests for holds in (True, False))


def _puts(body: Sequence[ast.stmt], names: Names, *, unset: bool) -> Iterator[Put]:
    """What statements put into the attribute, of which it may be known that it is not set."""
    for node in body:
        match node:
            case ast.If(test=test, body=inner, orelse=orelse):
                yield from _puts(inner, names, unset=unset or _says_unset(test, names))
                yield from _puts(orelse, names, unset=unset or _says_unset(test, names, holds=False))
                if isinstance(inner[-1], ast.Return | ast.Raise | ast.Continue | ast.Break):
                    unset = unset or _says_unset(test, names, holds=False)
            case ast.Assign(targets=[ast.Attribute(attr=attr)], value=value) if attr in names:
                yield from _values(value, names, unset)
            case ast.AnnAssign(target=ast.Attribute(attr=attr), value=value) if attr in names:
                yield from _values(value, names, unset) if value is not None else ()
            case ast.With() | ast.AsyncWith() | ast.Try() | ast.TryStar() | ast.For() | ast.AsyncFor() | ast.While():
                yield from _stored_in([n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.stmt)], names)
                for block in ("body", "orelse", "finalbody"):
                    yield from _puts(getattr(node, block, ()), names, unset=unset)
            case _:
                yield from _stored_in([node], names)


def _values(value: ast.expr, names: Names, unset: bool) -> Iterator[Put]:
    """What an expression may give, but for what is in the attribute already: `self._a or make()`."""
    match value:
        case ast.Attribute(attr=attr) if attr in names:
            return
        case ast.IfExp(test=test, body=body, orelse=orelse) if _is_tested(value, names):
            yield from _values(body, names, unset or _says_unset(test, names))
            yield from _values(orelse, names, unset or _says_unset(test, names, holds=False))
        case ast.BoolOp(op=ast.Or(), values=[first, *rest]):
            yield from _values(first, names, unset)
            unset = unset or _says_unset(first, names, holds=False)
            yield from (put for other in rest for put in _values(other, names, unset))
        case _:
            yield value, unset


def _says_unset(test: ast.expr, names: Names, *, holds: bool = True) -> bool:
    """Whether the attribute is not set if a test holds; or if it does not."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _says_unset(operand, names, holds=not holds)
        case ast.BoolOp(op=op, values=values):
            each = [_says_unset(value, names, holds=holds) for value in values]
            if isinstance(op, ast.And) is holds:
                return any(each)
            own = [_is_about(value, names) for value in values]  # `self._a is None or self._a.closed`
            return any(each) and all(told or about for told, about in zip(each, own, strict=True))
        case ast.Compare(left=ast.Attribute(attr=attr), ops=[op], comparators=[ast.Constant(value=None)]):
            return attr in names and isinstance(op, ast.Is | ast.Eq if holds else ast.IsNot | ast.NotEq)
        case ast.Attribute(attr=attr):
            return attr in names and not holds
        case _:
            return False


def _is_about(test: ast.expr, names: Names) -> bool:
    """Whether a test asks about the attribute alone."""
    attributes = {node.attr for node in ast.walk(test) if isinstance(node, ast.Attribute)}
    return not attributes.isdisjoint(names) and _names(test) == {"self"}


def _stored_in(nodes: Sequence[ast.AST], names: Names) -> Iterator[Put]:
    if any(_is_stored(inner, names) for node in nodes for inner in ast.walk(node)):
        yield None, False


def _is_stored(node: ast.AST, names: Names) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in names


def _is_set_by_name(node: ast.AST, attribute: str) -> bool:
    match node:
        case ast.Call(args=[*_, name, _], func=ast.Name(id="setattr") | ast.Attribute(attr="__setattr__")):
            return not isinstance(name, ast.Constant) or name.value == attribute
        case ast.Call(func=ast.Attribute(value=mapping, attr="update")) | ast.Subscript(value=mapping, ctx=ast.Store()):
            return ast.unparse(mapping) in ("self.__dict__", "vars(self)")
        case _:
            return False


def _is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _given(function: Function) -> set[str]:
    """The parameters of a method but `self`, and the local variables that they reach."""
    found = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)} - {"self"}
    flows = [(_names(target), _names(source)) for node in ast.walk(function) for target, source in _flows(node)]
    while more := {name for targets, sources in flows if sources & found for name in targets} - found:
        found |= more
    return found


def _flows(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """What a node gives a value, and where that comes from."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target, value) for target in targets)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield target, value
        case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            yield target, value
        case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
            yield target, value
        case ast.comprehension(target=target, iter=value):
            yield target, value
        case ast.withitem(optional_vars=ast.expr() as target, context_expr=value):
            yield target, value
        case _:
            pass
