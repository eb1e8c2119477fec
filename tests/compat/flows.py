"""Events and small workflows that many cases use; runs on both engines, so it needs the public API alone."""

from collections.abc import Awaitable, Callable
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler


class A(Event):
    n: int = 0


class B(Event):
    n: int = 0


class C(Event):
    n: int = 0


class Ask(InputRequiredEvent):
    q: str = ""


class Answer(HumanResponseEvent):
    a: str = ""
    user: str = ""


class Progress(Event):
    msg: str = ""


class Echo(Workflow):
    """Gives back `run(x=...)`."""

    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("x"))


class Streaming(Workflow):
    """Streams 0, 1, 2, then "last", and gives "done"."""

    @step
    async def first(self, ctx: Context, ev: StartEvent) -> A:
        for i in range(3):
            ctx.write_event_to_stream(Progress(msg=str(i)))
        return A()

    @step
    async def second(self, ctx: Context, ev: A) -> StopEvent:
        ctx.write_event_to_stream(Progress(msg="last"))
        return StopEvent(result="done")


def in_a_step(body: Callable[[Any], Awaitable[object]], state: Any = None) -> Workflow:
    """A workflow of one step that gives what `body(ctx)` gives; `state` is the class of its state."""

    class InAStep(Workflow):
        async def only(self, ctx, ev):  # type: ignore[no-untyped-def]
            return StopEvent(result=await body(ctx))

        only.__annotations__.update(ctx=Context[state] if state else Context, ev=StartEvent)
        only.__annotations__["return"] = StopEvent
        only = step(only)

    return InAStep()


async def conversation(handler: WorkflowHandler, reply: Callable[[Any], Event]) -> Any:
    """The run's result, after every question of its stream was answered with what `reply` makes of it."""
    async for ev in handler.stream_events():
        if isinstance(ev, InputRequiredEvent):
            await handler.send_event(reply(ev))
    return await handler
