"""The state of a run, written down, read back and compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.engine.states import JSON, Chat, LongChat, Store, User, free
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
    UnserializableKeyWarning,
    apply_state_patch,
)
from workflows.context.state_store import deserialize_state_from_dict as read

# written down


def test_free_state_is_written_key_by_key() -> None:
    assert InMemoryStateStore(DictState(a=1, user=User())).to_dict(JSON) == {
        "store_type": "in_memory",
        "state_type": "DictState",
        "state_module": "workflows.context.state_store",
        "state_data": {"_data": {"a": "1", "user": JSON.serialize(User())}},
    }


def test_typed_state_is_written_as_one_text() -> None:
    assert InMemoryStateStore(Chat(turns=2)).to_dict(JSON) == {
        "store_type": "in_memory",
        "state_type": "Chat",
        "state_module": Chat.__module__,
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
    assert read(InMemoryStateStore(Chat(turns=2)).to_dict(JSON), JSON) == Chat(turns=2)
    assert read(InMemoryStateStore(DictState(a=1)).to_dict(JSON), JSON) == DictState(a=1)
    assert read({}, JSON) == DictState()


def test_a_state_class_may_grow_after_a_snapshot() -> None:
    assert read(InMemoryStateStore(Chat(turns=2)).to_dict(JSON), JSON, LongChat) == LongChat(turns=2)
    assert read(InMemoryStateStore(DictState(turns=2)).to_dict(JSON), JSON, Chat) == Chat(turns=2)


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
        read(data, JSON, Chat)


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
