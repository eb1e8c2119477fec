"""Random bodies that work, wait and start runs side by side: a clock counts the seconds in which something works."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflows import Context, Workflow, step
from workflows.errors import StepTimeoutError, WorkflowTimeoutError
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

Plan = tuple[Any, ...]
SECONDS = st.integers(1, 7)
PLANS: st.SearchStrategy[Plan] = st.recursive(
    st.tuples(st.sampled_from(["work", "wait"]), SECONDS),
    lambda plan: st.one_of(
        st.tuples(st.just("run"), plan),
        st.tuples(
            st.sampled_from(["one by one", "gather", "wait for all", "group"]), st.lists(plan, min_size=1, max_size=4)
        ),
    ),
    max_leaves=8,
)


class Answer(HumanResponseEvent):
    key: int


class Does(Workflow):
    @step
    async def do(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ev.body(ctx)
        return StopEvent()


def _body(plan: Plan, keys: Iterator[int]) -> Callable[[Context], Awaitable[None]]:
    async def body(ctx: Context) -> None:
        await _do(plan, ctx, keys)

    return body


async def _do(plan: Plan, ctx: Context, keys: Iterator[int]) -> None:
    way, what = plan
    if way == "work":
        await asyncio.sleep(what)
    elif way == "wait":
        key = next(keys)
        asyncio.get_running_loop().call_later(what, ctx.send_event, Answer(key=key))
        await ctx.wait_for_event(Answer, requirements={"key": key}, timeout=None)
    elif way == "run":
        await Does(timeout=None).run(body=_body(what, keys))
    elif way == "one by one":
        for part in what:
            await _do(part, ctx, keys)
    elif way == "gather":
        await asyncio.gather(*(_do(part, ctx, keys) for part in what))
    elif way == "wait for all":
        tasks = [asyncio.create_task(_do(part, ctx, keys)) for part in what]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
    else:
        async with asyncio.TaskGroup() as group:
            for part in what:
                group.create_task(_do(part, ctx, keys))


def _working(plan: Plan, begin: int) -> tuple[int, set[int]]:
    """When a plan ends that begins then, and the seconds in which any part of it works."""
    way, what = plan
    if way in ("work", "wait"):
        return begin + what, set(range(begin, begin + what)) if way == "work" else set()
    if way == "run":
        return _working(what, begin)
    end, seconds = begin, set[int]()
    for part in what:
        over, more = _working(part, end if way == "one by one" else begin)
        end, seconds = max(end, over), seconds | more
    return end, seconds


@pytest.mark.parametrize("of_step", [False, True])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS)
def test_a_timeout_counts_the_seconds_in_which_something_works(of_step: bool, plan: Plan) -> None:
    _, working = _working(plan, 0)

    async def in_time(timeout: float) -> bool:
        class InTime(Workflow):
            @step(timeout=timeout if of_step else None)
            async def do(self, ctx: Context, ev: StartEvent) -> StopEvent:
                await _do(plan, ctx, count())
                return StopEvent()

        try:
            await InTime(timeout=None if of_step else timeout, idle_counts=False).run()
        except (WorkflowTimeoutError, StepTimeoutError):
            return False
        return True

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(in_time(len(working) + 0.5))
        if working:
            assert not runner.run(in_time(len(working) - 0.5))
