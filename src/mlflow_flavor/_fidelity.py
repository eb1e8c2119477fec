"""Whether a workflow that a written script made is the one that its author holds: same steps, same state."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from mlflow_flavor._model_code import module_of
from mlflow_flavor._pairs import UnknownError, UnsetError
from mlflow_flavor._sameness import difference, places_of_new_identifiers
from workflows import Workflow
from workflows.representation import get_workflow_representation

__all__ = ["Change", "Sources", "change"]

INSTANCE = "its"

Compared = tuple[str, Any, Any]
"""What a value is called, the value, and what the source makes in its place."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the variables are that an author's workflow uses, and those that the one of its source uses.

    Attributes:
        home: The author's module.
        names: Variables of it which the source sets too.
        helper: The module of the model that is the same; empty if it is the script itself.
    """

    home: ModuleType
    names: frozenset[str]
    helper: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What of a class or an instance is not what its source makes.

    Attributes:
        reason: That, in words.
        of_instance: It is of the instance, and its class may well be what its source makes.
        unknown: It was not changed, but cannot say whether it was.
        unset: It is None in the source: a client, say, that is made when it is first needed, or was given.
    """

    reason: str
    of_instance: bool
    unknown: bool = False
    unset: bool = False


def change(
    original: type[Workflow] | Workflow, sources: Sources, rebuilt: Workflow, rebuild: Callable[[], Workflow]
) -> Change | None:
    """What of a class or an instance, and of its module's names, is not what its source makes; None if all is.

    Args:
        original: What the author holds.
        sources: Its module, and the model's.
        rebuilt: What the source makes.
        rebuild: Makes another of it, if it takes that to know which identifiers are new each time.
    """
    if not isinstance(original, type) and (steps := _steps(original)) != _steps(rebuilt):
        names = ", ".join(sorted(steps ^ _steps(rebuilt)))
        return Change(f"its steps {names} were attached or removed by hand", of_instance=True)
    new = NewIdentifiers(sources, rebuilt, rebuild)
    for place, one, other in _compared(original, sources.home, sources, rebuilt):
        if (found := difference(place, one, other, new)) is not None:
            reason = str(found)
            if reason.startswith(f"{INSTANCE}."):
                reason = reason.replace(".", " ", 1)
            unknown, unset = isinstance(found, UnknownError), isinstance(found, UnsetError)
            return Change(reason, of_instance=place == INSTANCE, unknown=unknown, unset=unset)
    return None


class NewIdentifiers(Container[str]):
    """Places where a source makes another identifier each time, found out when the first such place is asked for."""

    def __init__(self, sources: Sources, rebuilt: Workflow, rebuild: Callable[[], Workflow]) -> None:
        self._sources = sources
        self._rebuilt = rebuilt
        self._rebuild = rebuild

    def __contains__(self, place: object) -> bool:
        return place in self._places

    @cached_property
    def _places(self) -> frozenset[str]:
        own = module_of(self._rebuilt, self._sources.helper)
        compared = _compared(self._rebuilt, own, self._sources, self._rebuild())
        return frozenset(place for each in compared for place in places_of_new_identifiers(*each))


def _compared(
    original: type[Workflow] | Workflow, home: ModuleType | None, sources: Sources, rebuilt: Workflow
) -> Iterator[Compared]:
    """The class, the instance if it is one, and the names: one that the module has lost is not used by it either."""
    cls = original if isinstance(original, type) else type(original)
    yield cls.__name__, cls, type(rebuilt)
    if not isinstance(original, type):
        yield INSTANCE, original, rebuilt
    module = module_of(rebuilt, sources.helper)
    if home is not None and module is not None:
        own, theirs = vars(home), vars(module)
        yield from ((name, own[name], theirs.get(name)) for name in sorted(sources.names) if name in own)


def _steps(workflow: Workflow) -> set[str]:
    nodes = get_workflow_representation(workflow).nodes
    return {node.label for node in nodes if node.node_type == "step"}
