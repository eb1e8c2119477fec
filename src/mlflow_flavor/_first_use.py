"""Which attributes a class fills by itself when they are first used: a client, say, that is made for its first call."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

__all__ = ["fills_when_used"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def fills_when_used(cls: type, name: str) -> bool:
    """Whether `self.<name>` is None in the source of a class until a method of it makes something to put there.

    What may have been given to the object does not count: a value that comes from a parameter.
    """
    found = [(function, value) for function in _methods(cls) for value in _values(function, name)]
    begun = [value for function, value in found if function.name == "__init__"]
    made = [(function, value) for function, value in found if function.name != "__init__"]
    given = any(_names(value) & _parameters(function) for function, value in made)
    return bool(made) and not given and all(isinstance(v, ast.Constant) and v.value is None for v in begun)


def _methods(cls: type) -> Iterator[Function]:
    """The methods of a class and of those below it, as far as their source is there."""
    for base in cls.__mro__[:-1]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):  # of a console, of C, or cut out of something else
            continue
        yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def _values(function: Function, name: str) -> Iterator[ast.expr]:
    """What a method puts into an attribute of its object."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value) if any(_is_attribute(t, name) for t in targets):
                yield value
            case ast.AnnAssign(target=target, value=ast.expr() as value) if _is_attribute(target, name):
                yield value
            case _:
                pass


def _is_attribute(target: ast.expr, name: str) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == name


def _names(value: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}


def _parameters(function: Function) -> set[str]:
    """What a method is called with, but the object itself."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args][1:] + arguments.kwonlyargs
    return {argument.arg for argument in (*named, arguments.vararg, arguments.kwarg) if argument is not None}
