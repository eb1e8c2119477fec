"""One model → plain values, and what `JsonSerializer` needs beside them to give an equal model back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from uuid import uuid4

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from workflows._dict_like import DictLikeModel
from workflows.context.json_values import NoPlainValueError, unmarked
from workflows.context.model_forms import Form, changed_fields, restored, validated
from workflows.errors import UnserializableValueError

__all__ = ["written_model"]

_EXTRA = "__pydantic_extra__"
_APART = f"__apart_{uuid4().hex}"  # no text of a user has it


class WritesValues(Protocol):
    """A `JsonSerializer`, as far as the values of a model go."""

    def serialize_value(self, value: Any) -> Any: ...

    def deserialize_value(self, data: Any) -> Any: ...


def written_model(model: BaseModel, form: Form, serializer: WritesValues) -> dict[str, Any]:
    """`value`, and where they are needed `private`, `extra` and `as_is`.

    Raises:
        UnserializableValueError: If a model that is read from it would not be the same.
    """
    if form.fits(model):
        return {"value": _with_dynamic(model, _plain_fields(model, form), serializer)}
    if form.keeps(model):
        values = model.__dict__
        fields = {name: _written(model, name, values[name], serializer) for name in form.fields}
        return {"value": _with_dynamic(model, fields, serializer)}
    if form.required_but_excluded:
        raise _refusal(
            model,
            form.required_but_excluded[0],
            "is excluded from dumps, and no model can be made without it. Give it a default, or do not exclude it.",
        )
    draft = _Draft(model, form, serializer)
    return draft.by_author() if form.own_dump else draft.by_field()


@dataclass(slots=True)
class _Draft:
    """A model on its way, field by field.

    Attributes:
        written: Field by field what JSON takes.
        live: The same as values.
        dumped: Fields that pydantic wrote, with the reason why we did not, if that is not the author's wish.
        apart: Values that pydantic has no word for, by the number that stands in their place in what it dumps.
    """

    model: BaseModel
    form: Form
    serializer: WritesValues
    written: dict[str, Any] = field(default_factory=dict[str, Any])
    live: dict[str, Any] = field(default_factory=dict[str, Any])
    dumped: dict[str, UnserializableValueError | None] = field(
        default_factory=dict[str, UnserializableValueError | None]
    )
    apart: dict[int, Any] = field(default_factory=dict[int, Any])

    def by_field(self) -> dict[str, Any]:
        """Each field with the types of its values."""
        for name, value in self.model.__dict__.items():
            if name in self.form.fields:
                self._write(name, value)
        if any(name.startswith("__is_") for name in self.model.__pydantic_extra__ or ()):
            return self._as_is(None)  # it would be taken for a mark
        told: dict[str, Any] = {"value": self._value(self.written)}
        if private := self._private():
            told["private"] = private
        try:
            again = validated(type(self.model), self._candidate(told["value"]))
        except Exception as error:  # noqa: BLE001  # validators are the user's code
            return self._as_is(error)
        changed = changed_fields(self.model, again) - self.form.by_author
        if not changed:
            return told
        if lost := changed & self.dumped.keys():
            raise self._loss(min(lost))
        if _EXTRA in changed or self.form.is_root:
            return self._as_is(None)
        return {**told, "as_is": sorted(changed)}

    def by_author(self) -> dict[str, Any]:
        """As the class' own serializer says; the values that it leaves alone keep their types."""
        model = self.model
        try:
            told = self._author_dump()
        except Exception as error:  # serializers are the user's code
            raise UnserializableValueError(
                f"Failed to serialize value: the serializer of {type(model).__name__} fails: {error}"
            ) from error
        if isinstance(told, dict):
            values = {**(model.__pydantic_extra__ or {}), **model.__dict__}
            result = (model.__pydantic_private__ or {}).get("_result")
            told = self._typed(cast("dict[str, Any]", told), {"result": result, **values})
        else:
            told = self._as_it_is(told)
        try:
            validated(type(model), self.serializer.deserialize_value(told))
        except Exception as error:  # validators are the user's code
            raise UnserializableValueError(
                f"Failed to serialize value: what the serializer of {type(model).__name__} gives could not be read "
                f"back: {error}. Let it give what the class' validation takes."
            ) from error
        private = self._private()
        return {"value": told, "private": private} if private else {"value": told}

    def _write(self, name: str, value: Any) -> None:
        if name not in self.form.by_author:
            try:
                self.written[name] = _written(self.model, name, value, self.serializer)
            except UnserializableValueError as error:
                self._dump(name, error)
            else:
                self.live[name] = value
        else:
            self._dump(name, None)

    def _dump(self, name: str, refused: UnserializableValueError | None) -> None:
        """Write a field as pydantic does, which validation may understand."""
        try:
            found = self._pydantic_dump(include=None if self.form.is_root else {name})
            self.written[name] = self._as_it_is(found if self.form.is_root else found[name])
        except Exception as error:  # serializers are the user's code
            if refused is None and not self._is_refused_by_author(name):
                self.written[name] = _written(self.model, name, self.model.__dict__[name], self.serializer)
            else:
                text = f"cannot be written by its own serializer: {error}"
                raise refused or _refusal(self.model, name, text) from error
        self.live[name] = self.serializer.deserialize_value(self.written[name])
        self.dumped[name] = refused

    def _pydantic_dump(self, include: set[str] | None = None, exclude: set[str] | None = None) -> Any:
        return self.model.__pydantic_serializer__.to_python(
            self.model,
            mode="json",
            include=include,
            exclude=exclude,
            by_alias=False,
            warnings=False,
            fallback=self._put_apart,
        )

    def _put_apart(self, value: Any) -> dict[str, int]:
        self.apart[id(value)] = value  # which keeps it, and so its number
        return {_APART: id(value)}

    def _author_dump(self) -> Any:
        """What the class' own serializer gives; what fields hold that cannot be dumped, though written, is put apart.

        Raises:
            Exception: Whatever it raises, if it is not what the fields hold that fails.
        """
        try:
            return self._pydantic_dump()
        except Exception:
            failing = {name for name in self.form.fields if not self._is_dumped(name)}
            if not failing or any(map(self._is_refused_by_author, failing)):
                raise
            told = self._pydantic_dump(exclude=failing)
            apart = {name: self._put_apart(self.model.__dict__[name]) for name in failing}
            return {**apart, **cast("dict[str, Any]", told)} if isinstance(told, dict) else told

    def _is_dumped(self, name: str) -> bool:
        try:
            self._pydantic_dump(include={name})
        except Exception:  # noqa: BLE001  # serializers are the user's code
            return False
        return True

    def _is_refused_by_author(self, name: str) -> bool:
        """Whether a field, whose own serializer fails, holds what could be dumped: the failure is the author's word."""
        if name not in self.form.by_author:
            return False
        try:
            to_jsonable_python(self.model.__dict__[name], fallback=self._put_apart)
        except Exception:  # noqa: BLE001  # serializers are the user's code
            return False
        return True

    def _as_it_is(self, dumped: Any) -> Any:
        """What pydantic dumped, written so that it is read as it is, though it may hold keys that look like marks."""
        if isinstance(dumped, dict):
            found = cast("dict[str, Any]", dumped)
            if _APART in found:
                return self.serializer.serialize_value(self.apart[found[_APART]])
            return unmarked({key: self._as_it_is(value) for key, value in found.items()})
        if isinstance(dumped, list):
            return [self._as_it_is(item) for item in cast("list[Any]", dumped)]
        return dumped

    def _value(self, fields: dict[str, Any]) -> Any:
        """What validation is to be given, written."""
        if self.form.is_root:
            return fields["root"]
        if isinstance(self.model, DictLikeModel):
            return _with_dynamic(self.model, dict(fields), self.serializer)
        return {**fields, **_each(self.model, self.model.__pydantic_extra__ or {}, self.serializer)}

    def _candidate(self, value: Any) -> Any:
        """The same as values; where code of a class will see them, they are others than those that are in use."""
        if not self.form.is_passive:
            return self.serializer.deserialize_value(value)
        if self.form.is_root:
            return self.live["root"]
        extra = dict(self.model.__pydantic_extra__ or {})
        if not isinstance(self.model, DictLikeModel):
            return {**self.live, **extra}
        private = self.model.__pydantic_private__ or {}
        dynamic = {"_data": extra} if extra else {}
        result = {"result": private["_result"]} if private.get("_result") is not None else {}
        return {**self.live, **dynamic, **result}

    def _private(self) -> dict[str, Any]:
        """Private attributes; those that JSON cannot say, such as clients and locks, their class makes again."""
        found: dict[str, Any] = {}
        values = self.model.__pydantic_private__ or {}
        for name in self.form.private:
            if name in values:
                try:
                    found[name] = self.serializer.serialize_value(values[name])
                except (UnserializableValueError, RecursionError):
                    continue
        return found

    def _as_is(self, error: Exception | None) -> dict[str, Any]:
        """Written so that it is read without validation, which would change or refuse it."""
        if self.dumped:
            raise self._loss(min(self.dumped.keys() - self.form.by_author or self.dumped), error)
        model = self.model
        private = self._private()
        held = model.__pydantic_private__ or {}
        if "_result" in held and "_result" not in private:
            private["_result"] = _written(model, "result", held["_result"], self.serializer)
        try:
            restored(type(model), self.live, {}, {name: held[name] for name in private})
        except Exception as cause:  # a `model_post_init` is the user's code
            raise UnserializableValueError(
                f"Failed to serialize value: a {type(model).__name__} could not be read back: {error or cause}. Let "
                f"what its fields hold fit what they are declared as."
            ) from cause
        extra = _dynamic(model, self.serializer)
        return {"value": self.written, "extra": extra, "private": private, "as_is": True}

    def _loss(self, name: str, error: Exception | None = None) -> UnserializableValueError:
        refused = self.dumped[name]
        if refused is not None and not isinstance(refused, NoPlainValueError):
            return refused
        kind = type(self.model.__dict__[name]).__name__
        why = f"is not accepted again: {error}" if error else "is something else when it is read back"
        return _refusal(
            self.model,
            name,
            f"holds a {kind}, written as {self.written[name]!r:.80}, which {why}. Exclude the field and give it a "
            f"default, or give it a serializer and a validator that understand each other.",
        )

    def _typed(self, dumped: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """What an author's serializer gave; the values that it left as pydantic dumps them are written with types."""
        written: dict[str, Any] = {}
        for name, found in dumped.items():
            if name in values and self._is_dump(found, values[name]):
                written[name] = _written(self.model, name, values[name], self.serializer)
            elif name == "_data" and isinstance(found, dict):
                written[name] = self._typed(cast("dict[str, Any]", found), values)
            else:
                written[name] = self._as_it_is(found)
        return unmarked(written)

    def _is_dump(self, dumped: Any, value: Any) -> bool:
        no_numbers: Any = type(self.model).model_config.get("ser_json_inf_nan", "null")
        try:
            found = to_jsonable_python(value, by_alias=False, inf_nan_mode=no_numbers, fallback=self._put_apart)
            return found == dumped
        except Exception:  # noqa: BLE001  # whatever compares or dumps in its own way is the author's
            return False


def _plain_fields(model: BaseModel, form: Form) -> dict[str, Any]:
    if form.is_flat:
        values = model.__dict__
        return {name: values[name] for name in form.fields}
    return model.__pydantic_serializer__.to_python(
        model, mode="json", include=form.names, by_alias=False, warnings=False, fallback=_nothing
    )


def _nothing(value: Any) -> None:
    """A result of a `StopEvent` is written beside the fields."""


def _with_dynamic(model: BaseModel, fields: dict[str, Any], serializer: WritesValues) -> dict[str, Any]:
    extra = model.__pydantic_extra__
    if extra:
        fields["_data"] = _dynamic(model, serializer)
    private = model.__pydantic_private__
    if private and private.get("_result") is not None:
        fields["result"] = _written(model, "result", private["_result"], serializer)
    return fields


def _dynamic(model: BaseModel, serializer: WritesValues) -> Any:
    extra = dict(model.__pydantic_extra__ or {})
    try:
        return serializer.serialize_value(extra)
    except ValueError:
        return _each(model, extra, serializer)  # which names the field


def _each(model: BaseModel, values: dict[str, Any], serializer: WritesValues) -> dict[str, Any]:
    return {name: _written(model, name, value, serializer) for name, value in values.items()}


def _written(model: BaseModel, name: str, value: Any, serializer: WritesValues) -> Any:
    try:
        return serializer.serialize_value(value)
    except ValueError as error:
        kind = type(error) if isinstance(error, UnserializableValueError) else UnserializableValueError
        raise kind(f"{type(model).__name__}.{name}: {error}") from error


def _refusal(model: BaseModel, name: str, text: str) -> UnserializableValueError:
    return UnserializableValueError(f"Failed to serialize value: {type(model).__name__}.{name} {text}")
