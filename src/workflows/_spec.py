"""The frozen description of a step and of a workflow: compiled once, read by everything that runs.

Nothing is inspected at run time: routes, parameter names and state types are all decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workflows._signature import JoinKind, ResourceParameter
from workflows._slotted import FieldsShown, slotted
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, InputRequiredEvent, StartEvent, StopEvent

if TYPE_CHECKING:  # the words of retry policies are loaded by who has one
    from workflows.retry_policy import RetryPolicy

__all__ = ["HasSpec", "Route", "StepRole", "StepSpec", "WorkflowSpec", "fingerprint", "taken_as", "takes"]

StepRole = Literal["step", "catch_error"]


@slotted
class StepSpec(FieldsShown):
    """What a step function takes, gives and is allowed.

    Attributes:
        name: That of the attribute of its class, else the function's; unique in its workflow.
        function: The undecorated callable, unbound.
        is_method: Takes the workflow instance first.
        is_async: A coroutine function; others run in a thread.
        plain: A coroutine function that takes one event, no resource and has no timeout: the short way to call it.
        event_name: Name of the (first) event parameter.
        event_parameters: Parameter name to the event classes it takes, in signature order.
        context_parameter: Name of the parameter annotated `Context`, if there is one.
        state_type: `T` of `Context[T]`.
        accepted_events: Every class that can trigger the step.
        return_types: Every event class that the return annotation names.
        list_returns: Those among them that it returns in a list, each starting a branch.
        bare_returns: Those among them that it returns as they are.
        strange_returns: What else the return annotation names; no step can return that.
        join: "one" runs for each event; "each" waits for one of every parameter; "list" gathers the branches of a list.
        take: With "list": how many are enough; None is all.
        num_workers: How many calls of the step may run at once in one run.
        timeout: Seconds that one attempt may take.
        max_attempts: Where the retry policy says it.
        policy_takes_seed: The policy's `next()` has a `seed` parameter.
    """

    name: str
    function: Callable[..., Any]
    is_method: bool
    is_async: bool
    plain: bool
    event_name: str
    event_parameters: Mapping[str, tuple[type[Event], ...]]
    accepted_events: tuple[type[Event], ...]
    return_types: tuple[type[Event], ...]
    list_returns: tuple[type[Event], ...] = ()
    bare_returns: tuple[type[Event], ...] = ()
    strange_returns: tuple[str, ...] = ()
    join: JoinKind = "one"
    take: int | None = None
    context_parameter: str | None = None
    state_type: type[Any] | None = None
    resources: tuple[ResourceParameter, ...] = ()
    num_workers: int = 4
    retry_policy: RetryPolicy | None = None
    max_attempts: int | None = None
    policy_takes_seed: bool = False
    timeout: float | None = None
    accept_event_subclasses: bool = False
    skip_graph_checks: frozenset[str] = frozenset()
    role: StepRole = "step"
    for_steps: tuple[str, ...] | None = None
    max_recoveries: int = 1

    @property
    def context_state_type(self) -> type[Any] | None:
        """The compatible name of `state_type`."""
        return self.state_type


@slotted
class Route(FieldsShown):
    """What becomes of the events of one class; the flags spare a check of the class for every event.

    Attributes:
        takers: The steps that take them.
        joined: One of these gathers several.
        asks: They ask a person.
        ends_run: They end the run.
        one: The only taker, where an event simply makes a call of one step: so it is for nearly every class.
    """

    takers: tuple[StepSpec, ...]
    joined: bool
    asks: bool
    ends_run: bool
    one: StepSpec | None


@slotted
class WorkflowSpec(FieldsShown):
    """A workflow as compiled: its steps in definition order and where each event class goes.

    Attributes:
        name: Class name, or the explicit `workflow_name`.
        routes: By exact event class; grows with subclasses as they are met.
        start_event: The one StartEvent class that is accepted; None in a workflow without steps.
        stop_event: The one StopEvent class that is returned.
        state_type: Most derived state class of the steps' `Context[T]`; None means free-form state.
        joins_of: Step that returns a list to the steps that gather its branches.
        uses_resources: A step has a parameter that is filled from a resource.
        from_outside: A class is accepted that people answer with, or that no step returns: it may wake an idle run.
        fingerprint: Hash of steps, accepted and produced classes: what a snapshot must still fit.
    """

    name: str
    steps: Mapping[str, StepSpec]
    routes: dict[type[Event], Route]
    start_event: type[StartEvent] | None
    stop_event: type[StopEvent] | None
    state_type: type[Any] | None
    joins_of: Mapping[str, tuple[StepSpec, ...]] = field(default_factory=dict[str, "tuple[StepSpec, ...]"])
    uses_resources: bool = False
    from_outside: bool = False
    error_handlers: Mapping[str, StepSpec] = field(default_factory=dict[str, StepSpec])
    fingerprint: str = ""

    def route(self, event_class: type[Event]) -> Route:
        """Where events of exactly this class go: to these steps, in definition order.

        Raises:
            WorkflowRuntimeError: If it is no class of events.
        """
        found = self.routes.get(event_class)
        if found is None:
            if not issubclass(event_class, Event):  # pyright: ignore[reportUnnecessaryIsInstance]  # steps return anything
                raise WorkflowRuntimeError(
                    f"An Event instance is needed, got {event_class.__name__}. Subclass workflows.events.Event."
                )
            takers = tuple(s for s in self.steps.values() if takes(s, event_class))
            joined = any(s.join != "one" for s in takers)
            asks = issubclass(event_class, InputRequiredEvent)
            one = takers[0] if len(takers) == 1 and not joined and not asks else None
            found = Route(takers, joined, asks, issubclass(event_class, StopEvent), one)
            self.routes[event_class] = found
        return found


class HasSpec(Protocol):
    """What holds the spec of a workflow instance: its `__definition__`."""

    @property
    def spec(self) -> WorkflowSpec: ...


def takes(step: StepSpec, event_class: type[Event]) -> bool:
    """Whether events of this class trigger the step."""
    if event_class in step.accepted_events:
        return True
    return step.accept_event_subclasses and issubclass(event_class, step.accepted_events)


def taken_as(step: StepSpec, event_class: type[Event]) -> type[Event]:
    """Which of the classes that trigger a step events of this class count for: its own, else the nearest above it."""
    return next((c for c in event_class.__mro__ if c in step.accepted_events), event_class)


def fingerprint(steps: Mapping[str, StepSpec]) -> str:
    """16 hex digits that change when a step, or what it takes or returns, changes."""
    text = "\n".join(
        f"{name}({','.join(sorted(e.__name__ for e in step.accepted_events))})"
        f"->{','.join(sorted(e.__name__ for e in step.return_types))}"
        for name, step in sorted(steps.items())
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
