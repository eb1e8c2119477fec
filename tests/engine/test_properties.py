"""Random trees of events, failures, waits and cancels: nothing is lost, nothing runs twice, the ticks tell it all."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.tick_log import TickLog
from workflows import Context, Workflow, step
from workflows._engine.snapshot import dump_run
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.records import RunEnded, StepEnded, StepStarted
from workflows.retry_policy import retry_policy, stop_never, wait_none
from workflows.testing import VirtualClockLoop, recording

pytestmark = pytest.mark.slow


class Node(Event):
    """One piece of work: fails so often, sleeps so long, asks or not, and has children."""

    key: int
    fails: int
    sleep: int
    asks: bool
    sends: list[dict[str, Any]]
    returns: dict[str, Any] | None


class Finished(Event):
    key: int


class Ask(InputRequiredEvent):
    key: int


class Reply(HumanResponseEvent):
    key: int


class Tree(Workflow):
    @step
    async def plant(self, ctx: Context, ev: StartEvent) -> Node:
        await ctx.store.set("size", ev.size)
        return Node(**ev.root)

    @step(num_workers=2, retry_policy=retry_policy(wait=wait_none(), stop=stop_never()))
    async def grow(self, ctx: Context, ev: Node) -> Node | Finished | None:
        if ctx.retry_info().retry_number < ev.fails:
            raise ValueError(f"node {ev.key}")
        await asyncio.sleep(ev.sleep)
        if ev.asks:
            await ctx.wait_for_event(Reply, waiter_event=Ask(key=ev.key), requirements={"key": ev.key})
        for child in ev.sends:
            ctx.send_event(Node(**child))
        ctx.send_event(Finished(key=ev.key))
        return Node(**ev.returns) if ev.returns else None

    @step
    async def count(self, ctx: Context, ev: Finished) -> StopEvent | None:
        found = ctx.collect_events(ev, [Finished] * await ctx.store.get("size"))
        return StopEvent(result=[f.key for f in found]) if found else None


def _node(sends: Any, returns: Any) -> Any:
    return st.fixed_dictionaries(
        {
            "fails": st.integers(0, 2),
            "sleep": st.integers(0, 3),
            "asks": st.booleans(),
            "sends": sends,
            "returns": returns,
        }
    )


LEAF = _node(st.just([]), st.none())
TREES = st.recursive(LEAF, lambda tree: _node(st.lists(tree, max_size=3), st.none() | tree), max_leaves=12)


def _numbered(tree: dict[str, Any], keys: list[int]) -> dict[str, Any]:
    keys.append(len(keys))
    key = keys[-1]
    return {
        **tree,
        "key": key,
        "sends": [_numbered(child, keys) for child in tree["sends"]],
        "returns": _numbered(tree["returns"], keys) if tree["returns"] else None,
    }


def _run(main: Any) -> Any:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


async def _answer(handler: Any) -> None:
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            handler.ctx.send_event(Reply(key=event.key))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES)
def test_every_event_is_handled_exactly_once(tree: dict[str, Any]) -> None:
    keys: list[int] = []
    root = _numbered(tree, keys)

    async def main() -> list[int]:
        handler = Tree(timeout=None).run(root=root, size=len(keys))
        await _answer(handler)
        result = await handler
        assert len(asyncio.all_tasks()) == 1
        return result

    with recording() as records:
        assert sorted(_run(main())) == keys
    started = Counter((r.exec_id, r.attempt) for r in records.of(StepStarted))
    ended = Counter((r.exec_id, r.attempt) for r in records.of(StepEnded))
    assert started == ended
    assert set(started.values()) == {1}
    assert isinstance(records.records[-1], RunEnded)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.integers(0, 12))
def test_folding_the_ticks_gives_the_live_state(tree: dict[str, Any], cancel_at: int) -> None:
    keys: list[int] = []
    root = _numbered(tree, keys)
    runtime = TickLog()

    async def main() -> None:
        workflow = Tree(timeout=None, runtime=runtime)
        handler = workflow.run(root=root, size=len(keys))
        await asyncio.sleep(cancel_at)
        live = dump_run(runtime.run.state, workflow.serializer)
        assert dump_run(runtime.fold(), workflow.serializer) == live
        await handler.cancel_run()
        assert len(asyncio.all_tasks()) == 1

    with recording() as records:
        _run(main())
    assert Counter((r.exec_id, r.attempt) for r in records.of(StepStarted)) <= Counter(
        (r.exec_id, r.attempt) for r in records.of(StepEnded)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.lists(st.integers(0, 6), max_size=3))
def test_a_run_suspended_anywhere_still_finishes_every_node(tree: dict[str, Any], pauses: list[int]) -> None:
    keys: list[int] = []
    root = _numbered(tree, keys)

    async def main() -> list[int]:
        workflow = Tree(timeout=None)
        handler = workflow.run(root=root, size=len(keys))
        for pause in pauses:
            await asyncio.sleep(pause)
            if handler.is_done():
                break
            snapshot = await handler.suspend()
            handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
        await _answer(handler)
        return await handler

    assert sorted(_run(main())) == keys


async def test_a_cancelled_run_raises_one_error_however_often_it_is_awaited() -> None:
    asks = {"key": 0, "fails": 0, "sleep": 0, "asks": True, "sends": [], "returns": None}
    handler = Tree(timeout=None).run(root=asks, size=1)
    await asyncio.sleep(0)
    await handler.cancel_run()
    for _ in range(2):
        with pytest.raises(WorkflowCancelledByUser):
            await handler
