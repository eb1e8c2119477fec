"""Which variables of the author's modules a function reads."""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from types import CodeType, FunctionType, ModuleType
from typing import Any

from mlflow_flavor._kinds import is_a

__all__ = ["SUBCLASSES", "asks_for_subclasses", "imported_by", "read_by"]

IMPORT = dis.opmap["IMPORT_NAME"]
SUBCLASSES = "__subclasses__"
CONSTANTS = ("LOAD_CONST", "LOAD_SMALL_INT")


def read_by(function: FunctionType, modules: Mapping[str, ModuleType]) -> Iterator[tuple[str, object]]:
    """The variables that a function of one of these modules reads, with their places: `shop.tools.TOOLS`.

    That is, of its own module, and of others that it has by a name (`registry.TOOLS`) or imports itself. Code says
    which names are read, not of what: a name counts for every module that the code has.
    """
    known: dict[str, Any] = function.__globals__
    package = str(known.get("__package__") or "")
    todo = [function.__code__]
    while todo:
        code = todo.pop()
        names = {part for name in code.co_names for part in name.split(".")}
        yield from ((f"{known.get('__name__')}.{name}", known[name]) for name in _values(names, known))
        had = [modules[name] for name in _imported_by(code, package) if name in modules]
        had += [value for name in names if is_a(value := known.get(name), ModuleType)]
        for module in had:  # which grows: a package has its modules
            variables = vars(module)
            if modules.get(module.__name__) is module:
                yield from ((f"{module.__name__}.{name}", variables[name]) for name in _values(names, variables))
                inner = (variables[name] for name in names & variables.keys())
                had += [each for each in inner if is_a(each, ModuleType) and each not in had]
        todo.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))


def _values(names: set[str], variables: Mapping[str, Any]) -> Iterator[str]:
    """Those of some names that are variables, and no modules: of such a one, code reads more than itself."""
    return (name for name in sorted(names & variables.keys()) if not is_a(variables[name], ModuleType))


def imported_by(function: FunctionType) -> set[str]:
    """The modules that a function imports when it is called, and names in them as if they were modules."""
    package = str(function.__globals__.get("__package__") or "")
    found = set[str]()
    todo = [function.__code__]
    while todo:
        code = todo.pop()
        found |= set(_imported_by(code, package))
        todo.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
    return found


def asks_for_subclasses(code: CodeType) -> bool:
    """Whether code, or that of a function in it, asks some class for its subclasses."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return SUBCLASSES in code.co_names or any(map(asks_for_subclasses, inner))


def _imported_by(code: CodeType, package: str) -> Iterator[str]:
    """What code imports, by the names of the modules; also what may be a name in one of them."""
    if IMPORT not in code.co_code[::2]:
        return
    constants: list[Any] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in CONSTANTS:
            constants.append(instruction.argval)
        elif instruction.opcode == IMPORT:
            level, names = constants[-2:]
            if level and not package:
                continue
            base = resolve_name(f"{'.' * level}{instruction.argval}", package) if level else str(instruction.argval)
            yield base
            yield from (f"{base}.{name}" for name in names or ())
