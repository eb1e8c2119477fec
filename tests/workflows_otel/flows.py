"""Workflows that the tests of this folder share."""

from __future__ import annotations

import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Work(Event):
    n: int


class Done(Event):
    n: int


class Answer(HumanResponseEvent):
    text: str


class Progress(Event):
    n: int


class Echo(Workflow):
    """One step."""

    @step
    async def reply(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("text"))


class FanOut(Workflow):
    """One step sends `n` events, two workers take a second for each, one join."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Work | None:
        await ctx.store.set("n", ev.get("n"))
        for n in range(ev.get("n")):
            ctx.send_event(Work(n=n))

    @step(num_workers=2)
    async def work(self, ev: Work) -> Done:
        await asyncio.sleep(1)
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * await ctx.store.get("n"))
        return None if done is None else StopEvent(result=sum(one.get("n") for one in done))


class Flaky(Workflow):
    """Fails `failures` times, with 30 seconds between its at most three attempts."""

    def __init__(self, failures: int) -> None:
        super().__init__(timeout=None)
        self.failures = failures

    @step(retry_policy=retry_policy(wait=wait_fixed(30), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionError("no route")
        return StopEvent(result="fetched")


class AskPerson(Workflow):
    """Waits for a person's answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, timeout=ev.get("patience", 60))
        return StopEvent(result=answer.text)


class Question(InputRequiredEvent):
    text: str


class Form(Workflow):
    """Asks a person as most do: one step gives a question, another takes the answer; the run waits in between."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question(text="really?")

    @step
    async def answered(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


class Streaming(Workflow):
    """Streams `n` events, one a second."""

    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(ev.get("n")):
            await asyncio.sleep(1)
            ctx.write_event_to_stream(Progress(n=n))
        return StopEvent()


class Failing(Workflow):
    """Its only step raises what it is given."""

    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ev.get("error")


class Slow(Workflow):
    """Its only step takes ten seconds."""

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent()
