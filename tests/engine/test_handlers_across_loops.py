"""A handler in the hands of another thread, on another event loop than the one that its run lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Thread
from typing import Any

import pytest

from tests.engine.flows import A, Ask, Reply
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer
from workflows.errors import WorkflowRuntimeError
from workflows.events import StartEvent, StopEvent, WorkflowCancelledEvent
from workflows.handler import WorkflowHandler


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="which?"))
        return StopEvent(result=reply.n)


class Counts(Workflow):
    @step
    async def count(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3)]

    @step
    async def end(self, evs: list[A]) -> StopEvent:
        return StopEvent(result=len(evs))


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _started(loop: asyncio.AbstractEventLoop, workflow: Workflow, **given: Any) -> WorkflowHandler:
    async def start() -> WorkflowHandler:
        handler = workflow.run(**given)
        await asyncio.sleep(0)
        return handler

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(start(), loop))


async def test_a_run_is_suspended_from_another_loop_and_goes_on_there(elsewhere: asyncio.AbstractEventLoop) -> None:
    workflow = Asks()
    snapshot = await (await _started(elsewhere, workflow)).suspend()
    resumed = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await resumed.send_event(Reply(n=7))
    assert await resumed == 7


async def test_a_run_is_cancelled_from_another_loop(elsewhere: asyncio.AbstractEventLoop) -> None:
    handler = await _started(elsewhere, Asks())
    await handler.cancel_run()
    assert isinstance(handler.get_stop_event(), WorkflowCancelledEvent)


async def test_a_run_by_hand_is_stepped_from_another_loop(elsewhere: asyncio.AbstractEventLoop) -> None:
    handler = await _started(elsewhere, Counts(), stepwise=True)
    assert [event.n for event in await handler.run_step() or []] == [0, 1, 2]
    await handler.cancel_run()


async def test_a_run_is_not_awaited_on_another_loop_and_takes_no_harm(elsewhere: asyncio.AbstractEventLoop) -> None:
    handler = await _started(elsewhere, Asks())
    with pytest.raises(WorkflowRuntimeError, match="lives on another event loop"):
        await handler
    await handler.send_event(Reply(n=1))
    await handler.cancel_run()
    assert handler.get_stop_event() is not None


async def test_a_stream_is_not_read_on_another_loop_and_loses_nothing(elsewhere: asyncio.AbstractEventLoop) -> None:
    workflow = Asks()
    handler = await _started(elsewhere, workflow)
    with pytest.raises(WorkflowRuntimeError, match="on the event loop that its run lives on"):
        await anext(handler.stream_events())
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    assert [event.prompt async for event in _until_asked(resumed)] == ["which?"]


async def _until_asked(handler: WorkflowHandler) -> AsyncIterator[Ask]:
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            yield event
            await handler.send_event(Reply())


async def test_the_stream_of_a_run_that_is_over_is_read_on_any_loop(elsewhere: asyncio.AbstractEventLoop) -> None:
    handler = await _started(elsewhere, Asks())
    await handler.cancel_run()
    assert [type(event) async for event in handler.stream_events()] == [Ask, WorkflowCancelledEvent]


class NotesItsLoop(JsonSerializer):
    def __init__(self) -> None:
        super().__init__()
        self.loops: set[object] = set()

    def serialize(self, value: Any) -> str:
        self.loops.add(asyncio.get_running_loop())
        return super().serialize(value)


@pytest.mark.parametrize("way", ["suspend", "to_dict"])
async def test_a_snapshot_is_written_on_the_loop_of_its_run(elsewhere: asyncio.AbstractEventLoop, way: str) -> None:
    handler = await _started(elsewhere, Asks())
    serializer = NotesItsLoop()
    if way == "to_dict":
        handler.ctx.to_dict(serializer)
        await handler.cancel_run()
    else:
        await handler.suspend(serializer=serializer)
    assert serializer.loops == {elsewhere}


async def _answered(handler: WorkflowHandler) -> Any:
    handler.ctx.to_dict()
    await handler.send_event(Reply(n=3))
    return await handler


async def test_a_run_whose_loop_does_not_run_is_left_as_it_is() -> None:
    loop = asyncio.new_event_loop()

    async def start() -> WorkflowHandler:
        return Asks().run()

    handler = await asyncio.to_thread(loop.run_until_complete, start())
    with pytest.raises(WorkflowRuntimeError, match="lives on another event loop"):
        await handler.suspend()
    assert await asyncio.to_thread(loop.run_until_complete, _answered(handler)) == 3
    loop.close()


def test_a_loop_may_be_run_by_another_thread_later() -> None:
    loop = asyncio.new_event_loop()

    async def start() -> WorkflowHandler:
        return Asks().run()

    handler = loop.run_until_complete(start())
    results: list[int] = []
    thread = Thread(target=lambda: results.append(loop.run_until_complete(_answered(handler))), daemon=True)
    thread.start()
    thread.join(10)
    assert results == [3]
    loop.close()
