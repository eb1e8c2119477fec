"""Workflows for the tests of the flavor: each does one thing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy as policy
from workflows.retry_policy import stop_after_attempt, wait_fixed


class Ask(StartEvent):
    question: str


class Plan(Event):
    text: str


class Progress(Event):
    percent: int


class Delta(Event):
    delta: str


class Answer(Workflow):
    @step
    async def plan(self, ev: Ask) -> Plan:
        return Plan(text=ev.question.upper())

    @step
    async def answer(self, ev: Plan) -> StopEvent:
        return StopEvent(result=f"{ev.text}!")


class Flaky(Workflow):
    """Fails `failures` times, then succeeds; waits 30 s between attempts."""

    def __init__(self, failures: int) -> None:
        super().__init__(timeout=None)
        self._failures = failures

    @step(retry_policy=policy(wait=wait_fixed(30), stop=stop_after_attempt(3)))
    async def fetch(self, ev: Ask) -> StopEvent:
        self._failures -= 1
        if self._failures >= 0:
            raise ConnectionError("no route")
        return StopEvent(result="fetched")


class Hang(Workflow):
    """Streams one event, then waits for ever."""

    @step
    async def hang(self, ctx: Context, ev: Ask) -> StopEvent:
        ctx.write_event_to_stream(Progress(percent=0))
        await asyncio.Event().wait()
        return StopEvent()


class Streaming(Workflow):
    """Streams `deltas` pieces of text and `steps` progress events."""

    def __init__(self, deltas: int = 0, steps: int = 0) -> None:
        super().__init__()
        self._deltas = deltas
        self._steps = steps

    @step
    async def write(self, ctx: Context, ev: Ask) -> StopEvent:
        for number in range(self._deltas):
            ctx.write_event_to_stream(Delta(delta=f"{number} "))
        for number in range(self._steps):
            ctx.write_event_to_stream(Progress(percent=number))
        return StopEvent(result="done")


class Approve(Workflow):
    @step
    async def ask(self, ev: Ask) -> InputRequiredEvent:
        return InputRequiredEvent(prefix=f"{ev.question}?")  # pyright: ignore[reportCallIssue]  # a dynamic field

    @step
    async def decide(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev["response"])


class Inquire(Workflow):
    """Waits inside a step for the answer to its question."""

    @step
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent,
            waiter_event=InputRequiredEvent(prefix=f"{ev.question}?"),  # pyright: ignore[reportCallIssue]
        )
        return StopEvent(result=answer["response"])


class Item(Event):
    name: str


class Said(Event):
    name: str
    yes: bool


class Both(Workflow):
    """Asks two questions at once, whose answers are of one class."""

    @step
    async def split(self, ev: Ask) -> list[Item]:
        return [Item(name=f"{name}{ev.question}") for name in ("one", "two")]

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: Item) -> Said:
        question = InputRequiredEvent(prefix=ev.name)  # pyright: ignore[reportCallIssue]  # a dynamic field
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, waiter_id=ev.name)
        return Said(name=ev.name, yes=answer["response"])

    @step
    async def join(self, ctx: Context, ev: Said) -> StopEvent | None:
        said = ctx.collect_events(ev, [Said, Said])
        return StopEvent(result={each.name: each.yes for each in sorted(said, key=lambda s: s.name)}) if said else None


def measured(function: Callable[..., Awaitable[Any]], least: int = 1) -> Callable[..., Awaitable[Any]]:
    """A function that notes on itself how it was called, as decorators of libraries do."""

    @functools.wraps(function)
    async def wrapped(*args: Any) -> Any:
        vars(wrapped)["statistics"] = {"calls": least}
        return await function(*args)

    vars(wrapped)["least"] = least
    return wrapped
