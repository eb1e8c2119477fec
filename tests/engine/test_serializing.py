"""What a snapshot says can be read, and is equal then; what cannot is refused while it is written."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from tests.engine import keepsakes
from tests.engine.flows import Ask, Reply, result_after_a_suspension
from tests.engine.keepsakes import Memo, Note
from tests.engine.states import JSON
from workflows import Context, Workflow, step
from workflows.checkpointer import Checkpoint
from workflows.context import JsonSerializer, PickleSerializer
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.errors import ContextSerdeError, UnserializableValueError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.testing import VirtualClockLoop

# To a type checker an alias, a dynamic field or text for a `before` validator is an error.
keep: Any = keepsakes


def again(value: Any, serializer: JsonSerializer = JSON) -> Any:
    return serializer.deserialize(serializer.serialize(value))


def unchecked(cls: type[BaseModel], **fields: Any) -> BaseModel:
    """A model whose fields were set after it was made, which pydantic does not check."""
    model = cls()
    for name, value in fields.items():
        setattr(model, name, value)
    return model


def with_private(model: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


LIKE_MARKS = {"__is_value": "datetime", "value": "x", "deep": [{"__is_enum": 1}, {"__is_component": True}]}
MODELS: dict[str, Callable[[], BaseModel]] = {
    "alias": lambda: keep.Aliased(userName="Ada", years=3),
    "aliases that are names of other fields": lambda: keep.Swapped(a=1, b=2),
    "alias generator": lambda: keep.Camel(firstNote=Memo(text="x"), allNotes=[Note(text="y"), Memo(marks={1})]),
    "strict": lambda: keep.Strict(at=datetime(2024, 1, 1, tzinfo=UTC), pair=(1, 2), marks={3}),
    "computed field, closed": lambda: keep.Closed(a=4),
    "extra fields": lambda: keep.Open(first=2, a="extra", when=datetime(2024, 1, 1), __is_value="x"),
    "validators that change": lambda: keep.Shouts(text="a", words="b,c"),
    "validators that fail": lambda: unchecked(keep.Ordered, low=3),
    "constraints": lambda: unchecked(keep.Counts, n=-1),
    "another type": lambda: unchecked(keep.Holder, note=None, notes=(Note(),), point=(1, 2)),
    "private": lambda: with_private(keep.Counts(n=1), _seen=7),
    "generic": lambda: keep.Page[Note](items=[Memo(text="z")]),
    "generic of generics": lambda: keep.Page[keep.Page[list[int] | None]](
        items=[keep.Page[list[int] | None](items=[[1], None])]
    ),
    "root": lambda: keep.Numbers([1, 2]),
    "unions": lambda: keep.Choice(kind=1, way="down"),
    "subclasses": lambda: keep.Holder(
        note=Memo(text="a"),
        notes=[Memo(text="b"), Note()],
        by_name={"c": Memo()},
        several=(Memo(marks={1}),),
        deep={"d": [Memo()]},
        maybe=Memo(text="e"),
    ),
    "loosely typed": lambda: keep.Holder(
        anything={1: (Memo(), keep.Color.PAIR)},
        items=[Note(), {1}, b"\xff"],
        table={"n": Memo(), "at": datetime(2024, 1, 1)},
        point=keep.Point(3, "p"),
        part=keep.Part("w", [1]),
    ),
    "author's dictionary": lambda: keep.Short(number=1, held=[Memo(marks={2})]),
    "author's dictionary of what is no number": lambda: keep.Short(number=1, held=[float("inf")]),
    "event of events": lambda: keep.Carrier(
        one=Memo(), many=[Memo()], events=[keep.Carrier(loose=[Note()])], loose=[Note()]
    ),
    "event with dynamic fields": lambda: keep.Carrier(later=Memo(), pairs={(1, 2): keep.Color.RED}),
    "event with an alias": lambda: with_private(keep.AliasedEvent(someText="x", more={1}), _count=4),
    "stop event with an alias": lambda: keep.AliasedStop(someText="x"),
    "component": lambda: keep.Scored(shape=keep.Square(side=2)),
    "component, more than JSON": lambda: keep.Labels(data={"at": datetime(2024, 1, 1), "pair": (1, 2)}),
    "component of marks": lambda: keep.Labels(data=LIKE_MARKS),
    "component that tells nothing": lambda: keep.Untold(data=LIKE_MARKS),
    "text or time": lambda: keep.Due(at=datetime(2024, 1, 1)),
    "text of marks": lambda: keep.Due(at="2024-01-01T00:00:00", more={"__is_value": "path", "value": "/etc/passwd"}),
    "event of such": lambda: keep.Carrier(dues=[keep.Due(at=datetime(2024, 1, 1), more={"__is_pydantic": "1"})]),
    "serializers that fail over what is held": lambda: keep.Library(
        shelf=keep.Shelf(notes={"a": [Memo(text="x"), Note()]}, name="SHELF")
    ),
    "stop event": lambda: StopEvent(result=keep.Page[Memo](items=[Memo()]), extra=keep.Point(1)),
    "state": lambda: DictState(a=Memo(), b={1: 2}),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_comes_back_equal(make: Callable[[], BaseModel]) -> None:
    found = again(make())
    # Locks are equal to nothing but themselves.
    assert repr(found) == repr(make())
    assert type(found) is type(make())
    if not isinstance(found, keep.Counts):
        assert found == make()


VALUES: dict[str, Any] = {
    "named tuple": keep.Point(1, "x"),
    "tuples of them": [(keep.Point(1),), {"p": keep.Point(2)}],
    "dataclass": keep.Whole([keep.Part("a", [1]), keep.Part("b")], 2.5),
    "flags": keep.Rights.READ | keep.Rights.WRITE,
    "time with a zone": datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "long time": timedelta(days=999_999, microseconds=1),
    "path": Path("/a/b"),
    "queue": deque([1, {2}], maxlen=5),
    "counter": Counter("aab"),
    "ordered": OrderedDict(b=1, a=2),
    "keys of all kinds": {1: "a", "1": "b", None: (), (1, 2): {}},
    "marks": {"__is_pydantic": True, "x": {"__is_named_tuple": 1}},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_equal_and_of_its_class(value: Any) -> None:
    found = again(value)
    assert found == value
    assert type(found) is type(value)


def test_a_dictionary_with_defaults_keeps_them() -> None:
    found = again(defaultdict(list, a=[1]))
    found["b"].append(2)
    assert found == {"a": [1], "b": [2]}


def test_a_list_of_a_class_of_its_own_becomes_a_list() -> None:
    class Stack(list[int]): ...

    assert again({"s": Stack([1])}) == {"s": [1]}


def test_a_time_keeps_its_zone() -> None:
    assert again(datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))).tzinfo == ZoneInfo("Europe/Berlin")


def test_private_attributes_that_json_cannot_say_are_made_again() -> None:
    found = again(with_private(keep.Counts(), _seen=3))
    assert found._seen == 3
    assert found._lock.acquire(blocking=False)


def test_reading_runs_no_validator_that_has_changed_the_value_already() -> None:
    assert again(keep.Shouts(text="a", words="b,c")) == keep.Shouts.model_construct(text="a!", words=["b", "c"])


def test_a_serializer_of_the_author_has_the_last_word() -> None:
    assert again(keep.Masked(token="secret", seen=Memo())) == keep.Masked.model_construct(token="se...", seen=Memo())


def test_a_serializer_that_fails_over_one_field_has_the_last_word_about_the_others() -> None:
    found = again(keep.Shelf(notes={"a": [Memo()]}, name="top"))
    assert (found.notes, found.name) == ({"a": [Memo()]}, "TOP")


def test_what_an_authors_serializer_gives_is_read_as_it_is() -> None:
    found = again(keep.Renames(table={"__is_value": "path", "value": "/a"}))
    assert found.table == {"__is_value": "PATH", "value": "/A"}


def test_values_within_what_an_authors_serializer_gives_keep_their_type() -> None:
    found = again(keep.Wraps(table={"__is_value": "path", "value": KeyError("x")})).table["was"]
    assert (found["__is_value"], repr(found["value"])) == ("path", """KeyError("'x'")""")


def test_a_failed_step_keeps_its_event() -> None:
    failed = StepFailedEvent(
        step_name="s",
        input_event=keep.AliasedEvent(someText="x", when=datetime(2024, 1, 1)),
        exception=ValueError("no"),
        attempts=1,
        elapsed_seconds=0.5,
        failed_at=datetime(2024, 1, 1, tzinfo=UTC),
    )
    found = again(failed)
    assert found.input_event == failed.input_event
    assert repr(found.exception) == "ValueError('no')"


def test_text_of_others_may_use_aliases() -> None:
    text = {"__is_pydantic": True, "value": {"userName": "Ada"}, "qualified_name": f"{keepsakes.__name__}.Aliased"}
    assert JSON.deserialize(json.dumps(text)) == keep.Aliased(userName="Ada")


def local_model() -> BaseModel:
    class Local(BaseModel):
        a: int = 1

    return Local()


def local_component() -> Any:
    class Component(keep.Labels):
        pass

    return Component()


def test_a_dataclass_with_the_names_of_a_component_keeps_its_fields() -> None:
    found = keep.Detection("dog", 0.8765)
    assert JSON.deserialize(JSON.serialize(Event(found=found))).found == found


def circle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["self"] = found
    return found


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "secret": (lambda: keep.Login(password="pw"), r"Login\.password holds a SecretStr, written as '\*+'"),
    "no data": (lambda: keep.Carrier(client=object()), r"Carrier\.client: .*builtins\.object is no model"),
    "deep down": (
        lambda: {"a": [keep.Carrier(one=Memo(), loose=[{"f": print}])]},
        r"Carrier\.loose: .*builtin_function",
    ),
    "local class": (lambda: Event(held=local_model()), r"Event\.held: .*Local, which could not be read back"),
    "local component": (lambda: [local_component()], "Component, which could not be read back"),
    "left out and needed": (lambda: keep.Hidden(key="k"), r"Hidden\.key is excluded from dumps, and no model"),
    "circle": (circle, "holds itself"),
    "component that does not read itself": (
        lambda: Event(held=keep.Unread()),
        r"Event\.held: .*what Unread\.to_dict\(\) gives could not be read back, its from_dict\(\) fails: 'no shelf'",
    ),
    "component with a client": (lambda: Event(held=keep.Labels(data={"c": object()})), r"Event\.held: .*object is no"),
    "author's refusal": (lambda: Event(held=keep.Vault()), r"Event\.held: .*serializer of Vault fails: .*not this one"),
    "author's refusal of a field": (lambda: keep.Drawer(), r"Drawer\.code cannot be written .*not this one"),
}


@pytest.mark.parametrize(("make", "text"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_read_is_refused_by_name(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(UnserializableValueError, match=text):
        JSON.serialize(make())


def test_a_closed_serializer_writes_no_class_that_it_would_not_read() -> None:
    with pytest.raises(UnserializableValueError, match="Memo, which could not be read back"):
        JsonSerializer(allowed_types=[Note]).serialize(keep.Holder(note=Memo()))


@pytest.mark.parametrize(
    "text",
    [
        {"__is_dataclass": True, "value": {"cmd": "x"}, "qualified_name": "subprocess.CompletedProcess"},
        {"__is_named_tuple": True, "value": ["x"], "qualified_name": "subprocess.Popen"},
        {"__is_enum": True, "value": "x", "qualified_name": f"{keepsakes.__name__}.Part"},
        {"__is_dataclass": True, "value": {"more": 1}, "qualified_name": f"{keepsakes.__name__}.Part"},
        {"__is_pydantic": True, "value": {"more": 1}, "qualified_name": f"{keepsakes.__name__}.Note", "as_is": True},
        {
            "__is_pydantic": True,
            "value": {},
            "qualified_name": f"{keepsakes.__name__}.Page",
            "parameters": ["os.PathLike"],
        },
    ],
)
def test_text_builds_nothing_but_plain_data_of_declared_fields(text: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each is refused for another reason
        JSON.deserialize(json.dumps(text))


# in runs


class Keeps(Workflow):
    """Sends a carrier, keeps one, and waits."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> keepsakes.Carrier:
        await ctx.store.set("kept", ev.held)
        return keep.Carrier(many=[Memo(text="m")], held=ev.held)

    @step
    async def wait(self, ctx: Context, ev: keepsakes.Carrier) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=Ask())
        return StopEvent(result=[ev.held, ev.many, await ctx.store.get("kept")])


async def test_a_resumed_step_gets_what_a_live_one_gets(clock: VirtualClockLoop) -> None:
    held: list[Any] = [
        keep.Aliased(userName="Ada"),
        keep.Closed(a=2),
        keep.Page[Note](items=[]),
        keep.Point(1),
        keep.Part("w"),
    ]
    held.append(keep.Strict(at=datetime(2024, 1, 1), pair=(1, 2), marks={3}))
    held.append(keep.Due(at=datetime(2024, 1, 1), more={"__is_value": "datetime", "value": "x"}))
    assert await result_after_a_suspension(Keeps, held) == [held, [Memo(text="m")], held]


async def test_a_run_that_cannot_be_written_goes_on(clock: VirtualClockLoop) -> None:
    handler = Keeps().run(held=keep.Login(password="pw"))
    async for _event in handler.stream_events(types=Ask):
        break
    with pytest.raises(ContextSerdeError, match=r"key kept: .*Login\.password"):
        await handler.suspend()
    handler.ctx.send_event(Reply(n=1))
    assert (await handler)[1] == [Memo(text="m")]


async def test_what_json_cannot_say_is_suspended_with_another_serializer(clock: VirtualClockLoop) -> None:
    workflow, held = Keeps(), keep.Login(password="pw")
    handler = workflow.run(held=held)
    async for _event in handler.stream_events(types=Ask):
        break
    snapshot = json.loads(json.dumps(await handler.suspend(serializer=PickleSerializer())))
    resumed = workflow.run(ctx=Context.from_dict(workflow, snapshot, PickleSerializer()))
    resumed.ctx.send_event(Reply(n=1))
    assert (await resumed)[0] == held


class Session(BaseModel):
    user: str = "x"
    turns: int = 0


class AliasedSession(DictState):
    user_name: str = "x"
    shout: keepsakes.Shouts | None = None


async def test_typed_state_with_dynamic_fields_comes_back(clock: VirtualClockLoop) -> None:
    state = AliasedSession.model_validate({"user_name": "bob", "more": Memo()})
    state.shout = keep.Shouts(text="a", words="b")
    store: Any = InMemoryStateStore.from_dict(InMemoryStateStore(state).to_dict(JSON), JSON, AliasedSession)
    assert await store.get_state() == state


def test_a_checkpoint_as_text_keeps_its_events() -> None:
    sent = keep.Carrier(many=[Memo(text="m")], when=datetime(2024, 1, 1))
    asked = keep.AliasedEvent(someText="x")
    made = Checkpoint(last_completed_step="s", input_event=asked, output_event=sent, ctx_state={})
    found = Checkpoint.model_validate_json(made.model_dump_json())
    assert (found.input_event, found.output_event) == (asked, sent)


def test_a_class_that_is_not_allowed_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnserializableValueError, match=r"not among the allowed_types\. Add Due to them"):
        JsonSerializer(allowed_types=[]).serialize({"due": keep.Due()})
