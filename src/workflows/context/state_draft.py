"""What `edit_state` hands out: an isolated copy of the state that copies a field only when it is touched.

A draft starts as a shallow copy whose values are still the original's, and its class is swapped for one that watches
attribute access: a field is copied when it is first asked for, and every field is copied before anybody can reach the
raw ones (`__dict__`, a dump, a comparison). To change one counter beside 20,000 documents thus costs one counter.

Fields are copied one by one only while they share nothing: where a mutable object has another owner than its parent
(the reference count says so), the whole state is copied at once, so that what was one object before the edit is one
object after it.
"""

from __future__ import annotations

import copy
import sys
from abc import ABCMeta
from collections.abc import Iterable, Iterator, KeysView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from types import FunctionType
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from workflows.events import DictLikeModel

__all__ = ["close_draft", "open_draft"]

ModelT = TypeVar("ModelT", bound=BaseModel)
Memo = dict[int, Any]

_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), datetime, date, time, timedelta, Decimal, UUID})
_IMMUTABLE = (Enum, PurePath, type, FunctionType)
_RAW = frozenset({"__dict__", "__pydantic_extra__", "__pydantic_private__", "_data"})
_DRAFT_CLASS = "__spanflow_draft_class__"
_raw: Any = object.__getattribute__
_put: Any = object.__setattr__
_set_class: Any = vars(object)["__class__"].__set__


class _HasOtherOwners(Exception):
    """An object cannot be copied alone: something else in the state may refer to it."""


class _Shared(dict[str, Any]):
    """Raw fields of a draft; the values of those in `untouched` still belong to the state as well."""

    untouched: set[str]


def open_draft(state: ModelT) -> ModelT:
    """A copy of the state that may be changed; what cannot be copied is shared, as are fields with `exclude=True`."""
    cls = type(state)
    watching = vars(cls).get(_DRAFT_CLASS) or _draft_class(cls)
    private: dict[str, Any] | None = _raw(state, "__pydantic_private__")
    if private or watching is cls:
        return _copied(state, {})
    draft = cls.__new__(cls)
    lazy = False
    for slot in ("__dict__", "__pydantic_extra__"):
        raw: dict[str, Any] | None = _raw(state, slot)
        if raw and not _ATOMS.issuperset(map(type, raw.values())):
            lazy = True
            _put(draft, slot, _shared(raw, watching))
        else:
            _put(draft, slot, None if raw is None else raw.copy())
    _put(draft, "__pydantic_fields_set__", _raw(state, "__pydantic_fields_set__").copy())
    _put(draft, "__pydantic_private__", private)
    if lazy:
        _set_class(draft, watching)
    return draft


def close_draft(draft: ModelT) -> ModelT:
    """The draft as a plain state; what was never touched is what it was before."""
    if type(draft) is not draft.__class__:
        _settle(draft)
    return draft


def _shared(raw: dict[str, Any], watching: Any) -> _Shared:
    made = _Shared(raw)
    made.untouched = {n for n, v in raw.items() if type(v) not in _ATOMS and n not in watching.excluded_fields}
    return made


def _settle(draft: BaseModel) -> None:
    for slot in ("__dict__", "__pydantic_extra__"):
        raw = _raw(draft, slot)
        if raw is not None:
            _put(draft, slot, dict(raw))
    _set_class(draft, draft.__class__)


def _touch(draft: BaseModel, name: str) -> None:
    for slot in ("__dict__", "__pydantic_extra__"):
        raw = _raw(draft, slot)
        if type(raw) is _Shared and name in raw.untouched:
            try:
                raw[name] = _own(raw, name)
            except _HasOtherOwners:
                _touch_all(draft)
            else:
                raw.untouched.discard(name)
            return


def _own(raw: _Shared, name: str) -> Any:
    if _is_leaf(raw[name]):
        return raw[name]
    if sys.getrefcount(raw[name]) > 3:  # the state, this draft, and the stack of this call
        raise _HasOtherOwners
    return _tree_copy(raw[name])


def _touch_all(draft: BaseModel) -> None:
    memo: Memo = {}
    for slot in ("__dict__", "__pydantic_extra__"):
        raw = _raw(draft, slot)
        if type(raw) is _Shared:
            for name in raw.untouched:
                raw[name] = _copied(raw[name], memo)
    _settle(draft)


def _is_leaf(value: Any) -> bool:
    """Whether a value never changes, so that it does not matter who else holds it."""
    kind: type[Any] = value.__class__
    if kind is dict or kind is list:
        return False
    if kind is tuple or kind is frozenset:
        return _ATOMS.issuperset(map(type, value))
    return kind in _ATOMS or isinstance(value, _IMMUTABLE)


def _tree_copy(value: Any) -> Any:
    """A deep copy of something in which every changeable object has one owner.

    Raises:
        _HasOtherOwners: If one has more, or is of a kind that cannot be looked into.
    """
    kind: type[Any] = value.__class__
    if kind is dict:
        if _ATOMS.issuperset(map(type, value.values())):
            return value.copy()
        return dict(zip(value, _tree_copies(value, value), strict=True))
    if kind is list:
        return _tree_copies(value, range(len(value)))
    if kind is set and _ATOMS.issuperset(map(type, value)):
        return value.copy()
    if kind is tuple:
        return tuple(_tree_copies(value, range(len(value))))
    if _is_plain_model(value) and not _raw(value, "__pydantic_private__") and not _excluded(kind):
        raw, extra = _raw(value, "__dict__"), _raw(value, "__pydantic_extra__")
        copies = _tree_copy(raw), extra and _tree_copy(extra)
        return _with_fields(value.model_copy(), *copies)
    raise _HasOtherOwners


def _tree_copies(container: Any, keys: Iterable[Any]) -> list[Any]:
    copies: list[Any] = []
    for key in keys:
        kind: type[Any] = container[key].__class__
        if kind in _ATOMS or _is_leaf(container[key]):
            copies.append(container[key])
        elif sys.getrefcount(container[key]) > 2:  # its container, and the stack of this call
            raise _HasOtherOwners
        elif kind is dict and _ATOMS.issuperset(map(type, container[key].values())):
            copies.append(container[key].copy())
        else:
            copies.append(_tree_copy(container[key]))
    return copies


def _with_fields(model: BaseModel, fields: dict[str, Any], extra: dict[str, Any] | None) -> BaseModel:
    _put(model, "__dict__", fields)
    _put(model, "__pydantic_extra__", extra)
    return model


def _copied(value: Any, memo: Memo) -> Any:
    """A deep copy in which one object stays one object; what cannot be copied is shared."""
    kind: type[Any] = value.__class__
    if kind in _ATOMS:
        return value
    if (known := memo.get(id(value))) is not None:
        return known
    if kind is list:
        made = memo[id(value)] = value.copy()
        if not _ATOMS.issuperset(map(type, made)):
            made[:] = [_copied(v, memo) for v in made]
        return made
    if kind is dict:
        made = memo[id(value)] = value.copy()
        if not _ATOMS.issuperset(map(type, made.values())):
            made.update([(k, _copied(v, memo)) for k, v in made.items()])
        return made
    if kind is tuple:
        return tuple(_copied(v, memo) for v in value)
    if _is_plain_model(value):
        return _copied_model(value, memo)
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  # copying runs the user's classes, which may raise anything
        return value


def _copied_model(model: BaseModel, memo: Memo) -> BaseModel:
    made = memo[id(model)] = model.model_copy()
    excluded = _excluded(type(model))
    for slot in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        raw = _raw(made, slot)
        if raw:
            raw.update([(n, _copied(v, memo)) for n, v in raw.items() if n not in excluded])
    return made


def _is_plain_model(value: Any) -> bool:
    return isinstance(value, BaseModel) and type(value).__deepcopy__ is BaseModel.__deepcopy__


@lru_cache(maxsize=256)
def _excluded(cls: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in cls.model_fields.items() if field.exclude)


def _draft_class(cls: type[BaseModel]) -> type[BaseModel]:
    """The class that a draft of `cls` has while it is open; `cls` itself where the state must be copied at once."""
    made: Any = cls
    hooks = {n for c in cls.__mro__[: cls.__mro__.index(BaseModel)] for n in vars(c)}
    if hooks.isdisjoint({"__getattribute__", "__getattr__", "__init_subclass__", "__deepcopy__", "__copy__"}):
        names = {**_model_methods(cls), **(_mapping_methods(cls) if issubclass(cls, DictLikeModel) else {})}
        names |= {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
        names["excluded_fields"] = _excluded(cls)
        # Not through pydantic's metaclass: this is the same model, with nothing to collect and nobody to tell.
        made = ABCMeta.__new__(type(cls), cls.__name__, (cls,), names)
    setattr(cls, _DRAFT_CLASS, made)
    return made


def _model_methods(cls: type[BaseModel]) -> dict[str, Any]:
    config = cls.model_config
    plain = cls.__setattr__ in (BaseModel.__setattr__, DictLikeModel.__setattr__)
    checked = config.get("frozen") or config.get("validate_assignment") or not plain
    frozen = {name for name, field in cls.model_fields.items() if field.frozen}

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807  # becomes a method
        if name in _RAW:
            _touch_all(self)
        else:
            _touch(self, name)
        return _raw(self, name)

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        extra = _raw(self, "__pydantic_extra__")
        if checked or name in frozen or name[:1] == "_":
            cls.__setattr__(self, name, value)
        elif name in cls.model_fields:
            _write(_raw(self, "__dict__"), name, value)
            _raw(self, "__pydantic_fields_set__").add(name)
        elif extra is not None and (name in extra or not hasattr(cls, name)):
            _write(extra, name, value)
        else:
            cls.__setattr__(self, name, value)

    return {
        "__class__": property(lambda self: cls),
        "__getattribute__": __getattribute__,
        "__setattr__": __setattr__,
    }


def _mapping_methods(cls: type[DictLikeModel]) -> dict[str, Any]:
    def get(self: Any, key: str, default: Any = None) -> Any:
        _touch(self, key)
        extra = _raw(self, "__pydantic_extra__")
        if key in extra:
            return extra[key]
        return getattr(self, key) if key in cls.model_fields else default

    def __setitem__(self: Any, key: str, value: Any) -> None:  # noqa: N807
        if key in cls.model_fields:
            setattr(self, key, value)
        else:
            _write(_raw(self, "__pydantic_extra__"), key, value)

    def __contains__(self: Any, key: object) -> bool:  # noqa: N807
        return key in _raw(self, "__pydantic_extra__")

    def __len__(self: Any) -> int:  # noqa: N807
        return len(_raw(self, "__pydantic_extra__"))

    def __iter__(self: Any) -> Iterator[str]:  # noqa: N807
        return iter(_raw(self, "__pydantic_extra__"))

    def keys(self: Any) -> KeysView[str]:
        return _raw(self, "__pydantic_extra__").keys()

    found = (get, __setitem__, __contains__, __len__, __iter__, keys)
    return {f.__name__: f for f in found if getattr(cls, f.__name__) is getattr(DictLikeModel, f.__name__)}


def _write(raw: dict[str, Any], name: str, value: Any) -> None:
    raw[name] = value
    if type(raw) is _Shared:
        raw.untouched.discard(name)
