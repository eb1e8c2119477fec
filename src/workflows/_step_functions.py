"""What a workflow class is made of: the step functions in it and attached to it, and the start event of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from workflows.errors import WorkflowRuntimeError, WorkflowValidationError
from workflows.events import StartEvent

__all__ = ["WorkflowMeta", "check_new_step", "option_in", "start_event_from", "steps_of_class"]


class WorkflowMeta(type):
    """Gives every workflow class its own list of attached free-function steps."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        cls._step_functions: dict[str, Callable[..., Any]] = {}


def steps_of_class(cls: type) -> dict[str, Callable[..., Any]]:
    """Every step function by name: base classes first, each in definition order."""
    steps: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if hasattr(member, "_step_config"):
                steps[name] = member
            elif name in steps:
                del steps[name]  # a subclass overrode the step with something that is none
        steps.update(vars(base).get("_step_functions", {}))
    return steps


def check_new_step(where: str, func: Callable[..., Any], known: Iterable[str]) -> None:
    """Refuse what cannot be attached as a step.

    Raises:
        WorkflowValidationError: If it is not decorated with `@step`, or a step of that name exists.
    """
    name = getattr(func, "__name__", repr(func))
    if not hasattr(func, "_step_config"):
        raise WorkflowValidationError(f"{name} is no step: decorate it with @step before it is added to {where}.")
    if name in known:
        raise WorkflowValidationError(f"{where} has a step named {name} already; give the function another name.")


def option_in(start_event: StartEvent | None, name: str) -> Any:
    """An option of `run()` that a `run()` of the user's own put into the start event, as llama-index's agents do."""
    extra = getattr(start_event, "__pydantic_extra__", None)
    return extra.pop(name, None) if extra else None


def start_event_from(cls: type[StartEvent], fields: Mapping[str, Any]) -> StartEvent:
    """The first event of a run, of the keywords that `run()` got.

    Raises:
        WorkflowRuntimeError: If they do not make one; its text names each.
    """
    try:
        return cls(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise WorkflowRuntimeError(
            f"Failed creating a start event of type '{cls.__name__}' with the keyword arguments: "
            f"{', '.join(fields) or 'none'}. {wrong}. Pass these to run()."
        ) from error
