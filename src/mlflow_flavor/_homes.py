"""Where a workflow is that is logged: the modules of the author's whose variables hold it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, cast

from mlflow_flavor._effects import bound_by_import
from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import code_of
from mlflow_flavor._origins import local_places
from mlflow_flavor._statements import first_name, same_scope
from workflows import Workflow

__all__ = ["calling_module", "places_of_workflow", "running_line"]


def places_of_workflow(
    original: type[Workflow] | Workflow, defining: ModuleType
) -> Iterator[tuple[ModuleType, list[str]]]:
    """The modules whose variables hold an instance, and the expressions for it there.

    Those that import it come last.
    """
    if not isinstance(original, type):
        homes = dict.fromkeys(_homes(original, defining))
        found = [(home, list(_expressions(original, vars(home)))) for home in homes]
        yield from sorted((each for each in found if each[1]), key=lambda each: bool(_imports_of(*each)))


def _homes(original: object, defining: ModuleType) -> Iterator[ModuleType]:
    """Modules of the author's that may have an instance: that which calls, that of the class, and what these know."""
    calling = calling_module()
    yield from (module for module in (calling, defining) if module is not None)
    yield from _imported_from(calling, original) if calling is not None else ()
    package = f"{defining.__name__.partition('.')[0]}."
    beside = [module for name, module in sys.modules.copy().items() if name.startswith(package)]
    others = [m for m in (*vars(calling or defining).values(), *beside) if is_a(m, ModuleType)]
    own = {"__main__", *local_places(m.__name__.partition(".")[0] for m in others)}
    yield from (m for m in others if m.__name__.partition(".")[0] in own and any(_expressions(original, vars(m))))


def _imported_from(module: ModuleType, original: object) -> Iterator[ModuleType]:
    """The modules from which one has it imported, at first hand or at second."""
    todo, seen = [module], {module}
    while todo:
        importing = todo.pop()
        names = _imports_of(importing, list(_expressions(original, vars(importing))))
        found = {other for name in names if (other := sys.modules.get(name)) is not None} - seen
        yield from found
        seen |= found
        todo += found


def _expressions(workflow: object, variables: Mapping[str, Any]) -> Iterator[str]:
    """What gives a workflow in its module: its variables, then items of dicts and lists: a loop may be over those."""
    named = list(variables.items())
    yield from (name for name, value in named if value is workflow)
    for name, value in named:
        items: Iterable[tuple[object, object]] = ()
        if is_a(value, dict):
            items = cast("dict[object, object]", value).items()
        elif is_a(value, list) or is_a(value, tuple):
            items = enumerate(cast("Sequence[object]", value))
        if not name.startswith("__"):
            yield from (f"{name}[{k!r}]" for k, item in items if item is workflow and (is_a(k, str) or is_a(k, int)))


def _imports_of(module: ModuleType, expressions: Sequence[str]) -> set[str]:
    """The modules from which one has what these expressions begin with."""
    tree = code_of(module)
    wanted = {first_name(each) for each in expressions}
    nodes = same_scope(tree) if tree is not None else ()
    pairs = (pair for node in nodes for pair in bound_by_import(node, module.__package__ or ""))
    return {found for name, found in pairs if name in wanted}


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def calling_module() -> ModuleType | None:
    """The module that called into this package."""
    names = (frame.f_globals.get("__name__", "") for frame in _frames())
    outside = next((name for name in names if name.partition(".")[0] != __name__.partition(".")[0]), "")
    return sys.modules.get(outside)


def running_line(module: ModuleType) -> int | None:
    """The line at which a module that is still being run stands."""
    own = (f for f in _frames() if f.f_code.co_name == "<module>" and f.f_globals is vars(module))
    return next((frame.f_lineno for frame in own), None)
