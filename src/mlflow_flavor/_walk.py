"""A way through all that a script leads to: what is held where of the author's own functions, classes and objects."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# What is held may be anything.
import ast
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, cast

from mlflow_flavor._kinds import is_a
from mlflow_flavor._model_code import imported_modules
from mlflow_flavor._parts import Kind, may_hold
from mlflow_flavor._reading import SUBCLASSES, asks_for_subclasses, imported_by, read_by
from mlflow_flavor._seen import defined_by, seen_by
from mlflow_flavor._unloaded import NOTHING_UNLOADED, Unloaded, with_packages
from workflows import Workflow
from workflows.events import Event

__all__ = ["HOME", "Found", "Walk"]

HOME = ""
"""What the module of a script is called, among the author's own."""
MAX_DEPTH = 8
"""In objects of libraries: a tool that holds a function is one, and so is a server that has a list of them."""
LOCAL = "<locals>"


@dataclass(frozen=True, slots=True)
class Found:
    """Something of a module of the author's that one of them holds, each time that it is held.

    Attributes:
        place: What holds it: `shop.tools.TOOLS`.
        module: The module that it, or what it is part of or made of, is at the top of: the author's, or `HOME`.
        origin: The same as Python knows it.
        name: What that is called there.
        title: What a variable of the script's module calls it; else as its name.
        sure: It was put there by whoever owns what holds it, and is no part of something else.
        inner: What holds it is of the script's module too.
        is_object: It is no function and no class.
        made: It is what the function or class of that name has made, and no variable of the script's module is it.
    """

    place: str
    module: str
    origin: str
    name: str
    title: str
    sure: bool
    is_object: bool
    inner: bool = False
    made: bool = False


class Reached(NamedTuple):
    """Values that are held somewhere.

    Attributes:
        place: The variable by which they were reached.
        depth: How many objects of libraries are around them.
        once: They are held there once, by however many ways that is reached: what a variable is.
    """

    place: str
    depth: int
    values: Iterable[object]
    once: bool = False


class Walk:
    """A way through all that a script leads to.

    Args:
        home: The module of the script, or the author's that it was written from.
        modules: The other modules, by the names by which the script imports them.
        own_name: What the author calls a module of theirs, or `HOME`; None for any other.
        unloaded: What the model has of modules that its script has not imported.

    Attributes:
        imported: What the functions on the way import when they are called.
    """

    def __init__(
        self,
        home: ModuleType | None,
        modules: Mapping[str, ModuleType],
        own_name: Callable[[str], str | None],
        unloaded: Unloaded = NOTHING_UNLOADED,
    ) -> None:
        self._home = home
        self._variables: dict[str, object] = vars(home) if home is not None else {}
        self._modules = modules
        self._own = {module.__name__: module for module in modules.values()}
        self._importable = {**modules, **self._own}  # a model's copy imports another one by the author's name
        self._own_name = own_name
        self._unloaded = unloaded
        self._read = set[str]()  # modules whose sources were read
        self.imported = set[str]()
        self._titles = dict(self._named())
        self._todo: deque[Reached] = deque()
        self._seen: set[int] = set()
        self._known: dict[int, Found] = {}
        self._told: set[tuple[str, int]] = set()  # what is held once
        self._kinds: dict[type, Kind] = {}
        self._classes: list[type] = []
        self._inner: set[str] = set()  # places of the script's module
        self._has_subclasses = False

    def held(self, script: ast.Module) -> Iterator[Found]:
        """What variables hold of the author's own."""
        self._go_on_from(script)
        yield from self._found()
        for name in sorted(defined_by(script) & self._variables.keys()):
            place = f"{self._variables['__name__']}.{name}"
            self._inner.add(place)
            self._go_into(place, 0, self._variables[name])
        yield from self._found()

    def places(self, script: ast.Module) -> set[str]:
        """The variables that it leads to."""
        deque(self.held(script), maxlen=0)
        return {place for place, _ in self._told}

    def _go_on_from(self, script: ast.Module, package: str = "") -> None:
        """Go on to what a script uses, and modules that nobody has imported."""
        self._todo.extend(Reached(place, 0, [value], True) for place, value in seen_by(script, self._modules, package))
        if any(isinstance(node, ast.Attribute) and node.attr == SUBCLASSES for node in ast.walk(script)):
            self._ask_for_subclasses()
        self._read_unloaded(imported_modules(script, package))

    def _read_unloaded(self, names: Iterable[str]) -> None:
        new = {each for name in names for each in with_packages(name)} - self._read
        self._read |= new
        for name in new:
            if (source := self._unloaded.source(name)) is not None:
                self._go_on_from(source.tree, source.package)

    def _found(self) -> Iterator[Found]:
        while self._todo:
            place, depth, values, once = self._todo.popleft()
            for value in values:
                if once:
                    if (place, id(value)) in self._told:
                        continue
                    self._told.add((place, id(value)))
                if not may_hold(value):
                    continue
                if id(value) not in self._seen:
                    self._seen.add(id(value))
                    self._look_at(place, depth, value)
                if (found := self._known.get(id(value))) is not None:
                    inner = place in self._inner
                    # What the script's own module holds of objects is compared with what the author's does.
                    sure = found.sure and not depth and not (inner and found.is_object)
                    yield replace(found, place=place, sure=sure, inner=inner)

    def _look_at(self, place: str, depth: int, value: Any) -> None:
        """Note what it is, if it is of the author's own; what it leads to is gone into next."""
        is_object = self._is_object(value)
        named = cast("Any", type(value) if is_object else value)
        origin = str(named.__module__)
        module = self._own_name(origin)
        name, _, below = named.__qualname__.partition(".")
        is_local = below.startswith(LOCAL)
        is_part = (depth and not is_a(value, FunctionType)) or (below and not is_local)
        if module is not None and (module == HOME or not is_part):
            at_top = module == HOME and self._variables.get(name) is value
            title = str(name if at_top else self._titles.get(id(value), name))
            by_name = is_object or (is_local and (module != HOME or self._is_function(name)))
            made = title == name and not at_top and by_name
            sure = made or title != name or not is_local
            sure = sure and not (is_a(value, Workflow) or is_a(value, Event))  # which come of runs
            self._known[id(value)] = Found(place, module, origin, name, title, sure, is_object, made=made)
            if module == HOME and is_a(value, type):
                self._note(value)
            if module == HOME and not is_a(value, FunctionType):  # a function may have been decorated elsewhere
                return
        self._go_into(place, depth, value)

    def _is_object(self, value: object) -> bool:
        return not self._kind(value).is_named

    def _go_into(self, place: str, depth: int, value: Any) -> None:
        kind = self._kind(value)
        if kind.is_transparent and not depth:
            self._todo.appendleft(Reached(place, 0, kind.parts(value, self)))  # what is sure comes first
        elif depth < MAX_DEPTH:
            self._todo.append(Reached(place, depth + 1, kind.parts(value, self)))
        if kind.has_class and id(type(value)) not in self._seen:
            self._seen.add(id(type(value)))
            self._look_at(place, depth, type(value))
        if is_a(value, FunctionType) and value.__globals__.get("__name__") in self._own:
            self._todo.extend(Reached(read, 0, [variable], True) for read, variable in read_by(value, self._importable))
            imported = imported_by(value)
            self.imported |= imported
            self._read_unloaded(imported)
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

    def _named(self) -> Iterator[tuple[int, str]]:
        """The first name of each function, also of one that `functools.partial` has given arguments, and own object."""
        for name, value in reversed(list(self._variables.items())):
            while is_a(value, partial):
                value = value.func
            if is_a(value, FunctionType) or self._own_name(type(value).__module__) == HOME:
                yield id(value), name
