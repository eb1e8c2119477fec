"""Where runs live: which runtime a workflow belongs to, its journal, and a run's id and state as seen from there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import BaseModel

from workflows import Context, Workflow, step
from workflows.context import JsonSerializer
from workflows.errors import WorkflowTimeoutError, WorkflowValidationError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.plugins import BasicRuntime, basic_runtime, get_current_runtime
from workflows.plugins.basic import JournalRecord, get_current_run_id, setting_run_id
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.runtime import Runtime
from workflows.testing import VirtualClockLoop


class Job(Event):
    number: int


class Done(Event):
    number: int


class Reply(HumanResponseEvent):
    text: str


class Ask(InputRequiredEvent):
    prompt: str


class Flow(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("topic", ev.get("topic", "none"))
        return StopEvent(result=get_current_run_id())


class Busy(Workflow):
    """Fans out, collects, retries, and asks a person before it ends."""

    failures = 0

    @step
    async def start(self, ev: StartEvent) -> list[Job]:
        return [Job(number=n) for n in range(3)]

    @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(5), stop=stop_after_attempt(3)))
    async def work(self, ctx: Context, ev: Job) -> Done:
        if ev.number == 1 and ctx.retry_info().retry_number == 0:
            raise ConnectionError("busy")
        return Done(number=ev.number)

    @step
    async def finish(self, ctx: Context, done: list[Done]) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="ok?"), requirements={"text": "yes"})
        return StopEvent(result=[sorted(d.number for d in done), reply.text])


class Unsaved(BaseModel):
    value: Any = None


class Broken(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Job:
        return Job(number=1)


async def journal_of(handler: WorkflowHandler, runtime: BasicRuntime = basic_runtime) -> list[JournalRecord]:
    return [record async for record in runtime.journal(handler.run_id)]


async def goes_on(workflow: Workflow, records: Sequence[JournalRecord], *answers: Event) -> Any:
    handler = workflow.run(ctx=basic_runtime.restore(workflow, None, records))
    for answer in answers:
        await handler.send_event(answer)
    return await handler


def test_a_workflow_belongs_to_the_basic_runtime() -> None:
    assert Flow().runtime is basic_runtime is get_current_runtime()


def test_workflows_made_in_a_block_belong_to_its_runtime() -> None:
    runtime = BasicRuntime()
    with runtime.registering() as current:
        made = Flow()
        assert (current, get_current_runtime()) == (runtime, runtime)
    assert (made.runtime, get_current_runtime()) == (runtime, basic_runtime)


def test_a_runtime_that_is_given_wins() -> None:
    with BasicRuntime().registering():
        assert Flow(runtime=basic_runtime).runtime is basic_runtime


async def test_runtime_and_name_can_be_changed_until_the_first_run() -> None:
    workflow, other = Flow(), BasicRuntime()
    workflow._switch_runtime(other)
    workflow._switch_workflow_name("renamed")
    assert (workflow.runtime, workflow.workflow_name) == (other, "renamed")
    await workflow.run()
    with pytest.raises(RuntimeError, match="Cannot reassign runtime after"):
        workflow._switch_runtime(basic_runtime)
    with pytest.raises(RuntimeError, match="Cannot change workflow_name after"):
        workflow._switch_workflow_name("late")


async def test_launching_a_runtime_locks_what_belongs_to_it() -> None:
    runtime = BasicRuntime()
    workflow, left_out = Flow(runtime=runtime), Flow(runtime=runtime)
    runtime.untrack_workflow(left_out)
    await runtime.launch()
    assert (runtime.get_registered(workflow), runtime.get_registered(left_out)) == (workflow.__definition__.spec, None)
    with pytest.raises(RuntimeError, match="Cannot reassign runtime after"):
        workflow._switch_runtime(basic_runtime)
    left_out._switch_runtime(basic_runtime)
    await runtime.destroy()


def test_launching_a_runtime_checks_what_belongs_to_it() -> None:
    runtime = BasicRuntime()
    workflow = Flow(runtime=runtime)
    runtime.launch_sync()
    assert runtime.get_or_register(workflow) is workflow.__definition__.spec
    runtime.destroy_sync()
    assert runtime.get_serializer(workflow) is workflow.serializer


def test_a_wrong_workflow_is_refused_when_it_is_registered() -> None:
    class Wrong(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent | Job:
            return StopEvent()

    with pytest.raises(WorkflowValidationError):
        basic_runtime.register(Wrong())


def test_a_runtime_says_what_a_subclass_must_give() -> None:
    assert Runtime.__abstractmethods__ == {"start", "is_live"}


async def test_a_workflow_that_is_a_model_as_well_belongs_to_a_runtime() -> None:
    class Both(type(Flow), type(BaseModel)):  # type: ignore[misc]
        pass

    class Agent(Flow, BaseModel, metaclass=Both):  # pyright: ignore[reportIncompatibleMethodOverride]
        name: str = "agent"

        def __init__(self, **fields: Any) -> None:
            BaseModel.__init__(self, **fields)
            Workflow.__init__(self)

    assert Agent(name="ada").runtime is basic_runtime


async def test_a_step_knows_the_id_of_its_run() -> None:
    assert await Flow().run(run_id="r1") == "r1"


async def test_a_named_run_is_what_the_block_says_and_not_what_its_runs_say() -> None:
    assert get_current_run_id() is None
    with setting_run_id("named"):
        assert get_current_run_id() == "named"
        handler = Flow().run()
        assert await handler == handler.run_id
    assert get_current_run_id() is None


async def test_the_state_of_a_run_is_read_by_its_id() -> None:
    handler = Flow().run(topic="joke")
    await handler
    checkpoint = basic_runtime.state_checkpoint(handler.run_id)
    assert (checkpoint.state.topic, checkpoint.diff(checkpoint)) == ("joke", [])  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["journal", "state_checkpoint"])
async def test_a_run_that_nobody_holds_is_not_found(method: str) -> None:
    with pytest.raises(RuntimeError, match="There is no run 'gone' here"):
        getattr(basic_runtime, method)("gone")


async def test_a_journal_is_numbered_and_ends_with_its_run() -> None:
    handler = Flow().run()
    records = await journal_of(handler)
    assert handler.is_done()
    assert [r.seq for r in records] == list(range(len(records)))
    assert len(records) > 1


async def test_a_run_goes_on_from_every_line_of_its_journal(clock: VirtualClockLoop) -> None:
    workflow = Busy(timeout=None)
    handler = workflow.run()
    reading = asyncio.ensure_future(journal_of(handler))
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            await handler.send_event(Reply(text="no"))
            await handler.send_event(Reply(text="yes"))
    records = await reading
    over = 0
    for count in range(1, len(records) + 1):
        context = basic_runtime.restore(workflow, None, records[:count])
        over += not context.is_running
        if context.is_running:
            found = await goes_on(workflow, records[:count], Reply(text="yes"))
            assert found == [[0, 1, 2], "yes"]
    assert over == 1


async def test_a_journal_may_begin_in_the_middle_of_a_run(clock: VirtualClockLoop) -> None:
    workflow = Busy()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            break
    reading = asyncio.ensure_future(journal_of(handler))
    await asyncio.sleep(0)
    await handler.send_event(Reply(text="no"))
    await handler.send_event(Reply(text="yes"))
    await handler
    records = await reading
    assert await goes_on(workflow, records[:-1]) == [[0, 1, 2], "yes"]


async def test_a_cancelled_run_goes_on_from_its_journal(clock: VirtualClockLoop) -> None:
    workflow = Busy()
    handler = workflow.run()
    reading = asyncio.ensure_future(journal_of(handler))
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            await handler.cancel_run()
    assert await goes_on(workflow, await reading, Reply(text="yes")) == [[0, 1, 2], "yes"]


async def test_a_journal_of_a_run_that_is_over_says_so() -> None:
    workflow = Flow()
    handler = workflow.run()
    await handler
    assert not basic_runtime.restore(workflow, None, await journal_of(handler)).is_running


async def test_state_comes_from_the_snapshot_and_work_from_the_journal() -> None:
    workflow = Flow()
    handler = workflow.run(topic="joke")
    records = await journal_of(handler)
    context = basic_runtime.restore(workflow, handler.ctx.to_dict(), records[:1])
    assert (await context.store.get("topic"), context.is_running) == ("joke", True)


async def test_a_snapshot_without_records_is_a_context() -> None:
    workflow = Flow()
    handler = workflow.run(topic="joke")
    await handler
    context = basic_runtime.restore(workflow, handler.ctx.to_dict(), [])
    assert await context.store.get("topic") == "joke"


@pytest.mark.parametrize("left_out", [0, 1])
async def test_a_gap_in_a_journal_is_refused(left_out: int) -> None:
    workflow = Flow()
    records = await journal_of(workflow.run())
    with pytest.raises(ValueError, match="Journal gap"):
        basic_runtime.restore(workflow, None, [r for r in records if r.seq != left_out])


def test_an_empty_journal_gives_an_empty_context() -> None:
    assert not basic_runtime.restore(Flow(), None, []).is_running


async def test_two_can_follow_one_run() -> None:
    handler = Flow().run()
    both = await asyncio.gather(journal_of(handler), journal_of(handler))
    assert both[0] == both[1]


async def test_what_cannot_be_written_is_the_readers_trouble() -> None:
    handler = Flow().run(topic=object())
    with pytest.raises(ValueError, match="Failed to serialize value"):
        await journal_of(handler)
    await handler


async def test_a_run_that_queues_at_its_gate_has_a_journal(clock: VirtualClockLoop) -> None:
    workflow = Busy(num_concurrent_runs=1)
    first, second = workflow.run(), workflow.run()
    reading = asyncio.ensure_future(journal_of(second))
    for handler in (first, second):
        await handler.send_event(Reply(text="yes"))
        await handler
    records = await reading
    assert await goes_on(workflow, records[:-1], Reply(text="yes")) == [[0, 1, 2], "yes"]


async def test_a_run_that_timed_out_does_not_go_on(clock: VirtualClockLoop) -> None:
    workflow = Busy(timeout=0.05)
    handler = workflow.run()
    reading = asyncio.ensure_future(journal_of(handler))
    with pytest.raises(WorkflowTimeoutError):
        await handler
    assert not basic_runtime.restore(workflow, None, await reading, JsonSerializer()).is_running


class InAThread(Workflow):
    @step
    def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class AskedLoop(asyncio.SelectorEventLoop):
    """While it is asked whether it is closed, another thread does something."""

    meanwhile: threading.Thread | None = None

    def is_closed(self) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile.start()
            meanwhile.join()
        return super().is_closed()


def test_threads_that_run_sync_steps_at_one_time_do_not_disturb_each_other() -> None:
    runtime, results = BasicRuntime(), list[str]()

    async def run() -> None:
        results.append(await InAThread(runtime=runtime).run())

    with asyncio.Runner(loop_factory=AskedLoop) as runner:
        runner.run(run())
        asked = cast("AskedLoop", runner.get_loop())

    asked.meanwhile = threading.Thread(target=lambda: asyncio.run(run()))
    asyncio.run(run())

    assert results == ["done"] * 3
