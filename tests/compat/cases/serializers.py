"""Serializers: how values are written and read back, and which classes may be rebuilt."""

import datetime
import decimal
import enum
import json
import pathlib
import uuid
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field

from tests.compat.case import case, error_of
from tests.compat.flows import A
from workflows.context import BaseSerializer, JsonSerializer, PickleSerializer
from workflows.context.serializers import JsonPickleSerializer
from workflows.events import StopEvent

NAME = "tests.compat.cases.serializers"


class Model(BaseModel):
    q: int = 0


class Holder(BaseModel):
    model: Model
    models: list[Model] = []


class Color(enum.Enum):
    RED = "red"


class Component:
    """What llama-index calls a component: it says its class name and how to write and read itself."""

    def __init__(self, x):
        self.x = x

    @classmethod
    def class_name(cls):
        return "component"

    def to_dict(self):
        return {"x": self.x}

    @classmethod
    def from_dict(cls, data):
        return cls(data["x"])


def again(value, serializer=None):
    serializer = serializer or JsonSerializer()
    return serializer.deserialize(serializer.serialize(value))


@case([{"a": [1, None, "x", 1.5, True]}, '{"a": 1}', [1, [2]]])
def plain_values_are_json():
    return again({"a": [1, None, "x", 1.5, True]}), JsonSerializer().serialize({"a": 1}), again([1, [2]])


@case({"__is_pydantic": True, "value": {"q": 1}, "qualified_name": f"{NAME}.Model"})
def a_model_is_written_with_its_class():
    return json.loads(JsonSerializer().serialize(Model(q=1)))


@case(["Model", 1, "Holder", 2, [3]])
def models_are_rebuilt():
    holder = again(Holder(model=Model(q=2), models=[Model(q=3)]))
    return (
        type(again(Model(q=1))).__name__,
        again(Model(q=1)).q,
        type(holder).__name__,
        holder.model.q,
        [m.q for m in holder.models],
    )


@case([1, 2, "Model"])
def models_within_lists_and_dicts_are_rebuilt():
    found = again({"list": [Model(q=1)], "dict": {"m": Model(q=2)}})
    return found["list"][0].q, found["dict"]["m"].q, type(found["dict"]["m"]).__name__


@case(["A", 2, 1, "r"])
def events_are_rebuilt():
    ev = again(A(n=2, later=1))
    return type(ev).__name__, ev.n, ev.later, again(StopEvent(result="r")).result


@case({"__is_component": True, "value": {"x": 1}, "qualified_name": f"{NAME}.Component"})
def a_component_is_written_with_its_class():
    return json.loads(JsonSerializer(allowed_types=[Component]).serialize(Component(1)))


@case(["Component", 1])
def components_are_rebuilt_where_they_are_allowed():
    found = again(Component(1), JsonSerializer(allowed_types=[Component]))
    return type(found).__name__, found.x


@case(
    [["tuple", "dict"], [1, 2], {"1": 2}],
    peer_gives=[["list", "dict"], [1, 2], {"1": 2}],
    because="types-survive-in-snapshots",
)
def tuples_stay_tuples():
    found = again((1, 2)), again({1: 2})
    return [type(value).__name__ for value in found], list(found[0]), found[1]


VALUES = {
    "set": {1},
    "bytes": b"a",
    "datetime": datetime.datetime(2020, 1, 1),
    "date": datetime.date(2020, 1, 1),
    "uuid": uuid.UUID(int=1),
    "decimal": decimal.Decimal("1"),
    "enum": Color.RED,
}


@case(
    dict.fromkeys(VALUES, True), peer_gives=dict.fromkeys(VALUES, "!ValueError"), because="types-survive-in-snapshots"
)
def values_of_common_types_are_written_as_json():
    return {name: error_of(lambda value=value: again(value) == value) for name, value in VALUES.items()}


@case("PurePosixPath", peer_gives="!ValueError", because="types-survive-in-snapshots")
def a_path_stays_a_path():
    return error_of(lambda: type(again(pathlib.PurePosixPath("/x"))).__name__)


def is_refused(value):
    try:
        JsonSerializer().serialize(value)
    except ValueError:
        return True
    return False


@case([True, True])
def what_cannot_be_written_is_refused():
    return is_refused(object()), is_refused(again)


class Alias(BaseModel):
    some: int = Field(alias="someAlias")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 1

    @computed_field
    @property
    def twice(self) -> int:
        return self.a * 2


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime.datetime
    pair: tuple[int, int]


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]


MODELS = {
    "alias": lambda: Alias(someAlias=1),
    "computed": lambda: Closed(a=2),
    "strict": lambda: Strict(at=datetime.datetime(2020, 1, 1), pair=(1, 2)),
    "generic": lambda: Page[Model](items=[Model(q=1)]),
}


def comes_back(value):
    try:
        return again(value) == value
    except (ValueError, AttributeError):
        return False


@case(dict.fromkeys(MODELS, True), peer_gives=dict.fromkeys(MODELS, False), because="what-is-written-can-be-read")
def every_model_can_be_read_again():
    return {name: comes_back(make()) for name, make in MODELS.items()}


class SubModel(Model):
    more: str = "x"


class Untyped(BaseModel):
    models: list[Model] = []
    anything: dict = {}


@case([True, True], peer_gives=[False, False], because="what-is-written-can-be-read")
def containers_keep_the_classes_of_what_they_hold():
    return comes_back(Untyped(models=[SubModel(q=1, more="y")])), comes_back(Untyped(anything={"m": Model(q=2)}))


class Pair(NamedTuple):
    a: int
    b: str


@case(["Pair", [1, "x"]], peer_gives=["list", [1, "x"]], because="types-survive-in-snapshots")
def a_named_tuple_stays_one():
    found = again(Pair(1, "x"))
    return type(found).__name__, list(found)


class Secret(BaseModel):
    key: SecretStr


@case("refused", peer_gives="**********", because="what-is-written-can-be-read")
def a_secret_is_not_lost_silently():
    try:
        return again(Secret(key="pw")).key.get_secret_value()
    except ValueError:
        return "refused"


@case({**dict.fromkeys(VALUES, True), "model": True, "plain": True})
def pickle_writes_everything():
    values = {**VALUES, "model": Model(q=1), "plain": {"a": [1]}}
    return {name: again(value, PickleSerializer()) == value for name, value in values.items()}


@case([True, True, True])
def the_serializers_are_one_family():
    return (
        issubclass(PickleSerializer, JsonSerializer),
        issubclass(JsonSerializer, BaseSerializer),
        JsonPickleSerializer is PickleSerializer,
    )


@case([1, "!ValueError"])
def only_allowed_types_are_rebuilt():
    written = JsonSerializer().serialize(Model(q=1))
    return (
        JsonSerializer(allowed_types=[Model]).deserialize(written).q,
        error_of(lambda: JsonSerializer(allowed_types=[Holder]).deserialize(written)),
    )


class Due(BaseModel):
    at: str | datetime.datetime
    more: dict[str, str] = {}


@case(["datetime", "str"], peer_gives=["str", "str"], because="what-is-written-can-be-read")
def a_time_stays_one_where_text_may_be_as_well():
    now = datetime.datetime(2024, 1, 1)
    return [type(again(Due(at=at)).at).__name__ for at in (now, now.isoformat())]


LIKE_OURS = {"__is_pydantic": "1", "value": "x", "qualified_name": "os.Path"}


@case([True, True])
def text_that_looks_like_that_of_the_serializer_is_read_as_it_is():
    return again(Due(at="", more=LIKE_OURS)).more == LIKE_OURS, again(
        Component(LIKE_OURS), JsonSerializer(allowed_types=[Component])
    ).x == LIKE_OURS


@case("red", peer_gives="!ValueError", because="types-survive-in-snapshots")
def what_a_component_is_made_of_may_be_more_than_json():
    return again(Component(Color.RED), JsonSerializer(allowed_types=[Component, Color])).x.value


@case([1, 1])
def types_can_be_allowed_by_name_and_added():
    written = JsonSerializer().serialize(Model(q=1))
    by_name = JsonSerializer(allowed_types=[f"{NAME}.Model"])
    added = JsonSerializer(allowed_types=[Holder]).with_types(Model)
    return by_name.deserialize(written).q, added.deserialize(written).q


@case(["Model", "!ValueError"], peer_gives=["Model", "!ImportError"], because="no-imports")
def a_name_leads_to_its_class():
    serializer = JsonSerializer()
    return serializer.resolve_class(f"{NAME}.Model").__name__, error_of(
        lambda: serializer.resolve_class("no_such.Class")
    )


@case("!ValueError", peer_gives="ZipFile", because="no-imports")
def a_class_that_is_no_event_or_model_is_not_rebuilt():
    return error_of(lambda: JsonSerializer().resolve_class("zipfile.ZipFile").__name__)


@case([{"__is_pydantic": True, "value": {"q": 2}, "qualified_name": f"{NAME}.Model"}, 2])
def values_can_be_written_without_text():
    serializer = JsonSerializer()
    written = serializer.serialize_value(Model(q=2))
    return written, serializer.deserialize_value([written])[0].q


class WithSets(JsonSerializer):
    def serialize_value(self, value):
        return {"__set__": sorted(value)} if isinstance(value, set) else super().serialize_value(value)

    def deserialize_value(self, data):
        if isinstance(data, dict) and "__set__" in data:
            return set(data["__set__"])
        return super().deserialize_value(data)


@case([[1, 2], [3]])
def a_serializer_can_be_extended():
    found = again({1, 2}, WithSets()), again({"a": {3}}, WithSets())
    return sorted(found[0]), sorted(found[1]["a"])


@case(["nested", "!ValueError"], peer_gives=["!AttributeError", "!AttributeError"], because="local-classes")
def a_class_within_a_function_is_rebuilt_where_it_is_allowed():
    class Local(BaseModel):
        q: str

    def read_back(by_default):
        allowed = JsonSerializer().with_types(Local)
        return (JsonSerializer() if by_default else allowed).deserialize(allowed.serialize(Local(q="nested"))).q

    return error_of(lambda: read_back(by_default=False)), error_of(lambda: read_back(by_default=True))
