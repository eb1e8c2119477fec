"""Import paths of older versions and of other packages: what is there works."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from workflows import Context, Workflow, step
from workflows.context.external_context import ExternalContext
from workflows.context.utils import get_qualified_name, import_module_from_qualified_name
from workflows.decorators import make_step_function
from workflows.errors import WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.instrumentation.history import history_from_records
from workflows.plugins.basic import basic_runtime
from workflows.runtime.types.plugin import Runtime
from workflows.runtime.types.results import WaitingForEvent
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult
from workflows.service import ServiceManager, ServiceNotFoundError
from workflows.testing import RecordLog
from workflows.utils import (
    BUSY_WAIT_DELAY,
    _get_param_types,
    _get_return_types,
    _nanoid,
    get_steps_from_class,
    get_steps_from_instance,
    inspect_signature,
    is_free_function,
    validate_step_signature,
)


class Work(Event):
    pass


class Flow(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Work:
        return Work()

    @step
    async def finish(self, ev: Work) -> StopEvent:
        return StopEvent()


def takes_much(self: object, ctx: Context[Work], ev: Work | StartEvent, other: int) -> Work | None: ...


def takes_nothing(a) -> None: ...  # type: ignore[no-untyped-def]


def test_a_signature_is_read() -> None:
    spec = inspect_signature(takes_much)
    assert spec.accepted_events == {"ev": [Work, StartEvent]}
    assert (spec.return_types, spec.context_parameter, spec.context_state_type) == ([Work], "ctx", Work)
    validate_step_signature(spec)


@pytest.mark.parametrize(
    ("function", "message"), [(takes_nothing, "at least one parameter"), (lambda ev: ev, "at least one parameter")]
)
def test_a_signature_that_makes_no_step_is_refused(function: object, message: str) -> None:
    with pytest.raises(WorkflowValidationError, match=message):
        validate_step_signature(inspect_signature(function))  # type: ignore[arg-type]


def test_types_of_a_parameter_and_of_the_return_leave_none_out() -> None:
    parameter = inspect.signature(takes_much).parameters["ev"]
    assert _get_param_types(parameter, get_type_hints(takes_much)) == [Work, StartEvent]
    assert _get_return_types(takes_much) == [Work]
    assert _get_return_types(takes_nothing) == [type(None)]


def test_steps_are_found_on_classes_and_instances() -> None:
    assert list(get_steps_from_class(Flow)) == ["start", "finish"]
    assert get_steps_from_instance(Flow())["start"].__self__.__class__ is Flow  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "free"), [("f", True), ("A.f", False), ("x.<locals>.f", True), ("x.<locals>.A.f", False)]
)
def test_a_free_function_is_known_by_its_name(name: str, free: bool) -> None:
    assert is_free_function(name) is free


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be empty"):
        is_free_function("")


def test_small_names_are_there() -> None:
    assert BUSY_WAIT_DELAY == 0.01
    assert len(_nanoid()) == 10
    assert isinstance(basic_runtime, Runtime)
    assert issubclass(WaitingForEvent, Exception)


def test_a_qualified_name_leads_back_to_the_class() -> None:
    assert get_qualified_name(StartEvent()) == "workflows.events.StartEvent"
    assert import_module_from_qualified_name("workflows.events.StartEvent") is StartEvent


@pytest.mark.parametrize(
    ("name", "error"), [("Event", ValueError), ("nope_nope.X", ImportError), ("workflows.events.Nope", AttributeError)]
)
def test_a_name_that_leads_nowhere_is_an_error(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        import_module_from_qualified_name(name)


def test_services_are_kept_by_name() -> None:
    services = ServiceManager()
    services.add("inner", Flow())
    assert isinstance(services.get("inner"), Flow)
    assert services.get("other", default=1) == 1
    with pytest.raises(ServiceNotFoundError, match="Known services: inner"):
        services.get("other")


async def test_a_run_is_told_as_ticks_with_one_stand_in_for_each_event(records: RecordLog) -> None:
    await Flow().run()
    history = history_from_records(records.records)
    assert history is not None
    ticks = ExternalContext(history)._tick_log
    assert [type(t) for t in ticks] == [TickAddEvent, TickStepResult, TickStepResult]
    first, second = (t for t in ticks if isinstance(t, TickStepResult))
    assert [t.step_id for t in (first, second)] == ["start", "finish"]
    assert first.result[0].result is second.event  # type: ignore[union-attr]
    assert type(second.event) is Work


async def test_a_step_is_made_without_a_decorator() -> None:
    async def answer(ev: StartEvent) -> StopEvent:
        return StopEvent(result=42)

    class Made(Workflow):
        pass

    Made.add_step(make_step_function(answer, num_workers=1))
    assert await Made().run() == 42
