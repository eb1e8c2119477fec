"""What modules of the author's own hold of others' functions, classes and objects, a registry of tools, say.

Nobody asks how it came there: what the author's modules hold is compared with what the model's copies of them hold, as
far as the model's script leads to it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from mlflow_flavor._model_imports import MODULE_PREFIX
from mlflow_flavor._origins import own_tops
from mlflow_flavor._reading import SUBCLASSES
from mlflow_flavor._unloaded import Unloaded
from mlflow_flavor._walk import HOME, Found, Walk

__all__ = ["Comparison", "Holding", "imports", "left_out", "places"]

Place = tuple[str, str, str, bool]
"""A module and a name of it, where what has it is held, and whether that is in the script's module."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Something of a module of the author's that one of them holds, and the model's copy of that does not.

    Attributes:
        place: What holds it: `shop.tools.TOOLS`.
        module: The module that it, or what it is part of or made of, is at the top of.
        name: What that is called there.
        kind: The function or class that it is, is part of, or was made of.
        sure: It was put there by whoever owns what holds it, and is no part of something else.
        is_object: It is no function and no class.
        is_foreign: The model has nothing of its module.
        made: It is what the function or class of that name has made, and no variable of its module is it.
        number: So many of that name are missing there.
    """

    place: str
    module: str
    name: str
    kind: str
    sure: bool
    is_object: bool
    is_foreign: bool = False
    made: bool = False
    number: int = 1

    @property
    def is_at_home(self) -> bool:
        """It is an object that its own module holds: who is asked for it first has it made."""
        return self.is_object and self.place.startswith(f"{self.module}.")

    @property
    def is_subclass(self) -> bool:
        """Its own definition has put it there."""
        return self.place.endswith(f"{SUBCLASSES}()")

    @property
    def title(self) -> str:
        """What a person would call it."""
        return f"what {self.name}() made" if self.made else self.name


class Comparison(NamedTuple):
    """What the author's modules hold is compared with what the model's hold.

    Attributes:
        missing: What those do not hold.
        there: How much they hold of each name of a module.
        later: What of the former is of modules that the model imports when it is run, if not before.
    """

    missing: list[Holding]
    there: Counter[tuple[str, str]]
    later: Sequence[Holding] = ()


class Author:
    """The author's modules.

    Args:
        home: That of the script; None if the script is none of its source, but imports it.
        others: The others, by name, as far as the script may lead to them.
    """

    def __init__(self, home: ModuleType | None, others: Mapping[str, ModuleType]) -> None:
        self.home = home
        self._others = others
        self._own = {"__main__": True, **{name.partition(".")[0]: True for name in others}}  # outermost packages

    def name(self, module: str) -> str | None:
        """What the author calls a module, of theirs or a script's copy of it: who ran one has what it registered."""
        if module.startswith(MODULE_PREFIX):
            return module.partition(".")[2]
        if self.home is not None and module == self.home.__name__:
            return HOME
        top = module.partition(".")[0]
        if top not in self._own:
            self._own[top] = bool(own_tops([top]))
        return module if self._own[top] else None

    def held(self, script: ast.Module, unloaded: Unloaded) -> list[Found]:
        """What they hold of each other, as far as a script leads to it."""
        known = vars(self.home) if self.home is not None else {}
        found = Walk(self.home, self._others, self.name, unloaded).held(script)
        # Another model's script may have registered something too.
        return [each for each in found if not self._is_copy(each) or each.name in known]

    def _is_copy(self, found: Found) -> bool:
        return found.module == HOME and found.origin.startswith(MODULE_PREFIX)


def places(script: ast.Module, home: ModuleType, authors: Mapping[str, ModuleType], unloaded: Unloaded) -> set[str]:
    """The variables of the author's modules to which a few lines lead."""
    return Walk(home, authors, Author(home, authors).name, unloaded).places(script)


def imports(script: ast.Module, home: ModuleType, authors: Mapping[str, ModuleType]) -> set[str]:
    """The modules that functions import to which a few lines lead, and names in them as if they were modules."""
    walk = Walk(home, authors, Author(home, authors).name)
    walk.places(script)
    return walk.imported


def left_out(
    script: ast.Module,
    home: ModuleType | None,
    authors: Mapping[str, ModuleType],
    model: Mapping[str, ModuleType] | None,
    unloaded: Unloaded,
) -> Comparison:
    """What the author's modules hold, and the model's copies do not, as far as a script leads to it.

    That is, of the module `home`, and of others. A script leads to what it imports and uses, to what decorators have
    made of its functions and classes, and to what the functions among that read. A decorator itself is not used: a list
    of commands for the author's own program is no part of an agent.

    Args:
        script: What was written from `home`.
        home: The module; None if the script is none of its source, but imports it.
        authors: The other modules of the author's, by name.
        model: The model's copies of them, as far as they are there; that with no name is the script. None: the script
            could not be run, so that all is left out.
        unloaded: What the model has of modules beside these copies: a step may import them.
    """
    author = Author(home, authors)
    held = author.held(script, unloaded)
    names = {HOME, *(model or authors)}
    brought = {name.partition(".")[0] for name in model or ()}
    there = _of_model(script, home, authors, model, brought, unloaded) if held and model is not None else []
    own = model[HOME].__name__ if model is not None else HOME
    missing = _missing(author, [each for each in held if each.module in names], there, own)
    absent = {(each.module, each.name): each for each in reversed(held) if each.module not in names}
    local = {"__main__", *brought, *own_tops({module.partition(".")[0] for module, _ in absent})}
    foreign = [
        Holding(each.place, each.module, each.name, each.name, sure=True, is_object=each.is_object, is_foreign=True)
        for each in reversed(absent.values())
        if each.module.partition(".")[0] in local
    ]
    return Comparison([*missing, *foreign], Counter((each.module, each.title) for each in there))


def _of_model(
    script: ast.Module,
    home: ModuleType | None,
    authors: Mapping[str, ModuleType],
    model: Mapping[str, ModuleType],
    brought: Iterable[str],
    unloaded: Unloaded,
) -> list[Found]:
    own = model[HOME].__name__
    copies = {own, f"{own}.{home.__name__}"} if home is not None else {own}
    # What is installed from where it is written, the author's module and the script both import.
    shared = {name: module for name, module in authors.items() if name.partition(".")[0] not in brought}
    others = {**shared, **{name: module for name, module in model.items() if name}}

    def name(module: str) -> str | None:
        if module in copies:
            return HOME
        if module.startswith(f"{own}."):
            return module.removeprefix(f"{own}.")
        return module if module in shared else None

    return list(Walk(model[HOME], others, name, unloaded).held(script))


def _missing(author: Author, held: Iterable[Found], there: Iterable[Found], own: str) -> list[Holding]:
    """What is more often in the author's modules than in the model's: those of them that are not there, by title."""
    of_author: dict[Place, dict[str, list[Found]]] = {}
    for each in held:
        root = author.home.__name__ if author.home is not None and each.inner else ""
        of_author.setdefault(_place(each, root), {}).setdefault(each.origin, []).append(each)
    of_model: dict[Place, list[Found]] = {}
    for each in there:
        of_model.setdefault(_place(each, own), []).append(each)
    missing: list[Holding] = []
    for place, by_origin in of_author.items():
        wanted = max(by_origin.values(), key=len)  # a script that was run has put as many there once more
        have = of_model.get(place, [])
        if len(wanted) > len(have):
            left = Counter(each.title for each in wanted)
            left.subtract(each.title for each in have)
            titled = {each.title: each for each in sorted(wanted, key=lambda each: each.sure)}
            missing += [_holding(titled[title], author, number) for title, number in left.items() if number > 0]
    return missing


def _holding(found: Found, author: Author, number: int) -> Holding:
    module = author.home.__name__ if found.module == HOME and author.home is not None else found.module
    return Holding(
        found.place, module, found.title, found.name, found.sure, found.is_object, made=found.made, number=number
    )


def _place(found: Found, root: str) -> Place:
    """Where what is held by a name is, as seen from the module that a script is of, or from the script."""
    return found.module, found.name, found.place.removeprefix(f"{root}."), found.inner
