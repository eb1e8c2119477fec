"""The state of a run: as a whole, and edited in isolation."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from tests.engine.states import Chat, Checked, LongChat, Mood, Needy, Private, Store, User, Watched, free
from workflows import Context, Workflow, step
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
    create_cleared_state,
    infer_state_type,
    merge_state,
)
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

# as a whole


async def test_set_state_replaces_or_merges() -> None:
    store: Store = InMemoryStateStore(LongChat(topic="cats"))
    await store.set_state(Chat(turns=3))
    assert await store.get_state() == LongChat(turns=3, topic="cats")
    await store.set_state(LongChat(topic="dogs"))
    assert await store.get_state() == LongChat(topic="dogs")
    with pytest.raises(ValueError, match="must be of type LongChat or a parent type, got User"):
        await store.set_state(User())


async def test_clear_resets_to_the_defaults() -> None:
    store: Store = InMemoryStateStore(LongChat(turns=3, topic="cats"))
    await store.clear()
    assert await store.get_state() == LongChat()
    with pytest.raises(ValueError, match="must have defaults for all fields: Needy cannot be cleared"):
        await InMemoryStateStore(Needy(key="k")).clear()


def test_the_parts_are_public() -> None:
    assert merge_state(LongChat(), Chat(turns=1)) == LongChat(turns=1)
    assert create_cleared_state(Chat) == Chat()


async def test_the_state_type_is_the_most_derived_of_the_steps() -> None:
    class Flow(Workflow):
        @step
        async def one(self, ctx: Context[Chat], ev: StartEvent) -> StopEvent | None: ...

        @step
        async def two(self, ctx: Context[LongChat], ev: StartEvent) -> StopEvent: ...

    class Untyped(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent: ...

    assert (infer_state_type(Flow()), infer_state_type(Untyped())) == (LongChat, DictState)


async def test_free_state_is_a_mapping() -> None:
    state = DictState(a=1)
    state.update({"b": 2}, c=3)
    assert (state.setdefault("d", 4), state.setdefault("a", 9), state.pop("b"), state.pop("z", 0)) == (4, 1, 2, 0)
    del state["c"]
    assert dict(state) == {"a": 1, "d": 4}


# edit_state


STATES = [DictState(turns=0, user=User(), notes=[{"a": 1}]), Chat(notes=[{"a": 1}]), Checked(notes=[{"a": 1}])]
STATES += [Private(notes=[{"a": 1}]), Watched(notes=[{"a": 1}])]
every_state = pytest.mark.parametrize("state", STATES, ids=lambda s: type(s).__name__)


def change(state: Any) -> None:
    state.turns += 1
    state.notes[0]["a"] = 2
    state.notes.append({"b": 3})
    state.user.tags.append("x")


@every_state
async def test_readers_see_the_old_state_until_an_edit_is_over(state: Any) -> None:
    store, before = InMemoryStateStore(copy.deepcopy(state)), copy.deepcopy(state)
    async with store.edit_state() as edited:
        change(edited)
        assert await store.get_state() == before
    change(before)
    assert await store.get_state() == before


@every_state
async def test_an_edit_that_raises_changes_nothing(state: Any) -> None:
    store = InMemoryStateStore(copy.deepcopy(state))
    edit = store.edit_state()
    edited = await edit.__aenter__()
    change(edited)
    await edit.__aexit__(KeyError, KeyError(), None)
    change(edited)  # who kept it still has a copy only
    assert await store.get_state() == state


@every_state
async def test_what_an_edit_yields_is_the_state_afterwards(state: Any) -> None:
    store = InMemoryStateStore(copy.deepcopy(state))
    async with store.edit_state() as edited:
        assert isinstance(edited, type(state))
        assert edited.__class__ is type(state)
    assert await store.get("") is edited
    assert type(edited) is type(state)
    assert edited == state


def through(state: Any, way: str) -> Any:
    """The notes of a state, reached without naming the field."""
    ways: dict[str, Any] = {
        "__dict__": lambda: ({**state.__dict__, **(state.model_extra or {})})["notes"],
        "vars": lambda: ({**vars(state), **(state.__pydantic_extra__ or {})})["notes"],
        "copy": lambda: copy.copy(state).notes,
        "model_copy": lambda: state.model_copy().notes,
        "iteration": lambda: dict(state)["notes"] if isinstance(state, Chat) else dict(state.items())["notes"],
        "getattr": lambda: getattr(state, "notes"),  # noqa: B009
        "match": lambda: _matched(state),
        "item": lambda: state["notes"] if isinstance(state, DictState) else state.notes,
        "get": lambda: state.get("notes") if isinstance(state, DictState) else state.notes,
        "values": lambda: [*state.values()][2] if isinstance(state, DictState) else state.notes,
        "to_dict": lambda: state.to_dict()["notes"] if isinstance(state, DictState) else state.notes,
    }
    return ways[way]()


def _matched(state: Any) -> Any:
    match state:
        case Chat(notes=notes) | DictState(notes=notes):
            return notes


@pytest.mark.parametrize("state", STATES[:2], ids=["DictState", "Chat"])
@pytest.mark.parametrize(
    "way",
    ["__dict__", "vars", "copy", "model_copy", "iteration", "getattr", "match", "item", "get", "values", "to_dict"],
)
async def test_no_way_leads_from_an_edit_to_the_committed_state(state: Any, way: str) -> None:
    store = InMemoryStateStore(copy.deepcopy(state))
    async with store.edit_state() as edited:
        through(edited, way)[0]["a"] = 99
        assert await store.get_state() == state


async def test_what_is_one_object_stays_one_object() -> None:
    agent = {"done": False}
    store = free(agents={"x": agent}, active=agent)
    async with store.edit_state() as state:
        state.active["done"] = True
    assert await store.get("agents.x") is await store.get("active")
    assert await store.get("") == DictState(agents={"x": {"done": True}}, active={"done": True})


async def test_a_state_may_contain_itself() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    store = free(ring=ring)
    async with store.edit_state() as state:
        state.ring[0] = 2
    copied = await store.get("ring")
    assert (copied[0], copied[1] is copied, ring[0]) == (2, True, 1)


async def test_what_is_not_touched_is_not_copied() -> None:
    store = free(turns=0, docs=[{"n": n} for n in range(3)], mood=Mood.GOOD)
    docs = await store.get("docs")
    async with store.edit_state() as state:
        state.turns += 1
        state.new = [state.mood]
    assert await store.get("docs") is docs
    assert await store.get("") == DictState(turns=1, docs=docs, mood=Mood.GOOD, new=[Mood.GOOD])


async def test_excluded_fields_and_what_cannot_be_copied_are_shared() -> None:
    class Client:
        def __deepcopy__(self, memo: object) -> Client:
            raise TypeError

    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        cache: dict[str, int] = Field(default={}, exclude=True)
        clients: list[Client] = []

    held = Holder(cache={"a": 1}, clients=[Client()])
    store = InMemoryStateStore(held)
    async with store.edit_state() as state:
        assert state.cache is held.cache
        assert state.clients is not held.clients
        assert state.clients[0] is held.clients[0]


async def test_writers_inside_an_edit_are_refused() -> None:
    store = free()
    async with store.edit_state():
        for write in (store.set("a", 1), store.clear(), store.set_state(DictState()), store.edit_state().__aenter__()):
            with pytest.raises(RuntimeError, match="mutate the yielded state instead"):
                await write


async def test_concurrent_edits_take_turns(clock: VirtualClockLoop) -> None:
    store = free(n=0)

    async def increment() -> None:
        async with store.edit_state() as state:
            n = state.n
            await asyncio.sleep(1)
            state.n = n + 1

    await asyncio.gather(*[increment() for _ in range(16)], store.set("other", True))
    assert await store.get("") == DictState(n=16, other=True)


async def test_an_edit_commits_what_was_done_before_a_return() -> None:
    class Count(Workflow):
        @step
        async def count(self, ctx: Context[Chat], ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state.turns += 1
                return StopEvent()

    workflow = Count()
    ctx: Context[Chat] = Context(workflow)
    for _ in range(3):
        await workflow.run(ctx=ctx)
    assert await ctx.store.get_state() == Chat(turns=3)


def test_a_context_serves_one_event_loop_after_another() -> None:
    class Wide(Workflow):
        @step
        async def add(self, ctx: Context[Chat], ev: StartEvent) -> StopEvent:
            async def one() -> None:
                async with ctx.store.edit_state() as state:
                    await asyncio.sleep(0)
                    state.turns += 1

            await asyncio.gather(one(), one())
            return StopEvent(result=await ctx.store.get("turns"))

    workflow = Wide()
    ctx: Context[Chat] = Context(workflow)
    assert [workflow.run_sync(ctx=ctx) for _ in range(2)] == [2, 4]


values = st.recursive(
    st.integers() | st.text(max_size=2) | st.just(Mood.GOOD) | st.builds(User),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1, max_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from("pqrs"), values, min_size=1),
    st.lists(st.tuples(st.sampled_from("pqrs"), st.sampled_from(["grow", "link", "put", "drop", "look"]))),
    st.booleans(),
)
async def test_an_edit_does_what_editing_a_deep_copy_does(
    start: dict[str, Any], actions: list[tuple[str, str]], aliased: bool
) -> None:
    if aliased:
        start["z"] = [*start.values()]  # every value has two owners
    store, untouched = InMemoryStateStore(DictState(**start)), copy.deepcopy(start)
    expected = DictState(**copy.deepcopy(start))
    async with store.edit_state() as edited:
        for key, action in actions:
            assert act(edited, key, action) == act(expected, key, action)
        assert dict(await store.get("")) == untouched
    assert await store.get("") == expected
    assert start == untouched


def act(state: DictState, key: str, action: str) -> object:
    value = state.get(key)
    match action:
        case "grow" if isinstance(value, list):
            value.append(1)
        case "grow" if isinstance(value, dict):
            value["grown"] = 1
        case "grow" if isinstance(value, User):
            value.tags.append("grown")
        case "link":
            state.linked = value
        case "put":
            state[key] = [key]
        case "drop":
            return state.pop(key, None)
        case _:
            return (key in state, len(state), sorted(state))
    return None
