"""States that several tests keep in a store."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
)

JSON = JsonSerializer()
Store = InMemoryStateStore[Any]


class Mood(Enum):
    GOOD = "good"


class User(BaseModel):
    name: str = "Ada"
    tags: list[str] = []


class Chat(BaseModel):
    turns: int = 0
    user: User = User()
    notes: list[dict[str, int]] = []


class LongChat(Chat):
    topic: str = "none"


class Checked(Chat):
    model_config = ConfigDict(validate_assignment=True)


class Private(Chat):
    _seen: list[int] = PrivateAttr(default_factory=list[int])


class Watched(Chat):
    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name)


class Needy(BaseModel):
    key: str


def free(**values: Any) -> Store:
    return InMemoryStateStore(DictState(**values))
