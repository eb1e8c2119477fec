"""Whether two compiled functions are of the same source, however that was compiled: as a file, or cell by cell."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from inspect import CO_VARARGS, CO_VARKEYWORDS
from itertools import zip_longest
from types import CodeType

__all__ = ["same_code"]

JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
COLLECTING = CO_VARARGS | CO_VARKEYWORDS
CONSTANTS = frozenset(dis.hasconst)
# They do nothing alone: they keep a place, or are part of another instruction.
FILLING = frozenset({"NOP", "PUSH_NULL", "EXTENDED_ARG"})
# Their arguments also say whether a call follows, or whether a name is found as a method.
NAMING = frozenset({"LOAD_ATTR", "LOAD_GLOBAL", "LOAD_METHOD"})
LINE = "__firstlineno__"  # what a class has in it since Python 3.13, and is another one in another file


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two functions do the same, and say the same of themselves.

    What is compared is what each instruction does, not its bytes: `name.method()` is compiled in another way where
    `name` is imported in the same text, and the cells of a notebook are compiled one by one, their script as a whole.
    """
    pairs = zip_longest(_instructions(one), _instructions(other), fillvalue=("", None))
    return _head(one) == _head(other) and all(
        name == another and _same_argument(argument, theirs) for (name, argument), (another, theirs) in pairs
    )


def _head(code: CodeType) -> tuple[object, ...]:
    """What the function may be called with, and its text, if it has one: that describes a tool to a model."""
    named = code.co_argcount + code.co_kwonlyargcount
    text = code.co_consts[0] if code.co_consts and isinstance(code.co_consts[0], str) else None
    return code.co_argcount, code.co_posonlyargcount, code.co_varnames[:named], code.co_flags & COLLECTING, text


def _same_argument(one: object, other: object) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return same_code(one, other)
    return type(one) is type(other) and one == other


def _instructions(code: CodeType) -> Iterator[tuple[str, object]]:
    """What each instruction does, and with what; a jump goes to an instruction by its number, not by its place."""
    found = list(dis.get_instructions(code))
    number = 0
    numbers: dict[int, int] = {}
    for instruction in found:
        numbers[instruction.offset] = number
        number += instruction.opname not in FILLING
    for instruction, following in zip_longest(found, found[1:]):
        name, argument = instruction.opname, instruction.arg or 0
        if name in FILLING:
            continue
        if instruction.opcode in JUMPS:
            yield name, numbers[instruction.argval]
        elif instruction.opcode in CONSTANTS:
            yield name, LINE if following is not None and following.argval == LINE else code.co_consts[argument]
        elif name in NAMING:
            yield "LOAD_ATTR" if name == "LOAD_METHOD" else name, instruction.argval
        else:
            yield name, argument
