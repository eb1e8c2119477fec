"""Whatever a snapshot is given it either refuses or gives back: models, containers and values in any combination."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import OrderedDict, deque
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.engine import keepsakes
from tests.engine.flows import Ask, Reply, result_after_a_suspension
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.errors import UnserializableValueError
from workflows.events import Event, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

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


def shape(value: Any) -> Any:
    """A value with the class of all that it holds, which equality does not look at; sets in order."""
    kind = type(value)
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
@settings(max_examples=300)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    found = JSON.deserialize(JSON.serialize(value))
    assert found == value
    assert shape(found) == shape(value)


@given(events(anything))
@settings(max_examples=150)
def test_writing_changes_nothing(event: Event) -> None:
    before = shape(event)
    JSON.serialize(event)
    assert shape(event) == before


@given(st.dictionaries(dynamic_names, anything, max_size=4))
@settings(max_examples=100)
def test_free_state_comes_back(values: dict[str, Any]) -> None:
    store: Any = InMemoryStateStore(DictState(**values))
    at_rest = json.loads(json.dumps(store.to_dict(JSON)))
    found: Any = InMemoryStateStore.from_dict(at_rest, JSON)
    assert asyncio.run(found.get_state()) == DictState(**values)


@given(st.lists(st.sampled_from([object(), print, keep.Login(password="pw"), Ask]), min_size=1, max_size=2), anything)  # type: ignore[arg-type]
@settings(max_examples=60)
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
@settings(max_examples=60)
def test_a_resumed_run_goes_on_with_the_same_values(value: Any) -> None:
    loop = VirtualClockLoop()
    try:
        assert loop.run_until_complete(result_after_a_suspension(Keeps, value)) == [value, value]
    finally:
        loop.close()
