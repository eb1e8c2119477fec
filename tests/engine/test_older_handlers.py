"""A handler as older versions had it, an `asyncio.Future`; and the older queue of a run's stream."""

from __future__ import annotations

import asyncio

import pytest

from workflows import Context, Workflow, step
from workflows.errors import ContextStateError, WorkflowCancelledByUser, WorkflowRuntimeError
from workflows.events import Event, StartEvent, StopEvent
from workflows.handler import WorkflowHandler

pytestmark = pytest.mark.filterwarnings("ignore:handler:DeprecationWarning", "ignore:ctx:DeprecationWarning")


class Flow(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if "hold" in ev:
            await asyncio.Event().wait()
        if "wrong" in ev:
            raise KeyError("wrong")
        ctx.write_event_to_stream(Event())
        return StopEvent(result="done")


class Custom(StopEvent):
    count: int


class CustomEnd(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Custom:
        return Custom(count=1)


async def test_the_result_is_there_when_the_run_is_over() -> None:
    handler = Flow().run()
    await handler
    assert handler.result() == "done"


async def test_a_custom_stop_event_is_the_result() -> None:
    handler = CustomEnd().run()
    await handler
    assert handler.result() == Custom(count=1)


async def test_the_result_of_a_failed_run_raises_its_error() -> None:
    handler = Flow().run(wrong=True)
    await asyncio.wait([asyncio.ensure_future(handler)])
    with pytest.raises(KeyError):
        handler.result()
    assert isinstance(handler.exception(), KeyError)


@pytest.mark.parametrize("method", ["result", "exception"])
async def test_before_the_end_there_is_neither(method: str) -> None:
    handler = Flow().run(hold=True)
    with pytest.raises(asyncio.InvalidStateError, match="is not over"):
        getattr(handler, method)()
    await handler.cancel_run()


async def test_cancel_ends_the_run_without_being_awaited() -> None:
    handler = Flow().run(hold=True)
    handler.cancel()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert (handler.done(), handler.cancelled()) == (True, True)


async def test_callbacks_get_the_handler_at_the_end() -> None:
    called: asyncio.Future[WorkflowHandler] = asyncio.get_running_loop().create_future()
    handler = Flow().run()
    handler.add_done_callback(called.set_result)
    assert await called is handler


async def test_a_callback_that_comes_late_is_called_too() -> None:
    called: asyncio.Future[WorkflowHandler] = asyncio.get_running_loop().create_future()
    handler = Flow().run()
    await handler
    handler.add_done_callback(called.set_result)
    assert (await called).is_done()


async def test_a_callback_can_be_taken_back() -> None:
    called: list[WorkflowHandler] = []
    handler = Flow().run()
    handler.add_done_callback(called.append)
    handler.add_done_callback(called.append)
    assert (handler.remove_done_callback(called.append), handler.remove_done_callback(called.append)) == (2, 0)
    await handler
    await asyncio.sleep(0)
    assert called == []


async def test_a_handler_knows_its_loop() -> None:
    handler = Flow().run()
    assert handler.get_loop() is asyncio.get_running_loop()
    await handler


@pytest.mark.filterwarnings("default:handler:DeprecationWarning")
async def test_the_older_methods_say_what_to_use_instead() -> None:
    handler = Flow().run()
    await handler
    for method in (handler.result, handler.exception, handler.done, handler.cancelled):
        with pytest.warns(DeprecationWarning, match=r"older versions; use"):
            method()


async def test_the_text_of_a_handler_names_workflow_run_and_result() -> None:
    handler = Flow(workflow_name="mine").run(run_id="r1")
    await handler
    assert str(handler) == "WorkflowHandler(workflow=mine, run_id=r1, result=done)"


async def test_the_older_queue_gives_the_whole_stream() -> None:
    handler = Flow().run()
    queue = handler.ctx.streaming_queue
    seen = []
    while not seen or not isinstance(seen[-1], StopEvent):
        seen.append(await queue.get())
    assert [type(e).__name__ for e in seen] == ["StepStateChanged", "Event", "StepStateChanged", "StopEvent"]


async def test_the_older_queue_is_one_and_the_same() -> None:
    handler = Flow().run()
    assert handler.ctx.streaming_queue is handler.ctx.streaming_queue
    await handler


class Curious(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        member = getattr(ctx, ev.name)
        return StopEvent(result=member())


@pytest.mark.parametrize("name", ["stream_events", "get_result", "streaming_queue"])
async def test_what_belongs_outside_is_refused_in_a_step(name: str) -> None:
    with pytest.raises(ContextStateError, match="is only available from handler code"):
        await Curious().run(name=name)


@pytest.mark.parametrize("name", ["stream_events", "get_result", "streaming_queue"])
def test_what_belongs_to_a_run_is_refused_before_it(name: str) -> None:
    with pytest.raises(ContextStateError, match=r"called before workflow started"):
        getattr(Context(Flow()), name)()


class Part(Event):
    pass


class Gather(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> list[Part]:
        ctx.send_event(Part(), step="gather")
        return [Part()]

    @step
    async def gather(self, parts: list[Part]) -> StopEvent:
        return StopEvent(result=len(parts))


async def test_no_event_is_sent_to_a_gathering_step_alone() -> None:
    with pytest.raises(WorkflowRuntimeError, match="Step gather gathers the branches of a returned list"):
        await Gather().run()


class Asks(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.warns(DeprecationWarning, match="always true"):
            return StopEvent(result=ctx.is_running)


async def test_in_a_step_its_run_is_running() -> None:
    assert await Asks().run() is True
