"""Checks a compiled workflow before its first run and reports everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Iterable

from workflows._spec import StepSpec, WorkflowSpec, takes
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.representation.levels import joins_that_never_meet, never_in_a_list

__all__ = ["asks_people", "from_outside", "joins_of", "validate_events", "validate_graph"]

_FROM_OUTSIDE = (InputRequiredEvent, HumanResponseEvent, StopEvent, StepFailedEvent)
_TO_OUTSIDE = (InputRequiredEvent, StopEvent)


def validate_graph(spec: WorkflowSpec, skipped_checks: frozenset[str] = frozenset()) -> None:
    """Check that every event has a producer and a consumer and that every step can be reached and can end the run.

    Raises:
        WorkflowConfigurationError: If there are no steps.
        WorkflowValidationError: With everything that is wrong, a line each.
    """
    if not spec.steps:
        raise WorkflowConfigurationError(f"Workflow {spec.name} has no steps. Decorate at least one method with @step.")
    steps = list(spec.steps.values())
    problems = [*_stop_event_taken(spec, steps), *_never_produced(spec, steps), *_never_events(steps)]
    if "terminal_event" not in skipped_checks:
        problems += _never_consumed(spec, steps)
    problems += [*_unbound_joins(spec, steps), *joins_that_never_meet(steps), *_bad_error_handlers(spec, steps)]
    if not problems:
        if "reachability" not in skipped_checks:
            problems += _unreachable(spec, steps)
        if "dead_end" not in skipped_checks:
            problems += _dead_ends(spec, steps)
    if problems:
        raise WorkflowValidationError(f"Workflow {spec.name} is not valid:\n" + "\n".join(f"  - {p}" for p in problems))


def validate_events(name: str, steps: Iterable[StepSpec]) -> tuple[type[StartEvent], type[StopEvent]]:
    """The one StartEvent class that the steps accept and the one StopEvent class that they return.

    Raises:
        WorkflowConfigurationError: If there is not exactly one of each.
    """
    steps = list(steps)
    starts = _classes((c for s in steps for c in s.accepted_events), StartEvent)
    stops = _classes((c for s in steps for c in s.return_types), StopEvent)
    if len(starts) != 1:
        raise WorkflowConfigurationError(_not_one(name, "accepts", "StartEvent", starts, steps))
    if len(stops) != 1:
        raise WorkflowConfigurationError(_not_one(name, "returns", "StopEvent", stops, steps))
    return starts[0], stops[0]


def asks_people(spec: WorkflowSpec) -> bool:
    """Whether the workflow produces an `InputRequiredEvent` or takes a `HumanResponseEvent`."""
    steps = spec.steps.values()
    asks = any(issubclass(c, InputRequiredEvent) for s in steps for c in s.return_types)
    return asks or any(issubclass(c, HumanResponseEvent) for s in steps for c in s.accepted_events)


def from_outside(steps: Iterable[StepSpec]) -> bool:
    """Whether a class (other than start and failure events) is accepted that people answer with, or no step returns."""
    steps = list(steps)
    produced = {c for s in steps for c in s.return_types}
    accepted = {c for s in steps for c in s.accepted_events if not issubclass(c, (StartEvent, StepFailedEvent))}
    return any(issubclass(c, HumanResponseEvent) or c not in produced for c in accepted)


def joins_of(steps: Iterable[StepSpec]) -> dict[str, tuple[StepSpec, ...]]:
    """For each step that returns a list: the steps that gather its branches, found by following the events."""
    steps = list(steps)
    found: dict[str, tuple[StepSpec, ...]] = {}
    for producer in steps:
        joins: dict[str, StepSpec] = {}
        seen: set[tuple[type[Event], int]] = set()
        todo = [(c, 0) for c in producer.list_returns]
        while todo:
            event, depth = todo.pop()
            if (event, depth) in seen or depth > len(steps):
                continue
            seen.add((event, depth))
            for step in steps:
                if not takes(step, event):
                    continue
                if step.join == "list" and depth == 0:
                    joins[step.name] = step
                    continue
                inside = depth - (step.join == "list")
                todo += [(c, inside) for c in step.bare_returns] + [(c, inside + 1) for c in step.list_returns]
        if producer.list_returns:
            found[producer.name] = tuple(s for s in steps if s.name in joins)
    return found


def _unbound_joins(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    bound = {s.name for joins in spec.joins_of.values() for s in joins}
    joins = [s for s in steps if s.join == "list"]
    lost = {s.name: never_in_a_list(s, steps) if s.name in bound else s.accepted_events for s in joins}
    return [
        f"step '{name}' gathers a list of {_names(classes)}, but no step before it returns a list. "
        f"Annotate the producer `-> list[...]`, or use ctx.collect_events for events that are sent one by one."
        for name, classes in lost.items()
        if classes
    ]


def _classes(candidates: Iterable[type[Event]], base: type) -> list[type]:
    return list(dict.fromkeys(c for c in candidates if issubclass(c, base)))


def _not_one(name: str, verb: str, kind: str, found: list[type], steps: list[StepSpec]) -> str:
    if not found:
        return f"Workflow {name} has no step that {verb} a {kind}. At least one step must: annotate it."
    named = {s.name: s.accepted_events if verb == "accepts" else s.return_types for s in steps}
    where = "; ".join(f"{c.__name__} in {', '.join(n for n, classes in named.items() if c in classes)}" for c in found)
    return (
        f"Workflow {name} {verb} {len(found)} classes of {kind} ({where}), it must be exactly one. "
        f"Use one class everywhere; different inputs can be optional fields of it."
    )


def _names(classes: Iterable[type]) -> str:
    return ", ".join(sorted(c.__name__ for c in classes))


def _stop_event_taken(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    return [
        f"Step '{s.name}' cannot accept StopEvent: a StopEvent ends the run and goes to no step. "
        f"Let the step before it return another event."
        for s in steps
        if any(issubclass(c, StopEvent) for c in s.accepted_events)
    ]


def _never_produced(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    produced = {c for s in steps for c in s.return_types}
    problems: list[str] = []
    for step in steps:
        lost = [
            c
            for c in step.accepted_events
            if not issubclass(c, (*_FROM_OUTSIDE, StartEvent))
            and not any(p is c or (step.accept_event_subclasses and issubclass(p, c)) for p in produced)
        ]
        if lost:
            problems.append(
                f"The following events are consumed but never produced: {_names(lost)} (accepted by step "
                f"'{step.name}'). Let a step return them, or make them a HumanResponseEvent if they come from outside."
            )
    return problems


def _never_events(steps: list[StepSpec]) -> list[str]:
    return [
        f"step '{s.name}' is annotated to return {' and '.join(s.strange_returns)}, but a step returns an event, a "
        f"list[...] of events, or None. Give the value a field of an event, and the end of the run a StopEvent."
        for s in steps
        if s.strange_returns
    ]


def _never_consumed(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    problems: list[str] = []
    for step in steps:
        lost = [c for c in step.return_types if not issubclass(c, _TO_OUTSIDE) and not any(takes(s, c) for s in steps)]
        if lost:
            problems.append(
                f"The following events are produced but never consumed: {_names(lost)} (returned by step "
                f"'{step.name}'). Add a step that takes them, or return a StopEvent or an InputRequiredEvent. If a "
                f"wait_for_event is what takes them, skip the check: skip_graph_checks={{'terminal_event'}}."
            )
    return problems


def _bad_error_handlers(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    handlers = [s for s in steps if s.role == "catch_error"]
    problems: list[str] = []
    claimed: dict[str, str] = {}
    if len(wildcards := [h.name for h in handlers if h.for_steps is None]) > 1:
        problems.append(
            f"Only one @catch_error may cover every step, there are {len(wildcards)}: {', '.join(wildcards)}."
        )
    for handler in handlers:
        for name in handler.for_steps or ():
            if name not in spec.steps or spec.steps[name].role == "catch_error":
                problems.append(f"@catch_error '{handler.name}' covers '{name}', which is no step of {spec.name}.")
            elif name in claimed:
                problems.append(f"Step '{name}' is covered by two handlers: '{claimed[name]}' and '{handler.name}'.")
            claimed.setdefault(name, handler.name)
    return problems


def _unreachable(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    reached = {
        s.name
        for s in steps
        if s.role == "catch_error" or any(issubclass(c, (StartEvent, HumanResponseEvent)) for c in s.accepted_events)
    }
    grew = True
    while grew:
        events = {c for s in steps if s.name in reached for c in s.return_types}
        found = {s.name for s in steps if any(takes(s, c) for c in events)} - reached
        reached |= found
        grew = bool(found)
    return [
        f"[reachability] step '{s.name}' can never run: no chain of events leads to it from the StartEvent. "
        f"Let a reachable step return {_names(s.accepted_events)}, or skip the check."
        for s in steps
        if s.name not in reached and "reachability" not in s.skip_graph_checks
    ]


def _dead_ends(spec: WorkflowSpec, steps: list[StepSpec]) -> list[str]:
    ends = {s.name for s in steps if any(issubclass(c, (StopEvent, InputRequiredEvent)) for c in s.return_types)}
    grew = True
    while grew:
        found = {
            s.name for s in steps if any(t.name in ends and takes(t, c) for c in s.return_types for t in steps)
        } - ends
        ends |= found
        grew = bool(found)
    return [
        f"[dead_end] step '{s.name}' returns {_names(s.return_types)}, but no chain of events leads from there to a "
        f"StopEvent or an InputRequiredEvent."
        for s in steps
        if s.return_types and s.name not in ends and "dead_end" not in s.skip_graph_checks
    ]
