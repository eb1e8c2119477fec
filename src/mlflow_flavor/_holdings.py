"""What modules of the author's own hold of others' functions and classes, a registry by a decorator, say.

Nobody asks how it came there: what the author's modules hold is compared with what the model's copies of them hold, as
far as the model's script leads to it.
"""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# What is held may be anything.
import ast
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, cast

from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_imports import MODULE_PREFIX
from mlflow_flavor._origins import own_tops
from mlflow_flavor._parts import Kind, may_hold
from mlflow_flavor._reading import SUBCLASSES, asks_for_subclasses, read_by
from mlflow_flavor._seen import defined_by, seen_by
from workflows import Workflow
from workflows.events import Event

__all__ = ["Holding", "left_out"]

MAX_DEPTH = 8
"""In objects of libraries: a tool that holds a function is one, and so is a server that has a list of them."""
LOCAL = "<locals>"


@dataclass(frozen=True, slots=True)
class Holding:
    """Something of a module of the author's that another module of theirs holds.

    Attributes:
        place: What holds it: `shop.tools.TOOLS`.
        module: The module that it, or what it is part of or made of, is at the top of.
        name: What that is called there.
        sure: It was put there by whoever owns what holds it, and is no part of something else.
        inner: What holds it is of that module too.
        made: It is what the function or class of that name has made, and no variable of its module is it.
        number: So many of that name are held there.
    """

    place: str
    module: str
    name: str
    sure: bool
    inner: bool = False
    made: bool = False
    number: int = 1

    @property
    def title(self) -> str:
        """What a person would call it."""
        return f"what {self.name}() made" if self.made else self.name


Place = tuple[str, str, bool]
"""A name, where what has it is held, and whether that is in the module of the name."""


class Reached(NamedTuple):
    """Values, the variable by which they were reached, and how many objects of libraries are around them."""

    place: str
    depth: int
    values: Iterable[object]


def left_out(
    script: ast.Module, home: ModuleType | None, authors: Mapping[str, ModuleType], model: Mapping[str, ModuleType]
) -> list[Holding]:
    """What the author's modules hold, and the model's copies do not, as far as a script leads to it.

    That is, of the module `home`, and of those that the model does not import. A script leads to what it imports and
    uses, to what decorators have made of its functions and classes, and to what the functions among that read. A
    decorator itself is not used: a list of commands for the author's own program is no part of an agent.

    Args:
        script: What was written from `home`.
        home: The module; None if the script is none of its source, but imports it.
        authors: The other modules of the author's, by name.
        model: The model's copies of them, as far as they are there; that with no name is the script.
    """
    here: dict[Place, Holding] = {}
    counted: Counter[tuple[Place, str]] = Counter()
    others: dict[tuple[str, str], Holding] = {}
    for found in Walk(home, authors, lambda module, name: _is_of(home, module, name)).held(script):
        if home is not None and _is_of(home, found.module, found.name):
            place = _place(found, home.__name__ if found.inner else "")
            counted[place, found.module] += 1
            if found.sure or place not in here:
                here[place] = replace(found, module=home.__name__)
        elif found.module not in model and not found.module.startswith(MODULE_PREFIX):
            others.setdefault((found.module, found.name), found)
    brought = {name.partition(".")[0] for name in model}
    made: Counter[Place] = Counter()
    if here and home is not None:
        own = model[""].__name__
        names = {own, f"{own}.{home.__name__}"}
        # What is installed from where it is written, the author's module and the script both import.
        shared = {name: module for name, module in authors.items() if name.partition(".")[0] not in brought}
        others_of_script = {**shared, **{name: module for name, module in model.items() if name}}
        walk = Walk(model[""], others_of_script, lambda module, _: module in names)
        made = Counter(_place(found, own) for found in walk.held(script) if found.module in names)
    wanted: Counter[Place] = Counter()
    for (place, _), number in counted.items():
        wanted[place] = max(wanted[place], number)  # a script that was run has put as many there once more
    missing = [
        replace(held, number=number) for place, held in here.items() if (number := wanted[place] - made[place]) > 0
    ]
    local = {"__main__", *brought, *own_tops(module.partition(".")[0] for module, _ in others)}
    return [*missing, *(each for each in others.values() if each.module.partition(".")[0] in local)]


def _place(found: Holding, root: str) -> Place:
    """Where what is held by a name is, as seen from the module that a script is of, or from the script."""
    return found.name, found.place.removeprefix(f"{root}."), found.inner


def _is_of(home: ModuleType | None, module: str, name: str) -> bool:
    """Whether a name is that of the author's module, or of a script of it: who has run one has what it registered."""
    if home is None:
        return False
    return module == home.__name__ or (module.startswith(MODULE_PREFIX) and "." not in module and name in vars(home))


class Walk:
    """A way through all that a script leads to.

    Args:
        home: The module of the script, or the author's that it was written from.
        modules: The other modules, by the names by which the script imports them.
        is_of_home: Whether what has this module and this name is of the script's.
    """

    def __init__(
        self, home: ModuleType | None, modules: Mapping[str, ModuleType], is_of_home: Callable[[str, str], bool]
    ) -> None:
        self._home = home
        self._variables: dict[str, object] = vars(home) if home is not None else {}
        self._modules = modules
        self._own = {module.__name__: module for module in modules.values()}
        self._importable = {**modules, **self._own}  # a model's copy imports another one by the author's name
        self._is_of_home = is_of_home
        self._names = dict(_names_of(self._variables, is_of_home))
        self._todo: deque[Reached] = deque()
        self._seen: set[int] = set()
        self._known: dict[int, Holding] = {}  # what is of the script's module, which may be held in many places
        self._told: set[tuple[str, int]] = set()
        self._kinds: dict[type, Kind] = {}
        self._classes: list[type] = []
        self._inner: set[str] = set()  # places of the script's module
        self._has_subclasses = False

    def held(self, script: ast.Module) -> Iterator[Holding]:
        """What variables hold of the script's module, and what is certain of the other modules."""
        self._todo.extend(Reached(place, 0, [value]) for place, value in seen_by(script, self._modules))
        if any(isinstance(node, ast.Attribute) and node.attr == SUBCLASSES for node in ast.walk(script)):
            self._ask_for_subclasses()
        yield from self._found()
        for name in sorted(defined_by(script) & self._variables.keys()):
            place = f"{self._variables['__name__']}.{name}"
            self._inner.add(place)
            self._go_into(place, 0, self._variables[name])
        yield from self._found()

    def _found(self) -> Iterator[Holding]:
        while self._todo:
            place, depth, values = self._todo.popleft()
            for value in filter(may_hold, values):
                if id(value) not in self._seen:
                    self._seen.add(id(value))
                    yield from self._of(place, depth, value)
                if id(value) in self._known and (place, id(value)) not in self._told:
                    self._told.add((place, id(value)))
                    found, inner = self._known[id(value)], place in self._inner
                    # What the script's own module holds of objects is compared with what the author's does.
                    sure = found.sure and not depth and not (inner and self._is_object(value))
                    yield replace(found, place=place, sure=sure, inner=inner)

    def _of(self, place: str, depth: int, value: Any) -> Iterator[Holding]:
        """The value, if it is of another module; what it leads to is gone into next."""
        is_object = self._is_object(value)
        named = cast("Any", type(value) if is_object else value)
        module = str(named.__module__)
        name, _, below = named.__qualname__.partition(".")
        if self._is_of_home(module, name):
            known = name if self._variables.get(name) is value else self._names.get(id(value)) or name
            made = known == name and (is_object or (below.startswith(LOCAL) and self._is_function(name)))
            sure = made or known != name or not below.startswith(LOCAL)
            sure = sure and not (is_a(value, Workflow) or is_a(value, Event))  # which come of runs
            self._known[id(value)] = Holding(place, module, known, sure, made=made)
            if is_a(value, type):
                self._note(value)
            if not is_a(value, FunctionType):  # it may have been decorated by one of another module
                return
        elif not below and (not depth or is_a(value, FunctionType)):  # a library's tool is made of a function
            yield Holding(place, module, name, sure=True)
        self._go_into(place, depth, value)

    def _is_object(self, value: object) -> bool:
        return not self._kind(value).is_named

    def _go_into(self, place: str, depth: int, value: Any) -> None:
        kind = self._kind(value)
        if kind.is_transparent and not depth:
            self._todo.appendleft(Reached(place, 0, kind.parts(value, self)))  # what is sure comes first
        elif depth < MAX_DEPTH:
            self._todo.append(Reached(place, depth + 1, kind.parts(value, self)))
        if is_a(value, FunctionType) and value.__globals__.get("__name__") in self._own:
            self._todo.extend(Reached(read, 0, [variable]) for read, variable in read_by(value, self._importable))
            if asks_for_subclasses(value.__code__):
                self._ask_for_subclasses()
        elif is_a(value, type) and value.__module__ in self:
            self._note(value)

    def _is_function(self, name: str) -> bool:
        return name in self._variables and not is_a(self._variables[name], type)

    def _note(self, cls: type) -> None:
        self._classes.append(cls)
        if self._has_subclasses:
            self._todo.append(self._subclasses_of(cls))

    def _ask_for_subclasses(self) -> None:
        """From now on every class has its subclasses: nobody knows of which ones somebody asks."""
        if not self._has_subclasses:
            self._has_subclasses = True
            self._todo.extend(map(self._subclasses_of, self._classes))

    def _subclasses_of(self, cls: type) -> Reached:
        place = f"{cls.__module__}.{cls.__qualname__}.{SUBCLASSES}()"
        if cls.__module__ not in self._own:
            self._inner.add(place)
        # Not `Page[int]`, which pydantic makes.
        found = (each for each in type.__subclasses__(cls) if each.__name__.isidentifier())
        return Reached(place, 0, found)

    def __contains__(self, module: object) -> bool:
        """Whether a module is one of the author's, or of the script's."""
        return module in self._own or (self._home is not None and module == self._home.__name__)

    def _kind(self, value: object) -> Kind:
        return self._kinds.get(type(value)) or self._kinds.setdefault(type(value), Kind.of(type(value), self))


def _names_of(variables: Mapping[str, object], is_of_home: Callable[[str, str], bool]) -> Iterator[tuple[int, str]]:
    """The first name of each function, also of one that `functools.partial` has given arguments, and of own objects."""
    for name, value in reversed(list(variables.items())):
        while is_a(value, partial):
            value = value.func
        if is_a(value, FunctionType) or is_of_home(type(value).__module__, type(value).__qualname__.partition(".")[0]):
            yield id(value), name
