"""Dot paths into a state: "user.names.0" is a key, an index or an attribute, whatever it meets on the way."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, cast

from pydantic import BaseModel

from workflows.events import DictLikeModel

__all__ = ["MAX_DEPTH", "get_by_path", "set_by_path", "with_value_at"]

MAX_DEPTH = 1000
_MISSING: Any = object()


def get_by_path(state: Any, path: str, default: Any = ...) -> Any:
    """What is at a dot path: the live value, no copy; "" is the whole state.

    Raises:
        ValueError: If there is nothing and no default was given, or the path has more than 1,000 segments.
    """
    value = state
    for segment in _segments(path) if path else ():
        try:
            value = _child(value, segment)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            if default is not ...:
                return default
            raise ValueError(
                f"Path '{path}' not found in state: there is no {segment!r}. Set it first, or give a default."
            ) from error
    return value


def set_by_path(state: Any, path: str, value: Any) -> None:
    """Put a value at a dot path, in place; missing dictionaries on the way are made.

    Raises:
        ValueError: If the path is empty, too deep, or does not fit what is there.
    """
    *way, last = _writable(path)
    parent: Any = state
    for segment in way:
        child: Any = _existing(parent, segment)
        if child is _MISSING:
            child = {}
            _put(parent, segment, child, path)
        parent = child
    _put(parent, last, value, path)


def with_value_at(state: Any, path: str, value: Any) -> Any:
    """The state with a value at a dot path: containers on the path are copied, everything else is shared.

    Raises:
        ValueError: As `set_by_path`; the state is then as it was.
    """
    *way, last = _writable(path)
    root = parent = _shallow(state)
    for segment in way:
        child = _existing(parent, segment)
        copied: Any = {} if child is _MISSING else _shallow(child)
        if copied is not child:
            _put(parent, segment, copied, path)
        parent = copied
    _put(parent, last, value, path)
    return root


def _writable(path: str) -> list[str]:
    if not path:
        raise ValueError("Path cannot be empty: name a key, or use set_state() to replace the whole state.")
    return _segments(path)


def _segments(path: str) -> list[str]:
    segments = path.split(".")
    if len(segments) > MAX_DEPTH:
        raise ValueError(f"Path has {len(segments)} segments, more than {MAX_DEPTH}.")
    return segments


def _child(value: Any, segment: str) -> Any:
    if _is_a(value, DictLikeModel):
        return value[segment] if segment in value else _attribute(value, segment)
    if _is_a(value, dict):
        return value[segment]
    if _is_a(value, list, tuple) and segment.lstrip("-").isdigit():
        return value[int(segment)]
    return getattr(value, segment)


def _attribute(model: DictLikeModel, segment: str) -> Any:
    # A mapping's own methods ("items", "keys") are no state.
    if segment not in type(model).model_fields and hasattr(DictLikeModel, segment):
        raise KeyError(segment)
    return getattr(model, segment)


def _existing(parent: Any, segment: str) -> Any:
    try:
        return _child(parent, segment)
    except (KeyError, IndexError, AttributeError):
        return _MISSING


def _put(parent: Any, segment: str, value: Any, path: str) -> None:
    try:
        if _is_a(parent, MutableMapping, DictLikeModel):
            parent[segment] = value
        elif _is_a(parent, list) and segment.lstrip("-").isdigit():
            parent[int(segment)] = value
        else:
            setattr(parent, segment, value)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"Path '{path}' cannot be set: {type(parent).__name__} takes no {segment!r} ({error})."
        ) from error


def _shallow(value: Any) -> Any:
    if _is_a(value, BaseModel):
        return value.model_copy()
    if type(value) is dict or type(value) is list:
        return cast("Any", value).copy()
    with suppress(TypeError):  # a lock, a socket: what cannot be copied is shared
        return copy.copy(value)
    return value


def _is_a(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds)
