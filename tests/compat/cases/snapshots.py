"""Snapshots: a context written in the middle of a run or after it, and a run that goes on from there."""

import asyncio
import datetime
import json
import warnings

from pydantic import BaseModel

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Answer, Ask, B, in_a_step
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer, PickleSerializer
from workflows.events import HumanResponseEvent, StartEvent, StopEvent


class Model(BaseModel):
    q: int = 0


class Counting(Workflow):
    """Counts its runs in the state, and keeps `run(put=...)` there."""

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        n = await ctx.store.get("n", default=0)
        await ctx.store.set("n", n + 1)
        if "put" in ev:
            await ctx.store.set("kept", ev.put)
        return StopEvent(result=n)


def through_json(snapshot):
    return json.loads(json.dumps(snapshot))


async def stopped_snapshot(handler, wait=0.05):
    """The snapshot of a run that is then cancelled."""
    await asyncio.sleep(wait)
    snapshot = through_json(handler.ctx.to_dict())
    await handler.cancel_run()
    await outcome(handler)
    return snapshot


async def kept(value, serializer=None):
    """What becomes of a value of the state in a snapshot."""
    flow = Counting()
    handler = flow.run(put=value)
    await handler
    snapshot = through_json(handler.ctx.to_dict(serializer=serializer))
    return await Context.from_dict(flow, snapshot, serializer=serializer).store.get("kept")


@case([1, 2, False, False])
async def a_context_goes_on_after_a_snapshot():
    first, second = Counting(), Counting()
    handler = first.run()
    await handler
    snapshot = through_json(handler.ctx.to_dict())
    ctx = Context.from_dict(second, snapshot)
    return await second.run(ctx=ctx), await second.run(ctx=ctx), ctx.is_running, snapshot["is_running"]


@case(1)
async def a_snapshot_may_be_given_to_the_constructor():
    flow = Counting()
    handler = flow.run()
    await handler
    return await flow.run(ctx=Context(flow, previous_context=handler.ctx.to_dict()))


@case(5)
async def a_context_that_has_not_run_can_be_written():
    flow = Counting()
    ctx = Context(flow)
    await ctx.store.set("n", 5)
    return await flow.run(ctx=Context.from_dict(flow, ctx.to_dict()))


@case(0)
async def the_state_can_be_left_out():
    flow = Counting()
    handler = flow.run()
    await handler
    return await flow.run(ctx=Context.from_dict(flow, handler.ctx.to_dict(include_state=False)))


@case(
    [
        {
            "store_type": "in_memory",
            "state_type": "DictState",
            "state_module": "workflows.context.state_store",
            "state_data": {"_data": {"n": "1", "kept": '"z"'}},
        }
    ]
)
async def the_state_can_be_read_in_a_snapshot():
    flow = Counting()
    handler = flow.run(put="z")
    await handler
    return [handler.ctx.to_dict()["state"]]


@case(
    [["is_running", "state", "version"], "spanflow-1"],
    peer_gives=[
        [
            "collection_release_states",
            "deliveries",
            "elapsed_alive",
            "invocation_seq",
            "is_running",
            "journal_seq",
            "last_alive_stamp",
            "state",
            "stream_seq",
            "streams",
            "version",
            "work_item_seq",
            "workers",
        ],
        2,
    ],
    because="snapshot-format",
)
async def a_snapshot_says_its_version():
    flow = Counting()
    handler = flow.run()
    await handler
    snapshot = handler.ctx.to_dict()
    return sorted(snapshot), snapshot["version"]


@case(["!ContextSerdeError", "!ContextSerdeError", "!ContextSerdeError"])
async def what_is_no_snapshot_is_refused():
    flow = Counting()
    wrong = ({"version": 99}, {"version": "x"}, {"state": 3, "version": 2})
    return [error_of(lambda data=data: Context.from_dict(flow, data)) for data in wrong]


@case(["!ContextSerdeError", "!ContextSerdeError"], peer_gives=["read", "read"], because="empty-snapshots")
async def what_has_no_version_is_refused():
    flow = Counting()
    return [error_of(lambda data=data: Context.from_dict(flow, data) and "read") for data in ({}, {"foo": 1})]


@case([{"a": {"b": [1, [2]]}}, [None], 1.5, "x"])
async def plain_values_survive():
    return [await kept(value) for value in ({"a": {"b": [1, [2]]}}, [None], 1.5, "x")]


@case(["Model", 3, "A", 2, "Model"])
async def models_and_events_survive():
    model, event, inner = await kept(Model(q=3)), await kept(A(n=2)), (await kept({"m": Model(q=1)}))["m"]
    return type(model).__name__, model.q, type(event).__name__, event.n, type(inner).__name__


@case(
    [True, True, True, True],
    peer_gives=[False, "!ValueError", "!ValueError", "!ValueError"],
    because="types-survive-in-snapshots",
)
async def more_types_survive():
    values = ((1, 2), {1}, b"a", datetime.datetime(2020, 1, 1))

    async def survives(value):
        return await kept(value) == value

    return [await outcome(survives(value)) for value in values]


@case([True, True, True])
async def anything_that_can_be_pickled_survives_with_pickle():
    values = ({1}, datetime.date(2020, 1, 1), Model(q=1))
    return [await kept(value, PickleSerializer()) == value for value in values]


class WithSets(JsonSerializer):
    def serialize_value(self, value):
        return {"__set__": sorted(value)} if isinstance(value, set) else super().serialize_value(value)

    def deserialize_value(self, data):
        if isinstance(data, dict) and "__set__" in data:
            return set(data["__set__"])
        return super().deserialize_value(data)


@case([1, 2])
async def a_serializer_of_ones_own_is_used():
    return sorted(await kept({1, 2}, WithSets()))


@case([True, 0])
async def a_value_that_cannot_be_written_is_refused():
    flow = Counting()
    handler = flow.run(put=len)
    result = await handler
    try:
        handler.ctx.to_dict()
    except ValueError:
        return True, result
    return False, result


@case([["n"], ["UnserializableKeyWarning"]])
async def a_memory_that_cannot_be_written_is_left_out_with_a_warning():
    flow = Counting()
    handler = flow.run()
    await handler
    await handler.ctx.store.set("memory", len)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        snapshot = handler.ctx.to_dict()
    return sorted(snapshot["state"]["state_data"]["_data"]), [w.category.__name__ for w in caught]


@case("!ContextStateError")
async def a_step_cannot_write_a_snapshot():
    async def body(ctx):
        return error_of(ctx.to_dict)

    return await in_a_step(body).run()


class Gate(Workflow):
    """The second step takes 5 seconds unless the gate is open."""

    is_open = False

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A:
        await ctx.store.set("x", ev.x)
        return A(n=ev.x, tag="t")

    @step
    async def t(self, ctx: Context, ev: A) -> StopEvent:
        if not self.is_open:
            await asyncio.sleep(5)
        return StopEvent(result=[ev.n, ev.tag, await ctx.store.get("x")])


def opened(cls):
    flow = cls()
    flow.is_open = True
    return flow


@case([True, [4, "t", 4], [8, "t", 8]])
async def a_run_goes_on_in_the_middle():
    snapshot = await stopped_snapshot(Gate().run(x=4))
    flow = opened(Gate)
    ctx = Context.from_dict(flow, snapshot)
    return ctx.is_running, await flow.run(ctx=ctx), await flow.run(ctx=ctx, x=8)


@case([4, "t", 4])
async def what_run_is_given_is_ignored_when_it_goes_on():
    flow = opened(Gate)
    ctx = Context.from_dict(flow, await stopped_snapshot(Gate().run(x=4)))
    return await flow.run(ctx=ctx, x=9)


class Start(StartEvent):
    model: Model
    at: datetime.datetime
    pair: tuple[int, int] = (1, 2)


class TypedGate(Workflow):
    is_open = False

    @step
    async def s(self, ev: Start) -> StopEvent:
        if not self.is_open:
            await asyncio.sleep(5)
        return StopEvent(result=[type(ev.model).__name__, type(ev.at).__name__, list(ev.pair)])


@case(["Model", "datetime", [1, 2]])
async def declared_fields_keep_their_type():
    handler = TypedGate().run(model=Model(q=2), at=datetime.datetime(2020, 1, 1))
    flow = opened(TypedGate)
    return await flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(handler)))


class Loose(Workflow):
    is_open = False

    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        if not self.is_open:
            await asyncio.sleep(5)
        return StopEvent(result=[type(ev.model).__name__, type(ev.at).__name__])


@case(["Model", "datetime"], peer_gives=["dict", "str"], because="types-survive-in-dynamic-fields")
async def dynamic_fields_keep_their_type():
    handler = Loose().run(model=Model(q=2), at=datetime.datetime(2020, 1, 1))
    flow = opened(Loose)
    return await flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(handler)))


class Reply(HumanResponseEvent):
    pass


class Half(Workflow):
    @step
    async def s(self, ev: StartEvent) -> A:
        return A()

    @step
    async def t(self, ctx: Context, ev: A | Reply) -> StopEvent | None:
        found = ctx.collect_events(ev, [A, Reply])
        return StopEvent(result=[type(e).__name__ for e in found]) if found else None


@case(["A", "Reply"])
async def a_half_collected_group_goes_on():
    flow = Half()
    handler = flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(Half().run())))
    await asyncio.sleep(0.05)
    handler.ctx.send_event(Reply())
    return await handler


class Spread(Workflow):
    is_open = False

    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(4)]

    @step(num_workers=2)
    async def t(self, ev: A) -> B:
        if not self.is_open and ev.n > 0:
            await asyncio.sleep(5)
        return B(n=ev.n)

    @step
    async def u(self, ev: list[B]) -> StopEvent:
        return StopEvent(result=sorted(e.n for e in ev))


@case([0, 1, 2, 3])
async def an_open_list_goes_on():
    flow = opened(Spread)
    return await flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(Spread().run())))


class Waits(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        found = await ctx.wait_for_event(Answer, waiter_event=Ask(q=ev.q), requirements={"user": "u"})
        return StopEvent(result=[found.a, ev.q])


@case(["x", "?"])
async def an_open_wait_goes_on():
    flow = Waits()
    handler = flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(Waits().run(q="?"))))
    await asyncio.sleep(0.05)
    handler.ctx.send_event(Answer(a="no", user="other"))
    handler.ctx.send_event(Answer(a="x", user="u"))
    return await handler


class Questions(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> Ask:
        await ctx.store.set("k", ev.k)
        return Ask(q="?")

    @step
    async def t(self, ctx: Context, ev: Answer) -> StopEvent:
        return StopEvent(result=[ev.a, await ctx.store.get("k")])


@case(["z", 5])
async def a_person_may_answer_after_a_snapshot():
    handler = Questions().run(k=5)
    async for ev in handler.stream_events():
        if isinstance(ev, Ask):
            break
    flow = Questions()
    resumed = flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(handler)))
    resumed.ctx.send_event(Answer(a="z"))
    return await resumed


class Steps(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A:
        return A()

    @step
    async def t(self, ctx: Context, ev: A) -> A | StopEvent:
        ctx.write_event_to_stream(B(n=ev.n))
        await asyncio.sleep(0.01)
        return A(n=ev.n + 1) if ev.n < 3 else StopEvent(result=ev.n)


@case([3, 3, 3, 3])
async def a_snapshot_of_every_step_goes_on_to_the_end():
    flow = Steps()
    handler = flow.run()
    snapshots = [through_json(handler.ctx.to_dict()) async for ev in handler.stream_events() if isinstance(ev, B)]
    return [await flow.run(ctx=Context.from_dict(flow, snapshot)) for snapshot in snapshots]


@case([[4, "t", 4], [4, "t", 4]])
async def one_snapshot_can_be_used_twice():
    snapshot = await stopped_snapshot(Gate().run(x=4))
    flow = opened(Gate)
    one, two = (flow.run(ctx=Context.from_dict(flow, snapshot)) for _ in range(2))
    return await one, await two


@case(True, peer_gives=False, because="run-id-after-a-resume")
async def a_run_that_goes_on_keeps_its_id():
    handler = Gate().run(x=4)
    run_id = handler.run_id
    snapshot = await stopped_snapshot(handler)
    del handler
    flow = opened(Gate)
    resumed = flow.run(ctx=Context.from_dict(flow, snapshot))
    await resumed
    return resumed.run_id == run_id


@case([False, False, 1])
async def a_failed_run_leaves_its_state():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("a", 1)
            raise ValueError

    flow = W()
    handler = flow.run()
    await outcome(handler)
    snapshot = handler.ctx.to_dict()
    ctx = Context.from_dict(flow, snapshot)
    return snapshot["is_running"], ctx.is_running, await ctx.store.get("a")


class State(BaseModel):
    n: int = 0
    model: Model = Model()
    models: list[Model] = []


def typed():
    async def body(ctx):
        async with ctx.store.edit_state() as state:
            state.n += 1
            state.models.append(Model(q=state.n))
        return state.n

    return in_a_step(body, State)


@case(["State", 2, [1, 2], "Model"])
async def typed_state_survives():
    flow = typed()
    handler = flow.run()
    await handler
    ctx = Context.from_dict(flow, through_json(handler.ctx.to_dict()))
    await flow.run(ctx=ctx)
    state = await ctx.store.get_state()
    return type(state).__name__, state.n, [m.q for m in state.models], type(state.models[0]).__name__


@case([1, 1])
async def the_snapshot_of_a_finished_run_fits_another_workflow():
    flow = Counting()
    handler = flow.run()
    await handler
    other = in_a_step(lambda ctx: ctx.store.get("n"))
    return await other.run(ctx=Context.from_dict(other, handler.ctx.to_dict())), 1


@case([True, True])
async def a_retry_that_waits_goes_on():
    from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

    class W(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.1), stop=stop_after_attempt(3)))
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            if info.retry_number == 0:
                raise ValueError("first")
            return StopEvent(result=[info.retry_number >= 1, "first" in str(info.last_exception)])

    flow = W()
    return await flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(W().run(), wait=0.02)))


@case(["x", "x"])
async def a_list_of_allowed_types_need_not_name_what_is_the_workflows_own():
    class Kept(Model):
        inner: Model = Model()

    class Own(Workflow):
        @step
        async def s(self, ctx: Context[Kept], ev: StartEvent) -> A:
            await ctx.store.set("q", 3)
            return A(n=1)

        @step
        async def t(self, ev: A) -> Ask:
            return Ask()

        @step
        async def u(self, ctx: Context[Kept], ev: Answer) -> StopEvent:
            return StopEvent(result="x" if await ctx.store.get("q") == 3 else "lost")

    found = []
    for serializer in (JsonSerializer(allowed_types=[]), JsonSerializer(allowed_types=[Model])):
        flow = Own(serializer=serializer, timeout=1)
        snapshot = await stopped_snapshot(flow.run())
        handler = flow.run(ctx=Context.from_dict(flow, snapshot))
        handler.ctx.send_event(Answer())
        found.append(await outcome(handler))
    return found
