"""Events about the engine itself: what they hold, when they are streamed, how errors are written."""

import asyncio

from tests.compat.case import case, names
from tests.compat.flows import A, Answer, Ask, B, Streaming, conversation
from workflows import Context, Workflow, catch_error, step
from workflows.events import (
    CollectionReleaseEvent,
    Event,
    IdleReleasedEvent,
    InternalDispatchEvent,
    SerializableException,
    StartEvent,
    StepFailedEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    UnhandledEvent,
    UnreconstructedException,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
    WorkflowTimedOutEvent,
)


async def internal(handler, kind):
    return [ev async for ev in handler.stream_events(expose_internal=True) if isinstance(ev, kind)]


@case(["StepStateChanged", *["Progress"] * 3, *["StepStateChanged"] * 2, "Progress", "StepStateChanged", "StopEvent"])
async def internal_events_are_shown_on_request():
    return names([ev async for ev in Streaming().run().stream_events(expose_internal=True)])


@case(False, peer_gives=True, because="internal-events-for-readers")
async def internal_events_are_there_for_who_comes_late():
    handler = Streaming().run()
    await handler
    return "StepStateChanged" in names([ev async for ev in handler.stream_events(expose_internal=True)])


@case([["first", "running", "0", "StartEvent"], ["second", "running", "0", "A"]])
async def a_running_step_is_told_with_its_worker_and_event():
    changes = await internal(Streaming().run(), StepStateChanged)
    return [
        [c.name, c.step_state.value, c.worker_id, c.input_event_name]
        for c in changes
        if c.step_state.value == "running"
    ]


@case(
    [["StartEvent", "A"], ["A", "StopEvent"]],
    peer_gives=[
        ["<class 'workflows.events.StartEvent'>", "<class 'tests.compat.flows.A'>"],
        ["<class 'tests.compat.flows.A'>", "<class 'workflows.events.StopEvent'>"],
    ],
    because="names-in-step-state-changed",
)
async def a_step_that_ended_is_told_with_the_names_of_its_events():
    changes = await internal(Streaming().run(), StepStateChanged)
    return [[c.input_event_name, c.output_event_name] for c in changes if c.step_state is StepState.NOT_RUNNING]


class Crowd(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A(n=1))
        ctx.send_event(A(n=2))

    @step(num_workers=1)
    async def t(self, ev: A) -> StopEvent | None:
        await asyncio.sleep(0.01)
        return StopEvent(result=ev.n) if ev.n == 2 else None


async def queued(handler):
    changes = await internal(handler, StepStateChanged)
    return [
        [c.name, c.step_state.value, c.worker_id, c.input_event_name]
        for c in changes
        if c.step_state is StepState.PREPARING
    ]


@case([["t", "preparing", "<enqueued>", "A"]])
async def an_event_that_has_to_queue_is_told():
    return await queued(Crowd().run())


class Listed(Workflow):
    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(4)]

    @step(num_workers=1)
    async def t(self, ev: A) -> B:
        await asyncio.sleep(0.01)
        return B(n=ev.n)

    @step
    async def u(self, evs: list[B]) -> StopEvent:
        return StopEvent()


@case([["t", "preparing", "<enqueued>", "A"]] * 3)
async def each_event_of_a_list_that_has_to_queue_is_told():
    return await queued(Listed().run())


class Fails(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        raise ValueError


@case([None])
async def a_step_that_failed_is_told_without_an_output():
    changes = await internal(Fails().run(), StepStateChanged)
    return [c.output_event_name for c in changes if c.step_state is StepState.NOT_RUNNING]


class GivesNothing(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A())

    @step
    async def t(self, ev: A) -> StopEvent:
        return StopEvent()


@case(
    ["NoneType", "StopEvent"],
    peer_gives=["<class 'NoneType'>", "<class 'workflows.events.StopEvent'>"],
    because="names-in-step-state-changed",
)
async def a_step_that_gave_nothing_is_told_with_the_class_of_none():
    changes = await internal(GivesNothing().run(), StepStateChanged)
    return [c.output_event_name for c in changes if c.step_state is StepState.NOT_RUNNING]


class AsksOnce(Workflow):
    @step
    async def s(self, ev: StartEvent) -> Ask:
        return Ask(q="?")

    @step
    async def t(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.a)


@case(1)
async def an_idle_run_is_told_once():
    handler = AsksOnce().run()
    seen = 0
    async for ev in handler.stream_events(expose_internal=True):
        if isinstance(ev, WorkflowIdleEvent):
            seen += 1
            await handler.send_event(Answer(a="x"))
    return seen


class Sends(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.send_event(ev.what)
        await asyncio.sleep(0.02)
        return StopEvent()


@case([["A", "tests.compat.flows.A", None]])
async def an_event_that_nobody_takes_is_told():
    found = await internal(Sends().run(what=A()), UnhandledEvent)
    return [[ev.event_type, ev.qualified_name, ev.step_name] for ev in found]


@case([])
async def a_question_that_nobody_takes_is_not_told():
    return names(await internal(Sends().run(what=Ask()), UnhandledEvent))


@case([[True, True], {"timeout": 1.0, "active_steps": ["s"]}, {}, {}])
def terminal_events_are_stop_events():
    stops = (WorkflowTimedOutEvent, WorkflowCancelledEvent, WorkflowFailedEvent, IdleReleasedEvent)
    hidden = (StepStateChanged, UnhandledEvent, WorkflowIdleEvent)
    kinds = [all(issubclass(c, StopEvent) for c in stops), all(issubclass(c, InternalDispatchEvent) for c in hidden)]
    timed_out = WorkflowTimedOutEvent(timeout=1, active_steps=["s"])
    return kinds, timed_out.model_dump(), WorkflowCancelledEvent().model_dump(), IdleReleasedEvent().model_dump()


@case(["preparing", "running", "not_running"])
def step_states_have_their_values():
    return [state.value for state in StepState]


@case(
    {
        "step_name": "a",
        "exception": {"exception_type": "builtins.ValueError", "exception_message": "x"},
        "attempts": None,
        "elapsed_seconds": None,
    }
)
def a_failure_is_written_as_json():
    return WorkflowFailedEvent(step_name="a", exception=ValueError("x")).model_dump(mode="json")


@case([True, {"exception_type": "builtins.ValueError", "exception_message": "x"}])
def an_event_holds_the_exception_itself_and_dumps_it():
    error = ValueError("x")
    ev = WorkflowFailedEvent(step_name="a", exception=error)
    return ev.exception is error, ev.model_dump()["exception"]


class Holds(Event):
    error: SerializableException


@case(["ValueError('q')", "ValueError('q')"])
def an_exception_is_rebuilt_from_json():
    again = Holds.model_validate_json(Holds(error=ValueError("q")).model_dump_json())
    return repr(Holds(error=ValueError("q")).error), repr(again.error)


@case([["UnreconstructedException", "q", "no.such.Error"], ["UnreconstructedException", "q", "os.path"]])
def an_exception_that_cannot_be_rebuilt_has_a_stand_in():
    def rebuilt(name):
        written = {"error": {"exception_type": name, "exception_message": "q"}}
        error = Holds.model_validate(written).error
        return [type(error).__name__, str(error), getattr(error, "original_type", None)]

    return rebuilt("no.such.Error"), rebuilt("os.path")


@case(["message", "a.B", None])
def the_stand_in_names_the_original_type():
    error = UnreconstructedException("message", original_type="a.B")
    return str(error), error.original_type, UnreconstructedException("m").original_type


@case(["s", "StartEvent", "ValueError('x')", 1, True, "UTC"])
async def a_step_failed_event_says_what_failed():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError("x")

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            zone = str(ev.failed_at.tzinfo)
            shown = [ev.step_name, type(ev.input_event).__name__, repr(ev.exception), ev.attempts]
            return StopEvent(result=[*shown, ev.elapsed_seconds >= 0, zone])

    return await W().run()


@case([[], "", ""])
def a_collection_release_event_is_empty_by_default():
    ev = CollectionReleaseEvent()
    return ev.events, ev.stream_id, ev.binding_id


@case("x!")
async def a_question_that_is_returned_is_streamed():
    return await conversation(AsksOnce().run(), lambda ask: Answer(a="x!"))
