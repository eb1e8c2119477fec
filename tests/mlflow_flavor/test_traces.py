"""What `autolog()` draws: the tree, the outcomes, and what the caller and MLflow's own settings change about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.tracing import context as tracing_context

import mlflow_flavor
from tests.mlflow_flavor.agents import Answer, Approve, Ask, Flaky, Hang, Inquire, Plan, Progress, Streaming
from tests.mlflow_flavor.trees import lines, span_named
from tests.mlflow_flavor.versions import needs_links
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation import context
from workflows.testing import VirtualClockLoop

Tree = Callable[[], list[str]]
Only = Callable[[], Trace]


async def test_a_run_is_a_tree_of_its_steps(tree: Tree):
    assert await Answer().run(question="why") == "WHY!"
    assert tree() == ["Answer.run WORKFLOW OK", "  plan TASK OK", "  answer TASK OK"]


async def test_inputs_and_outputs_name_their_event_classes(trace: Only):
    await Answer().run(question="why")
    root, plan, answer = (span_named(trace(), name) for name in ("Answer.run", "plan", "answer"))
    assert (root.inputs, root.outputs) == ({"question": "why"}, "WHY!")
    assert (plan.inputs, plan.outputs) == ({"Ask": {"question": "why"}}, {"Plan": {"text": "WHY"}})
    assert (answer.inputs, answer.outputs) == ({"Plan": {"text": "WHY"}}, {"StopEvent": {"result": "WHY!"}})


@needs_links
async def test_a_step_names_the_span_that_caused_it(trace: Only):
    await Answer().run(question="why")
    plan, answer = span_named(trace(), "plan"), span_named(trace(), "answer")
    assert answer.attributes["workflow.cause.span_ids"] == [plan.span_id]
    assert [link.span_id for link in answer.links] == [plan.span_id]
    assert answer.attributes["workflow.event.source"] == "step"
    assert plan.attributes["workflow.event.source"] == "start"


async def test_a_retried_step_holds_its_attempts(clock: VirtualClockLoop, tree: Tree):
    await Flaky(failures=1).run(question="x")
    assert tree() == [
        "Flaky.run WORKFLOW OK",
        "  fetch TASK OK",
        "    attempt fetch TASK ERROR ConnectionError: no route",
        "    attempt fetch TASK OK",
    ]


async def test_a_failed_attempt_tells_the_delay_and_the_next_its_reason(clock: VirtualClockLoop, trace: Only):
    await Flaky(failures=1).run(question="x")
    first, second = sorted((s for s in trace().data.spans if s.name == "attempt fetch"), key=lambda s: s.start_time_ns)
    assert first.attributes["workflow.retry.delay_s"] == 30
    assert [event.name for event in first.events] == ["exception"]
    assert second.attributes["workflow.retry.previous_error.type"] == "ConnectionError"
    assert second.start_time_ns - (first.end_time_ns or 0) == 30_000_000_000


@needs_links
async def test_an_attempt_links_to_the_one_it_repeats(clock: VirtualClockLoop, trace: Only):
    await Flaky(failures=1).run(question="x")
    first, second = sorted((s for s in trace().data.spans if s.name == "attempt fetch"), key=lambda s: s.start_time_ns)
    assert first.links == []
    assert [(link.span_id, link.attributes) for link in second.links] == [
        (first.span_id, {"workflow.link.type": "retry_of"})
    ]


async def test_a_failed_run_shows_the_error_once_with_its_stack(clock: VirtualClockLoop, trace: Only):
    with pytest.raises(ConnectionError):
        await Flaky(failures=9).run(question="x")
    assert lines(trace())[0] == "Flaky.run WORKFLOW ERROR ConnectionError: no route"
    stacks = [s.name for s in trace().data.spans for event in s.events if event.name == "exception"]
    assert stacks == ["attempt fetch"] * 3


async def test_a_timeout_marks_the_run_and_the_step_that_hung(clock: VirtualClockLoop, tree: Tree):
    with pytest.raises(WorkflowTimeoutError):
        await Hang(timeout=5).run(question="x")
    run, hung = tree()
    assert run.startswith("Hang.run WORKFLOW ERROR workflows.errors.WorkflowTimeoutError: ")
    assert hung == "  hang TASK ERROR cancelled: workflow timed out"


async def test_the_list_says_why_a_run_has_no_result(clock: VirtualClockLoop, trace: Only):
    with pytest.raises(ConnectionError):
        await Flaky(failures=9).run(question="x")
    assert trace().info.response_preview == "(failed) ConnectionError: no route"


async def test_a_cancelled_run_is_told_apart_from_success(trace: Only):
    handler = Hang().run(question="x")
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    root = span_named(trace(), "Hang.run")
    assert root.status.status_code.value == "OK"
    assert [event.name for event in root.events] == ["workflow.cancelled"]
    assert trace().info.tags["outcome"] == "cancelled"


async def test_every_span_of_a_cancelled_run_is_closed(trace: Only):
    handler = Hang().run(question="x")
    await anext(handler.stream_events())
    await handler.cancel_run()
    assert lines(trace()) == ["Hang.run WORKFLOW OK", "  hang TASK OK"]
    assert span_named(trace(), "hang").attributes["workflow.step.outcome"] == "cancelled"


async def test_streamed_events_stand_on_the_step_that_wrote_them(trace: Only):
    await Streaming(steps=2).run(question="x")
    write = span_named(trace(), "write")
    assert [(e.name, e.attributes["Progress"]) for e in write.events] == [
        ("workflow.stream.event", '{"percent":0}'),
        ("workflow.stream.event", '{"percent":1}'),
    ]


async def test_of_many_streamed_events_the_first_and_the_last_are_kept(trace: Only):
    await Streaming(steps=1000).run(question="x")
    write = span_named(trace(), "write")
    assert len(write.events) == 64
    assert (write.events[0].attributes["workflow.stream.seq"], write.events[-1].attributes["workflow.stream.seq"]) == (
        1,
        1000,
    )
    assert write.attributes["workflow.stream.dropped"] == 936


async def test_pieces_of_a_text_are_one_event(trace: Only):
    await Streaming(deltas=3).run(question="x")
    (event,) = span_named(trace(), "write").events
    assert event.attributes["Delta"] == "0 1 2 "
    assert event.attributes["workflow.stream.merged"] == 3


async def answered(workflow: Workflow) -> str:
    """The result of a run whose question to a person is answered with yes."""
    handler = workflow.run(question="deploy")
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]
    return await handler


async def test_a_wait_of_a_step_shows_question_and_answer(trace: Only):
    assert await answered(Inquire()) == "yes"
    assert lines(trace()) == ["Inquire.run WORKFLOW OK", "  ask TASK OK", "    wait_for_event TASK OK"]
    wait = span_named(trace(), "wait_for_event")
    assert wait.inputs == {
        "waiting_for": "HumanResponseEvent",
        "request": {"InputRequiredEvent": {"prefix": "deploy?"}},
    }
    assert wait.outputs == {"HumanResponseEvent": {"response": "yes"}}


async def test_a_wait_of_an_idle_run_is_a_span_of_the_run(trace: Only):
    assert await answered(Approve()) == "yes"
    assert lines(trace()) == [
        "Approve.run WORKFLOW OK",
        "  ask TASK OK",
        "  wait_for_event TASK OK",
        "  decide TASK OK",
    ]


@needs_links
async def test_a_resumed_run_is_a_new_trace_that_links_back(traces: Callable[[], list[Trace]]):
    workflow = Inquire()
    with context(session_id="s-1"):
        handler = workflow.run(question="deploy")
    await anext(handler.stream_events())
    snapshot = await handler.suspend()
    resumed = workflow.run(ctx=Context.from_dict(workflow, json.loads(json.dumps(snapshot))))
    resumed.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]
    assert await resumed == "yes"
    first, second = traces()
    assert [t.info.tags["outcome"] for t in (first, second)] == ["suspended", "completed"]
    assert [t.info.trace_metadata["mlflow.trace.session"] for t in (first, second)] == ["s-1", "s-1"]
    (link,) = span_named(second, "Inquire.run").links
    assert (link.trace_id, link.span_id) == (first.info.trace_id, span_named(first, "Inquire.run").span_id)


class Fan(Workflow):
    """Two calls at once, of which both answers are needed."""

    @step
    async def spread(self, ev: Ask) -> list[Plan]:
        return [Plan(text=f"{ev.question} {number}") for number in range(2)]

    @step
    async def look(self, ev: Plan) -> Progress:
        return Progress(percent=len(ev.text))

    @step
    async def join(self, ctx: Context, ev: Progress) -> StopEvent | None:
        found = ctx.collect_events(ev, [Progress, Progress])
        return None if found is None else StopEvent(result=[event.percent for event in found])


async def test_a_fan_out_is_a_span_a_call_and_its_inputs_are_the_members(trace: Only):
    assert await Fan().run(question="why") == [5, 5]
    assert [line.split()[0] for line in lines(trace())] == ["Fan.run", "spread", "look", "look", "join", "join"]
    assert span_named(trace(), "spread").outputs == [{"Plan": {"text": "why 0"}}, {"Plan": {"text": "why 1"}}]
    first, last = sorted((s for s in trace().data.spans if s.name == "join"), key=lambda s: s.start_time_ns)
    assert (first.outputs, last.outputs) == (None, {"StopEvent": {"result": [5, 5]}})


class Hurried(Workflow):
    """Ends while one of its steps still works."""

    @step
    async def linger(self, ctx: Context, ev: Ask) -> Plan | StopEvent:
        ctx.send_event(Plan(text=ev.question))
        await asyncio.Event().wait()
        return StopEvent()

    @step
    async def end(self, ev: Plan) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_a_step_that_its_run_left_behind_is_told_apart_from_success(trace: Only):
    assert await Hurried().run(question="x") == "x"
    assert lines(trace()) == ["Hurried.run WORKFLOW OK", "  linger TASK OK", "  end TASK OK"]
    outcomes = {s.name: s.attributes.get("workflow.step.outcome") for s in trace().data.spans}
    assert (outcomes["linger"], outcomes["end"]) == ("abandoned", "completed")


async def test_session_and_user_reach_the_trace(trace: Only):
    with context(session_id="s-1", user_id="u-1"):
        await Answer().run(question="why")
    metadata = trace().info.trace_metadata
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("s-1", "u-1")


async def test_a_session_set_by_mlflows_own_context_wins(trace: Only):
    with context(session_id="ours"), tracing_context(metadata={"mlflow.trace.session": "mlflow's"}):
        await Answer().run(question="why")
    assert trace().info.trace_metadata["mlflow.trace.session"] == "mlflow's"


async def test_the_list_shows_a_single_text_as_it_is(trace: Only):
    await Answer().run(question="why")
    assert (trace().info.request_preview, trace().info.response_preview) == ("why", "WHY!")


class Parent(Workflow):
    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Answer().run(question="child"))


async def test_a_child_run_nests_below_the_step_that_started_it(tree: Tree):
    await Parent().run()
    assert tree() == [
        "Parent.run WORKFLOW OK",
        "  call TASK OK",
        "    Answer.run WORKFLOW OK",
        "      plan TASK OK",
        "      answer TASK OK",
    ]


async def test_a_child_run_leaves_the_tags_of_its_trace_alone(trace: Only):
    await Parent().run()
    assert trace().info.tags["workflow"] == "Parent"


class Traced(Workflow):
    @step
    async def asynchronous(self, ev: Ask) -> Plan:
        return Plan(text=shout(ev.question))

    @step
    def synchronous(self, ev: Plan) -> StopEvent:
        return StopEvent(result=shout(ev.text))


@mlflow.trace
def shout(text: str) -> str:
    return text.upper()


async def test_traced_functions_nest_below_the_step_that_calls_them(tree: Tree):
    await Traced().run(question="x")
    assert tree() == [
        "Traced.run WORKFLOW OK",
        "  asynchronous TASK OK",
        "    shout UNKNOWN OK",
        "  synchronous TASK OK",
        "    shout UNKNOWN OK",
    ]


async def test_a_run_nests_below_the_span_of_its_caller(tree: Tree):
    with mlflow.start_span("request"):
        await Answer().run(question="why")
        assert mlflow.get_current_active_span().name == "request"  # pyright: ignore[reportOptionalMemberAccess]
    assert tree() == ["request UNKNOWN OK", "  Answer.run WORKFLOW OK", "    plan TASK OK", "    answer TASK OK"]


class Agent(Answer):
    __span_kind__ = "AGENT"


async def test_a_workflow_can_say_that_it_is_an_agent(tree: Tree):
    await Agent().run(question="why")
    assert tree()[0] == "Agent.run AGENT OK"


async def test_secrets_do_not_reach_the_store(trace: Only):
    await Answer().run(question="use sk-abcdefghijklmnop123456")
    assert "abcdefghijklmnop" not in str(trace().to_dict())


async def test_a_large_payload_is_cut(trace: Only):
    await Answer().run(question="x" * 1_000_000)
    assert len(str(trace().to_dict())) < 400_000
    assert span_named(trace(), "Answer.run").attributes["workflow.input.complete"] is False


async def test_nothing_is_stored_where_mlflow_tracing_is_off(traces: Callable[[], list[Trace]]):
    with tracing_context(enabled=False):
        assert await Answer().run(question="why") == "WHY!"
    assert traces() == []


async def test_disabling_ends_the_spans_of_open_runs(trace: Only):
    handler = Hang().run(question="x")
    await anext(handler.stream_events())
    mlflow_flavor.autolog(disable=True)
    assert span_named(trace(), "Hang.run").attributes["workflow.run.outcome"] == "interrupted"
    await handler.cancel_run()


async def test_feedback_reaches_the_trace_of_a_run(trace: Only):
    handler = Answer().run(question="why")
    await handler
    mlflow_flavor.feedback(handler, "correct", True)
    assert [(a.name, a.value) for a in trace().info.assessments] == [("correct", True)]  # pyright: ignore[reportAttributeAccessIssue]


async def test_feedback_for_a_run_that_has_only_begun_is_refused(trace: Only):
    handler = Hang().run(question="x")
    await anext(handler.stream_events())
    with pytest.raises(MlflowException, match="not over: await the handler"):
        mlflow_flavor.feedback(handler, "correct", True)
    await handler.cancel_run()
