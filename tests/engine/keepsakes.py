"""Classes of values that are hard to keep in a snapshot."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag
from ipaddress import IPv4Address
from threading import Lock
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    WrapSerializer,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from workflows.events import Event, StopEvent

ItemT = TypeVar("ItemT")


class Color(Enum):
    RED = "red"
    PAIR = (1, "x")


class Rights(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    sizes: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Whole:
    parts: list[Part]
    weight: float = 0.0


class Note(BaseModel):
    text: str = ""


class Memo(Note):
    at: datetime = datetime(2024, 1, 1)
    marks: set[int] = set()


class Due(BaseModel):
    """Declared as what looks the same in JSON, and as what may look like our own text."""

    at: str | datetime = ""
    more: dict[str, str] = {}


class Aliased(BaseModel):
    user_name: str = Field(alias="userName")
    age: int = Field(0, validation_alias=AliasChoices("years", "old"), serialization_alias="howOld")


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, serialize_by_alias=True)
    first_note: Note = Note()
    all_notes: list[Note] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    pair: tuple[int, int]
    marks: set[int]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 1

    @computed_field
    @property
    def twice(self) -> int:
        return self.a * 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = Field(1, alias="first")


class Shouts(BaseModel):
    """Its validators change the value each time they run, or cannot run twice."""

    text: str
    words: list[str] = []

    @field_validator("text")
    @classmethod
    def shout(cls, value: str) -> str:
        return f"{value}!"

    @field_validator("words", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        return value.split(",")


class Ordered(BaseModel):
    low: int = 0
    high: int = 0

    @model_validator(mode="after")
    def in_order(self) -> Ordered:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Counts(BaseModel):
    n: int = Field(0, ge=0)
    _seen: int = PrivateAttr(default=0)
    _lock: Any = PrivateAttr(default_factory=Lock)


class Page(BaseModel, Generic[ItemT]):
    items: list[ItemT]


class Numbers(RootModel[list[int]]):
    pass


class Choice(BaseModel):
    kind: Annotated[str | int, Field(union_mode="left_to_right")] = "a"
    way: Literal["up", "down"] = "up"
    where: IPv4Address = IPv4Address("127.0.0.1")
    price: Decimal = Decimal("1.10")


class Holder(BaseModel):
    note: Note = Note()
    notes: list[Note] = []
    by_name: dict[str, Note] = {}
    several: tuple[Note, ...] = ()
    deep: dict[str, list[Note]] = {}
    anything: Any = None
    items: list = []  # type: ignore[type-arg]  # loosely typed on purpose
    table: dict = {}  # type: ignore[type-arg]
    maybe: Note | None = None
    day: date | str = ""
    point: Point = Point(0)
    part: Part | None = None


class Masked(BaseModel):
    token: str
    seen: Any = None

    @field_serializer("token")
    def mask(self, value: str) -> str:
        return f"{value[:2]}..."


class Short(BaseModel):
    number: int
    held: Any = None

    @model_serializer
    def as_dictionary(self) -> dict[str, Any]:
        return {"number": self.number, "held": self.held}


class Shape(BaseModel, ABC):
    @abstractmethod
    def area(self) -> int: ...


class Square(Shape):
    side: int = 1

    def area(self) -> int:
        return self.side**2


class Scored(BaseModel):
    """What llama-index calls a component; it cannot read itself, as its shape is of a class that it does not know."""

    shape: SerializeAsAny[Shape]

    @classmethod
    def class_name(cls) -> str:
        return "scored"

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scored:
        return cls(**data)


class Labels(BaseModel):
    """What llama-index calls a component; what it gives of itself may be more than JSON."""

    text: str = ""
    data: dict[str, Any] = {}
    color: Color = Color.RED

    @classmethod
    def class_name(cls) -> str:
        return "labels"

    def to_dict(self) -> dict[str, Any]:
        return {**dict(self), "class_name": self.class_name()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Labels:
        del data["class_name"]
        return cls(**data)


@dataclasses.dataclass
class Detection:
    """No component, though it has something by each of their names."""

    class_name: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.class_name, "score": round(self.score, 1)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Detection:
        return cls(data["label"], data["score"])


class Unread(Labels):
    """One that cannot read itself."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Unread:
        raise KeyError("no shelf")


class Untold(Labels):
    """One that cannot tell what it is made of."""

    def to_dict(self) -> dict[str, Any]:
        raise TypeError("who knows")


def _broken(value: Any, handler: Any) -> Any:
    return handler(value, object())


class Shelf(BaseModel):
    """Its author's serializers fail over what it holds."""

    notes: dict[str, list[Annotated[Note, WrapSerializer(_broken)]]] = {}
    name: str = "shelf"

    @model_serializer(mode="wrap")
    def with_class(self, handler: Any) -> dict[str, Any]:
        return {**handler(self), "name": self.name.upper()}


class Library(BaseModel):
    """As above, in a serializer of a field."""

    shelf: Shelf = Shelf()
    title: str = ""

    @field_serializer("shelf")
    def as_dictionary(self, value: Shelf) -> dict[str, Any]:
        return value.model_dump()


class Vault(BaseModel):
    """Its author refuses to have it written."""

    code: str = "1234"

    @model_serializer(mode="wrap")
    def never(self, handler: Any) -> dict[str, Any]:
        raise ValueError("not this one")


class Drawer(BaseModel):
    code: str = "1234"

    @field_serializer("code")
    def never(self, value: str) -> str:
        raise ValueError("not this one")


class Renames(BaseModel):
    """Its author gives free text, which may look like ours, in another form than that of its fields."""

    table: dict[str, str] = {}

    @field_serializer("table")
    def in_capitals(self, value: dict[str, str]) -> dict[str, str]:
        return {key: text.upper() for key, text in value.items()}


class Wraps(BaseModel):
    table: dict[str, Any] = {}

    @model_serializer
    def as_one(self) -> dict[str, Any]:
        return {"table": {"was": self.table}}


class Login(BaseModel):
    password: SecretStr


class Hidden(BaseModel):
    key: str = Field(exclude=True)


class Carrier(Event):
    one: Note = Note()
    many: list[Note] = Field(default_factory=list)
    events: list[Event] = Field(default_factory=list)
    loose: list = Field(default_factory=list)  # type: ignore[type-arg]


class AliasedEvent(Event):
    some_text: str = Field(alias="someText")
    _count: int = PrivateAttr(default=0)


class AliasedStop(StopEvent):
    some_text: str = Field(alias="someText")
