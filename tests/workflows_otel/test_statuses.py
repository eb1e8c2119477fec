"""How runs and steps that do not simply complete look: status, outcome, error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from tests.workflows_otel.flows import Failing, Flaky, Slow, Work
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import StartEvent, StepFailedEvent, StopEvent
from workflows.testing import VirtualClockLoop


def attributes(spans: SpanLog, name: str) -> dict[str, Any]:
    return about(spans.named(name))


async def test_a_failure_is_an_error_on_the_step_and_on_the_run(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with pytest.raises(KeyError):
        await Failing().run(error=KeyError("colour"))
    assert spans.outline() == [
        "invoke_workflow Failing ERROR: KeyError: 'colour' failed",
        "  run_step fail ERROR: KeyError: 'colour' failed",
    ]
    assert attributes(spans, "invoke_workflow Failing")["error.type"] == "KeyError"
    assert attributes(spans, "invoke_workflow Failing")["workflow.run.failed_step"] == "fail"


async def test_an_exception_is_recorded_once_on_the_innermost_span(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with pytest.raises(ConnectionError):
        await Flaky(failures=9).run()
    recorded = [span.name for span in spans.finished for event in span.events if event.name == "exception"]
    assert recorded == ["attempt fetch"] * 3


async def test_the_exception_of_a_child_run_is_not_recorded_again(clock: VirtualClockLoop, spans: SpanLog) -> None:
    class Parent(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Failing().run(error=ValueError("deep")))

    with pytest.raises(ValueError, match="deep"):
        await Parent().run()
    assert spans.outline() == [
        "invoke_workflow Parent ERROR: ValueError: deep failed",
        "  run_step call ERROR: ValueError: deep failed",
        "    invoke_workflow Failing ERROR: ValueError: deep failed",
        "      run_step fail ERROR: ValueError: deep failed",
    ]
    assert [s.name for s in spans.finished for e in s.events if e.name == "exception"] == ["run_step fail"]


async def test_exhausted_retries_fail_the_step(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with pytest.raises(ConnectionError):
        await Flaky(failures=9).run()
    assert spans.outline() == [
        "invoke_workflow Flaky ERROR: ConnectionError: no route failed",
        "  run_step fetch ERROR: ConnectionError: no route failed",
        "    attempt fetch ERROR: ConnectionError: no route retrying",
        "    attempt fetch ERROR: ConnectionError: no route retrying",
        "    attempt fetch ERROR: ConnectionError: no route failed",
    ]


async def test_a_handled_failure_leaves_the_run_ok(clock: VirtualClockLoop, spans: SpanLog) -> None:
    class Handled(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise ValueError("handled")

        @catch_error
        async def recover(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="recovered")

    await Handled().run()
    assert spans.outline() == [
        "invoke_workflow Handled OK completed",
        "  run_step fail ERROR: ValueError: handled failed",
        "  run_step recover OK completed",
    ]
    assert attributes(spans, "run_step fail")["workflow.step.handled_by"] == "recover"
    assert attributes(spans, "invoke_workflow Handled")["workflow.run.handled_errors"] == 1


async def test_a_run_that_times_out_names_the_steps_that_were_alive(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with pytest.raises(WorkflowTimeoutError):
        await Slow(timeout=3).run()
    run, slow = spans.named("invoke_workflow Slow"), spans.named("run_step wait")
    assert [run.status.status_code.name, slow.status.status_code.name] == ["ERROR", "ERROR"]
    assert [about(s)["error.type"] for s in (run, slow)] == ["timeout", "timeout"]
    assert attributes(spans, "run_step wait")["workflow.step.outcome"] == "timed_out"


async def test_a_step_that_times_out_is_an_error(clock: VirtualClockLoop, spans: SpanLog) -> None:
    class Impatient(Workflow):
        @step(timeout=2)
        async def wait(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(10)
            return StopEvent()

    with pytest.raises(WorkflowTimeoutError):
        await Impatient().run()
    assert attributes(spans, "run_step wait")["error.type"] == "timeout"
    assert attributes(spans, "run_step wait")["workflow.step.outcome"] == "timed_out"


async def test_a_cancelled_run_is_no_error(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Slow().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert spans.outline() == ["invoke_workflow Slow UNSET cancelled", "  run_step wait UNSET cancelled"]
    assert "workflow.cancelled" in [event.name for event in spans.named("invoke_workflow Slow").events]


async def test_a_run_cancelled_between_two_attempts_closes_its_step(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Flaky(failures=9).run()
    await asyncio.sleep(10)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert spans.outline() == [
        "invoke_workflow Flaky UNSET cancelled",
        "  run_step fetch UNSET cancelled",
        "    attempt fetch ERROR: ConnectionError: no route retrying",
    ]


async def test_a_step_still_running_when_its_run_ends_is_abandoned(clock: VirtualClockLoop, spans: SpanLog) -> None:
    class Race(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent | Work:
            ctx.send_event(Work(n=1))
            await asyncio.sleep(1)
            return StopEvent()

        @step
        async def slow(self, ev: Work) -> None:
            await asyncio.sleep(10)

    await Race().run()
    assert spans.outline() == [
        "invoke_workflow Race OK completed",
        "  run_step begin OK completed",
        "  run_step slow UNSET abandoned",
    ]


async def test_no_span_ends_after_its_run(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Slow().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert [span.name for span in spans.finished] == ["run_step wait", "invoke_workflow Slow"]


async def test_a_status_that_a_step_sets_on_its_span_stays(spans: SpanLog) -> None:
    class Judged(Workflow):
        @step
        async def judge(self, ev: StartEvent) -> StopEvent:
            trace.get_current_span().set_status(StatusCode.ERROR, "quality too low")
            return StopEvent()

    await Judged().run()
    status = spans.named("run_step judge").status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "quality too low")
