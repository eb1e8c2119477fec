"""What the bridge tells a handler of `llama_index_instrumentation` about runs of every outcome."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import llama_index_instrumentation
import pytest
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.span import active_span_id

from tests.compat_llama_index.inside.call_log import CallLog, logged, name_of
from tests.compat_llama_index.inside.jokes import Joke, Jokes, evening
from tests.compat_llama_index.inside.tracers import Back, llama_index_otel, openinference
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop

ROOT = llama_index_instrumentation.root_dispatcher


class Laugh(Event):
    pass


class Flaky(Workflow):
    """Fails on its first attempt."""

    attempts = 0

    @step(retry_policy=retry_policy(wait=wait_fixed(30), stop=stop_after_attempt(2)))
    async def fetch(self, ev: StartEvent) -> StopEvent:
        self.attempts += 1
        if self.attempts == 1:
            raise ConnectionError("no line")
        return StopEvent(result="fetched")


class Broken(Workflow):
    @step
    async def bad(self, ev: StartEvent) -> StopEvent:
        raise ValueError("broken")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")


class BreaksOddly(Workflow):
    @step
    async def bad(self, ev: StartEvent) -> StopEvent:
        raise Unprintable


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Sure?"))
        return StopEvent(result=answer.response)


class Endless(Workflow):
    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await asyncio.Event().wait()
        return StopEvent()


class Parent(Workflow):
    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Jokes().run(topic="children"))


class Threaded(Workflow):
    @step
    def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=name_of(active_span_id.get()))


class Each(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Joke | Laugh | None:
        ctx.send_event(Joke(text="one"))
        ctx.send_event(Laugh())
        return None

    @step
    async def join(self, joke: Joke, laugh: Laugh) -> StopEvent:
        return StopEvent()


class Gathers(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Joke]:
        return [Joke(text="one"), Joke(text="two")]

    @step
    async def join(self, jokes: list[Joke]) -> StopEvent:
        return StopEvent()


class Sends(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Joke | None:
        ctx.send_event(Joke(text="one"))
        ctx.send_event(Joke(text="two"))
        return None

    @step
    async def join(self, ev: Joke) -> StopEvent | None:
        return StopEvent() if ev.text == "two" else None


async def test_a_run_is_told_as_spans_and_events_in_the_order_of_today() -> None:
    with logged() as log:
        await Jokes().run(topic="pirates")
    ours = [line for line in log.lines if "MockLLM" not in line and "event LLM" not in line]
    assert ours == [
        "enter Jokes.run",
        "enter Jokes.write < Jokes.run",
        "event step.output in Jokes.write: {'output': \"Joke(text='pirates')\"}",
        "exit Jokes.write: Joke(text='pirates')",
        "enter Jokes.judge < Jokes.run",
        "enter rate < Jokes.judge",
        "exit rate: 7",
        "event step.output in Jokes.judge: {'output': 'StopEvent(result=7)'}",
        "exit Jokes.judge: StopEvent(result=7)",
        "event workflow.output in Jokes.run: {'output': 'StopEvent(result=7)'}",
        "exit Jokes.run: StopEvent(result=7)",
    ]


async def test_a_span_gets_the_events_alone_as_its_arguments() -> None:
    workflow = Jokes()
    with logged() as log:
        await workflow.run(topic="pirates")
    run, judge = log.entered("Jokes.run"), log.entered("Jokes.judge")
    assert (run["arguments"], run["instance"]) == ({"start_event": StartEvent(topic="pirates")}, workflow)
    assert (judge["arguments"], judge["instance"]) == ({"joke": Joke(text="pirates")}, None)


async def test_the_tags_of_run_and_step_and_user_come_with_the_spans() -> None:
    with logged() as log, instrument_tags({"customer": "Ada"}):
        handler = Jokes().run(topic="pirates")
        await handler
    of_run = {"customer": "Ada", "llamaindex.run_id": handler.run_id}
    assert log.entered("Jokes.run")["tags"] == {**of_run, "llamaindex.start_event": "StartEvent"}
    assert log.entered("Jokes.judge")["tags"] == log.entered("rate")["tags"]
    assert log.entered("Jokes.judge")["tags"] == {
        **of_run,
        "llamaindex.step.input_event": "Joke",
        "llamaindex.step.input_summary": "Joke(text='pirates')",
    }


async def test_tags_of_a_run_do_not_leak_to_its_caller_or_to_another_span() -> None:
    with logged() as log:
        await Jokes().run(topic="pirates")
        log.entered("Jokes.write")["tags"]["mine"] = 1
    assert (active_instrument_tags.get(), active_span_id.get()) == ({}, None)
    assert "mine" not in log.entered("Jokes.judge")["tags"]


async def test_a_summary_is_short_and_masks_secrets() -> None:
    with logged() as log:
        await Jokes().run(topic="x" * 1000, password="hunter2")
    summary = log.entered("Jokes.write")["tags"]["llamaindex.step.input_summary"]
    assert len(summary) <= 200
    assert "hunter2" not in summary


async def test_every_failed_attempt_is_dropped_and_the_last_one_exits(clock: VirtualClockLoop) -> None:
    with logged() as log:
        await Flaky().run()
    assert log.lines == [
        "enter Flaky.run",
        "enter Flaky.fetch < Flaky.run",
        "event SpanDropEvent in Flaky.fetch: {'err_str': 'no line'}",
        "drop Flaky.fetch: ConnectionError('no line')",
        "enter Flaky.fetch < Flaky.run",
        "event step.output in Flaky.fetch: {'output': \"StopEvent(result='fetched')\"}",
        "exit Flaky.fetch: StopEvent(result='fetched')",
        "event workflow.output in Flaky.run: {'output': \"StopEvent(result='fetched')\"}",
        "exit Flaky.run: StopEvent(result='fetched')",
    ]


async def test_a_failed_run_is_dropped_with_its_error() -> None:
    with logged() as log, pytest.raises(ValueError, match="broken"):
        await Broken().run()
    assert log.lines[2:] == [
        "event SpanDropEvent in Broken.bad: {'err_str': 'broken'}",
        "drop Broken.bad: ValueError('broken')",
        "event SpanDropEvent in Broken.run: {'err_str': 'broken'}",
        "drop Broken.run: ValueError('broken')",
    ]


async def test_a_step_that_waits_is_one_span_until_it_has_its_answer() -> None:
    with logged() as log:
        handler = Asks().run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                assert log.spans() == ["enter Asks.run", "enter Asks.ask < Asks.run"]
                handler.ctx.send_event(HumanResponseEvent(response="yes"))
        await handler
    assert log.spans()[2:] == ["exit Asks.ask: StopEvent(result='yes')", "exit Asks.run: StopEvent(result='yes')"]


async def test_a_suspended_run_exits_and_its_next_segment_enters_again() -> None:
    workflow = Asks()
    with logged() as log:
        handler = workflow.run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
        saved = await handler.suspend()
        resumed = workflow.run(ctx=Context.from_dict(workflow, saved))
        resumed.ctx.send_event(HumanResponseEvent(response="yes"))
        await resumed
    assert log.spans() == [
        "enter Asks.run",
        "enter Asks.ask < Asks.run",
        "exit Asks.ask: None",
        "exit Asks.run: None",
        "enter Asks.run",
        "enter Asks.ask < Asks.run",
        "exit Asks.ask: StopEvent(result='yes')",
        "exit Asks.run: StopEvent(result='yes')",
    ]


@pytest.mark.usefixtures("no_provider")
async def test_a_resumed_run_goes_on_in_the_trace_of_a_handler_that_knows_how() -> None:
    workflow = Asks()
    with llama_index_otel() as theirs:
        handler = workflow.run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
        saved = json.loads(json.dumps(await handler.suspend()))
        resumed = workflow.run(ctx=Context.from_dict(workflow, saved))
        resumed.ctx.send_event(HumanResponseEvent(response="yes"))
        await resumed
    assert theirs.tree() == ["Asks.run", "  Asks.ask", "  Asks.run", "    Asks.ask"]


async def test_a_resumed_run_has_the_tags_of_its_first_segment() -> None:
    workflow = Asks()
    with logged() as log:
        with instrument_tags({"customer": "Ada"}):
            handler = workflow.run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
        saved = json.loads(json.dumps(await handler.suspend()))
        resumed = workflow.run(ctx=Context.from_dict(workflow, saved))
        resumed.ctx.send_event(HumanResponseEvent(response="yes"))
        await resumed
    assert log.entered("Asks.ask")["tags"]["customer"] == "Ada"


async def test_a_cancelled_run_exits_and_says_why() -> None:
    with logged() as log:
        handler = Endless().run()
        await asyncio.sleep(0)
        await handler.cancel_run()
        with pytest.raises(WorkflowCancelledByUser):
            await handler
    assert log.lines[2:] == [
        "event SpanCancelledEvent in Endless.wait: {'reason': 'step cancelled'}",
        "exit Endless.wait: None",
        "event SpanCancelledEvent in Endless.run: {'reason': 'workflow cancelled by user'}",
        "exit Endless.run: None",
    ]


async def test_a_run_that_times_out_is_dropped(clock: VirtualClockLoop) -> None:
    with logged() as log, pytest.raises(WorkflowTimeoutError):
        await Endless(timeout=5).run()
    assert log.spans()[2] == "exit Endless.wait: None"
    assert log.spans()[3].startswith("drop Endless.run: WorkflowTimeoutError(")


async def test_a_child_run_is_below_the_step_that_started_it() -> None:
    with logged() as log:
        await Parent().run()
    assert log.spans()[:3] == ["enter Parent.run", "enter Parent.call < Parent.run", "enter Jokes.run < Parent.call"]


async def test_a_run_inside_a_span_of_user_code_is_below_it() -> None:
    with logged() as log:
        await evening()
    assert log.spans()[:2] == ["enter evening", "enter Jokes.run < evening"]


async def test_a_sync_step_is_in_its_span_in_its_thread_too() -> None:
    with logged():
        assert await Threaded().run() == "Threaded.work"


async def test_events_that_a_step_sends_are_its_result() -> None:
    with logged() as log:
        await Sends().run()
    assert "exit Sends.split: [Joke(text='one'), Joke(text='two')]" in log.lines


async def test_a_join_gets_its_events_by_the_names_of_its_parameters() -> None:
    with logged() as log:
        await Each().run()
        await Gathers().run()
    assert log.entered("Each.join")["arguments"] == {"joke": Joke(text="one"), "laugh": Laugh()}
    assert log.entered("Gathers.join")["arguments"] == {"jokes": [Joke(text="one"), Joke(text="two")]}


async def test_runs_at_the_same_time_keep_apart() -> None:
    back = Back()
    with openinference(back):
        await asyncio.gather(*(Gathers().run() for _ in range(20)))
    assert back.traces() == 20
    assert back.tree() == ["Gathers.run", "  Gathers.split", "  Gathers.join"] * 20


@pytest.mark.parametrize(
    "workflow", [Broken(), BreaksOddly(), Endless(timeout=5), Flaky()], ids=lambda w: type(w).__name__
)
async def test_nothing_stays_open_when_a_run_is_over(workflow: Workflow, clock: VirtualClockLoop) -> None:
    with logged() as log:
        await asyncio.gather(workflow.run(), return_exceptions=True)
    assert log.open_spans == {}


async def test_a_handler_that_raises_hurts_neither_the_run_nor_other_handlers(
    records: RecordLog, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(CallLog):
        def span_enter(self, *arguments: Any, **named: Any) -> None:
            raise KeyError("mine")

    first = Raises()
    ROOT.span_handlers.insert(0, first)
    try:
        with logged() as log:
            assert await Jokes().run(topic="pirates") == 7
    finally:
        ROOT.span_handlers.remove(first)
    assert "exit Jokes.run: StopEvent(result=7)" in log.lines
    assert len([r for r in caplog.records if "Raises of llama_index_instrumentation failed" in r.getMessage()]) == 1


async def test_a_handler_that_goes_while_a_run_is_open_still_ends_its_spans() -> None:
    back = Back()
    with openinference(back):
        handler = Asks().run()
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                break
    handler.ctx.send_event(HumanResponseEvent(response="yes"))
    await handler
    assert back.tree() == ["Asks.run", "  Asks.ask"]


async def test_without_a_handler_there_is_no_bridge() -> None:
    workflow = Jokes()
    with logged():
        await workflow.run(topic="pirates")
    await workflow.run(topic="pirates")
    assert "llama_index" not in [told.handler.name for told in workflow._dispatcher.handlers]
    assert [type(h).__name__ for h in (*ROOT.span_handlers, *ROOT.event_handlers)] == [
        "NullSpanHandler",
        "NullEventHandler",
    ]


async def test_a_handler_that_comes_later_sees_the_next_run() -> None:
    workflow = Jokes()
    await workflow.run(topic="pirates")
    with logged() as log:
        await workflow.run(topic="pirates")
    assert log.lines[0] == "enter Jokes.run"
