"""Which fields, items and arguments are marked `Redact()`, wherever in their types the mark stands."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ForwardRef, Literal, NewType, cast, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType, is_typeddict

from workflows.instrumentation.redaction import Redact

__all__ = ["HIDDEN", "MarkedArguments", "is_marked", "marked_fields"]

logger = logging.getLogger("workflows.instrumentation")

_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")

Names = Mapping[str, object]


class Hidden:
    """The class of `HIDDEN`."""


HIDDEN: Any = Hidden()
"""Stands for what is marked `Redact()`, or left out of dumps: its value is never looked at."""


def is_marked(annotation: object, names: Names | None = None) -> bool:
    """Whether a type has the mark in it: by itself, in a union, a container, an alias, or a typed dict.

    It fails closed: a type that cannot be looked at is taken for marked.

    Args:
        annotation: The type, or its text, as it is below `from __future__ import annotations`.
        names: What the names in texts mean. Nothing is evaluated: a type that cannot be built here hides no mark.
    """
    try:
        return _is_marked(annotation, names or {}, set())
    except Exception:  # the guard around somebody's annotations: an alias may name what is nowhere
        logger.warning("the type %r cannot be looked at; its values are not shown", annotation, exc_info=True)
        return True


@lru_cache(maxsize=1024)
def marked_fields(kind: type[Any]) -> frozenset[str]:
    """Names of the fields of a model, a dataclass or a named tuple that are marked; of a model, also those excluded."""
    names = _names_of(kind)
    return frozenset(name for name, annotation in _fields(kind) if annotation is HIDDEN or is_marked(annotation, names))


class MarkedArguments:
    """Which arguments of a function are marked, and whether its result is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # one of those that are written in C
            signature = inspect.Signature()
        inner: Any = inspect.unwrap(function)
        names: Names = getattr(getattr(inner, "func", inner), "__globals__", {})
        parameters = signature.parameters.values()
        self._marked = frozenset(one.name for one in parameters if is_marked(one.annotation, names))
        self._known = frozenset(one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD)
        self._marks_others = bool(self._marked - self._known)
        self.marks_result = is_marked(signature.return_annotation, names)

    def hide(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, with `HIDDEN` for those that are marked."""
        if not self._marked:
            return given
        return {name: HIDDEN if self._hides(name) else value for name, value in given.items()}

    def _hides(self, name: str) -> bool:
        return name in self._marked or (self._marks_others and name not in self._known)


def _fields(kind: type[Any]) -> Iterable[tuple[str, object]]:
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            hidden = field.exclude is True or any(map(_is_mark, field.metadata))
            yield name, HIDDEN if hidden else field.annotation
    elif dataclasses.is_dataclass(kind):
        yield from ((field.name, field.type) for field in dataclasses.fields(kind))
    else:
        for base in reversed(kind.__mro__):
            yield from inspect.get_annotations(base).items()


def _names_of(kind: type[Any]) -> Names:
    """What names mean in the annotations of a class and of its bases."""
    found: list[dict[str, Any]] = []
    for base in kind.__mro__:
        found += (dict(vars(base)), vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {})
    return ChainMap(*found)


def _is_mark(mark: object) -> bool:
    return mark is Redact or isinstance(mark, Redact)


def _is_marked(annotation: object, names: Names, seen: set[int]) -> bool:
    if isinstance(annotation, str):
        return any(_is_marked(_meant(text, names), names, seen) for text in _NAME.findall(annotation))
    if _is_mark(annotation):
        return True
    if id(annotation) in seen:  # an alias may have itself in it
        return False
    seen.add(id(annotation))
    return any(_is_marked(part, names, seen) for part in _parts(annotation))


def _parts(annotation: object) -> Iterable[object]:
    """The types of which a type is made, and the marks on it."""
    if (marks := getattr(annotation, "__metadata__", None)) is not None and get_origin(annotation) is not None:
        return (get_args(annotation)[0], *filter(_is_mark, marks))
    if isinstance(annotation, ForwardRef):
        return (annotation.__forward_arg__,)
    if isinstance(annotation, TypeAliasType):
        return (annotation.__value__,)
    if isinstance(annotation, NewType):
        return (annotation.__supertype__,)
    if is_typeddict(annotation):
        return inspect.get_annotations(cast("type[Any]", annotation)).values()
    if isinstance(annotation, list):  # the arguments of a callable
        return cast("list[object]", annotation)
    origin = get_origin(annotation)
    return () if origin is Literal else (*get_args(annotation), origin)


def _meant(text: str, names: Names) -> object:
    """What a name, with dots or without, means; the mark itself, where nothing is known of what is called like it."""
    first, *rest = text.split(".")
    found = names.get(first)
    for name in rest:
        found = getattr(found, name, None)
    if found is None and "Redact" in (first, *rest):
        return Redact
    return None if isinstance(found, str) else found
