"""`edit_state`: a draft of the state that is kept when the block ends well."""

import asyncio
import collections
import copy
import json
import threading
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, PrivateAttr

from tests.compat.case import case, error_of, outcome
from tests.compat.cases.state import Notes, inside, state_of
from tests.compat.flows import A


class Point(BaseModel):
    x: int = 1


class Nested(BaseModel):
    point: Point = Field(default_factory=Point)
    points: list[Point] = Field(default_factory=list)
    pair: tuple = ()
    tags: set = Field(default_factory=set)


@case({"a": [1, 2], "b": {"q": 2, "new": [4]}})
async def a_draft_is_changed_by_attribute_or_key():
    async def body(store):
        async with store.edit_state() as state:
            state["a"] = [1]
            state.b = {"q": 1}
        async with store.edit_state() as state:
            state.a.append(2)
            state["b"]["q"] += 1
            state.b["new"] = []
            state.b["new"].append(4)
        return await state_of(store)

    return await inside(body)


@case({"a": [1]})
async def an_error_throws_the_draft_away():
    async def body(store):
        await store.set("a", [1])
        try:
            async with store.edit_state() as state:
                state.a.append(2)
                state.z = 1
                raise KeyError
        except KeyError:
            return await state_of(store)

    return await inside(body)


@case([5, 1])
async def leaving_by_return_keeps_the_draft():
    async def body(store):
        async def inner():
            async with store.edit_state() as state:
                state.v = 1
                return 5

        return [await inner(), await store.get("v")]

    return await inside(body)


@case([0, 1])
async def readers_see_the_old_state_meanwhile():
    async def body(store):
        await store.set("n", 0)
        async with store.edit_state() as state:
            state.n = 1
            before = await store.get("n")
        return [before, await store.get("n")]

    return await inside(body)


@case(["!RuntimeError", "!RuntimeError", "!RuntimeError", "!RuntimeError"])
async def writing_inside_a_draft_is_refused():
    async def body(store):
        async def nested():
            async with store.edit_state():
                pass

        async with store.edit_state():
            writes = [store.set("q", 1), store.set_state(await store.get_state()), store.clear(), nested()]
            return [await outcome(write) for write in writes]

    return await inside(body)


@case(10)
async def drafts_take_turns():
    async def body(store):
        await store.set("n", 0)

        async def increase():
            async with store.edit_state() as state:
                seen = state.n
                await asyncio.sleep(0.001)
                state.n = seen + 1

        await asyncio.gather(*[increase() for _ in range(10)])
        return await store.get("n")

    return await inside(body)


@case({"n": 1, "items": [1], "by_name": {"z": 1}})
async def a_draft_of_typed_state_is_changed_in_place():
    async def body(store):
        async with store.edit_state() as state:
            state.items.append(1)
            state.n += 1
            state.by_name["z"] = 1
        return await state_of(store)

    return await inside(body, Notes)


@case([6, 9, [1], [3], [9], 9])
async def models_within_a_draft_are_changed_in_place():
    async def body(store):
        await store.set("point.x", 5)
        async with store.edit_state() as state:
            state.points.append(Point(x=2))
            state.point.x += 1
            state.pair = (*state.pair, 1)
            state.tags.add(3)
            state.points[0].x = 9
            xs = [p.x for p in state.points]
        found = await store.get_state()
        return [found.point.x, found.points[0].x, list(found.pair), list(found.tags), xs, await store.get("points.0.x")]

    return await inside(body, Nested)


@case([True, True, True, [1, 2, 3], [1, 2, 3, 9], {"a": 1, "b": 2}, [["a", 1]], True, "[1, 2, 3]", 3, 2])
async def values_of_a_draft_are_what_they_were():
    async def body(store):
        await store.set("d", {"a": 1})
        await store.set("found", [1, 2, 3])
        async with store.edit_state() as state:
            kinds = [isinstance(state.d, dict), isinstance(state.found, list), state.found == [1, 2, 3]]
            sums = [sorted(state.found), [*state.found, 9], state.d | {"b": 2}, [list(i) for i in state.d.items()]]
            return [*kinds, *sums, state.d == {"a": 1}, json.dumps(state.found), len(state.found), state.found.index(3)]

    return await inside(body)


@case({"a": {"items": [{"x": 20}], "n": 1}})
async def what_stands_in_a_draft_may_be_rebuilt():
    async def body(store):
        await store.set("a", {"items": [{"x": 1}, {"x": 2}]})
        async with store.edit_state() as state:
            for item in state.a["items"]:
                item["x"] *= 10
            state.a["items"] = [item for item in state.a["items"] if item["x"] > 10]
            state.a["n"] = len(state.a["items"])
        return await state_of(store)

    return await inside(body)


@case([[1, 2], True])
async def one_object_in_two_places_stays_one():
    async def body(store):
        await store.set("a", [1])
        async with store.edit_state() as state:
            state.b = state.a
            state.a.append(2)
        a, b = await store.get("a"), await store.get("b")
        return [b, a is b]

    return await inside(body)


class Plain:
    def __init__(self):
        self.items = [1]


@dataclass
class Record:
    items: list = field(default_factory=list)
    n: int = 0


@case([[1, 2], [2], 3])
async def objects_and_dataclasses_can_be_changed():
    async def body(store):
        await store.set("plain", Plain())
        await store.set("record", Record())
        async with store.edit_state() as state:
            state.plain.items.append(2)
            state.record.items.append(2)
            state.record.n += 3
        record = await store.get("record")
        return [(await store.get("plain")).items, record.items, record.n]

    return await inside(body)


@case([1, True])
async def what_cannot_be_copied_is_shared():
    async def body(store):
        await store.set("lock", threading.Lock())
        async with store.edit_state() as state:
            state.n = 1
            state.lock.acquire()
        return [await store.get("n"), (await store.get("lock")).locked()]

    return await inside(body)


@case([[1, 2], {"x": [1]}, {"a": 3, "b": 2}, ["b", "a"]])
async def collections_can_be_changed():
    async def body(store):
        await store.set("deque", collections.deque([1]))
        await store.set("lists", collections.defaultdict(list))
        await store.set("counter", collections.Counter("aab"))
        await store.set("ordered", collections.OrderedDict(a=1))
        async with store.edit_state() as state:
            state.deque.append(2)
            state.lists["x"].append(1)
            state.counter.update("ab")
            state.ordered["b"] = 2
            state.ordered.move_to_end("a")
        paths = ("deque", "lists", "counter", "ordered")
        kept = [await store.get(path) for path in paths]
        return [list(kept[0]), kept[1], kept[2], list(kept[3])]

    return await inside(body)


@case([[5, 2], 3])
async def events_in_the_state_can_be_changed():
    async def body(store):
        await store.set("events", [A(n=1)])
        async with store.edit_state() as state:
            state.events.append(A(n=2))
            state.events[0].n = 5
            state.events[0].later = 3
        events = await store.get("events")
        return [[ev.n for ev in events], events[0].later]

    return await inside(body)


@case([[1, 2], [1, 2], "list"])
async def what_a_draft_gave_is_no_way_into_the_state():
    async def body(store):
        kept = []
        await store.set("found", [1])
        async with store.edit_state() as state:
            state.found.append(2)
            kept.append(copy.deepcopy(state["found"]))
        found = await store.get("found")
        return [found, kept[0], type(found).__name__]

    return await inside(body)


@case([2, 3, 4])
async def methods_and_private_attributes_of_the_state_work():
    class Counting(BaseModel):
        x: int = 0
        _hidden: int = PrivateAttr(default=1)

        def increase(self):
            self.x += 1
            self._hidden += 1

        @property
        def double(self):
            return self.x * 2

    async def body(store):
        async with store.edit_state() as state:
            state.increase()
            state.increase()
        found = await store.get_state()
        return [found.x, found._hidden, found.double]

    return await inside(body, Counting)


@case([1, {}], peer_gives=["!AttributeError", {"a": 1, "b": 1}], because="deleting-in-a-draft")
async def keys_can_be_deleted():
    async def body(store):
        await store.set("a", 1)
        await store.set("b", 1)
        async with store.edit_state() as state:
            popped = error_of(lambda: state.pop("a"))
            error_of(lambda: delattr(state, "b"))
        return [popped, await state_of(store)]

    return await inside(body)


@case([["a", "b"], {"a": 1, "b": [2]}, 1, 1, True, 2])
async def a_draft_of_free_form_state_is_a_mapping():
    async def body(store):
        await store.set("a", 1)
        await store.set("b", [2])
        async with store.edit_state() as state:
            return [sorted(state.keys()), dict(state), state.get("a"), state.get("x", 1), "a" in state, len(state)]

    return await inside(body)
