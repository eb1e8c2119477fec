"""Error classes: which there are, how they relate, and what they say."""

import asyncio

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Echo
from workflows import Context, Workflow, errors, step
from workflows.events import StartEvent, StopEvent

CLASSES = [
    errors.WorkflowValidationError,
    errors.WorkflowConfigurationError,
    errors.WorkflowRuntimeError,
    errors.WorkflowTimeoutError,
    errors.WorkflowCancelledByUser,
    errors.ContextSerdeError,
    errors.ContextStateError,
    errors.WorkflowDone,
    errors.WorkflowStepDoesNotExistError,
]


@case([True, []])
def none_of_them_is_another():
    related = [(a.__name__, b.__name__) for a in CLASSES for b in CLASSES if a is not b and issubclass(a, b)]
    return all(issubclass(cls, Exception) for cls in CLASSES), related


@case([True, True])
def an_error_takes_and_shows_a_message():
    made = [cls("what is wrong") for cls in CLASSES]
    return all(str(error) == "what is wrong" for error in made), all(e.args == ("what is wrong",) for e in made)


async def text_of(awaited):
    try:
        await awaited
    except Exception as error:
        return str(error)
    return ""


@case([True, True])
async def a_timeout_names_the_seconds_and_the_steps():
    class W(Workflow):
        @step
        async def slow(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1)
            return StopEvent()

    text = await text_of(W(timeout=0.05).run())
    return "0.05 seconds" in text, "slow" in text


@case([True, True])
async def a_start_event_that_cannot_be_built_is_named():
    class Start(StartEvent):
        q: str

    class W(Workflow):
        @step
        async def s(self, ev: Start) -> StopEvent:
            return StopEvent()

    try:
        W().run(k=1)
    except errors.WorkflowRuntimeError as error:
        return "Start" in str(error), "k" in str(error)


@case([True, True])
async def what_a_step_returned_instead_of_an_event_is_named():
    class W(Workflow):
        @step
        async def wrong(self, ev: StartEvent) -> StopEvent:
            return "text"  # type: ignore[return-value]

    text = await text_of(W().run())
    return "wrong" in text, "str" in text


@case([[True, True], [True, True]])
async def an_event_that_cannot_be_sent_is_named_with_its_step():
    found = []

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for name in ("missing", "s"):
                try:
                    ctx.send_event(A(), step=name)
                except errors.WorkflowRuntimeError as error:
                    found.append(str(error))
            return StopEvent()

    await W().run()
    unknown, refused = found
    return ["missing" in unknown, "not exist" in unknown], ["s" in refused, "A" in refused]


@case(["!WorkflowConfigurationError", "!WorkflowValidationError", "!ValueError"])
async def errors_of_run_are_raised_at_once():
    class NoEnd(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A()

    class Unread(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | A:
            return A()

    return (
        error_of(lambda: NoEnd().run()),
        error_of(lambda: Unread().run()),
        error_of(lambda: Echo().run(start_event=StopEvent())),  # type: ignore[arg-type]
    )


@case(["!WorkflowRuntimeError", "!WorkflowRuntimeError"])
async def code_outside_a_step_is_told_so():
    async def reads():
        return Context.get_step_context()

    return error_of(Context.get_step_context), await outcome(reads())


@case([True, "!ValueError"])
async def the_cause_of_an_error_is_kept():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            try:
                raise KeyError("inner")
            except KeyError as inner:
                raise ValueError("outer") from inner

    try:
        await W().run()
    except ValueError as error:
        return isinstance(error.__cause__, KeyError), f"!{type(error).__name__}"
