"""A checkpoint after each step, and new runs that start from one."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, ClassVar

import pytest

from tests.engine.flows import A
from workflows import Context, Workflow, catch_error, step
from workflows.checkpointer import Checkpoint, WorkflowCheckpointer
from workflows.context import PickleSerializer
from workflows.errors import WorkflowRuntimeError, WorkflowStepDoesNotExistError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import StepStarted
from workflows.testing import RecordLog, VirtualClockLoop


class Joke(Event):
    text: str


class JokeFlow(Workflow):
    ran: ClassVar[list[str]] = []

    @step
    async def generate(self, ctx: Context, ev: StartEvent) -> Joke:
        self.ran.append("generate")
        await ctx.store.set("topic", ev.topic)
        return Joke(text=f"About {ev.topic}")

    @step
    async def critique(self, ctx: Context, ev: Joke) -> StopEvent:
        self.ran.append("critique")
        return StopEvent(result=f"{ev.text}: {await ctx.store.get('topic')}")


@pytest.fixture
def checkpointer() -> WorkflowCheckpointer:
    JokeFlow.ran.clear()
    return WorkflowCheckpointer(workflow=JokeFlow())


async def test_each_step_leaves_a_checkpoint(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    await handler
    kept = checkpointer.checkpoints[handler.run_id]
    assert [(c.last_completed_step, type(c.input_event), type(c.output_event)) for c in kept] == [
        ("generate", StartEvent, Joke),
        ("critique", Joke, StopEvent),
    ]


async def test_a_run_starts_from_a_checkpoint_without_repeating_its_step(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    await handler
    again = checkpointer.run_from(checkpoint=checkpointer.checkpoints[handler.run_id][0], topic="ignored")
    assert await again == "About pirates: pirates"
    assert JokeFlow.ran == ["generate", "critique", "critique"]
    assert again.run_id != handler.run_id


async def test_a_run_from_the_last_checkpoint_ends_at_once(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    result = await handler
    assert await checkpointer.run_from(checkpointer.checkpoints[handler.run_id][-1]) == result
    assert JokeFlow.ran == ["generate", "critique"]


async def test_checkpoints_are_filtered(checkpointer: WorkflowCheckpointer) -> None:
    checkpointer.disable_checkpoint("critique")
    for topic in ("pirates", "ships"):
        await checkpointer.run(topic=topic)
    assert len(checkpointer.filter_checkpoints(output_event_type=Joke)) == 2
    assert checkpointer.filter_checkpoints(last_completed_step="critique") == []
    with pytest.raises(ValueError, match="specify a filter"):
        checkpointer.filter_checkpoints()
    with pytest.raises(WorkflowStepDoesNotExistError, match="has no step 'sing'"):
        checkpointer.enable_checkpoint("sing")


async def test_what_a_disabled_step_gives_is_not_copied() -> None:
    copied: list[Joke] = []

    class Long(Joke):
        def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Joke:
            copied.append(self)
            return self

    class Flow(Workflow):
        @step
        async def generate(self, ev: StartEvent) -> Long:
            return Long(text="long")

        @step
        async def critique(self, ev: Long) -> StopEvent:
            return StopEvent()

    checkpointer = WorkflowCheckpointer(Flow(), disabled_steps=["generate", "critique"])
    handler = checkpointer.run()
    await handler
    assert checkpointer.checkpoints == {handler.run_id: []}
    assert not copied


async def test_a_checkpoint_can_be_kept_as_text(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="cats")
    await handler
    text = checkpointer.checkpoints[handler.run_id][0].model_dump_json()
    kept = Checkpoint.model_validate_json(text)
    assert kept.output_event == Joke(text="About cats")
    assert await checkpointer.run_from(kept) == "About cats: cats"


class Part(Event):
    n: int


class Sum(Event):
    n: int


class Fans(Workflow):
    """Its checkpoints are made in this order: of the list, of each part, of the join, of the end."""

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(n=n) for n in range(3)]

    @step
    async def double(self, ev: Part) -> Joke:
        await asyncio.sleep(ev.n)
        return Joke(text=str(2 * ev.n))

    @step
    async def join(self, evs: list[Joke]) -> Sum:
        return Sum(n=sum(int(ev.text) for ev in evs))

    @step
    async def end(self, ev: Sum) -> StopEvent:
        return StopEvent(result=ev.n)


@pytest.mark.parametrize("page", range(6))
async def test_branches_of_a_list_meet_again_from_every_checkpoint(clock: VirtualClockLoop, page: int) -> None:
    checkpointer = WorkflowCheckpointer(workflow=Fans())
    handler = checkpointer.run()
    result = await handler
    kept = Checkpoint.model_validate_json(checkpointer.checkpoints[handler.run_id][page].model_dump_json())
    assert await checkpointer.run_from(kept) == result == 6


async def test_a_returned_list_is_in_its_checkpoint(clock: VirtualClockLoop) -> None:
    checkpointer = WorkflowCheckpointer(workflow=Fans())
    await checkpointer.run()
    (found,) = checkpointer.filter_checkpoints(output_event_type=Part)
    assert Checkpoint.model_validate_json(found.model_dump_json()).output_event == [Part(n=n) for n in range(3)]


class Broken(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Part:
        return Part(n=0)

    @step
    async def work(self, ev: Part) -> StopEvent:
        raise ValueError(f"part {ev.n}")

    @catch_error(for_steps=["work"], max_recoveries=1)
    async def mend(self, ev: StepFailedEvent) -> Part:
        return Part(n=1)


async def test_a_recovery_counts_from_a_checkpoint_on(clock: VirtualClockLoop) -> None:
    checkpointer = WorkflowCheckpointer(workflow=Broken())
    handler = checkpointer.run()
    with pytest.raises(ValueError, match="part 1"):
        await handler
    assert [c.last_completed_step for c in checkpointer.checkpoints[handler.run_id]] == ["start", "mend"]
    again = checkpointer.run_from(checkpointer.checkpoints[handler.run_id][-1])
    with pytest.raises(ValueError, match="part 1"):
        await again
    assert checkpointer.checkpoints.get(again.run_id, []) == []


async def test_what_runs_from_a_checkpoint_knows_its_cause(
    checkpointer: WorkflowCheckpointer, records: RecordLog
) -> None:
    handler = checkpointer.run(topic="cats")
    await handler
    await checkpointer.run_from(checkpointer.checkpoints[handler.run_id][0])
    whole, again = [r.causes[0] for r in records.of(StepStarted) if r.step == "critique"]
    assert (again.event_id, again.sender, again.sender_step) == (whole.event_id, whole.sender, "generate")


class Slow(Workflow):
    """Two steps whose checkpoints take a while, and a count of how often they ran."""

    ran: ClassVar[list[str]] = []

    @step
    async def first(self, ev: StartEvent) -> Part:
        self.ran.append("first")
        return Part(n=1)

    @step
    async def second(self, ev: StartEvent) -> Sum:
        self.ran.append("second")
        await asyncio.sleep(1)
        return Sum(n=2)

    @step
    async def both(self, a: Part, b: Sum) -> StopEvent:
        return StopEvent(result=a.n + b.n)


async def _note_slowly(*told: object) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize("ended_by", ["suspend", "cancel_run"])
async def test_a_step_does_not_run_again_where_its_checkpoint_was_being_made(
    clock: VirtualClockLoop, ended_by: str
) -> None:
    Slow.ran.clear()
    workflow = Slow()
    handler = workflow.run(checkpoint_callback=_note_slowly)
    await asyncio.sleep(2)
    ended = await getattr(handler, ended_by)()
    ctx = handler.ctx if ended is None else Context.from_dict(workflow, json.loads(json.dumps(ended)))
    assert await workflow.run(ctx=ctx) == 3
    assert Slow.ran == ["first", "second"]


async def test_a_checkpoint_has_what_other_steps_returned_whose_checkpoints_are_not_done(
    clock: VirtualClockLoop,
) -> None:
    Slow.ran.clear()
    workflow = Slow()
    snapshots: list[dict[str, Any]] = []

    async def note(run_id: str, name: str | None, given: object, returned: object, ctx: Context) -> None:
        snapshots.append(ctx.to_dict())
        await asyncio.sleep(5)

    await workflow.run(checkpoint_callback=note)
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshots[1])) == 3
    assert Slow.ran == ["first", "second"]


async def test_a_run_by_hand_goes_on_from_a_checkpoint_with_what_its_step_returned(
    checkpointer: WorkflowCheckpointer,
) -> None:
    handler = checkpointer.run(topic="cats")
    await handler
    again = checkpointer.run_from(checkpointer.checkpoints[handler.run_id][0], stepwise=True)
    (event,) = await again.run_step() or []
    again.ctx.send_event(event)
    assert (event, await again.run_step()) == (Joke(text="About cats"), None)
    assert await again == "About cats: cats"


async def test_what_a_checkpoint_raises_fails_the_step(clock: VirtualClockLoop) -> None:
    async def note(*told: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await Slow().run(checkpoint_callback=note)


class Numbers(Workflow):
    @step
    async def first(self, ev: StartEvent) -> A:
        return A(n=1)

    @step
    async def last(self, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)


@pytest.mark.parametrize(("place", "output", "result"), [(0, A(n=42), 42), (1, StopEvent(result="other"), "other")])
async def test_another_output_can_be_put_into_a_checkpoint(place: int, output: Event, result: object) -> None:
    checkpointer = WorkflowCheckpointer(Numbers())
    handler = checkpointer.run()
    await handler
    made = checkpointer.checkpoints[handler.run_id][place]
    assert await checkpointer.run_from(made) == 1
    assert await checkpointer.run_from(made.model_copy(update={"output_event": output})) == result


async def test_another_number_of_events_in_a_checkpoint_is_refused() -> None:
    checkpointer = WorkflowCheckpointer(Numbers())
    handler = checkpointer.run()
    await handler
    made = checkpointer.checkpoints[handler.run_id][0]
    with pytest.raises(WorkflowRuntimeError, match=r"Step first returned 1 events .* its output_event has 2"):
        checkpointer.run_from(made.model_copy(update={"output_event": [A(), A()]}))


@pytest.mark.parametrize(("output", "result"), [(A(n=7), 7), (StopEvent(result="over"), "over")])
async def test_a_checkpoint_of_an_older_version_goes_on_with_its_output(output: Event, result: object) -> None:
    """As llama-index 0.12 wrote them: nothing is in progress, and what the step returned is not in the snapshot."""
    state: dict[str, Any] = {
        "globals": {},
        "streaming_queue": "[]",
        "queues": {"first": "[]", "last": "[]", "_done": "[]"},
        "stepwise": False,
        "events_buffer": {},
        "in_progress": {"first": [], "last": []},
        "accepted_events": [["first", "StartEvent"]],
        "broker_log": [],
        "is_running": True,
        "waiting_ids": [],
    }
    made = Checkpoint(last_completed_step="first", input_event=StartEvent(), output_event=output, ctx_state=state)
    assert await WorkflowCheckpointer(Numbers()).run_from(made) == result


async def test_a_stop_event_in_a_list_is_in_the_checkpoint() -> None:
    class Found(Workflow):
        @step
        async def search(self, ev: StartEvent) -> list[A | StopEvent]:
            return [A(n=1), StopEvent(result="found")]

        @step
        async def other(self, ev: A) -> StopEvent:
            return StopEvent(result="other")

    checkpointer = WorkflowCheckpointer(Found())
    handler = checkpointer.run()
    assert await handler == "found"
    made = checkpointer.checkpoints[handler.run_id][0]
    assert await checkpointer.run_from(made) == "found"


class Chat(Event):
    messages: list[str]


class Answered(Event):
    messages: list[str]


class Chatting(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Chat:
        return Chat(messages=["user: hi"])

    @step
    async def answer(self, ev: Chat) -> Answered:
        ev.messages.append("assistant: hello")
        return Answered(messages=ev.messages)

    @step
    async def end(self, ev: Answered) -> StopEvent:
        ev.messages.append("over")
        return StopEvent(result=ev.messages)


@pytest.mark.parametrize("place", range(3))
async def test_what_a_later_step_does_to_an_event_is_not_in_the_checkpoint(place: int) -> None:
    checkpointer = WorkflowCheckpointer(Chatting())
    handler = checkpointer.run()
    result = await handler
    made = checkpointer.checkpoints[handler.run_id]
    assert made[0].output_event == Chat(messages=["user: hi"])
    assert made[1].output_event == Answered(messages=["user: hi", "assistant: hello"])
    assert await checkpointer.run_from(made[place]) == result == ["user: hi", "assistant: hello", "over"]


async def test_an_event_that_cannot_be_copied_is_in_the_checkpoint_as_it_is() -> None:
    lock = threading.Lock()

    class Locked(Workflow):
        @step
        async def end(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=lock)

    told: list[Any] = []

    async def note(run_id: str, name: str | None, given: object, returned: object, ctx: Context) -> None:
        told.append(returned)

    assert await Locked().run(checkpoint_callback=note) is lock
    assert [stop.result for stop in told] == [lock]


@pytest.mark.parametrize("branch", range(4))
async def test_another_output_replaces_that_of_its_own_branch(clock: VirtualClockLoop, branch: int) -> None:
    class Branches(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Part]:
            return [Part(n=n) for n in range(4)]

        @step
        async def same(self, ev: Part) -> A:
            return A(n=ev.n)

        @step
        async def join(self, evs: list[A]) -> StopEvent:
            return StopEvent(result=[ev.n for ev in evs])

    made: dict[int, Checkpoint] = {}

    async def note(run_id: str, name: str | None, given: Event | None, returned: object, ctx: Context) -> None:
        await asyncio.sleep(1)  # written to a database
        if isinstance(returned, A):
            state = ctx.to_dict()
            made[returned.n] = Checkpoint(
                last_completed_step=name, input_event=given, output_event=returned, ctx_state=state
            )

    workflow = Branches()
    await workflow.run(checkpoint_callback=note)
    kept = made[branch]
    assert sorted(await workflow.run_from(kept)) == [0, 1, 2, 3]
    edited = kept.model_copy(update={"output_event": A(n=3 - branch)})
    assert sorted(await workflow.run_from(edited)) == sorted({**dict(enumerate(range(4))), branch: 3 - branch}.values())


class Notes:
    """Of no value of its own: two are never equal."""

    def __init__(self) -> None:
        self.lines: list[str] = []


class Noted(Event):
    notes: Notes


class Noting(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Noted:
        return Noted(notes=Notes())

    @step
    async def end(self, ev: Noted) -> StopEvent:
        ev.notes.lines.append("end")
        return StopEvent(result=ev.notes.lines)


async def test_runs_from_one_checkpoint_do_not_share_its_events() -> None:
    checkpointer = WorkflowCheckpointer(Noting(), checkpoint_serializer=PickleSerializer())
    handler = checkpointer.run()
    assert await handler == ["end"]
    made = checkpointer.checkpoints[handler.run_id][0]
    assert [await checkpointer.run_from(made) for _ in range(3)] == [["end"]] * 3


class OwnRun(Workflow):
    """As an agent of llama-index: its `run()` puts all keywords into the start event."""

    def run(self, **fields: Any) -> WorkflowHandler:  # pyright: ignore[reportIncompatibleMethodOverride]  # as theirs
        return super().run(start_event=StartEvent(**fields))

    @step
    async def begin(self, ev: StartEvent) -> Joke:
        return Joke(text=f"{sorted(ev.keys())}")

    @step
    async def end(self, ev: Joke) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_a_workflow_with_a_run_of_its_own_has_checkpoints() -> None:
    checkpointer = WorkflowCheckpointer(OwnRun())
    handler = checkpointer.run(topic="bees")
    assert await handler == "['topic']"
    assert [made.last_completed_step for made in checkpointer.checkpoints[handler.run_id]] == ["begin", "end"]


async def test_a_workflow_with_a_run_of_its_own_runs_by_hand() -> None:
    handler = OwnRun().run(topic="bees", stepwise=True)
    produced = await handler.run_step()
    assert produced is not None
    assert produced == [Joke(text="['topic']")]
    handler.ctx.send_event(produced[0])
    assert await handler.run_step() is None
    assert await handler == "['topic']"


async def test_a_plain_start_event_keeps_fields_that_are_called_like_options() -> None:
    class Plain(Workflow):
        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.stepwise)

    assert await Plain().run(start_event=StartEvent(stepwise="yes")) == "yes"
