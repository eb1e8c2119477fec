"""Random runs for the truth test: they fan out, retry, wait, stream, start child runs, fail and are cut short."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from opentelemetry import trace

from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation import current_attempt
from workflows.plugins import BasicRuntime
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

Plan = dict[str, Any]

EXPECTED = (RuntimeError, WorkflowError)


class Job(Event):
    plan: Plan


class Fork(Event):
    leaves: int


class Leaf(Event):
    n: int


class Picked(Event):
    n: int


class Left(Event):
    pass


class Right(Event):
    pass


class Finished(Event):
    pass


class Stray(Event):
    pass


class Doom(Event):
    pass


class Progress(Event):
    """Says itself who streams it."""

    exec_id: str


class Ask(InputRequiredEvent):
    """Says itself who asks."""

    key: int
    exec_id: str


class Reply(HumanResponseEvent):
    key: int


class Grove(Workflow):
    """Does what a plan says: each job fails, sleeps, asks, streams and sends as often as it is told."""

    @step
    async def plant(self, ctx: Context, ev: StartEvent) -> Job:
        await ctx.store.set("size", ev.get("size"))
        return Job(plan=ev.get("plan"))

    @step(num_workers=3, retry_policy=retry_policy(wait=wait_fixed(2), stop=stop_after_attempt(3)))
    async def grow(self, ctx: Context, ev: Job) -> Job | Fork | Left | Right | Doom | Finished:
        plan = ev.plan
        await asyncio.sleep(plan["nap"])
        _stream(ctx, plan["streams"])
        if ctx.retry_info().retry_number == 0:
            self._send(ctx, plan)
        if ctx.retry_info().retry_number < plan["fails"]:
            raise ConnectionError(f"job {plan['key']}")
        if plan["asks"]:
            await self._ask(ctx, plan)
        if plan["child"] is not None:
            await self._start_child(plan["child"])
        if plan["returns"] is None:
            return Finished()
        ctx.send_event(Finished())
        return Job(plan=plan["returns"])

    def _send(self, ctx: Context, plan: Plan) -> None:
        for child in plan["sends"]:
            ctx.send_event(Job(plan=child))
        for leaves in plan["forks"]:
            ctx.send_event(Fork(leaves=leaves))
        for _ in range(plan["pairs"]):
            ctx.send_event(Right())
            ctx.send_event(Left())
        for _ in range(plan["strays"]):
            ctx.send_event(Stray())
        if plan["doomed"]:
            ctx.send_event(Doom())

    async def _ask(self, ctx: Context, plan: Plan) -> None:
        key = plan["key"]
        try:
            await ctx.wait_for_event(
                Reply,
                waiter_event=Ask(key=key, exec_id=_current_call()),
                waiter_id=f"ask {key}",
                requirements={"key": key},
                timeout=20,
            )
        except TimeoutError:
            _stream(ctx, 1)

    async def _start_child(self, plan: Plan) -> None:
        handler = Grove(timeout=None, runtime=self.runtime).run(plan=plan, size=_size(plan))
        with suppress(RuntimeError):  # doomed
            await _watched(handler, Random(plan["key"]))

    @catch_error(for_steps=["grow"])
    async def mend(self, ev: StepFailedEvent) -> Finished:
        return Finished()

    @step
    async def fork(self, ev: Fork) -> list[Leaf]:
        return [Leaf(n=n) for n in range(ev.leaves)]

    @step(num_workers=2)
    async def pick(self, ev: Leaf) -> Picked:
        await asyncio.sleep(ev.n % 3)
        return Picked(n=ev.n)

    @step
    async def gather(self, evs: list[Picked]) -> Finished:
        return Finished()

    @step
    async def pair(self, left: Left, right: Right) -> Finished:
        return Finished()

    @step
    async def doom(self, ev: Doom) -> StopEvent:
        raise RuntimeError("doomed")

    @step
    async def count(self, ctx: Context, ev: Finished) -> StopEvent | None:
        finished = ctx.collect_events(ev, [Finished] * await ctx.store.get("size"))
        return None if finished is None else StopEvent(result=len(finished))


class Desk(Workflow):
    """Asks a person by returning the question: the idle run itself waits."""

    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask(key=ev.get("key"), exec_id=_current_call())

    @step
    async def answer(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.key)


def _stream(ctx: Context, events: int) -> None:
    for _ in range(events):
        ctx.write_event_to_stream(Progress(exec_id=_current_call()))


def _current_call() -> str:
    scope = current_attempt.get()
    assert scope is not None, "a step is running"
    return scope.exec_id


@dataclass
class Seen:
    """What was seen from outside.

    Attributes:
        streamed: Events on a run's stream, by run and by the call that streamed them.
        endings: How many runs gave a result, or raised what.
        requests: How many spans the application made itself.
    """

    streamed: dict[str, Counter[str]] = field(default_factory=dict[str, "Counter[str]"])
    endings: Counter[str] = field(default_factory=Counter[str])
    requests: int = 0


seen = Seen()


async def _watched(handler: WorkflowHandler, random: Random) -> object:
    """Read a run's stream and answer most of its questions, each from a request of its own."""
    streamed = seen.streamed.setdefault(handler.run_id, Counter())
    answers: list[asyncio.Task[None]] = []
    async for event in handler.stream_events():
        if isinstance(event, Progress | Ask):
            streamed[event.exec_id] += 1
        if isinstance(event, Ask) and random.random() < 0.8:
            answers.append(asyncio.create_task(_reply(handler, event.key, random.randint(0, 5))))
    await asyncio.gather(*answers)
    return await handler


async def _reply(handler: WorkflowHandler, key: int, after: float) -> None:
    await asyncio.sleep(after)
    with _request("reply"):
        if not handler.is_done():
            handler.ctx.send_event(Reply(key=key))


@contextmanager
def _request(name: str) -> Iterator[None]:
    """A span of the application, as a server has one for each request."""
    seen.requests += 1
    with trace.get_tracer("application").start_as_current_span(name):
        yield


async def workload(runs: int, seed: int, runtime: BasicRuntime) -> Seen:
    """Let so many random runs live at once; returns what was seen of them."""
    seen.streamed.clear()
    seen.endings.clear()
    seen.requests = 0
    await asyncio.gather(*(_one(Random(f"{seed}:{number}"), runtime) for number in range(runs)))
    return seen


async def _one(random: Random, runtime: BasicRuntime) -> None:
    await asyncio.sleep(random.randint(0, 10))
    with _request("start"):
        if random.random() < 0.1:
            handler = Desk(timeout=30, runtime=runtime).run(key=random.randint(0, 9))
        else:
            plan = _plan(random)
            timeout = random.randint(1, 12) if random.random() < 0.15 else None
            handler = Grove(timeout=timeout, runtime=runtime).run(plan=plan, size=_size(plan))
    canceller = None
    if random.random() < 0.15:
        canceller = asyncio.create_task(_cancel(handler, random.randint(0, 6)))
    try:
        await _watched(handler, random)
        seen.endings["completed"] += 1
    except EXPECTED as error:
        seen.endings[type(error).__name__] += 1
    if canceller is not None:
        await canceller


async def _cancel(handler: WorkflowHandler, after: float) -> None:
    await asyncio.sleep(after)
    await handler.cancel_run()


def _plan(random: Random, depth: int = 0) -> Plan:
    more = depth < 2
    return {
        "key": random.randint(0, 1 << 30),
        "nap": random.randint(0, 3),
        "fails": random.choice([0, 0, 0, 1, 2, 3]),
        "asks": random.random() < 0.2,
        "streams": random.choice([0, 0, 1, 5, 30]),
        "strays": random.choice([0, 0, 0, 0, 2]),
        "forks": [random.randint(0, 5) for _ in range(random.choice([0, 0, 0, 1]))],
        "pairs": random.choice([0, 0, 0, 1, 2]),
        "doomed": random.random() < 0.02,
        "sends": [_plan(random, depth + 1) for _ in range(random.randint(0, 3) if more else 0)],
        "returns": _plan(random, depth + 1) if more and random.random() < 0.4 else None,
        "child": _plan(random, 2) if more and random.random() < 0.15 else None,
    }


def _size(plan: Plan) -> int:
    """How many `Finished` the jobs of a plan come to; a job that fails too often finishes without its last part."""
    own = 1 + len(plan["forks"]) + plan["pairs"] + sum(_size(child) for child in plan["sends"])
    returned = plan["returns"] if plan["fails"] < 3 else None
    return own + (_size(returned) if returned is not None else 0)
