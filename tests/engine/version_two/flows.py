"""Workflows whose snapshots were written by llama-index-workflows 2.26; `make_snapshots.py` wrote them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel

from workflows import Context, Workflow, catch_error, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

HOLD = False
"""While snapshots are written: steps stay where they are."""


async def hold() -> None:
    """Stay here until the snapshot is written; does nothing in tests."""
    if HOLD:
        await asyncio.sleep(60)


class Job(Event):
    number: int


class Done(Event):
    number: int


class Other(Event):
    number: int


class Reply(HumanResponseEvent):
    text: str


class Ask(InputRequiredEvent):
    prompt: str


class Queued(Workflow):
    """One job runs, two queue, two results are collected, and the state holds nested values."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Job | Done:
        await ctx.store.set("plan.jobs", [0, 1, 2])
        for number in range(3):
            ctx.send_event(Job.model_validate({"number": number, "_data": {"note": f"job {number}"}}))
        ctx.send_event(Done(number=10))
        return Done(number=11)

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: Job) -> Done:
        await hold()
        return Done(number=ev.number)

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * 5)
        if done is None:
            return None
        return StopEvent(result=[sorted(e.number for e in done), await ctx.store.get("plan.jobs")])


class Place(BaseModel):
    city: str = ""
    days: int = 0


class Trip(BaseModel):
    places: list[Place] = []
    paid: bool = False


class Typed(Workflow):
    """A typed state with a model inside."""

    @step
    async def start(self, ctx: Context[Trip], ev: StartEvent) -> Job:
        async with ctx.store.edit_state() as trip:
            trip.places.append(Place(city=ev.city, days=3))
        return Job(number=1)

    @step
    async def pay(self, ctx: Context[Trip], ev: Job) -> StopEvent:
        await hold()
        trip = await ctx.store.get_state()
        return StopEvent(result=[f"{place.city}:{place.days}" for place in trip.places])


class Question(Workflow):
    """A step waits for one person's answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="ok?"), requirements={"user": "ada"})
        return StopEvent(result=reply.text)


class Interview(Workflow):
    """Two questions; the first is answered."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        name = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="name?"), waiter_id="name")
        age = await ctx.wait_for_event(
            Reply, waiter_event=Ask(prompt="age?"), waiter_id="age", requirements={"user": "ada"}
        )
        return StopEvent(result=[name.text, age.text])


class Answered(Workflow):
    """The answer came, and the step has gone on."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="name?"))
        await hold()
        return StopEvent(result=reply.text)


class Piece(Event):
    number: int


class PieceDone(Event):
    number: int


class FanOut(Workflow):
    """A list of lists: one inner join runs, one is half-way, and one branch has not split yet."""

    @step
    async def split(self, ev: StartEvent) -> list[Job]:
        return [Job(number=n) for n in range(3)]

    @step(num_workers=2)
    async def cut(self, ev: Job) -> list[Piece]:
        if ev.number == 2:
            await hold()
        return [Piece(number=10 * ev.number + n) for n in range(3)]

    @step(num_workers=1)
    async def work(self, ev: Piece) -> PieceDone:
        if ev.number == 11:
            await hold()
        return PieceDone(number=ev.number)

    @step
    async def join(self, pieces: list[PieceDone]) -> Done:
        await hold()
        return Done(number=sum(p.number for p in pieces))

    @step
    async def finish(self, done: list[Done]) -> StopEvent:
        return StopEvent(result=sorted(e.number for e in done))


class Pair(Workflow):
    """A step of two events has one of them."""

    @step
    async def start(self, ev: StartEvent) -> Job:
        return Job(number=1)

    @step
    async def other(self, ev: Job) -> Other:
        await hold()
        return Other(number=2)

    @step
    async def both(self, job: Job, other: Other) -> StopEvent:
        return StopEvent(result=[job.number, other.number])


class PairRuns(Workflow):
    """A step of two events runs."""

    @step
    async def start(self, ev: StartEvent) -> Job:
        return Job(number=1)

    @step
    async def other(self, ev: Job) -> Other:
        return Other(number=2)

    @step
    async def both(self, job: Job, other: Other) -> StopEvent:
        await hold()
        return StopEvent(result=[job.number, other.number])


class PairsInList(Workflow):
    """In each branch a step takes two events: one branch is done, two have one of theirs."""

    @step
    async def split(self, ev: StartEvent) -> list[Job]:
        return [Job(number=n) for n in range(3)]

    @step
    async def one(self, ev: Job) -> Done:
        return Done(number=ev.number)

    @step
    async def other(self, ev: Job) -> Other:
        if ev.number:
            await hold()
        return Other(number=ev.number)

    @step
    async def both(self, done: Done, other: Other) -> Piece:
        return Piece(number=done.number + other.number)

    @step
    async def finish(self, pieces: list[Piece]) -> StopEvent:
        return StopEvent(result=sorted(p.number for p in pieces))


class PairsInLists(Workflow):
    """The same in a list of lists: some branches of each inner list have one event of two, some work is queued."""

    @step
    async def split(self, ev: StartEvent) -> list[Job]:
        return [Job(number=n) for n in (0, 1)]

    @step
    async def cut(self, ev: Job) -> list[Piece]:
        return [Piece(number=10 * ev.number + n) for n in range(2 + ev.number)]

    @step
    async def one(self, ev: Piece) -> Done:
        return Done(number=ev.number)

    @step(num_workers=2)
    async def other(self, ev: Piece) -> Other:
        if ev.number not in (0, 11):
            await hold()
        return Other(number=ev.number)

    @step
    async def both(self, done: Done, other: Other) -> PieceDone:
        return PieceDone(number=done.number + other.number)

    @step
    async def join(self, pieces: list[PieceDone]) -> Reply:
        return Reply(text=f"{len(pieces)} of {sum(p.number for p in pieces)}")

    @step
    async def finish(self, replies: list[Reply]) -> StopEvent:
        found = [r.text.split(" of ") for r in replies]
        return StopEvent(result=[sorted(n for n, _ in found), sum(int(total) for _, total in found)])


class Retried(Workflow):
    """The second attempt is due a minute after the first."""

    @step(retry_policy=retry_policy(wait=wait_fixed(timedelta(minutes=1)), stop=stop_after_attempt(3)))
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        info = ctx.retry_info()
        if info.retry_number == 0:
            raise ValueError("busy")
        return StopEvent(result=[info.retry_number, repr(info.last_exception)])


class Recovered(Workflow):
    """The handler of a failure runs."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        raise ValueError(f"no {ev.city}")

    @catch_error
    async def recover(self, ev: StepFailedEvent) -> StopEvent:
        await hold()
        return StopEvent(result=[ev.step_name, str(ev.exception), type(ev.exception).__name__, ev.input_event.city])


class Shelf:
    """Nests an event class."""

    class Item(Event):
        number: int


class Nested(Workflow):
    """The class of its event is defined inside another class."""

    @step
    async def start(self, ev: StartEvent) -> Shelf.Item:
        return Shelf.Item(number=7)

    @step
    async def finish(self, ev: Shelf.Item) -> StopEvent:
        await hold()
        return StopEvent(result=ev.number)


class Idle(Workflow):
    """It returned a question, and nothing runs."""

    @step
    async def start(self, ev: StartEvent) -> Ask:
        return Ask(prompt="go on?")

    @step
    async def finish(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


class Counter(Workflow):
    """A run that is over; its state goes on."""

    @step
    async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
        count = await ctx.store.get("count", default=0) + 1
        await ctx.store.set("count", count)
        return StopEvent(result=count)
