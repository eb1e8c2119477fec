"""Runs that are open for long: in MLflow's list while they run, and cut into linked traces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import mlflow
import pytest
from cachetools import TTLCache
from mlflow.entities import Trace, TraceState
from mlflow.tracing import context as tracing_context
from mlflow.tracing.trace_manager import InMemoryTraceManager

import mlflow_flavor
from mlflow_flavor import _live
from tests.mlflow_flavor.agents import Answer, Ask, Flaky, Hang, Inquire, Plan
from tests.mlflow_flavor.trees import lines, span_named
from tests.mlflow_flavor.versions import needs_links
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.instrumentation import context
from workflows.retry_policy import retry_policy, stop_after_attempt
from workflows.testing import VirtualClockLoop

Stored = Callable[[], list[Trace]]


class Slow(Workflow):
    """Two steps of ten seconds each."""

    @step
    async def first(self, ev: Ask) -> Plan:
        await asyncio.sleep(10)
        return Plan(text=ev.question)

    @step
    async def second(self, ev: Plan) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent(result=ev.text)


def published() -> None:
    """Wait until everything that was to be shown is stored."""
    _live.publisher.submit(lambda: None).result()


@pytest.mark.usefixtures("clock")
async def test_an_open_run_stands_in_the_list(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=2)
    with context(session_id="s-1"):
        handler = Hang(timeout=None).run(question="why")
    await asyncio.sleep(1)
    assert traces() == []
    await asyncio.sleep(2)
    published()
    info = traces()[0].info
    assert (info.state, info.request_preview, info.tags["workflow"]) == (TraceState.IN_PROGRESS, "why", "Hang")
    assert info.tags["mlflow.traceName"] == "Hang.run"
    assert info.trace_metadata["mlflow.trace.session"] == "s-1"
    await handler.cancel_run()


class Order(StartEvent):
    item: str
    number: int


class Packs(Workflow):
    @step
    async def pack(self, ev: Order) -> StopEvent:
        await asyncio.sleep(9)
        return StopEvent()


@pytest.mark.usefixtures("clock")
async def test_an_open_run_shows_its_input_as_it_will_when_it_is_over(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=2)
    handler = Packs().run(item="cup", number=2)
    await asyncio.sleep(3)
    published()
    (open_run,) = traces()
    await handler
    (over,) = traces()
    assert [t.info.request_preview for t in (open_run, over)] == ['{"item":"cup","number":2}'] * 2


@pytest.mark.usefixtures("clock")
async def test_a_run_that_was_shown_early_ends_like_any_other(trace: Callable[[], Trace]):
    mlflow_flavor.autolog(publish_after_seconds=2)
    assert await Slow().run(question="x") == "x"
    published()
    assert lines(trace()) == [
        "Slow.run WORKFLOW OK",
        "  workflow.started TASK OK",
        "  first TASK OK",
        "  second TASK OK",
    ]
    info = trace().info
    assert (info.state, info.response_preview, info.execution_duration) == (TraceState.OK, "x", 20_000)


async def test_a_short_run_is_not_shown_early(trace: Callable[[], Trace]):
    mlflow_flavor.autolog(publish_after_seconds=2)
    await Answer().run(question="x")
    assert "workflow.started" not in str(lines(trace()))


@pytest.mark.usefixtures("clock")
async def test_a_store_that_cannot_show_open_runs_does_not_hurt_them(traces: Stored, monkeypatch: pytest.MonkeyPatch):
    mlflow_flavor.autolog(publish_after_seconds=2)
    monkeypatch.setattr(_live.OpenTrace, "store_as_it_was", lambda self: 1 / 0)
    assert await Slow().run(question="x") == "x"
    published()
    assert [t.info.state for t in traces()] == [TraceState.OK]


@pytest.mark.usefixtures("clock")
async def test_a_run_that_is_over_is_not_shown_as_open_however_often_it_was_cut(
    traces: Stored, capfd: pytest.CaptureFixture[str]
):
    mlflow_flavor.autolog(publish_after_seconds=30, max_open_seconds=5)
    assert await Slow().run(question="x") == "x"
    await asyncio.sleep(60)
    assert (len(traces()), capfd.readouterr().err) == (2, "")  # MLflow warns of a span in a trace that has ended


@needs_links
@pytest.mark.usefixtures("clock")
async def test_a_long_run_goes_on_in_a_new_trace_between_two_attempts(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    with tracing_context(metadata={"mlflow.trace.user": "u-1"}), context(session_id="s-1"):
        handler = Slow().run(question="why")
    assert await handler == "why"
    first, second = traces()
    assert lines(first) == ["Slow.run WORKFLOW OK", "  first TASK OK"]
    assert lines(second) == ["Slow.run WORKFLOW OK", "  second TASK OK"]
    assert [t.info.tags["outcome"] for t in (first, second)] == ["suspended", "completed"]
    for name, value in (("mlflow.trace.session", "s-1"), ("mlflow.trace.user", "u-1")):
        assert [t.info.trace_metadata[name] for t in (first, second)] == [value, value]
    assert (second.info.request_preview, second.info.response_preview) == ("why", "why")
    (link,) = span_named(second, "Slow.run").links
    assert (link.trace_id, link.attributes) == (first.info.trace_id, {"workflow.link.type": "resumed_from"})
    assert mlflow_flavor.trace_id(handler) == second.info.trace_id


@pytest.mark.usefixtures("clock")
async def test_a_long_backoff_is_cut(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    assert await Flaky(failures=1).run(question="x") == "fetched"
    first, second = traces()
    assert lines(first)[:2] == ["Flaky.run WORKFLOW OK", "  fetch TASK OK"]
    assert lines(second) == ["Flaky.run WORKFLOW OK", "  fetch TASK OK", "    attempt fetch TASK OK"]
    assert span_named(first, "fetch").attributes["workflow.step.outcome"] == "suspended"


@needs_links
@pytest.mark.usefixtures("clock")
async def test_a_step_that_waits_long_for_a_person_goes_on_in_a_new_trace(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = Inquire(timeout=None).run(question="deploy")
    await asyncio.sleep(1500)
    handler.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]
    assert await handler == "yes"
    first, second = traces()
    assert lines(first) == ["Inquire.run WORKFLOW OK", "  ask TASK OK"]
    assert lines(second) == ["Inquire.run WORKFLOW OK", "  ask TASK OK", "    wait_for_event TASK OK"]
    assert span_named(second, "wait_for_event").attributes["workflow.wait.duration_s"] >= 1500
    assert [link.trace_id for link in span_named(second, "ask").links][-1] == first.info.trace_id
    assert first.info.execution_duration == 5000


class Acts(Workflow):
    """Calls tools and a child workflow before and after an answer, with retries or without."""

    async def act(self, ctx: Context) -> str:
        await tool("before")
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        await tool("after")
        with mlflow.start_span("own") as span:
            await Answer().run(question="below")
        current = mlflow.get_current_active_span()
        assert current is not None
        current.set_attribute("said", "on the step")
        return span.span_id


class ActsOnce(Acts):
    @step
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        return StopEvent(result=await self.act(ctx))


class ActsWithRetries(Acts):
    @step(retry_policy=retry_policy(stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        return StopEvent(result=await self.act(ctx))


@mlflow.trace
async def tool(text: str) -> str:
    return text


@pytest.mark.parametrize("workflow", [ActsOnce, ActsWithRetries])
@pytest.mark.usefixtures("clock")
async def test_what_a_step_does_after_a_late_answer_is_below_it(traces: Stored, workflow: type[Acts]):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = workflow(timeout=None).run(question="deploy")
    await asyncio.sleep(1500)
    handler.ctx.send_event(HumanResponseEvent())
    await handler
    first, second = traces()
    retried = workflow is ActsWithRetries
    above = ["  ask TASK OK", "    attempt ask TASK OK"] if retried else ["  ask TASK OK"]
    deeper = "      " if retried else "    "
    assert lines(first) == [f"{workflow.__name__}.run WORKFLOW OK", *above, f"{deeper}tool UNKNOWN OK"]
    assert lines(second) == [
        f"{workflow.__name__}.run WORKFLOW OK",
        *above,
        f"{deeper}wait_for_event TASK OK",
        f"{deeper}tool UNKNOWN OK",
        f"{deeper}own UNKNOWN OK",
        f"{deeper}  Answer.run WORKFLOW OK",
        f"{deeper}    plan TASK OK",
        f"{deeper}    answer TASK OK",
    ]
    assert span_named(second, "attempt ask" if retried else "ask").attributes["said"] == "on the step"


class Beside(Workflow):
    """Asks, and works for twelve seconds meanwhile."""

    @step
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        await asyncio.gather(ctx.wait_for_event(HumanResponseEvent, timeout=None), self.work())
        await tool("after")
        return StopEvent()

    async def work(self) -> None:
        for number in range(4):
            await asyncio.sleep(3)
            await tool(str(number))


@pytest.mark.parametrize("answered_after", [8, 40])
@pytest.mark.usefixtures("clock")
async def test_a_step_that_works_beside_its_wait_is_not_cut(traces: Stored, answered_after: int):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = Beside(timeout=None).run(question="deploy")
    await asyncio.sleep(answered_after)
    handler.ctx.send_event(HumanResponseEvent())
    await handler
    tools = [[s.inputs["text"] for s in t.data.spans if s.name == "tool"] for t in traces()]
    assert tools == ([["0", "1", "2", "3"], ["after"]] if answered_after > 12 else [["0", "1", "2", "3", "after"]])


class Reminds(Workflow):
    """Asks, and reminds every four seconds."""

    @step
    async def ask(self, ctx: Context, ev: Ask) -> StopEvent:
        answer = asyncio.ensure_future(ctx.wait_for_event(HumanResponseEvent, timeout=None))
        number = 0
        while not answer.done():
            await asyncio.wait({answer}, timeout=4)
            if ev.question == "tasks":
                await tool(str(number))
            else:
                await asyncio.to_thread(in_thread, str(number))
            number += 1
        return StopEvent()


@mlflow.trace(name="tool")
def in_thread(text: str) -> str:
    return text


@pytest.mark.parametrize("how", ["tasks", "threads"])
@pytest.mark.usefixtures("clock")
async def test_what_a_step_does_while_it_waits_is_in_a_trace(traces: Stored, how: str):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = Reminds(timeout=None).run(question=how)
    await asyncio.sleep(30)
    handler.ctx.send_event(HumanResponseEvent())
    await handler
    found = traces()
    tools = [s.inputs["text"] for t in found for s in t.data.spans if s.name == "tool"]
    assert tools == [str(number) for number in range(8)]
    assert len(found) > 2
    assert all(t.info.state == TraceState.OK for t in found)


class Leaves(Workflow):
    """Its first step leaves a task behind, which goes on while the second one waits."""

    @step
    async def begin(self, ev: Ask) -> Plan:
        self.beats = asyncio.ensure_future(self.beat())
        return Plan(text="")

    @step
    async def ask(self, ctx: Context, ev: Plan) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        self.beats.cancel()
        return StopEvent()

    async def beat(self) -> None:
        for number in range(100):
            await asyncio.sleep(4)
            await tool(str(number))


@pytest.mark.usefixtures("clock")
async def test_what_a_task_does_that_a_step_left_behind_is_in_a_trace(traces: Stored):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = Leaves(timeout=None).run(question="deploy")
    await asyncio.sleep(30)
    handler.ctx.send_event(HumanResponseEvent())
    await handler
    found = traces()
    assert [s.inputs["text"] for t in found for s in t.data.spans if s.name == "tool"] == [str(n) for n in range(7)]
    assert len(found) > 2


class Around(Workflow):
    """Waits within a span of its own."""

    @step
    async def ask(self, ctx: Context, ev: Ask) -> Plan:
        with mlflow.start_span("approval"):
            await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return Plan(text="")

    @step
    async def work(self, ev: Plan) -> StopEvent:
        return StopEvent()


@pytest.mark.usefixtures("forgetful")
async def test_a_span_of_its_own_around_a_wait_is_not_lost_however_long_that_takes(traces: Stored):
    handler = Around(timeout=None).run(question="deploy")
    await asyncio.sleep(36_000)
    handler.ctx.send_event(HumanResponseEvent())
    await handler
    names = [sorted(span.name for span in trace.data.spans) for trace in traces()]
    assert names == [["Around.run", "approval", "ask", "wait_for_event"], ["Around.run", "work"]]


@pytest.mark.usefixtures("clock")
async def test_a_run_in_somebody_elses_trace_is_not_cut(traces: Stored, clock: VirtualClockLoop):
    mlflow_flavor.autolog(publish_after_seconds=2, max_open_seconds=5)
    with mlflow.start_span("request"):
        await Slow().run(question="x")
    assert [lines(t)[:2] for t in traces()] == [["request UNKNOWN OK", "  Slow.run WORKFLOW OK"]]


@pytest.fixture
def forgetful(clock: VirtualClockLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow forgets open traces after an hour of the tests' clock."""
    buffer = TTLCache(maxsize=1000, ttl=3600, timer=clock.time)
    monkeypatch.setattr(InMemoryTraceManager.get_instance(), "_traces", buffer)


class Long(Workflow):
    """Two steps of five hours each."""

    @step
    async def first(self, ev: Ask) -> Plan:
        await asyncio.sleep(18_000)
        return Plan(text=ev.question)

    @step
    async def second(self, ev: Plan) -> StopEvent:
        await asyncio.sleep(18_000)
        return StopEvent(result=ev.text)


@pytest.mark.usefixtures("forgetful")
async def test_an_attempt_may_take_longer_than_mlflow_remembers_a_trace(traces: Stored):
    with context(session_id="s-1"):
        assert await Long(timeout=None).run(question="why") == "why"
    assert [lines(t) for t in traces()] == [
        ["Long.run WORKFLOW OK", "  first TASK OK"],
        ["Long.run WORKFLOW OK", "  second TASK OK"],
    ]
    assert [t.info.tags["workflow"] for t in traces()] == ["Long"] * 2
    assert [t.info.trace_metadata["mlflow.trace.session"] for t in traces()] == ["s-1"] * 2


@pytest.mark.usefixtures("forgetful")
async def test_a_run_in_somebody_elses_trace_may_take_long_as_well(traces: Stored):
    with mlflow.start_span("request"):
        assert await Long(timeout=None).run(question="why") == "why"
    assert [lines(t) for t in traces()] == [
        ["request UNKNOWN OK", "  Long.run WORKFLOW OK", "    first TASK OK", "    second TASK OK"]
    ]


@pytest.mark.usefixtures("clock")
async def test_a_long_run_stays_in_its_experiment(traces: Stored, experiment: str):
    mlflow_flavor.autolog(publish_after_seconds=None, max_open_seconds=5)
    handler = Slow().run(question="why")
    mlflow.set_experiment("another, which somebody made active meanwhile")
    assert await handler == "why"
    assert [t.info.experiment_id for t in traces()] == [experiment] * 2
