"""Snapshots of llama-index-workflows (format 2, and the older 1 and 0) go on here with all their work in flight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.version_two import flows
from workflows import Context, Workflow
from workflows.context import JsonSerializer
from workflows.context.context_types import CURRENT_SERIALIZED_VERSION, SerializedContext
from workflows.errors import ContextSerdeError, WorkflowTimeoutError
from workflows.events import Event
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import StepStarted
from workflows.testing import RecordLog, VirtualClockLoop

SNAPSHOTS = Path(__file__).parent / "version_two"
MODULE = flows.__name__
ADA: dict[str, Any] = {"user": "ada"}
BOB: dict[str, Any] = {"user": "bob"}


def saved(name: str) -> dict[str, Any]:
    return json.loads((SNAPSHOTS / f"{name}.json").read_text())


def resumed(workflow: Workflow, data: dict[str, Any]) -> WorkflowHandler:
    return workflow.run(ctx=Context.from_dict(workflow, data))


def text_of(event: Event) -> str:
    return JsonSerializer().serialize(event)


@pytest.mark.parametrize(
    ("name", "workflow", "result"),
    [
        ("queued", flows.Queued, [[0, 1, 2, 10, 11], [0, 1, 2]]),
        ("typed", flows.Typed, ["Ulm:3"]),
        ("answered", flows.Answered, "Ada"),
        ("fan_out", flows.FanOut, [3, 33, 63]),
        ("pair", flows.Pair, [1, 2]),
        ("pair_runs", flows.PairRuns, [1, 2]),
        ("pairs_in_list", flows.PairsInList, [0, 2, 4]),
        ("pairs_in_lists", flows.PairsInLists, [["2", "3"], 68]),
        ("recovered", flows.Recovered, ["work", "no Ulm", "ValueError", "Ulm"]),
        ("nested", flows.Nested, 7),
        ("deliveries_in_fan_out", flows.FanOut, [3, 33, 63]),
    ],
)
async def test_a_run_goes_on_where_it_was(name: str, workflow: type[Workflow], result: Any) -> None:
    assert await resumed(workflow(), saved(name)) == result


@pytest.mark.parametrize(
    ("name", "workflow"), [("queued", flows.Queued), ("fan_out", flows.FanOut), ("pair", flows.Pair)]
)
async def test_what_was_read_can_be_written_and_read_again(name: str, workflow: type[Workflow]) -> None:
    ours = json.loads(json.dumps(Context.from_dict(workflow(), saved(name)).to_dict()))
    assert ours["version"] == "spanflow-1"
    assert await resumed(workflow(), ours) == await resumed(workflow(), saved(name))


async def test_what_ran_runs_before_what_queued(records: RecordLog) -> None:
    await resumed(flows.Queued(), saved("queued"))
    assert [r.replay for r in records.records if isinstance(r, StepStarted) and r.step == "work"] == [
        True,
        False,
        False,
    ]


async def test_no_step_that_was_done_runs_again(records: RecordLog) -> None:
    await resumed(flows.FanOut(), saved("fan_out"))
    assert "split" not in {r.step for r in records.records if isinstance(r, StepStarted)}


async def test_sent_events_that_nobody_had_got_are_delivered_once() -> None:
    data = saved("deliveries")
    data["deliveries"] += data["deliveries"]
    data["state"] = {"state_data": {"_data": {"plan": '{"jobs": []}'}}}
    assert await resumed(flows.Queued(), data) == [[0, 1, 2, 10, 11], []]


async def test_a_wait_goes_on_with_its_requirements() -> None:
    handler = resumed(flows.Question(), saved("question"))
    for reply in (flows.Reply(text="no", **BOB), flows.Reply(text="yes", **ADA)):
        await handler.send_event(reply)
    assert await handler == "yes"


async def test_a_question_that_was_asked_is_not_asked_again() -> None:
    handler = resumed(flows.Question(), saved("question"))
    await handler.send_event(flows.Reply(text="yes", **ADA))
    assert [type(e).__name__ async for e in handler.stream_events()] == ["StopEvent"]


async def test_an_answer_is_kept_and_the_open_wait_gets_the_next() -> None:
    handler = resumed(flows.Interview(), saved("interview"))
    await handler.send_event(flows.Reply(text="36", **ADA))
    assert await handler == ["Ada", "36"]


async def test_a_delayed_retry_comes_when_it_was_due(clock: VirtualClockLoop) -> None:
    data = saved("retried")
    (queued,) = data["workers"]["work"]["queue"]
    queued["not_before"] = clock.wall_ns() / 1e9 + 40
    assert await resumed(flows.Retried(timeout=None), data) == [1, "ValueError('busy')"]
    assert round(clock.time()) == 40


async def test_a_retry_that_is_overdue_comes_at_once(clock: VirtualClockLoop) -> None:
    data = saved("retried")
    data["workers"]["work"]["queue"][0]["not_before"] = clock.wall_ns() / 1e9 - 40
    await resumed(flows.Retried(timeout=None), data)
    assert clock.time() == 0


async def test_an_idle_run_still_takes_its_answer() -> None:
    handler = resumed(flows.Idle(), saved("idle"))
    await handler.send_event(flows.Reply(text="go"))
    assert await handler == "go"


async def test_an_idle_run_waits_and_is_no_deadlock(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowTimeoutError):
        await resumed(flows.Idle(timeout=5), saved("idle"))


async def test_a_run_that_was_over_leaves_its_state() -> None:
    workflow = flows.Counter()
    context = Context.from_dict(workflow, saved("counter"))
    assert not context.is_running
    assert await workflow.run(ctx=context) == 2


async def test_steps_that_are_gone_are_left_out() -> None:
    data = saved("nested")
    data["workers"]["gone"] = data["workers"]["finish"]
    assert await resumed(flows.Nested(), data) == 7


async def test_format_one_is_read() -> None:
    job, done = text_of(flows.Job(number=0)), [text_of(flows.Done(number=n)) for n in (1, 2, 3, 4)]
    data = {
        "version": 1,
        "is_running": True,
        "state": {"state_type": "DictState", "state_data": {"_data": {"plan": '{"jobs": [5]}'}}},
        "workers": {
            "work": {"queue": [], "in_progress": [job], "collected_events": {}, "collected_waiters": []},
            "gather": {
                "queue": [{"event": done[3], "attempts": 0, "first_attempt_at": None}],
                "in_progress": [],
                "collected_events": {"default": done[:3]},
                "collected_waiters": [],
            },
        },
    }
    assert await resumed(flows.Queued(), data) == [[0, 1, 2, 3, 4], [5]]


async def test_format_zero_is_read() -> None:
    job, done = text_of(flows.Job(number=0)), [text_of(flows.Done(number=n)) for n in (1, 2, 3, 4)]
    data = {
        "state": {"state_type": "DictState", "state_data": {"_data": {"plan": '{"jobs": [5]}'}}},
        "streaming_queue": json.dumps([text_of(flows.Ask(prompt="unread"))]),
        "queues": {"start": "[]", "work": json.dumps([job, done[3]]), "gather": json.dumps([done[3]]), "_done": "[]"},
        "event_buffers": {"gather": {f"{MODULE}.Done": done[:2]}},
        "in_progress": {"start": [], "work": [], "gather": [done[2]]},
        "is_running": True,
    }
    handler = resumed(flows.Queued(), data)
    assert await handler == [[0, 1, 2, 3, 4], [5]]
    assert [type(e).__name__ async for e in handler.stream_events()] == ["Ask", "StopEvent"]


@pytest.mark.parametrize("data", [{}, {"foo": 1}, {"version": 3}, {"version": "2"}, {"version": None}, {"version": 0}])
def test_what_is_no_snapshot_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ContextSerdeError, match=r"this Spanflow reads 'spanflow-1', and 1 and 2"):
        Context.from_dict(flows.Counter(), data)


@pytest.mark.parametrize(
    "broken",
    [
        {"workers": []},
        {"workers": {"work": {"in_progress": [{"event": "no json"}]}}},
        {
            "workers": {
                "work": {"queue": [{"event": '{"__is_pydantic": true, "value": {}, "qualified_name": "os.Path"}'}]}
            }
        },
        {"workers": {"work": {"queue": [{"event": "3"}]}}},
        {"state": {"store_type": "sqlite"}},
    ],
)
def test_a_broken_snapshot_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ContextSerdeError, match="The snapshot of Queued cannot be read"):
        Context.from_dict(flows.Queued(), {**saved("queued"), **broken})


def test_the_newest_format_that_is_read_is_two() -> None:
    assert SerializedContext.from_dict_auto(saved("pair")).version == CURRENT_SERIALIZED_VERSION == 2


def test_a_format_that_is_not_known_is_refused_by_its_reader() -> None:
    with pytest.raises(ValueError, match="version 7 is not read"):
        SerializedContext.from_dict_auto({"version": 7})
