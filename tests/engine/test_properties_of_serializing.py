"""Whatever a snapshot is given it either refuses or gives back: models, containers and values in any combination."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from tests.engine import keepsakes
from tests.engine.flows import Ask, Reply, result_after_a_suspension
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer
from workflows.context.json_values import MARKS
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.errors import UnserializableValueError
from workflows.events import Event, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

pytestmark = pytest.mark.slow

JSON = JsonSerializer()
keep: Any = keepsakes

texts = st.text(max_size=5)
zones: Any = st.one_of(
    st.none(),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    st.sampled_from([ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")]),
)
datetimes = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1), timezones=zones)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, st.sampled_from(["__is_value", "_data"])
)
hashable = st.one_of(
    plain,
    datetimes,
    st.binary(max_size=4),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([*keepsakes.Color, keepsakes.Rights.READ | keepsakes.Rights.WRITE]),
    st.builds(keepsakes.Point, st.integers(), texts),
    st.tuples(st.integers(), texts),
)
notes = st.one_of(
    st.builds(keepsakes.Note, text=texts),
    st.builds(keepsakes.Memo, text=texts, at=datetimes, marks=st.sets(st.integers(), max_size=3)),
)
# What a user may write into a form, and what our own text is made of.
keys = texts | st.sampled_from([*MARKS, "value", "qualified_name", "typed", "_data"])
dynamic_names = st.text("abcxyz", min_size=1, max_size=3)


def holders(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Everything that may hold something, one level higher."""
    lists = st.lists(values, max_size=3)
    tables = st.dictionaries(dynamic_names, values, max_size=3)
    some_notes = st.lists(notes, max_size=2)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(deque),
        tables,
        tables.map(OrderedDict),
        st.dictionaries(hashable, values, max_size=3),
        st.sets(hashable, max_size=3),
        st.builds(
            keepsakes.Holder,
            note=notes,
            notes=some_notes,
            by_name=st.dictionaries(texts, notes, max_size=2),
            several=some_notes.map(tuple),
            deep=st.dictionaries(texts, some_notes, max_size=2),
            anything=values,
            items=lists,
            table=tables,
            maybe=st.none() | notes,
            day=st.dates() | texts.filter(lambda t: not t.isdecimal()),
            point=st.builds(keepsakes.Point, st.integers(), texts),
            part=st.none() | st.builds(keepsakes.Part, texts, st.lists(st.integers(), max_size=2)),
        ),
        st.builds(lambda name, age: keep.Aliased(userName=name, years=age), texts, st.integers()),
        st.builds(lambda a, b: keep.Swapped(a=a, b=b), st.integers(), st.integers()),
        st.builds(lambda note, all_notes: keep.Camel(firstNote=note, allNotes=all_notes), notes, some_notes),
        st.builds(keepsakes.Closed, a=st.integers()),
        st.builds(lambda at, pair, marks: keep.Strict(at=at, pair=pair, marks=marks), datetimes,
                  st.tuples(st.integers(), st.integers()), st.sets(st.integers(), max_size=2)),
        st.builds(lambda first, extra: keep.Open(first=first, **extra), st.integers(), tables),
        st.builds(lambda text, words: keep.Shouts(text=text, words=words), texts, texts),
        st.builds(lambda low: _set(keep.Ordered(), low=low), st.integers()),
        st.builds(lambda seen: _set(keep.Note(), text=seen), values),
        st.builds(keepsakes.Numbers, st.lists(st.integers(), max_size=3)),
        st.builds(lambda found: keep.Page[keep.Note](items=found), some_notes),
        st.builds(lambda number, held: keep.Short(number=number, held=held), st.integers(), plain),
        st.builds(lambda data: keep.Labels(data=data), st.dictionaries(keys, values, max_size=3)),
        st.builds(lambda data: keep.Untold(data=data), st.dictionaries(keys, values, max_size=3)),
        st.builds(keepsakes.Whole, st.lists(st.builds(keepsakes.Part, texts), max_size=2), st.floats(allow_nan=False)),
        events(values),
    )  # fmt: skip


def events(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Events with declared and dynamic fields."""
    tables = st.dictionaries(dynamic_names, values, max_size=3)
    return st.one_of(
        st.builds(lambda fields: Event(**fields), tables),
        st.builds(lambda result, fields: StopEvent(result=result, **fields), values, tables),
        st.builds(
            lambda one, many, loose, fields: keep.Carrier(one=one, many=many, loose=loose, **fields),
            notes,
            st.lists(notes, max_size=2),
            st.lists(values, max_size=2),
            tables,
        ),
        st.builds(lambda text, n: _set(keep.AliasedEvent(someText=text), _count=n), texts, st.integers()),
        st.builds(lambda text: keep.AliasedStop(someText=text), texts),
    )


def _set(model: Any, **values: Any) -> Any:
    """Set what pydantic does not check then."""
    for name, value in values.items():
        setattr(model, name, value)
    return model


def in_utc(found: datetime) -> datetime:
    """As pydantic writes it without loss."""
    return found.replace(tzinfo=UTC, fold=0)


class Declared(NamedTuple):
    """What a field may be declared as, and the values that it then has."""

    annotation: Any
    values: st.SearchStrategy[Any]


CLASSES = {
    str: texts | st.sampled_from(["2024-01-01", "2024-01-01T00:00:00", "00000000-0000-0000-0000-000000000000", "1"]),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
    datetime: datetimes | datetimes.map(in_utc),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    bytes: st.binary(max_size=4),
    Literal["a", 1]: st.sampled_from(["a", 1]),
    Any: hashable,
    keepsakes.Color: st.sampled_from(keepsakes.Color),
    keepsakes.Note: notes,
    keepsakes.Due: st.builds(
        keepsakes.Due, at=texts | datetimes.map(in_utc), more=st.dictionaries(texts, texts, max_size=2)
    ),
}


def _union_of(some: list[Declared]) -> Declared:
    return Declared(Union[tuple(d.annotation for d in some)], st.one_of(*(d.values for d in some)))  # noqa: UP007


def _declared_of(one: st.SearchStrategy[Declared]) -> st.SearchStrategy[Declared]:
    return st.one_of(
        one.map(lambda d: Declared(list[d.annotation], st.lists(d.values, max_size=3))),
        one.map(lambda d: Declared(tuple[d.annotation, ...], st.lists(d.values, max_size=3).map(tuple))),
        one.map(lambda d: Declared(dict[str, d.annotation], st.dictionaries(keys, d.values, max_size=3))),
        st.lists(one, min_size=2, max_size=3).map(_union_of),
    )


def _one_of_several(classes: Iterable[Any]) -> st.SearchStrategy[Declared]:
    return st.lists(st.sampled_from([Declared(c, CLASSES[c]) for c in classes]), min_size=2, max_size=3).map(_union_of)


single = st.sampled_from([Declared(*found) for found in CLASSES.items()])
alike_in_json = _one_of_several([str, datetime, date, UUID, int])
declared = st.recursive(single | alike_in_json | _one_of_several(CLASSES), _declared_of, max_leaves=3)


def shape(value: Any) -> Any:
    """A value with the class of all that it holds, which equality does not look at; sets in order."""
    kind = type(value)
    if isinstance(value, datetime):  # pydantic has a class of its own for fixed offsets
        zone = value.tzinfo if isinstance(value.tzinfo, ZoneInfo) else value.utcoffset()
        return kind, repr(value.replace(tzinfo=None)), repr(zone)
    if isinstance(value, BaseModel):
        held = (value.__dict__, value.__pydantic_extra__, value.__pydantic_private__)
        return kind, [shape(part) for part in held]
    if dataclasses.is_dataclass(value):
        return kind, shape(vars(value))
    if isinstance(value, dict):
        return kind, [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, list | tuple | deque):
        return kind, [shape(v) for v in value]
    return kind, sorted(repr(shape(v)) for v in value) if isinstance(value, set) else repr(value)


anything = st.recursive(hashable, holders, max_leaves=8)


@given(anything)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    found = JSON.deserialize(JSON.serialize(value))
    assert found == value
    assert shape(found) == shape(value)


@given(st.data(), st.sampled_from([BaseModel, Event, StopEvent, DictState]), declared)
@settings(max_examples=300, deadline=None)
def test_what_is_declared_comes_back_as_it_was(data: st.DataObject, base: type[BaseModel], field: Declared) -> None:
    cls: Any = create_model("Made", __base__=base, held=(field.annotation, ...))
    model = cls(held=data.draw(field.values))
    serializer = JSON.with_types(cls)
    assert shape(serializer.deserialize(serializer.serialize(model))) == shape(model)


@given(events(anything))
@settings(max_examples=150, deadline=None)
def test_writing_changes_nothing(event: Event) -> None:
    before = shape(event)
    JSON.serialize(event)
    assert shape(event) == before


@given(st.dictionaries(dynamic_names, anything, max_size=4))
@settings(max_examples=100, deadline=None)
def test_free_state_comes_back(values: dict[str, Any]) -> None:
    store: Any = InMemoryStateStore(DictState(**values))
    at_rest = json.loads(json.dumps(store.to_dict(JSON)))
    found: Any = InMemoryStateStore.from_dict(at_rest, JSON)
    assert asyncio.run(found.get_state()) == DictState(**values)


@given(st.lists(st.sampled_from([object(), print, keep.Login(password="pw"), Ask]), min_size=1, max_size=2), anything)  # type: ignore[arg-type]
@settings(max_examples=60, deadline=None)
def test_what_cannot_be_read_is_never_written(bad: list[Any], good: Any) -> None:
    for value in (bad, {"a": [good, *bad]}, Event(held=bad), keep.Holder(items=bad), keep.Carrier(loose=[good, *bad])):
        try:
            JSON.serialize(value)
        except UnserializableValueError:
            continue
        raise AssertionError(f"{value!r} was written")


class Keeps(Workflow):
    """Passes an event on, keeps a value, and waits."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> keepsakes.Carrier:
        await ctx.store.set("kept", ev.held)
        return keep.Carrier(held=ev.held)

    @step
    async def wait(self, ctx: Context, ev: keepsakes.Carrier) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=Ask())
        return StopEvent(result=[ev.held, await ctx.store.get("kept")])


@given(anything)
@settings(max_examples=60, deadline=None)
def test_a_resumed_run_goes_on_with_the_same_values(value: Any) -> None:
    loop = VirtualClockLoop()
    try:
        assert loop.run_until_complete(result_after_a_suspension(Keeps, value)) == [value, value]
    finally:
        loop.close()
