"""Older import path of the functions that read step signatures; what the engine itself uses is in `_signature`."""

from __future__ import annotations

import inspect
import secrets
import string
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from workflows._signature import ResourceParameter, is_context
from workflows._step_functions import step_function
from workflows.errors import WorkflowValidationError
from workflows.events import Event

__all__ = [
    "BUSY_WAIT_DELAY",
    "StepSignatureSpec",
    "get_steps_from_class",
    "get_steps_from_instance",
    "inspect_signature",
    "is_free_function",
    "validate_step_signature",
]

BUSY_WAIT_DELAY = 0.01
_ALPHABET = string.ascii_letters + string.digits


@dataclass
class StepSignatureSpec:
    """What a function's annotations say, whether or not they make a step.

    Attributes:
        accepted_events: Event classes by the name of the parameter that takes them.
        return_types: The members of the return annotation, without None.
    """

    accepted_events: dict[str, list[type[Event]]] = field(default_factory=dict[str, list[type[Event]]])
    return_types: list[Any] = field(default_factory=list[Any])
    context_parameter: str | None = None
    context_state_type: type[Any] | None = None
    resources: list[ResourceParameter] = field(default_factory=list[ResourceParameter])


def inspect_signature(fn: Callable[..., Any], localns: Mapping[str, Any] | None = None) -> StepSignatureSpec:
    """Read the annotations of a function; names that it mentions are looked up in its module, then in `localns`.

    Raises:
        TypeError: If it cannot be called.
        NameError: If an annotation names something that is not defined.
    """
    hints = get_type_hints(fn, localns=dict(localns or {}), include_extras=True)
    spec = StepSignatureSpec(return_types=_get_return_types(fn, localns))
    for name, parameter in inspect.signature(fn).parameters.items():
        hint = hints.get(name)
        if hint is None or name in ("self", "cls"):
            continue
        if is_context(hint):
            spec.context_parameter = name
            spec.context_state_type = next((a for a in get_args(hint) if isinstance(a, type)), None)
        elif get_origin(hint) is Annotated:
            annotated, *extras = get_args(hint)
            found = [e for e in extras if hasattr(e, "is_workflow_resource")]
            spec.resources += [ResourceParameter(name, resource, annotated) for resource in found]
        else:
            members = _get_param_types(parameter, hints)
            if members and all(isinstance(m, type) and issubclass(m, Event) for m in members):
                spec.accepted_events[name] = members
    return spec


def validate_step_signature(spec: StepSignatureSpec) -> None:
    """Check that a signature makes a step.

    Raises:
        WorkflowValidationError: If no parameter takes an event, or the return is not annotated.
    """
    if not spec.accepted_events:
        raise WorkflowValidationError(
            "Step signature must have at least one parameter annotated as type Event. Annotate one, "
            "for example `ev: StartEvent`."
        )
    if not spec.return_types:
        raise WorkflowValidationError(
            "Return types of workflows step functions must be annotated with their type. Annotate the event classes, "
            "or None."
        )


def get_steps_from_class(_class: object) -> dict[str, Callable[..., Any]]:
    """The step functions of a class by name, attached free functions included."""
    finder = getattr(_class, "_get_steps_from_class", None)
    if finder is not None:
        return dict(finder())
    return {n: f for n, f in inspect.getmembers(_class, inspect.isfunction) if step_function(f)}


def get_steps_from_instance(workflow: object) -> dict[str, Callable[..., Any]]:
    """The bound step methods of an instance by name, and the free functions attached to it."""
    finder = getattr(workflow, "_get_steps", None)
    if finder is not None:
        return {name: getattr(workflow, name, function) for name, function in finder().items()}
    return {n: f for n, f in inspect.getmembers(workflow, inspect.ismethod) if step_function(f.__func__)}


def is_free_function(qualname: str) -> bool:
    """Whether this is the `__qualname__` of a function that no class body defines.

    Raises:
        ValueError: If it is empty.
    """
    if not qualname:
        raise ValueError("The qualified name cannot be empty; pass a function's __qualname__.")
    return "." not in qualname.rpartition("<locals>.")[2]


def _get_param_types(param: inspect.Parameter, type_hints: Mapping[str, Any]) -> list[Any]:
    """The members of a parameter's annotation, without None."""
    return _members(type_hints.get(param.name, param.annotation))


def _get_return_types(func: Callable[..., Any], localns: Mapping[str, Any] | None = None) -> list[Any]:
    """The members of a function's return annotation, without None but where that is all; [] where there is none."""
    hints = get_type_hints(func, localns=dict(localns or {}))
    if "return" not in hints:
        return []
    return _members(hints["return"]) or [type(None)]


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for part in get_args(annotation) for m in _members(part)]
    return [] if annotation in (None, type(None)) else [annotation]


def _nanoid(size: int = 10) -> str:  # pyright: ignore[reportUnusedFunction]  # part of the older path
    return "".join(secrets.choice(_ALPHABET) for _ in range(size))
