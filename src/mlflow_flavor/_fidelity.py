"""Whether a workflow that a written script made is the one that its author holds: same steps, same state."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow_flavor._holdings import Comparison, Holding, imports, left_out, places
from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import imported_modules, modules_of_model
from mlflow_flavor._origins import own_tops
from mlflow_flavor._pairs import AbsentError, DifferenceError, UnknownError, UnsetError
from mlflow_flavor._parts import may_hold
from mlflow_flavor._sameness import PLAIN, difference, places_of_change, places_of_new_identifiers
from mlflow_flavor._unloaded import NOTHING_UNLOADED, Source, Unloaded, with_packages
from workflows import Workflow
from workflows.representation import get_workflow_representation

__all__ = [
    "Change",
    "Sources",
    "change",
    "changed",
    "held_elsewhere",
    "held_in_all",
    "imports_of",
    "modules_used",
    "of_author",
    "places_of",
    "script_of",
    "unloaded_of",
]

INSTANCE = "its"
MADE_WHEN_NEEDED = ": make it when it is first needed, in a function with @functools.cache that is called for it"
NOT_WHAT = " is not what its source makes"

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
        unknown: It was not changed, as far as anybody can know: it cannot say, or is another one each time.
        unset: It is None in the source: a client, say, that is made when it is first needed, or was given.
        absent: It is not in the source at all.
    """

    reason: str
    of_instance: bool
    unknown: bool = False
    unset: bool = False
    absent: bool = False


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
            if type(found) is DifferenceError and new.has_another(found):
                advice = "" if place == INSTANCE else MADE_WHEN_NEEDED
                reason = f"{reason.removesuffix(NOT_WHAT)} is another one each time its source is run{advice}"
                return Change(reason, place == INSTANCE, unknown=True)
            kinds = (isinstance(found, kind) for kind in (UnknownError, UnsetError, AbsentError))
            return Change(reason, place == INSTANCE, *kinds)
    return None


def held_elsewhere(sources: Sources, rebuilt: Workflow) -> Comparison:
    """What modules of the author's hold of others of theirs, and the model's copies of them do not."""
    home = None if sources.helper else sources.home
    copies = modules_of_model(rebuilt)
    script, unloaded = script_of(copies), unloaded_of(copies)
    brought = {*copies, *unloaded.top_level_names()}
    authors = {name: module for name, module in of_author(brought, script).items() if module is not home}
    found, there, _ = left_out(script, home, authors, copies, unloaded)
    found = [each for each in found if not _is_of_another(each.place, authors, copies)]
    known = {sources.home.__name__, *copies}
    used = modules_used(rebuilt) if any(each.module not in known for each in found) else set[str]()
    later = [each for each in found if each.module not in known and each.module in used]
    return Comparison([each for each in found if each not in later], there, later)


def held_in_all(sources: Sources, text: bytes, brought: Iterable[str]) -> list[Holding]:
    """What modules of the author's hold of others of theirs, as far as a script leads to it that cannot be run.

    Args:
        sources: The author's module.
        text: The script.
        brought: Modules that the model will have, the outermost packages of such ones.
    """
    script = ast.parse(text)
    authors = {name: module for name, module in of_author(brought, script).items() if module is not sources.home}
    return left_out(script, sources.home, authors, None, NOTHING_UNLOADED).missing


def places_of(sources: Sources, lines: str, brought: Iterable[str], rebuilt: Workflow | None = None) -> set[str]:
    """The variables of the author's modules to which a few lines lead, by all names that these have there.

    Args:
        sources: The author's module.
        lines: These lines, with what they need imported.
        brought: Modules that the model will have, the outermost packages of such ones.
        rebuilt: The model's workflow, if the lines are its script: they lead to what its steps import as well.
    """
    script = ast.parse(lines)
    authors = {name: module for name, module in of_author(brought, script).items() if module is not sources.home}
    unloaded = unloaded_of(modules_of_model(rebuilt)) if rebuilt is not None else NOTHING_UNLOADED
    found = places(script, sources.home, authors, unloaded)
    own = {f"{name}.{each}": value for name, module in authors.items() for each, value in vars(module).items()}
    values = {id(own[place]) for place in found & own.keys() if not isinstance(own[place], PLAIN)}
    return found.union(place for place, value in own.items() if id(value) in values)


def imports_of(sources: Sources, lines: str, brought: Iterable[str]) -> set[str]:
    """The modules that a few lines import when they are run, in the functions to which they lead."""
    script = ast.parse(lines)
    authors = {name: module for name, module in of_author(brought, script).items() if module is not sources.home}
    return imports(script, sources.home, authors).union(imported_modules(script))


def changed(places: Iterable[str], rebuilt: Workflow) -> set[tuple[str, str]]:
    """What of some variables of the author's modules is not so in the model's copies: the variable, and where in it."""
    copies = modules_of_model(rebuilt)
    found = set[tuple[str, str]]()
    for place in places:
        module, _, name = place.rpartition(".")
        author, copy = sys.modules.get(module), copies.get(module)
        if author is not None and copy is not None and name in vars(author) and not name.startswith("__"):
            found.update((place, at) for at in places_of_change(place, vars(author)[name], vars(copy).get(name)))
    return found


def modules_used(rebuilt: Workflow) -> set[str]:
    """The modules that a model's script and the author's that it leads to import, also when they are called."""
    copies = modules_of_model(rebuilt)
    unloaded = unloaded_of(copies)
    authors = of_author({*copies, *unloaded.top_level_names()}, script_of(copies))
    used = set[str]()
    todo = [source for name, copy in copies.items() if (source := _source(name, copy)) is not None]
    while todo:
        tree, package = todo.pop()
        new = {each for name in imported_modules(tree, package) for each in with_packages(name)} - used
        used |= new
        for name in new - copies.keys():
            source = unloaded.source(name) or (_source(name, authors[name]) if name in authors else None)
            todo += [source] if source is not None else []
    return used


def of_author(brought: Iterable[str], script: ast.Module) -> dict[str, ModuleType]:
    """The author's modules, of the packages of which the model has some, or a script imports one."""
    tops = {name.partition(".")[0] for name in brought}
    # Some are imported only when a step runs, and the model has no copies of them yet.
    tops |= own_tops({name.partition(".")[0] for name in imported_modules(script)} - tops)
    loaded = [(name, module) for name, module in sys.modules.copy().items() if name.partition(".")[0] in tops]
    return {name: module for name, module in loaded if is_a(module, ModuleType)}


def script_of(copies: Mapping[str, ModuleType]) -> ast.Module:
    """The script among a model's modules."""
    return ast.parse(Path(str(copies[""].__file__)).read_bytes())


def unloaded_of(copies: Mapping[str, ModuleType]) -> Unloaded:
    """What a model has of modules that its script has not imported."""
    spec = copies[""].__spec__
    places = spec.submodule_search_locations if spec is not None else None
    return Unloaded(Path(next(iter(places))) if places else None, copies)


def _is_of_another(place: str, authors: Mapping[str, ModuleType], copies: Mapping[str, ModuleType]) -> bool:
    """Whether a place is another name for a variable of a module that the model has imported, and not of such a one."""
    module, _, name = place.rpartition(".")
    if module not in authors or module in copies or not may_hold(value := vars(authors[module]).get(name)):
        return False
    return any(found is value for each in authors.keys() & copies.keys() for found in vars(authors[each]).values())


def _source(name: str, module: ModuleType) -> Source | None:
    """The source of a module, by the name that the author's has."""
    file = Path(str(getattr(module, "__file__", "")))
    if file.suffix != ".py" or not file.is_file():
        return None
    return Source(ast.parse(file.read_bytes()), name if file.name == "__init__.py" else name.rpartition(".")[0])


class NewIdentifiers(Container[str]):
    """Places where a source makes another identifier each time, found out when the first such place is asked for."""

    def __init__(self, sources: Sources, rebuilt: Workflow, rebuild: Callable[[], Workflow]) -> None:
        self._sources = sources
        self._rebuilt = rebuilt
        self._rebuild = rebuild

    def __contains__(self, place: object) -> bool:
        return place in self._places

    def has_another(self, found: DifferenceError) -> bool:
        """Whether what is different from the author's is also different each time that the source makes it."""
        return any(str(difference(*each, self)) == str(found) for each in self._made_twice)

    @cached_property
    def _places(self) -> frozenset[str]:
        return frozenset(place for each in self._made_twice for place in places_of_new_identifiers(*each))

    @cached_property
    def _made_twice(self) -> list[Compared]:
        own = modules_of_model(self._rebuilt).get(self._sources.helper)
        return list(_compared(self._rebuilt, own, self._sources, self._rebuild()))


def _compared(
    original: type[Workflow] | Workflow, home: ModuleType | None, sources: Sources, rebuilt: Workflow
) -> Iterator[Compared]:
    """The class, the instance if it is one, and the names: one that the module has lost is not used by it either."""
    cls = original if isinstance(original, type) else type(original)
    yield cls.__name__, cls, type(rebuilt)
    if not isinstance(original, type):
        yield INSTANCE, original, rebuilt
    module = modules_of_model(rebuilt).get(sources.helper)
    if home is not None and module is not None:
        own, theirs = vars(home), vars(module)
        yield from ((name, own[name], theirs.get(name)) for name in sorted(sources.names) if name in own)


def _steps(workflow: Workflow) -> set[str]:
    nodes = get_workflow_representation(workflow).nodes
    return {node.label for node in nodes if node.node_type == "step"}
