"""Events: dynamic and private fields whatever a subclass overrides, and fields that hold events and exceptions."""

from __future__ import annotations

import time
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter, ValidationError

from workflows.events import (
    Event,
    SerializableEvent,
    SerializableEventType,
    SerializableException,
    SerializableOptionalEvent,
    SerializableOptionalException,
    StartEvent,
    StepFailedEvent,
    StopEvent,
    UnreconstructedException,
)

# Keywords that no class declares; in dictionaries, since type checkers know declared fields only.
SECRET: dict[str, Any] = {"_secret": "s"}
TOPIC: dict[str, Any] = {"topic": "joke"}
DEPTH: dict[str, Any] = {"_depth": 2}
RESULT: dict[str, Any] = {"result": "bye"}


class Noted(Event):
    count: int = 0
    _secret: str = PrivateAttr(default="none")
    _seen: list[Any] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: Any, /) -> None:
        self._seen = [self.get("topic"), self._secret]


class Plain(Event):
    count: int = 0

    def model_post_init(self, context: Any, /) -> None:
        self.doubled = 2 * self.count


class Holder(BaseModel):
    event: SerializableEvent
    kind: SerializableEventType = Event
    error: SerializableOptionalException = None
    earlier: SerializableOptionalEvent = None


class Outer:
    class Inner(Event):
        count: int = 0


class LastWord(StopEvent):
    words: int = 0

    def model_post_init(self, context: Any, /) -> None:
        self.words += 1


def test_private_keywords_survive_a_post_init_without_super() -> None:
    assert Noted(**SECRET)._secret == "s"


def test_a_post_init_finds_dynamic_and_private_fields_in_place() -> None:
    assert Noted(**SECRET, **TOPIC)._seen == ["joke", "s"]


def test_dumped_dynamic_fields_are_unpacked_before_a_post_init() -> None:
    event = Plain.model_validate({"count": 2, "_data": {"topic": "joke"}})
    assert dict(event.items()) == {"topic": "joke", "doubled": 4}


def test_a_subclass_inherits_a_post_init_and_keeps_private_keywords() -> None:
    class Deeper(Noted):
        _depth: int = PrivateAttr(default=0)

    event = Deeper(**DEPTH, **SECRET, **TOPIC)
    assert (event._depth, event._seen) == (2, ["joke", "s"])


def test_a_mixin_gives_an_event_its_post_init() -> None:
    class Stamps:
        def model_post_init(self, context: Any, /) -> None:
            self.stamped = True

    class Stamped(Stamps, Event):
        pass

    assert Stamped.model_validate({"_data": {"a": 1}}).to_dict() == {"a": 1, "stamped": True}


def test_a_stop_event_with_a_post_init_keeps_its_result() -> None:
    stop = LastWord(**RESULT)
    assert (stop.result, stop.words) == ("bye", 1)


def test_an_event_may_name_a_class_that_is_defined_later() -> None:
    class Early(Event):
        model_config = ConfigDict(extra="forbid")
        later: Late | None = None

    class Late(BaseModel):
        count: int

    Early.model_rebuild()
    assert Early.model_validate({"later": {"count": 1}, "topic": "joke"})["topic"] == "joke"


def test_a_wrong_field_is_refused_where_its_class_is_defined() -> None:
    with pytest.raises(TypeError, match="discriminated union"):

        class Wrong(Event):
            count: Annotated[int, Field(discriminator="kind")]


@pytest.mark.parametrize(
    "dump", [lambda m: m.model_dump(mode="json"), lambda m: m.model_dump()], ids=["json", "python"]
)
def test_a_field_holds_an_event_of_any_class(dump: Any) -> None:
    held = Holder(event=Outer.Inner(count=3, **TOPIC))
    found = Holder.model_validate(dump(held)).event
    assert (type(found), found) == (Outer.Inner, held.event)


def test_a_held_event_is_dumped_with_the_name_of_its_class() -> None:
    assert Holder(event=Plain(count=1)).model_dump()["event"] == {
        "__is_pydantic": True,
        "value": {"count": 1, "_data": {"doubled": 2}},
        "qualified_name": f"{__name__}.Plain",
    }


def test_a_field_holds_a_class_of_events() -> None:
    dumped = Holder(event=StartEvent(), kind=Outer.Inner).model_dump()
    assert dumped["kind"] == f"{__name__}.Outer.Inner"
    assert Holder.model_validate(dumped).kind is Outer.Inner


@pytest.mark.parametrize("wrong", [{"count": 1}, "text", 3, None])
def test_what_is_no_event_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="an Event, or what it was dumped as, is needed here"):
        TypeAdapter(SerializableEvent).validate_python(wrong)


@pytest.mark.parametrize("name", ["no.such.Thing", "builtins.int", "os.path", "antigravity.Event"])
def test_a_class_name_imports_nothing(name: str) -> None:
    with pytest.raises(ValidationError, match="no class of events, or its module is not loaded"):
        TypeAdapter(SerializableEventType).validate_python(name)


def test_an_exception_of_a_known_class_is_rebuilt() -> None:
    held = TypeAdapter(SerializableException)
    found = held.validate_python(held.dump_python(KeyError("k")))
    assert type(found) is KeyError


def test_an_exception_of_an_unknown_class_gets_a_stand_in() -> None:
    found = TypeAdapter(SerializableException).validate_python({"exception_type": "no.Such", "exception_message": "hi"})
    assert isinstance(found, UnreconstructedException)
    assert (str(found), found.original_type) == ("hi", "no.Such")


def test_no_exception_is_refused_unless_it_is_optional() -> None:
    assert Holder(event=StartEvent(), error=None).error is None
    with pytest.raises(ValidationError, match="an Exception, or what it was dumped as, is needed here"):
        TypeAdapter(SerializableException).validate_python(None)


def test_events_about_failures_have_a_json_schema() -> None:
    assert "exception" in StepFailedEvent.model_json_schema()["required"]


def test_making_an_event_costs_at_most_twice_a_plain_model() -> None:
    class PlainModel(BaseModel):
        count: int = 0
        name: str = ""

    class Ours(Event):
        count: int = 0
        name: str = ""

    def cost(make: Any) -> float:
        began = time.process_time()
        for _ in range(5_000):
            make(count=1, name="a")
        return time.process_time() - began

    ratios = [cost(Ours) / cost(PlainModel) for _ in range(9)]
    assert min(ratios) <= 2


def test_an_underscore_attribute_that_is_not_declared_is_a_dynamic_field() -> None:
    event = Event()
    event._note = "kept"
    assert (event._note, event.model_dump()) == ("kept", {"_data": {"_note": "kept"}})


def test_a_declared_private_attribute_stays_private() -> None:
    event = Noted()
    event._secret = "s"
    assert (event._secret, event.to_dict()) == ("s", {})
