"""Whether a workflow that a written script made is the one that its author holds: same steps, same state."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

from mlflow_flavor._model_code import script_of
from mlflow_flavor._sameness import difference, places_of_new_identifiers
from workflows import Workflow
from workflows.representation import get_workflow_representation

__all__ = ["change"]

Compared = tuple[str, Any, Any]
"""What a value is called, the value, and what the source makes in its place."""


def change(
    original: type[Workflow] | Workflow,
    home: ModuleType,
    names: Iterable[str],
    rebuilt: Workflow,
    rebuild: Callable[[], Workflow],
) -> str | None:
    """In words, what of a class or an instance, and of its module's names, is not what its source makes; or None.

    Args:
        original: What the author holds.
        home: The module that it is of.
        names: Variables of that module which the source sets too.
        rebuilt: What the source makes.
        rebuild: Makes another of it, if it takes that to know which identifiers are new each time.
    """
    if not isinstance(original, type) and (steps := _steps(original)) != _steps(rebuilt):
        return f"its steps {', '.join(sorted(steps ^ _steps(rebuilt)))} were attached or removed by hand"
    new = NewIdentifiers(names, rebuilt, rebuild)
    compared = _compared(original, home, names, rebuilt)
    found = next((text for each in compared if (text := difference(*each, new)) is not None), None)
    return found.replace("its.", "its ", 1) if found is not None and found.startswith("its.") else found


class NewIdentifiers(Container[str]):
    """Places where a source makes another identifier each time, found out when the first such place is asked for."""

    def __init__(self, names: Iterable[str], rebuilt: Workflow, rebuild: Callable[[], Workflow]) -> None:
        self._names = names
        self._rebuilt = rebuilt
        self._rebuild = rebuild

    def __contains__(self, place: object) -> bool:
        return place in self._places

    @cached_property
    def _places(self) -> frozenset[str]:
        compared = _compared(self._rebuilt, script_of(self._rebuilt), self._names, self._rebuild())
        return frozenset(place for each in compared for place in places_of_new_identifiers(*each))


def _compared(
    original: type[Workflow] | Workflow, home: ModuleType | None, names: Iterable[str], rebuilt: Workflow
) -> Iterator[Compared]:
    """The class, the instance if it is one, and the names: one that the module has lost is not used by it either."""
    cls = original if isinstance(original, type) else type(original)
    yield cls.__name__, cls, type(rebuilt)
    if not isinstance(original, type):
        yield "its", original, rebuilt
    script = script_of(rebuilt)
    if home is not None and script is not None:
        own, theirs = vars(home), vars(script)
        yield from ((name, own[name], theirs.get(name)) for name in sorted(names) if name in own)


def _steps(workflow: Workflow) -> set[str]:
    nodes = get_workflow_representation(workflow).nodes
    return {node.label for node in nodes if node.node_type == "step"}
