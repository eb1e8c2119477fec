"""The functions that the state store is made of, for those who write stores of their own."""

from pydantic import BaseModel, ConfigDict, Field

from tests.compat.case import case, error_of
from tests.compat.cases.state import MoreNotes, Notes, inside
from tests.compat.flows import A, in_a_step
from workflows.context import JsonSerializer
from workflows.context.state_store import (
    KNOWN_UNSERIALIZABLE_KEYS,
    MAX_DEPTH,
    DictState,
    InMemoryStateStore,
    create_cleared_state,
    get_by_path,
    infer_state_type,
    merge_state,
    set_by_path,
)


@case([1, "x", 5, "!ValueError"])
def a_path_is_followed():
    state = DictState(a={"b": [1, 2]}, event=A(n=5, later="x"))
    found = [get_by_path(state, path) for path in ("a.b.0", "event.later", "event.n")]
    return *found, error_of(lambda: get_by_path(state, "a.c"))


@case([3])
def a_missing_path_may_have_a_default():
    return [get_by_path(DictState(), "a.b", 3)]


@case([{"b": {"c": 1}}, 7])
def a_path_is_set():
    state, notes = DictState(), Notes()
    set_by_path(state, "a.b.c", 1)
    set_by_path(notes, "n", 7)
    return get_by_path(state, "a"), notes.n


@case([1000, ["memory"]])
def limits_are_known():
    return MAX_DEPTH, list(KNOWN_UNSERIALIZABLE_KEYS)


@case(["DictState", "Notes"])
def the_state_class_of_a_workflow_is_found():
    async def body(ctx):
        return None

    return infer_state_type(in_a_step(body)).__name__, infer_state_type(in_a_step(body, Notes)).__name__


@case(["MoreNotes", 4, 9])
def a_parent_state_is_merged():
    merged = merge_state(MoreNotes(extra=9), Notes(n=4))
    return type(merged).__name__, merged.n, merged.extra


@case(["Notes", 0])
def a_cleared_state_has_its_defaults():
    cleared = create_cleared_state(Notes)
    return type(cleared).__name__, cleared.n


@case([["in_memory", "Notes", "tests.compat.cases.state"], 4])
async def a_store_is_written_and_read():
    store, serializer = InMemoryStateStore(Notes(n=4)), JsonSerializer()
    written = store.to_dict(serializer)
    again = InMemoryStateStore.from_dict(written, serializer)
    return [written[key] for key in ("store_type", "state_type", "state_module")], await again.get("n")


@case([["replace", "/state_data/value/n"], {"n": 5}])
async def a_change_of_typed_state_is_a_patch():
    store = InMemoryStateStore(Notes())
    before = store.checkpoint()
    await store.set("n", 5)
    after = store.checkpoint()
    kinds = [[op["op"], op["path"]] for op in after.diff(before)]
    return kinds[0] if kinds else [], {"n": after.state.n}


@case([True, True])
async def excluded_fields_are_shared_with_a_draft():
    class WithClient(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        n: int = 0
        client: object = Field(default_factory=object, exclude=True)

    async def body(store):
        before = (await store.get_state()).client
        async with store.edit_state() as state:
            same = state.client is before
            state.n += 1
        return [same, (await store.get_state()).client is before]

    return await inside(body, WithClient)


@case([["a", "x"], ["a", "y"], 1])
async def keys_that_look_like_numbers_are_keys_first():
    async def body(store):
        await store.set("by_number", {"1": "a", "2": "b"})
        await store.set("items", ["x", "y"])
        found = [[await store.get("by_number.1"), await store.get("items.0")]]
        return [*found, [await store.get("by_number.1"), await store.get("items.1")], 1]

    return await inside(body)
