"""From the decorated functions of a workflow to its frozen description."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from workflows._spec import StepSpec, WorkflowSpec, fingerprint
from workflows.decorators import spec_of
from workflows.representation.validation import from_outside, joins_of, validate_events

__all__ = ["compiled", "specs_of"]


def compiled(name: str, functions: Mapping[str, Callable[..., Any]]) -> WorkflowSpec:
    """The description of the workflow that these step functions make, by name in definition order.

    Raises:
        WorkflowConfigurationError: If they do not accept exactly one StartEvent class, or do not return exactly one
            StopEvent class.
        ValueError: If their state types do not derive from one another.
    """
    steps = specs_of(functions)
    start, stop = validate_events(name, steps.values()) if steps else (None, None)
    return WorkflowSpec(
        name=name,
        steps=steps,
        routes={},
        start_event=start,
        stop_event=stop,
        state_type=_state_type(steps.values()),
        joins_of=joins_of(steps.values()),
        uses_resources=any(step.resources for step in steps.values()),
        from_outside=from_outside(steps.values()),
        error_handlers=_error_handlers(steps.values()),
        fingerprint=fingerprint(steps),
    )


def specs_of(functions: Mapping[str, Callable[..., Any]]) -> dict[str, StepSpec]:
    """The specs of step functions; each step is called as its attribute, whatever its function is called.

    They differ where the attribute is private by two underscores, where a factory made the functions, or where a step
    goes on under another name below a class that has one of its own name.
    """
    specs = {step: spec_of(function) for step, function in functions.items()}
    return {n: s if s.name == n else replace(s, name=n) for n, s in specs.items() if s is not None}


def _state_type(steps: Iterable[StepSpec]) -> type[Any] | None:
    found = list(dict.fromkeys(s.state_type for s in steps if s.state_type is not None))
    if not found:
        return None
    derived = max(found, key=lambda t: len(t.__mro__))
    if strangers := [t for t in found if not issubclass(derived, t)]:
        raise ValueError(
            f"Multiple state types are not in a compatible inheritance hierarchy. {derived.__name__} does not derive "
            f"from {', '.join(t.__name__ for t in strangers)}: let one Context[...] type inherit from the others."
        )
    return derived


def _error_handlers(steps: Iterable[StepSpec]) -> dict[str, StepSpec]:
    steps = list(steps)
    handlers = [s for s in steps if s.role == "catch_error"]
    wildcard = next((h for h in handlers if h.for_steps is None), None)
    found = {s.name: wildcard for s in steps if wildcard is not None and s.role == "step"}
    found.update({name: h for h in handlers for name in h.for_steps or ()})
    return found
