"""The state store: paths, defaults, typed state, which class of state a workflow has."""

from pydantic import BaseModel, ConfigDict, Field

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, in_a_step
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer
from workflows.context.state_store import DictState, InMemoryStateStore, decode_state, encode_state
from workflows.events import StartEvent, StopEvent


class Notes(BaseModel):
    n: int = 0
    items: list = Field(default_factory=list)
    by_name: dict = Field(default_factory=dict)


class MoreNotes(Notes):
    extra: int = 7


class Other(BaseModel):
    x: int = 1


class Needy(BaseModel):
    x: int


def plainly(state):
    return dict(state) if isinstance(state, DictState) else state.model_dump()


async def state_of(store):
    return plainly(await store.get_state())


def inside(body, state=None):
    """What `body(store)` gives in a step."""
    return in_a_step(lambda ctx: body(ctx.store), state).run()


@case([1, {"b": {"c": 1}}, [{"x": 1}], 1])
async def paths_lead_into_dicts_and_lists():
    async def body(store):
        await store.set("a.b.c", 1)
        await store.set("items", [{"x": 1}])
        return [await store.get(path) for path in ("a.b.c", "a", "items", "items.0.x")]

    return await inside(body)


@case([None, 3, "!ValueError", "!ValueError"])
async def a_missing_path_gives_the_default_or_an_error():
    async def body(store):
        await store.set("a", {})
        found = [await store.get("zz", default=None), await store.get("a.zz", 3)]
        return [*found, await outcome(store.get("zz")), await outcome(store.get("a.q.r"))]

    return await inside(body)


@case(["DictState", "!ValueError", "!ValueError"])
async def an_empty_path_gives_the_state_and_cannot_be_set():
    async def body(store):
        deep = ".".join("a" * 1001)
        state = await store.get("")
        return [type(state).__name__, await outcome(store.set("", 1)), await outcome(store.set(deep, 1))]

    return await inside(body)


@case([9, [9, 2]])
async def a_list_element_can_be_set():
    async def body(store):
        await store.set("items", [1, 2])
        await store.set("items.0", 9)
        return [await store.get("items.0"), await store.get("items")]

    return await inside(body)


@case(["!ValueError"] * 3, peer_gives=["!AttributeError"] * 3, because="setting-a-path-that-leads-nowhere")
async def what_has_no_such_part_cannot_be_set():
    async def body(store):
        await store.set("items", [1, 2])
        await store.set("pair", (1, 2))
        await store.set("n", 1)
        return [await outcome(store.set(path, 1)) for path in ("items.7", "pair.1", "n.deeper")]

    return await inside(body)


@case([5, 3])
async def paths_lead_into_models_and_objects():
    class Box:
        value = 3

    async def body(store):
        await store.set("model", Other())
        await store.set("model.x", 5)
        await store.set("box", Box())
        return [await store.get("model.x"), await store.get("box.value")]

    return await inside(body)


@case([[], 5])
async def setting_an_attribute_of_an_object_leaves_the_object_alone():
    class Box:
        pass

    async def body(store):
        box = Box()
        await store.set("box", box)
        await store.set("box.value", 5)
        return [list(vars(box)), await store.get("box.value")]

    return await inside(body)


@case([4, 5, {"x": 1}])
async def an_event_in_the_state_is_set_by_path():
    async def body(store):
        await store.set("ev", A(n=1))
        await store.set("ev.n", 4)
        await store.set("ev.later", 5)
        await store.set("ev.deep.x", 1)
        return [await store.get(path) for path in ("ev.n", "ev.later", "ev.deep")]

    return await inside(body)


@case([1, 1, 1, {"_x": 1}])
async def a_key_may_have_any_name():
    async def body(store):
        for key in ("keys", "model_dump", "0"):
            await store.set(key, 1)
        found = [await store.get(key) for key in ("keys", "model_dump", "0")]
        await store.clear()
        await store.set("_x", 1)
        return [*found, await state_of(store)]

    return await inside(body)


@case([1, 2])
async def a_checkpoint_keeps_what_was():
    async def body(store):
        await store.set("a.b", 1)
        before = store.checkpoint()
        await store.set("a.b", 2)
        return [before.state.a["b"], await store.get("a.b")]

    return await inside(body)


@case([1, 2])
async def what_get_gives_is_the_value_itself():
    async def body(store):
        await store.set("items", [])
        (await store.get("items")).append(1)
        (await store.get("items")).append(2)
        return await store.get("items")

    return await inside(body)


@case([1, [["a", 1]], "!AttributeError", "!KeyError", 1, False, 1, True])
async def free_form_state_is_a_mapping_with_attributes():
    async def body(store):
        await store.set("a", 1)
        state = await store.get_state()
        known = [state.a, list(state.items()), error_of(lambda: state.zz), error_of(lambda: state["zz"])]
        return [*known, state.get("zz", 1), "zz" in state, len(state), bool(state)]

    return await inside(body)


@case([1, 1, {"a": 1, "b": [1]}, {"_data": {"a": 1, "b": [1]}}, 1, ["a", "b"], True])
def free_form_state_can_be_made_from_keywords():
    state = DictState(a=1, b=[1])
    shown = state.a, state["a"], dict(state.items()), state.model_dump(), state.get("a"), list(state)
    return *shown, DictState() == DictState()


@case(["DictState(a=1)"], peer_gives=["DictState()"], because="repr-shows-dynamic-fields")
def the_text_of_free_form_state_shows_it():
    return [repr(DictState(a=1))]


@case([None, 1], peer_gives=[2, 1], because="get-state-is-a-copy")
async def changing_what_get_state_gives_changes_nothing():
    async def body(store):
        await store.set("a", 1)
        state = await store.get_state()
        state.b = 2
        return [await store.get("b", default=None), await store.get("a")]

    return await inside(body)


@case([0, 5])
async def changing_what_get_state_gives_of_typed_state_changes_nothing():
    async def body(store):
        state = await store.get_state()
        state.n = 5
        return [await store.get("n"), state.n]

    return await inside(body, Notes)


@case([4, {"k": {"j": 5}}, "!ValueError", 1, "Notes"])
async def typed_state_has_its_fields():
    async def body(store):
        await store.set("n", 4)
        await store.set("by_name.k.j", 5)
        found = [await store.get("n"), await store.get("by_name"), await outcome(store.get("nope"))]
        return [*found, await store.get("nope", default=1), type(await store.get_state()).__name__]

    return await inside(body, Notes)


@case("!ValueError")
async def typed_state_has_no_other_fields():
    return await inside(lambda store: outcome(store.set("nope", 1)), Notes)


@case([7, "!ValueError"], peer_gives=[7, "!ValidationError"], because="state-errors-are-value-errors")
async def a_model_that_validates_assignments_does():
    class Strict(BaseModel):
        model_config = ConfigDict(validate_assignment=True)
        x: int = 0

    async def body(store):
        await store.set("x", "7")
        return [await store.get("x"), await outcome(store.set("x", "no number"))]

    return await inside(body, Strict)


@case([{"n": 4, "items": [], "by_name": {}}, "!ValueError", "!ValueError"])
async def the_state_can_be_replaced_by_its_own_class():
    async def body(store):
        await store.set_state(Notes(n=4))
        refused = [await outcome(store.set_state({"n": 1})), await outcome(store.set_state(DictState(n=1)))]
        return [await state_of(store), *refused]

    return await inside(body, Notes)


@case([{"n": 4, "items": [], "by_name": {}, "extra": 9}, {"n": 5, "items": [], "by_name": {}, "extra": 7}])
async def the_state_is_merged_with_a_parent_and_replaced_by_a_child():
    async def body(store):
        await store.set("extra", 9)
        await store.set_state(Notes(n=4))
        merged = await state_of(store)
        await store.set_state(MoreNotes(n=5))
        return [merged, await state_of(store)]

    return await inside(body, MoreNotes)


@case([{"q": 1}, {}])
async def free_form_state_can_be_replaced_and_cleared():
    async def body(store):
        await store.set("z", 1)
        await store.set_state(DictState(q=1))
        replaced = await state_of(store)
        await store.clear()
        return [replaced, await state_of(store)]

    return await inside(body)


@case({"n": 0, "items": [], "by_name": {}})
async def clearing_gives_the_defaults():
    async def body(store):
        await store.set_state(Notes(n=4, items=[1]))
        await store.clear()
        return await state_of(store)

    return await inside(body, Notes)


@case(["MoreNotes", 1, 7])
async def the_most_derived_state_class_is_taken():
    class W(Workflow):
        @step
        async def s(self, ctx: Context[Notes], ev: StartEvent) -> A:
            await ctx.store.set("n", 1)
            return A()

        @step
        async def t(self, ctx: Context[MoreNotes], ev: A) -> StopEvent:
            state = await ctx.store.get_state()
            return StopEvent(result=[type(state).__name__, state.n, state.extra])

    return await W().run()


@case("!ValueError")
async def state_classes_of_two_families_are_refused():
    class W(Workflow):
        @step
        async def s(self, ctx: Context[Notes], ev: StartEvent) -> A:
            return A()

        @step
        async def t(self, ctx: Context[Other], ev: A) -> StopEvent:
            return StopEvent()

    return error_of(lambda: W().run() and None)


def needing_x():
    class W(Workflow):
        @step
        async def s(self, ctx: Context[Needy], ev: StartEvent) -> StopEvent:
            return StopEvent(result=await ctx.store.get("x"))

    return W()


@case("!ValidationError")
async def state_without_defaults_is_refused():
    return error_of(lambda: needing_x().run() and None)


@case([3, "!ValueError"])
async def a_store_can_be_used_on_its_own():
    store = InMemoryStateStore(Needy(x=3))
    return await store.get("x"), await outcome(store.clear())


@case([1, "Notes"])
async def a_store_knows_the_class_of_its_state():
    store = InMemoryStateStore(DictState())
    await store.set("a", 1)
    return await store.get("a"), InMemoryStateStore(Notes()).state_type.__name__


@case(3)
async def the_state_is_seen_from_outside_after_the_run():
    flow = in_a_step(lambda ctx: ctx.store.set("k", 3))
    handler = flow.run()
    await handler
    return await handler.ctx.store.get("k")


@case([3, 2])
async def state_outlives_retries():
    from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

    class W(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            n = await ctx.store.get("n", default=0) + 1
            await ctx.store.set("n", n)
            if n < 3:
                raise ValueError
            return StopEvent(result=[n, ctx.retry_info().retry_number])

    return await W().run()


@case([[{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}])
async def what_changed_since_a_checkpoint_is_a_json_patch():
    from workflows.context.state_store import apply_state_patch

    store = InMemoryStateStore(DictState(a=1))
    before = store.checkpoint()
    await store.set("b", 2)
    patch = store.checkpoint().diff(before)
    changed = apply_state_patch(before.to_dict(), patch)
    again = InMemoryStateStore.from_dict(changed, _json())
    shown = [{**op, "path": op["path"][-2:], "value": int(op["value"])} for op in patch]
    return shown, await state_of(again)


def _json():
    from workflows.context import JsonSerializer

    return JsonSerializer()


class Typed(BaseModel):
    a: int = 1


@case(
    [
        [{"_data": {"a": "1", "b": "[2]"}}, "DictState", "workflows.context.state_store"],
        ["DictState", 1, [2]],
        ["Typed", "tests.compat.cases.state"],
        ["Typed", 3],
    ]
)
def a_state_is_encoded_as_data_and_the_name_of_its_class():
    serializer = JsonSerializer()
    free = encode_state(DictState(a=1, b=[2]), serializer)
    typed = encode_state(Typed(a=3), serializer)
    back, typed_back = decode_state(free[0], serializer), decode_state(typed[0], serializer)
    return [
        free,
        [type(back).__name__, back.a, back.b],
        typed[1:],
        [type(typed_back).__name__, typed_back.a],
    ]
