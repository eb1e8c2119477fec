"""How a class of models is written: what pydantic dumps without loss, and what needs the types of its values beside it.

A model that fits its form is dumped and validated by pydantic alone. Any other is written field by field, and validated
once while it is written, so that what validation would change or refuse is known before anybody relies on the text.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

from pydantic import BaseModel, PlainSerializer, WrapSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from workflows._dict_like import DictLikeModel
from workflows.context.field_checks import ATOMS, Check, kept_check, plain_check, quick_kind
from workflows.events import StopEvent

__all__ = [
    "Form",
    "changed_fields",
    "form_of",
    "holds_other_classes",
    "is_component",
    "known_form",
    "restored",
    "same",
    "validated",
]

# With any other setting, validation may change what a field already holds.
_HARMLESS = frozenset(
    {
        "title", "extra", "frozen", "arbitrary_types_allowed", "defer_build", "populate_by_name", "validate_by_name",
        "validate_by_alias", "serialize_by_alias", "alias_generator", "from_attributes", "strict", "json_schema_extra",
        "json_schema_serialization_defaults_required", "use_attribute_docstrings", "protected_namespaces",
        "validate_assignment",
    }
)  # fmt: skip
_OUR_SERIALIZERS = frozenset({"_keep_dynamic_fields_apart", "_keep_result"})
_MISSING: Any = object()
_forms: weakref.WeakKeyDictionary[type[BaseModel], Form] = weakref.WeakKeyDictionary()


class Form:
    """What can be known of a class without looking at a model; it keeps no class alive.

    Attributes:
        name: The class's, with that of its module.
        fields: The declared fields that are written, in order.
        names: The same as a set.
        by_author: Fields with serializers of the class' author, whose word counts.
        own_dump: Whether the author says how the whole model is dumped.
        is_root: Whether it is a `RootModel`.
        required_but_excluded: Fields that are in no dump, and without which nothing can be read.
        keys: Keys that a written model may have, if its fields are under their own names.
        private: Names of the private attributes that are written; the result of a `StopEvent` is none of them.
        is_flat: Whether a model that fits holds nothing but values of JSON, no containers.
        is_passive: Whether no code of its author runs when a model is validated.
        is_component: Whether its models write and read themselves.
    """

    __slots__ = (
        "_kept",
        "_may_be_kept",
        "_may_fit",
        "_plain",
        "by_author",
        "fields",
        "is_component",
        "is_flat",
        "is_passive",
        "is_root",
        "keys",
        "name",
        "names",
        "own_dump",
        "private",
        "required_but_excluded",
    )

    def __init__(self, cls: type[BaseModel]) -> None:
        found = cls.model_fields
        self.name = f"{cls.__module__}.{cls.__qualname__}"
        self.fields = dict.fromkeys(n for n, f in found.items() if not f.exclude)
        self.names = set(self.fields)
        self.keys = frozenset({*found, "_data", "result"} if issubclass(cls, DictLikeModel) else found)
        self.is_root = cls.__pydantic_root_model__  # whose class itself takes a while to import
        self.required_but_excluded = [n for n, f in found.items() if f.exclude and f.is_required()]
        decorators = cls.__pydantic_decorators__
        self.own_dump = not decorators.model_serializers.keys() <= _OUR_SERIALIZERS
        named = {n for d in decorators.field_serializers.values() for n in d.info.fields}
        self.by_author = frozenset(n for n, f in found.items() if n in named or "*" in named or _has_serializer(f))
        self.private = tuple(n for n in cls.__private_attributes__ if n != "_result" or not issubclass(cls, StopEvent))
        self.is_passive = _is_passive(cls)
        self.is_component = is_component(cls)
        counts = _only_fields_count(cls, self)
        kinds = list(_kinds(cls, self)) if counts else []
        self._plain = [(n, kind, plain) for n, kind, plain, _ in kinds if plain is not None]
        self._kept = [(n, check) for n, _, plain, kept in kinds if (check := kept or plain) is not None]
        self._may_fit = counts and len(self._plain) == len(self.fields)
        self._may_be_kept = counts and len(self._kept) == len(self.fields)
        self.is_flat = all(cast("Any", found[n].annotation) in ATOMS for n in self.fields)

    def fits(self, model: BaseModel) -> bool:
        """Whether pydantic gives back the declared fields of this model, and nothing else needs to be written."""
        return self._may_fit and self._fit((model,))

    def fits_nested(self, models: Iterable[BaseModel]) -> bool:
        """Whether each of these fits, and has no dynamic fields."""
        return self._may_fit and not any(m.__pydantic_extra__ for m in models) and self._fit(models)

    def _fit(self, models: Iterable[BaseModel]) -> bool:
        plain = self._plain
        for model in models:
            values = model.__dict__
            for name, kind, check in plain:
                value = values.get(name, _MISSING)
                if type(value) is not kind and not check(value):
                    return False
        return True

    def keeps(self, model: BaseModel) -> bool:
        """Whether validation gives back the values of the declared fields of this model, if it is given themselves."""
        if not self._may_be_kept:
            return False
        values = model.__dict__
        return all(name in values and check(values[name]) for name, check in self._kept)


def is_component(cls: type) -> bool:
    """Whether objects of a class are llama-index's, which say themselves what they are made of, and read that again."""
    return all(callable(getattr(cls, name, None)) for name in ("class_name", "to_dict", "from_dict"))


def known_form(cls: type) -> Form | None:
    """The form of a class of models of which one was written before; None for any other class."""
    return _forms.get(cls)


def form_of(cls: type[BaseModel]) -> Form:
    """The form of a class; made once."""
    form = _forms.get(cls)
    if form is None:
        form = _forms[cls] = Form(cls)
    return form


def validated(cls: type[BaseModel], value: Any) -> BaseModel:
    """A model of the fields that were written; their names are those of the class, or, in text of others, aliases.

    Raises:
        ValueError: If they do not fit the class; whatever its own validators raise.
    """
    by_alias = isinstance(value, dict) and not cast("dict[str, Any]", value).keys() <= form_of(cls).keys
    return cls.model_validate(value, strict=False, by_alias=by_alias, by_name=True)


def restored(
    cls: type[BaseModel], fields: Mapping[str, Any], extra: Mapping[str, Any], private: Mapping[str, Any]
) -> BaseModel:
    """A model of exactly these values, without a look at them, as a copy would be.

    Its `model_post_init` runs where it has to make private attributes that are not among them.

    Raises:
        ValueError: If the class has no such field, or needs one that is missing.
    """
    if unknown := fields.keys() - cls.model_fields.keys():
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    values = {n: fields[n] if n in fields else _default(cls, n, f) for n, f in cls.model_fields.items()}
    model = object.__new__(cls)
    attributes = {n: private.get(n, a.get_default()) for n, a in cls.__private_attributes__.items()}
    attributes = {n: v for n, v in attributes.items() if v is not PydanticUndefined}
    _fill(model, values, extra, attributes)
    if _has_post_init(cls) and not cls.__private_attributes__.keys() <= private.keys():
        model.model_post_init(None)
        _fill(model, values, extra, {**(model.__pydantic_private__ or {}), **private})
    object.__setattr__(model, "__pydantic_fields_set__", set(fields))
    return model


def _fill(model: BaseModel, values: dict[str, Any], extra: Mapping[str, Any], private: dict[str, Any]) -> None:
    open_to_extra = type(model).model_config.get("extra") == "allow"
    object.__setattr__(model, "__dict__", dict(values))
    object.__setattr__(model, "__pydantic_fields_set__", set(values))
    object.__setattr__(model, "__pydantic_extra__", dict(extra) if open_to_extra else None)
    object.__setattr__(model, "__pydantic_private__", private or None)


def changed_fields(model: BaseModel, again: BaseModel) -> set[str]:
    """Names of written fields, and of `__pydantic_extra__`, in which a model read back would not be the same."""
    names = form_of(type(model)).names & model.__dict__.keys()
    found = {n for n in names if not same(model.__dict__[n], again.__dict__.get(n, _MISSING))}
    if not same(model.__pydantic_extra__ or {}, again.__pydantic_extra__ or {}):
        found.add("__pydantic_extra__")
    return found


def holds_other_classes(model: BaseModel) -> bool:
    """Whether a field holds models of classes that its annotation does not name, which a plain dump would lose."""
    for name, field in type(model).model_fields.items():
        held = [] if field.exclude else list(_models_in(model.__dict__.get(name)))
        if held and not {type(m) for m in held} <= _named_in(field.annotation):
            return True
    return False


def _models_in(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
    elif isinstance(value, list | tuple | dict):
        items = cast("dict[Any, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
        for item in items:
            yield from _models_in(item)


def _named_in(annotation: Any) -> set[Any]:
    arguments = get_args(annotation)
    return {annotation} if not arguments else set[Any]().union(*map(_named_in, arguments))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or cannot tell whether they are; numbers that are no numbers are equal."""
    if one is other:
        return True
    try:
        if one == other:
            return True
    except Exception:  # noqa: BLE001  # arrays, and whatever else compares in its own way: nothing can be said
        return type(one) is type(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return not changed_fields(one, other)
    if isinstance(one, dict):
        pairs = cast("dict[Any, Any]", one)
        return pairs.keys() == other.keys() and all(same(v, other[k]) for k, v in pairs.items())
    if isinstance(one, list | tuple):
        items = cast("list[Any]", one)
        return len(items) == len(other) and all(map(same, items, other))
    return one.__class__.__eq__ is object.__eq__ or (one != one and other != other)


def _default(cls: type[BaseModel], name: str, field: FieldInfo) -> Any:
    if field.is_required():
        raise ValueError(f"{cls.__name__} needs the field {name}, which is not in the snapshot")
    return field.get_default(call_default_factory=True, validated_data={})


def _has_serializer(field: FieldInfo) -> bool:
    """Whether an author says how this field is dumped; those of our own `SerializableEvent` lose what it holds."""
    own = [m for m in field.metadata if isinstance(m, PlainSerializer | WrapSerializer)]
    return any(getattr(m.func, "__module__", "") != StopEvent.__module__ for m in own)


def _is_passive(cls: type[BaseModel]) -> bool:
    decorators = cls.__pydantic_decorators__
    validators = (
        decorators.validators,
        decorators.field_validators,
        decorators.root_validators,
        decorators.model_validators,
    )
    return not (
        any(validators)
        or any(f.metadata for f in cls.model_fields.values())
        or _has_post_init(cls)
        or cls.__init__ not in (BaseModel.__init__, StopEvent.__init__)
    )


def _only_fields_count(cls: type[BaseModel], form: Form) -> bool:
    """Whether a model is nothing but its fields, each dumped and validated as its annotation says."""
    decorators = cls.__pydantic_decorators__
    return form.is_passive and not (
        form.is_root
        or form.own_dump
        or form.private
        or form.required_but_excluded
        or decorators.computed_fields
        or decorators.field_serializers
        or not cls.model_config.keys() <= _HARMLESS
        or (cls.model_config.get("extra") == "allow" and not issubclass(cls, DictLikeModel))
        or _schema_of(cls) is not _schema_of(BaseModel)
    )


def _schema_of(cls: type[BaseModel]) -> Any:
    return getattr(cls.__get_pydantic_core_schema__, "__func__", None)


def _has_post_init(cls: type[BaseModel]) -> bool:
    """Whether its author does something when the fields are in place; wrappers of ours and pydantic keep the module."""
    return not cls.model_post_init.__module__.startswith(("pydantic.", "workflows."))


def _kinds(cls: type[BaseModel], form: Form) -> Iterator[tuple[str, Any, Check | None, Check | None]]:
    # `StopEvent.__init__` validates the fields by itself: by alias, and strictly where a class says so.
    by_itself = issubclass(cls, StopEvent)
    for name in form.fields:
        field = cls.model_fields[name]
        by_alias = by_itself and (field.alias or field.validation_alias)
        known = not (field.metadata or field.discriminator or getattr(field, "exclude_if", None) or by_alias)
        plain = plain_check(field.annotation, None if by_itself else _fits) if known else None
        kept = kept_check(field.annotation) if known else None
        yield name, quick_kind(field.annotation) if plain else None, plain, kept


def _fits(cls: type[BaseModel], models: Iterable[BaseModel]) -> bool:
    return form_of(cls).fits_nested(models)
