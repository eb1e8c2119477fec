"""A state at its defaults, and one state put into another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

__all__ = ["create_cleared_state", "merge_state"]

ModelT = TypeVar("ModelT", bound=BaseModel)


def create_cleared_state(state_type: type[ModelT]) -> ModelT:
    """A state with every field at its default.

    Raises:
        ValueError: If a field has none.
    """
    try:
        return state_type()
    except ValidationError as error:
        raise ValueError(
            f"State must have defaults for all fields: {state_type.__name__} cannot be cleared, because "
            f"{error.error_count()} of its fields have none."
        ) from error


def merge_state(current_state: ModelT, incoming: BaseModel) -> ModelT:
    """`incoming` where it is of the current class or a subclass; where it is of a parent class, its fields put in.

    Raises:
        ValueError: If the classes have nothing to do with each other.
    """
    if isinstance(incoming, type(current_state)):
        return incoming
    if isinstance(incoming, BaseModel) and isinstance(current_state, type(incoming)):  # pyright: ignore[reportUnnecessaryIsInstance]
        return current_state.model_copy(update=dict(_fields(incoming)))
    raise ValueError(
        f"State must be of type {type(current_state).__name__} or a parent type, got {type(incoming).__name__}."
    )


def _fields(model: BaseModel) -> Iterator[tuple[str, Any]]:
    yield from model.__dict__.items()
    yield from (model.__pydantic_extra__ or {}).items()
