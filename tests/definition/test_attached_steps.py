"""Free functions become steps of a class, or of one instance."""

from __future__ import annotations

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent


class Joke(Event):
    text: str


async def test_steps_attach_to_one_instance_as_the_seeds_do() -> None:
    flow = Workflow(timeout=60)

    @step(workflow=flow)
    async def generate(ev: StartEvent) -> Joke:
        return Joke(text=f"A {ev.topic} walks into a bar")

    @step(workflow=flow)
    async def critique(ctx: Context, ev: Joke) -> StopEvent:
        return StopEvent(result=ev.text)

    assert await flow.run(topic="pirate") == "A pirate walks into a bar"
    with pytest.raises(WorkflowConfigurationError, match="has no steps"):
        Workflow().validate()


async def test_steps_attached_to_a_class_are_inherited() -> None:
    class Base(Workflow):
        pass

    @step(workflow=Base)
    async def answer(ev: StartEvent) -> StopEvent:
        return StopEvent(result="from the base")

    class Derived(Base):
        pass

    assert await Derived().run() == "from the base"


async def test_instances_that_are_there_get_what_is_attached_to_their_class() -> None:
    class Told(Workflow):
        @step
        async def tell(self, ev: StartEvent) -> Joke | StopEvent:
            return Joke(text="late")

    class Derived(Told):
        pass

    flow, derived = Told(), Derived()

    @step(workflow=Told)
    async def answer(ev: Joke) -> StopEvent:
        return StopEvent(result=ev.text)

    assert [await flow.run(), await derived.run()] == ["late", "late"]


async def test_an_instance_that_has_run_gets_what_is_attached_to_its_class() -> None:
    class Told(Workflow):
        @step
        async def tell(self, ev: StartEvent) -> StopEvent | None:
            return None if ev.get("again") else StopEvent(result="once")

    flow = Told()
    assert await flow.run() == "once"

    @step(workflow=Told)
    async def answer(ev: StartEvent) -> StopEvent | None:
        return StopEvent(result="late") if ev.get("again") else None

    assert await flow.run(again=True) == "late"


async def test_an_instance_is_checked_again_when_a_step_was_attached() -> None:
    class Told(Workflow):
        @step
        async def tell(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    flow = Told()
    await flow.run()

    @step(workflow=Told)
    async def lost(ev: StartEvent) -> Joke:
        return Joke(text="nobody takes it")

    with pytest.raises(WorkflowValidationError, match="produced but never consumed: Joke"):
        flow.run()


async def test_a_handler_of_failures_may_be_a_free_function() -> None:
    class Failing(Workflow):
        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            raise ValueError(ev.text)

    @catch_error
    async def mend(ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=f"mended {ev.step_name}")

    Failing.add_step(mend)
    assert await Failing().run(text="x") == "mended answer"


async def test_a_name_is_taken_once() -> None:
    class Named(Workflow):
        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowValidationError, match="has a step named answer already"):

        @step(workflow=Named)
        async def answer(ev: StartEvent) -> StopEvent:
            return StopEvent()


def test_a_free_function_must_say_its_workflow() -> None:
    with pytest.raises(WorkflowValidationError, match="is a free function: say which workflow it belongs to"):

        @step
        async def lost(ev: StartEvent) -> StopEvent:
            return StopEvent()


async def test_steps_run_in_definition_order() -> None:
    ran: list[str] = []

    class Ordered(Workflow):
        @step
        async def zebra(self, ev: StartEvent) -> None:
            ran.append("zebra")

        @step
        async def ant(self, ev: StartEvent) -> StopEvent:
            ran.append("ant")
            return StopEvent()

    await Ordered().run()
    assert ran == ["zebra", "ant"]


def test_property_getters_are_not_evaluated() -> None:
    class Careful(Workflow):
        @property
        def expensive(self) -> None:
            raise AssertionError("evaluated")

        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    Careful().validate()


async def test_annotations_may_name_classes_defined_later() -> None:
    class Early(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Later:
            return Later()

        @step
        async def second(self, ev: Later) -> StopEvent:
            return StopEvent(result="ok")

    assert await Early().run() == "ok"


class Later(Event):
    pass
