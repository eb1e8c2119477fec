"""What a workflow says of its runtime, name and serializer, and what changing them takes."""

import asyncio

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Echo, Streaming, in_a_step
from workflows import Workflow, step
from workflows.context import PickleSerializer
from workflows.events import StartEvent, StopEvent
from workflows.plugins import basic_runtime
from workflows.plugins.basic import JournalRecord, get_current_run_id, setting_run_id


@case([True, True])
async def a_workflow_runs_on_the_basic_runtime():
    return Echo().runtime is basic_runtime, Echo(runtime=basic_runtime).runtime is basic_runtime


@case(True)
async def a_workflow_may_have_a_serializer_of_its_own():
    mine = PickleSerializer()
    return Echo(serializer=mine).serializer is mine


@case(["renamed", "!RuntimeError"])
async def a_name_can_be_changed_until_the_first_run():
    flow = Echo()
    flow._switch_workflow_name("renamed")
    name = flow.workflow_name
    await flow.run()
    return name, error_of(lambda: flow._switch_workflow_name("late"))


@case(1)
async def a_runtime_can_be_set_before_the_first_run():
    flow = Echo()
    flow._switch_runtime(basic_runtime)
    return await flow.run(x=1)


@case([True, True])
async def the_journal_of_a_run_can_be_followed():
    handler = Streaming().run()
    records = [record async for record in basic_runtime.journal(handler.run_id)]
    await handler
    numbers = [record.seq for record in records]
    return len(numbers) > 0, numbers == sorted(set(numbers))


@case("done")
async def a_run_is_restored_from_its_journal():
    handler = Streaming().run()
    records = [record async for record in basic_runtime.journal(handler.run_id)]
    await handler
    flow = Streaming()
    first = records[:1]
    ctx = basic_runtime.restore(flow, None, first)
    return await outcome(flow.run(ctx=ctx))


@case([1, True])
async def the_state_of_a_run_can_be_read_by_its_id():
    flow = in_a_step(lambda ctx: ctx.store.set("n", 1))
    handler = flow.run(run_id="reads-its-state")
    await handler
    checkpoint = basic_runtime.state_checkpoint("reads-its-state")
    return checkpoint.state.n, bool(checkpoint.to_dict())


class Gate(Workflow):
    """The second step takes 5 seconds unless the gate is open; the first one counts how often it ran."""

    def __init__(self, *, is_open=False):
        super().__init__()
        self.is_open = is_open
        self.times = 0

    @step
    async def s(self, ev: StartEvent) -> A:
        self.times += 1
        return A(n=ev.x)

    @step
    async def t(self, ev: A) -> StopEvent:
        if not self.is_open:
            await asyncio.sleep(5)
        return StopEvent(result=ev.n)


async def stopped_journal(handler):
    """The records of a run up to now; the run is then cancelled."""
    records = []

    async def follow():
        async for record in basic_runtime.journal(handler.run_id):
            records.append(record)  # noqa: PERF401  # seen while it grows

    reading = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    so_far = list(records)
    await handler.cancel_run()
    await outcome(handler)
    await asyncio.wait([reading], timeout=0.5)
    return so_far, reading.done()


@case([True, True, 4, 0])
async def a_run_goes_on_from_its_journal_without_its_finished_steps():
    records, ended = await stopped_journal(Gate().run(x=4))
    flow = Gate(is_open=True)
    ctx = basic_runtime.restore(flow, None, records)
    return ended, ctx.is_running, await flow.run(ctx=ctx), flow.times


@case("!ValueError")
async def a_journal_with_a_gap_is_refused():
    (first, *_), _ = await stopped_journal(Gate().run(x=4))
    basic_runtime.restore(Gate(), None, [first, JournalRecord(seq=first.seq + 7, data=first.data)])


@case([False, "str", True])
async def the_journal_of_a_finished_run_can_still_be_read():
    handler = Echo().run(x=1)
    await handler
    records = [record async for record in basic_runtime.journal(handler.run_id)]
    ctx = basic_runtime.restore(Echo(), None, records)
    return ctx.is_running, type(records[0].data).__name__, isinstance(records[0], JournalRecord)


@case(["!RuntimeError", "!RuntimeError"])
async def an_unknown_run_is_refused():
    async def read():
        return [record async for record in basic_runtime.journal("no-such-run")]

    return await outcome(read()), error_of(lambda: basic_runtime.state_checkpoint("no-such-run"))


@case(["mine", None, "other"])
async def the_id_of_the_current_run_is_known():
    async def body(ctx):
        return get_current_run_id()

    inside = await in_a_step(body).run(run_id="mine")
    with setting_run_id("other"):
        return inside, None, get_current_run_id()


@case([False, 1])
async def nothing_to_restore_is_an_empty_context():
    flow = Echo()
    ctx = basic_runtime.restore(flow, None, [])
    return ctx.is_running, await flow.run(ctx=ctx, x=1)
