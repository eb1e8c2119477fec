"""What a run looks like as spans: whole trees, literally.

Left out are attributes that differ in every run, or that every span of a run has (see `span_log.LEFT_OUT`).
"""

from __future__ import annotations

from typing import Any

from tests.workflows_otel.flows import Answer, AskPerson, Done, Echo, FanOut, Flaky, Streaming, Work
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow
from workflows import step as workflow_step
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop


def run(workflow: str, start: str, result: str, **others: Any) -> dict[str, Any]:
    """The attributes of the span of a completed run; `others` are its counts, and what else differs."""
    counts = {"steps": 1, "retries": 0, "events": 1, "streamed": 0, "handled_errors": 0, "unhandled": 0}
    counts |= {name: others.pop(name) for name in list(others) if name in counts}
    return {
        "gen_ai.operation.name": "invoke_workflow",
        "workflow.run.segment": 0,
        "graph.node.id": workflow,
        "input.value": start,
        "input.mime_type": "application/json",
        "workflow.input.size": len(start),
        "workflow.input.complete": False,
        "workflow.run.outcome": "completed",
        **{f"workflow.run.{name}": count for name, count in counts.items()},
        "output.value": result,
        "output.mime_type": "application/json",
        "workflow.output.size": len(result),
        "mlflow.spanType": '"WORKFLOW"',
        "mlflow.traceTag.mlflow.traceName": f"{workflow}.run",
        **others,
    }


def step(name: str, node: str, **others: Any) -> dict[str, Any]:
    """The attributes that the span of every completed step of the start event has, with those that differ."""
    return {
        "workflow.step.name": name,
        "graph.node.id": node,
        "workflow.step.execution.id": name,
        "workflow.step.queue_wait_s": 0.0,
        "workflow.event.id": "x0",
        "workflow.event.type": "StartEvent",
        "workflow.event.source": "start",
        "workflow.step.outcome": "completed",
        **{key.replace("__", "."): value for key, value in others.items()},
    }


FIRST_TRY = {"workflow__step__attempt": 1, "workflow__step__worker": 0}


async def test_a_run_of_one_step(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await Echo(timeout=None).run(text="hello")
    reply = step("reply", "Echo.reply", **FIRST_TRY, workflow__emitted=["StopEvent:reply.0"])
    assert spans.trees() == [
        {
            "name": "invoke_workflow Echo",
            "status": "OK",
            "attributes": run("Echo", '{"type":"StartEvent","fields":{"text":"<str 5>"}}', '{"type":"<str 5>"}'),
            "children": [{"name": "run_step reply", "status": "OK", "attributes": reply}],
        }
    ]


async def test_each_retried_attempt_is_a_child_of_one_step(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await Flaky(failures=2).run()
    attempt = {"workflow.step.name": "fetch", "graph.node.id": "Flaky.fetch", "workflow.step.execution.id": "fetch"}
    attempt |= {"workflow.step.worker": 0, "workflow.step.queue_wait_s": 0.0}
    attempt |= {"workflow.retry.policy": "wait_fixed, stop_after_attempt"}
    again = {"workflow.retry.previous_error.type": "ConnectionError", "workflow.retry_of.span_id": "attempt fetch"}
    failed = {"workflow.step.outcome": "retrying", "error.type": "ConnectionError"}
    failed |= {"workflow.retry.will_retry": True, "workflow.retry.delay_s": 30.0}
    exception = {"exception.type": "ConnectionError", "exception.message": "no route"}
    exception |= {"exception.stacktrace": "ConnectionError: no route"}
    scheduled = {"workflow.retry.delay_s": 30.0, "error.type": "ConnectionError"}
    (tree,) = spans.trees()
    (fetch,) = tree["children"]
    assert tree["attributes"] == run(
        "Flaky", '{"type":"StartEvent","fields":{}}', '{"type":"<str 7>"}', steps=3, retries=2
    )
    assert fetch == {
        "name": "run_step fetch",
        "status": "OK",
        "attributes": step(
            "fetch",
            "Flaky.fetch",
            workflow__step__max_attempts=3,
            workflow__step__attempts=3,
            workflow__emitted=["StopEvent:fetch.0"],
        ),
        "events": [
            ("workflow.retry.scheduled", {"workflow.step.attempt": 2, **scheduled}),
            ("workflow.retry.scheduled", {"workflow.step.attempt": 3, **scheduled}),
        ],
        "children": [
            {
                "name": "attempt fetch",
                "status": "ERROR: ConnectionError: no route",
                "attributes": {**attempt, **failed, "workflow.step.attempt": 1, "workflow.retry.elapsed_s": 0.0},
                "events": [("exception", exception)],
            },
            {
                "name": "attempt fetch",
                "status": "ERROR: ConnectionError: no route",
                "attributes": {
                    **attempt,
                    **again,
                    **failed,
                    "workflow.step.attempt": 2,
                    "workflow.retry.elapsed_s": 30.0,
                },
                "links": ["retry_of attempt fetch"],
                "events": [("exception", exception)],
            },
            {
                "name": "attempt fetch",
                "status": "OK",
                "attributes": {**attempt, **again, "workflow.step.attempt": 3, "workflow.step.outcome": "completed"},
                "links": ["retry_of attempt fetch"],
            },
        ],
    }


async def test_steps_are_flat_and_linked_to_what_caused_them(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await FanOut().run(n=3)
    (tree,) = spans.trees()
    shown = [(child["name"], child.get("links"), child.get("children")) for child in tree["children"]]
    assert shown == [
        ("run_step split", None, None),
        ("run_step work", ["trigger run_step split"], None),
        ("run_step work", ["trigger run_step split"], None),
        ("run_step join", ["trigger run_step work"], None),
        ("run_step join", ["trigger run_step work"], None),
        ("run_step work", ["trigger run_step split"], None),
        ("run_step join", ["trigger run_step work", *["collect_member run_step work"] * 3], None),
    ]


async def test_the_joining_call_says_what_it_joined(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await FanOut().run(n=3)
    joins = [tree["attributes"] for tree in spans.trees()[0]["children"] if tree["name"] == "run_step join"]
    assert [join.get("workflow.collect.buffered", False) for join in joins] == [True, True, False]
    assert joins[-1]["workflow.cause.count"] == 3
    assert joins[-1]["workflow.cause.span_ids"] == ["run_step work"] * 3


async def test_a_wait_is_a_span_of_its_own(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = AskPerson().run()
    assert handler.ctx is not None
    clock.call_later(5, handler.ctx.send_event, Answer(text="yes"))
    await handler
    (ask,) = spans.trees()[0]["children"]
    assert ask["events"] == [
        ("workflow.wait.started", {"workflow.wait.id": "ask.Answer.0", "workflow.wait.event_type": "Answer"})
    ]
    assert ask["children"] == [
        {
            "name": "wait Answer",
            "status": "OK",
            "attributes": {
                "workflow.step.name": "ask",
                "workflow.wait.id": "ask.Answer.0",
                "workflow.wait.event_type": "Answer",
                "workflow.wait.outcome": "resolved",
                "workflow.wait.duration_s": 5.0,
                "workflow.wait.crossed_process": False,
                "workflow.event.id": "x1",
                "workflow.event.type": "Answer",
                "workflow.event.source": "external",
            },
        }
    ]


async def test_streamed_events_are_summarised(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await Streaming().run(n=20)
    (tell,) = spans.trees()[0]["children"]
    assert {key: value for key, value in tell["attributes"].items() if "stream" in key} == {
        "workflow.stream.count": 20,
        "workflow.stream.types": ["Progress=20"],
        "workflow.stream.first_s": 1.0,
        "workflow.stream.last_s": 20.0,
    }
    assert tell["events"] == [
        ("workflow.stream.event", {"workflow.event.type": "Progress", "workflow.stream.seq": seq})
        for seq in (*range(1, 9), *range(13, 21))
    ]


async def test_a_call_says_how_long_its_event_was_queued(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await FanOut().run(n=6)
    waits = [about(span)["workflow.step.queue_wait_s"] for span in spans.all_named("run_step work")]
    assert waits == [0, 0, 1, 1, 2, 2]


async def test_every_cause_resolves_to_the_sending_span(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await FanOut().run(n=6)
    for work in spans.all_named("run_step work"):
        assert spans.links(work) == [("trigger", "run_step split")]
        assert spans.by_id(int(about(work)["workflow.cause.span_ids"][0], 16)).name == "run_step split"


async def test_every_span_says_whose_it_is(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Flaky(failures=1).run()
    await handler
    for span in spans.finished:
        attributes = about(span)
        assert attributes["workflow.run.id"] == handler.run_id
        assert attributes["gen_ai.workflow.name"] == "Flaky"
        assert attributes["openinference.span.kind"] == "CHAIN"


async def test_a_signature_join_is_one_span_with_all_its_causes(clock: VirtualClockLoop, spans: SpanLog) -> None:
    class Join(Workflow):
        @workflow_step
        async def split(self, ev: StartEvent) -> list[Work]:
            return [Work(n=n) for n in range(5)]

        @workflow_step
        async def work(self, ev: Work) -> Done:
            return Done(n=ev.n)

        @workflow_step
        async def join(self, ev: list[Done]) -> StopEvent:
            return StopEvent(result=len(ev))

    assert await Join().run() == 5
    assert spans.links(spans.named("run_step join")) == [("collect_member", "run_step work")] * 5
    assert about(spans.named("run_step join"))["workflow.cause.count"] == 5
