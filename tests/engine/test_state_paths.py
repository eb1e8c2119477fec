"""Dot paths into the state of a run, those that end in objects and those that lead nowhere among them."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest

from tests.engine.states import User, free
from workflows.context.state_store import (
    MAX_DEPTH,
    DictState,
    InMemoryStateStore,
)

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


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def store(**values: Any) -> InMemoryStateStore[DictState]:
    return InMemoryStateStore(DictState(**values))


async def test_setting_an_attribute_leaves_the_object_alone() -> None:
    point = Point(1)
    state = store(o=point)
    await state.set("o.x", 5)
    assert ((await state.get("o")).x, point.x) == (5, 1)


async def test_what_cannot_be_copied_is_shared() -> None:
    point = Point(1)
    point.lock = threading.Lock()  # type: ignore[attr-defined]
    point.inner = {}  # type: ignore[attr-defined]
    state = store(o=point)
    await state.set("o.inner.a", 1)
    assert (await state.get("o.lock")) is point.lock  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["n.x", "n.x.y", "text.0", "items.9", "items.name", "pair.0"])
async def test_a_path_that_leads_nowhere_is_refused_and_changes_nothing(path: str) -> None:
    state = store(n=1, text="abc", items=[1], pair=(1, 2))
    with pytest.raises(ValueError, match=f"Path '{path}' cannot be set"):
        await state.set(path, 0)
    assert await state.get("") == DictState(n=1, text="abc", items=[1], pair=(1, 2))


async def test_an_empty_path_cannot_be_set() -> None:
    with pytest.raises(ValueError, match="Path cannot be empty"):
        await store().set("", 1)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5000])
async def test_a_path_may_be_a_thousand_deep(depth: int) -> None:
    state = store()
    await state.set(".".join("a" * MAX_DEPTH), 1)
    with pytest.raises(ValueError, match="segments"):
        await state.set(".".join("a" * depth), 1)
