"""The state of a run: by path and as a whole, edited in isolation, written down and compared."""

from __future__ import annotations

import asyncio
import copy
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
    UnserializableKeyWarning,
    apply_state_patch,
    create_cleared_state,
    decode_state,
    deserialize_state_from_dict,
    encode_state,
    infer_state_type,
    merge_state,
)
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

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


# by path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DictState(a={"b": [1, {"c": 2}]}, user=User(tags=["x"]))),
        ("a.b.0", 1),
        ("a.b.1.c", 2),
        ("a.b.-1.c", 2),
        ("user.name", "Ada"),
        ("user.tags.0", "x"),
    ],
)
async def test_get_follows_keys_indexes_and_attributes(path: str, value: object) -> None:
    assert await free(a={"b": [1, {"c": 2}]}, user=User(tags=["x"])).get(path) == value


@pytest.mark.parametrize("path", ["b", "a.x", "a.b.5", "a.b.x", "a.b.0.x", "items"])
async def test_get_of_nothing_is_refused_or_the_default(path: str) -> None:
    store = free(a={"b": [1]})
    with pytest.raises(ValueError, match=f"Path '{path}' not found in state"):
        await store.get(path)
    assert await store.get(path, default=None) is None


async def test_get_gives_the_live_value() -> None:
    store = free(steps=[])
    (await store.get("steps")).append(1)
    assert await store.get("steps") == [1]


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("n", DictState(n=9, a={"b": [1, 2]})),
        ("a.b.1", DictState(n=0, a={"b": [1, 9]})),
        ("x.y.z", DictState(n=0, a={"b": [1, 2]}, x={"y": {"z": 9}})),
    ],
)
async def test_set_puts_a_value_and_makes_the_way_there(path: str, state: DictState) -> None:
    store = free(n=0, a={"b": [1, 2]})
    await store.set(path, 9)
    assert await store.get("") == state


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "Path cannot be empty"),
        (".".join("a" * 1001), "Path has 1001 segments, more than 1000"),
        ("a.b.5", "list takes no '5'"),
        ("n.x", "int takes no 'x'"),
        ("none.x", "NoneType takes no 'x'"),
        ("user.age", "User takes no 'age'"),
    ],
)
async def test_set_refuses_what_does_not_fit_and_changes_nothing(path: str, text: str) -> None:
    store = free(a={"b": [1]}, n=1, none=None, user=User())
    before = copy.deepcopy(await store.get_state())
    with pytest.raises(ValueError, match=text):
        await store.set(path, 9)
    assert await store.get("") == before


async def test_set_leaves_older_copies_alone() -> None:
    store = free(a={"b": {"c": 1}}, user=User(), other=[1])
    before, other = await store.get_state(), await store.get("other")
    await store.set("a.b.c", 2)
    await store.set("user.name", "Bob")
    assert before == DictState(a={"b": {"c": 1}}, user=User(), other=[1])
    assert await store.get("other") is other


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


# written down


def test_free_state_is_written_key_by_key() -> None:
    assert encode_state(DictState(a=1, user=User()), JSON) == {
        "store_type": "in_memory",
        "state_type": "DictState",
        "state_module": "workflows.context.state_store",
        "state_data": {"_data": {"a": "1", "user": JSON.serialize(User())}},
    }


def test_typed_state_is_written_as_one_text() -> None:
    assert encode_state(Chat(turns=2), JSON) == {
        "store_type": "in_memory",
        "state_type": "Chat",
        "state_module": __name__,
        "state_data": JSON.serialize(Chat(turns=2)),
    }


class Mixed(DictState):
    turns: int = 0


@pytest.mark.parametrize(
    "state", [DictState(a=1, user=User()), LongChat(turns=2), Mixed.model_validate({"turns": 1, "extra": [User()]})]
)
async def test_a_store_is_read_back_as_it_was(state: BaseModel) -> None:
    store: Store = InMemoryStateStore.from_dict(InMemoryStateStore(state).to_dict(JSON), JSON, type(state))
    assert await store.get_state() == state
    assert store.state_type is type(state)


def test_the_class_of_a_state_need_not_be_given() -> None:
    assert deserialize_state_from_dict(encode_state(Chat(turns=2), JSON), JSON) == Chat(turns=2)
    assert deserialize_state_from_dict(encode_state(DictState(a=1), JSON), JSON) == DictState(a=1)
    assert deserialize_state_from_dict({}, JSON) == DictState()


def test_a_state_class_may_grow_after_a_snapshot() -> None:
    assert decode_state(encode_state(Chat(turns=2), JSON), JSON, LongChat) == LongChat(turns=2)
    assert decode_state(encode_state(DictState(turns=2), JSON), JSON, Chat) == Chat(turns=2)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"store_type": "redis"}, "written by a store of type 'redis'"),
        ({"state_data": [1]}, "neither text nor '_data'"),
        ({"state_data": {"_data": {"turns": '"many"'}}}, "does not fit Chat"),
    ],
)
def test_what_is_no_state_is_refused(data: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode_state(data, JSON, Chat)


def test_a_key_that_does_not_serialize_is_named() -> None:
    with pytest.raises(ValueError, match="Failed to serialize state value for key client: "):
        free(client=object()).to_dict(JSON)


def test_the_key_memory_is_left_out_with_a_warning() -> None:
    with pytest.warns(UnserializableKeyWarning, match="'memory' was left out"):
        assert free(memory=object(), a=1).to_dict(JSON)["state_data"] == {"_data": {"a": "1"}}


# compared


async def test_a_checkpoint_stays_what_it_was() -> None:
    store = free(a={"b": [1]})
    before = store.checkpoint()
    await store.set("a.b.0", 2)
    async with store.edit_state() as state:
        state.a["c"] = 3
    assert before.to_dict()["state_data"] == {"_tree": "dict", "_data": {"a": {"b": [1]}}}


async def test_a_diff_says_what_changed() -> None:
    store = free(items=[{"a": 1}, {"b": 2}], user=User(), gone=1)
    before = store.checkpoint()
    async with store.edit_state() as state:
        state["items"][0]["a"] = 5
        state.user.name = "Bob"
        state["new/x~y"] = {"u": User()}
        del state["gone"]
    at = "/state_data/_data"
    assert store.checkpoint().diff(before) == [
        {"op": "remove", "path": f"{at}/gone"},
        {"op": "replace", "path": f"{at}/items/0/a", "value": 5},
        {"op": "replace", "path": f"{at}/user/value/name", "value": "Bob"},
        {"op": "add", "path": f"{at}/new~1x~0y", "value": {"u": JSON.serialize_value(User())}},
    ]


async def test_typed_states_are_compared_too() -> None:
    store: Store = InMemoryStateStore(Chat())
    before = store.checkpoint()
    await store.set("user.tags", ["x"])
    assert store.checkpoint().diff(before) == [{"op": "add", "path": "/state_data/value/user/tags/0", "value": "x"}]


trees = st.recursive(
    st.integers(0, 3) | st.none() | st.sampled_from(["a", True, 1.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a/~", max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text("ab/~", min_size=1, max_size=2), trees), st.dictionaries(st.text("ab/~", min_size=1), trees)
)
def test_a_diff_leads_from_one_state_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = free(**old).checkpoint(), free(**new).checkpoint()
    patched = apply_state_patch(before.to_dict(), after.diff(before))
    assert JSON.serialize(sorted_keys(patched)) == JSON.serialize(sorted_keys(after.to_dict()))


def sorted_keys(value: Any) -> Any:
    """With keys in order, so that texts can be compared: 1, 1.0 and True are equal, but not the same in JSON."""
    if isinstance(value, dict):
        return {k: sorted_keys(value[k]) for k in sorted(value)}
    return [sorted_keys(v) for v in value] if isinstance(value, list) else value


async def test_a_patched_tree_is_read_by_a_store() -> None:
    before = free(a=1).checkpoint()
    tree = apply_state_patch(before.to_dict(), free(a=2, user=User()).checkpoint().diff(before))
    store: Store = InMemoryStateStore.from_dict(tree, JSON)
    assert await store.get_state() == DictState(a=2, user=User())
    typed: Store = InMemoryStateStore.from_dict(InMemoryStateStore(Chat(turns=3)).checkpoint().to_dict(), JSON)
    assert await typed.get_state() == Chat(turns=3)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ({"op": "move", "path": "/a"}, "only add, remove and replace are known"),
        ({"op": "remove", "path": "/b"}, "cannot remove '/b'"),
        ({"op": "replace", "path": "/a/3", "value": 1}, "the list has 1 items"),
        ({"op": "add", "path": "/b/c", "value": 1}, "cannot add '/b/c'"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(operation: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        apply_state_patch({"a": [1]}, [operation])
