"""`DictLikeModel`: a pydantic model that takes any keyword and reads like a mapping; what every event is."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from functools import wraps
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, SerializerFunctionWrapHandler, model_serializer

__all__ = ["DictLikeModel", "PostInit", "unpacks"]

_MISSING: Any = object()
_UNPACKS = "unpacks_dynamic_fields"

PostInit = Callable[..., None]
"""What pydantic calls when the fields are in place."""


def unpacks(function: PostInit) -> PostInit:
    """Mark a `model_post_init` that finds dynamic and private fields by itself."""
    vars(function)[_UNPACKS] = True  # pydantic's own wrapper around it copies this
    return function


def _unpacking_first(own: PostInit) -> PostInit:
    """A `model_post_init` that need not call `super()` to find its dynamic and private fields in place."""

    @unpacks
    @wraps(own)
    def model_post_init(self: DictLikeModel, context: Any, /) -> None:
        unpack = _WithPrivate if self.__private_attributes__ else DictLikeModel
        unpack.model_post_init(self, context)  # type: ignore[arg-type]  # of whatever class they are
        own(self, context)

    return model_post_init


class DictLikeModel(BaseModel):
    """A pydantic model that also takes undeclared fields, readable as attributes and as items.

    Undeclared ("dynamic") fields live in pydantic's own extras, which its core fills at the cost of a plain model;
    `_data` is a view of them, and dumps keep them under the key `_data`. Mapping methods (`keys`, `items`, `len`,
    iteration, `to_dict`) see dynamic fields only; `get` and item access find declared fields as well.
    """

    # Ours are built when the first one is made, for a quick `import workflows`; those of users at once, see below.
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True, defer_build=True)

    @unpacks
    def model_post_init(self, context: Any, /) -> None:
        """Unpack the `_data` key of a dump, and hand keywords that name a private attribute to it."""
        extra = self.__pydantic_extra__
        if extra:
            if "_data" in extra:
                extra.update(extra.pop("_data"))
            private = self.__private_attributes__
            if private:
                for name in private.keys() & extra.keys():
                    setattr(self, name, extra.pop(name))

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Keep dynamic fields working in a subclass with an `extra` mode or a `model_post_init` of its own."""
        super().__pydantic_init_subclass__(**kwargs)
        if not hasattr(cls.model_post_init, _UNPACKS):
            cls.model_post_init = _unpacking_first(cls.model_post_init)
        if cls.__module__.startswith("workflows."):
            return
        closed = cls.model_config.get("extra") != "allow"
        cls.model_config["extra"] = "allow"
        cls.model_config["defer_build"] = False
        cls.model_rebuild(force=closed, raise_errors=False)  # a class that it names may be defined later

    @model_serializer(mode="wrap")
    def _keep_dynamic_fields_apart(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        if extra := self.__pydantic_extra__:
            data = {name: fields.pop(name) for name in extra if name in fields}
            if data:
                fields["_data"] = data
        return fields

    @property
    def _data(self) -> dict[str, Any]:
        extra = self.__pydantic_extra__
        if extra is None:
            extra = {}
            object.__setattr__(self, "__pydantic_extra__", extra)
        return extra

    if TYPE_CHECKING:
        # What pydantic does for extra fields; without it `ev.topic` is an error to every type checker.
        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] != "_" or name in self.__private_attributes__ or hasattr(type(self), name):
            super().__setattr__(name, value)
        else:  # pydantic would take it for something that is no data
            self._data[name] = value

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if key in type(self).model_fields:
            setattr(self, key, value)
        else:
            self._data[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # a mapping's iteration, as the public API has it
        return iter(self._data)

    def __bool__(self) -> bool:
        return True

    def keys(self) -> KeysView[str]:
        """Names of the dynamic fields."""
        return self._data.keys()

    def values(self) -> ValuesView[Any]:
        """Values of the dynamic fields."""
        return self._data.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values of the dynamic fields."""
        return self._data.items()

    def to_dict(self) -> dict[str, Any]:
        """The dynamic fields themselves, not a copy."""
        return self._data

    def get(self, key: str, default: Any = None) -> Any:
        """The dynamic or declared field of that name, else `default`."""
        if key in (data := self._data):
            return data[key]
        if key in type(self).model_fields:
            return getattr(self, key)
        return default


class _WithPrivate(DictLikeModel):
    """Its `model_post_init` is what pydantic makes of ours where there are private attributes: it sets them up too."""

    _private: Any = PrivateAttr(default=None)
