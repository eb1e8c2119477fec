"""Arguments of public calls that cannot be right are refused where they are given, with the name and the value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import ConstantDelayRetryPolicy


class A(Event):
    n: int = 0


class Echo(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "x"}, "timeout must be more than 0 seconds, got 'x'"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, got 0"),
        ({"num_workers": True}, "num_workers must be a whole number of 1 or more, got True"),
        ({"retry_policy": 5}, "retry_policy must be an object with a method next"),
        ({"retry_policy": ConstantDelayRetryPolicy}, "or make an instance of the class"),
    ],
)
def test_a_wrong_option_of_a_step_is_refused_at_its_definition(options: dict[str, Any], said: str) -> None:
    async def only(self: Any, ev: StartEvent) -> StopEvent: ...

    with pytest.raises(WorkflowValidationError, match=said):
        step(workflow=Echo, **options)(only)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_recoveries": "1"}, "max_recoveries must be a whole number of 1 or more, got '1'"),
        ({"max_recoveries": 1.5}, "got 1.5"),
        ({"max_recoveries": None}, "got None"),
        ({"for_steps": "split"}, r"for_steps must be a list of names, got 'split'. Write for_steps=\['split'\]"),
    ],
)
def test_a_wrong_option_of_an_error_handler_is_refused_at_its_definition(options: dict[str, Any], said: str) -> None:
    async def mend(self: Any, ev: StepFailedEvent) -> StopEvent: ...

    with pytest.raises(WorkflowValidationError, match=said):
        catch_error(**options)(mend)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "x"}, "timeout must be 0 seconds or more, got 'x'"),
        ({"grace": -1}, "grace must be 0 seconds or more, got -1"),
        ({"stream_buffer": 0}, "stream_buffer must be a whole number of 1 or more, got 0"),
        ({"num_concurrent_runs": "2"}, "num_concurrent_runs must be a whole number of 1 or more, got '2'"),
    ],
)
def test_a_wrong_option_of_a_workflow_is_refused_when_it_is_made(options: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkflowValidationError, match=said):
        Echo(**options)


@pytest.mark.parametrize("ctx", ["topic", {"version": "spanflow-1"}])
async def test_a_run_takes_a_context_or_none(ctx: Any) -> None:
    with pytest.raises(WorkflowRuntimeError, match=r"run\(ctx=...\) takes a Context, got (str|dict)"):
        Echo().run(ctx)


def test_a_context_is_made_for_a_workflow() -> None:
    with pytest.raises(WorkflowRuntimeError, match="takes a Workflow instance, got 5"):
        Context(5)  # type: ignore[arg-type]


async def test_a_reader_takes_classes() -> None:
    handler = Echo().run()

    with pytest.raises(WorkflowRuntimeError, match=r"stream_events\(types=\) takes event classes, got 'A'"):
        handler.stream_events(types=["A"])  # type: ignore[list-item]

    assert [type(event) async for event in handler.stream_events(types=[A, StopEvent])] == [StopEvent]


async def _stream(ctx: Any) -> None:
    ctx.write_event_to_stream("text")


async def _wait_for_a_number(ctx: Any) -> None:
    await ctx.wait_for_event(int)


async def _ask_with_text(ctx: Any) -> None:
    await ctx.wait_for_event(A, waiter_event="name?")


async def _wait_for_a_word(ctx: Any) -> None:
    await ctx.wait_for_event(A, timeout="soon")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (_stream, "An Event instance is needed, got str"),
        (_wait_for_a_number, "wait_for_event needs a class of events, got <class 'int'>"),
        (_ask_with_text, "must be an Event instance, got 'name?'"),
        (_wait_for_a_word, "in seconds, or None, got 'soon'"),
    ],
)
async def test_a_step_may_catch_what_a_wrong_call_raises(body: Callable[[Any], Awaitable[None]], said: str) -> None:
    class Calls(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(WorkflowRuntimeError) as caught:
                await body(ctx)
            return StopEvent(result=str(caught.value))

    assert said in await Calls().run()


async def test_what_a_join_expects_may_be_any_iterable() -> None:
    class Joins(Workflow):
        @step
        async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ctx.collect_events(ev, iter([StartEvent])) == [ev])

    assert await Joins().run() is True
