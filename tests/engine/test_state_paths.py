"""Dot paths that end in objects, and paths that lead nowhere."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from workflows.context.state_store import MAX_DEPTH, DictState, InMemoryStateStore


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
