"""Reads a step function's annotations: which events it takes and returns, its context, its resources."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints

from workflows._resource_needs import is_descriptor
from workflows._slotted import FieldsCompared, FieldsShown, slotted
from workflows.errors import WorkflowValidationError
from workflows.events import Event

__all__ = ["JoinKind", "ResourceParameter", "StepSignature", "UnresolvedAnnotation", "caller_locals", "read_signature"]

FRAMES_SEARCHED = 4
JoinKind = Literal["one", "each", "list"]


class UnresolvedAnnotation(WorkflowValidationError):
    """An annotation names something that is not defined (yet)."""


@slotted
class ResourceParameter(FieldsCompared):
    """A step parameter that is filled from a resource: its name, the resource's descriptor and the annotated type."""

    name: str
    resource: Any
    type_annotation: Any


@slotted
class StepSignature(FieldsShown):
    """What the annotations of a step function say."""

    is_method: bool
    event_parameters: Mapping[str, tuple[type[Event], ...]]
    join: JoinKind
    take: int | None
    list_returns: tuple[type[Event], ...]
    bare_returns: tuple[type[Event], ...]
    return_types: tuple[type[Event], ...]
    strange_returns: tuple[str, ...]
    context_parameter: str | None
    state_type: type[Any] | None
    resources: tuple[ResourceParameter, ...]


def caller_locals(function: Callable[..., Any], depth: int) -> dict[str, Any]:
    """Names visible where a local class or function is being defined: annotations there may mention them."""
    names: dict[str, Any] = {}
    for level in range(depth + FRAMES_SEARCHED, depth - 1, -1):
        try:
            frame = sys._getframe(level)  # pyright: ignore[reportPrivateUsage]  # the only way to see a caller's locals
        except ValueError:
            continue
        if frame.f_globals.get("__name__") == function.__module__:
            names.update(frame.f_locals)
    return names


def read_signature(function: Callable[..., Any], local_names: Mapping[str, Any] | None = None) -> StepSignature:
    """The signature of a step function.

    Raises:
        UnresolvedAnnotation: If an annotation names something that cannot be found.
        WorkflowValidationError: If no parameter is annotated with an event class, or the return is not annotated.
    """
    hints = _hints(function, local_names or {})
    parameters = inspect.signature(function).parameters
    is_method = next(iter(parameters), "") in ("self", "cls")
    events: dict[str, tuple[type[Event], ...]] = {}
    gathered: Any = None
    resources: list[ResourceParameter] = []
    context_parameter: str | None = None
    state_type: type[Any] | None = None
    for name in parameters:
        annotation = hints.get(name)
        if annotation is None or (is_method and name in ("self", "cls")):
            continue
        if is_context(annotation):
            context_parameter = name
            state_type = next((a for a in get_args(annotation) if isinstance(a, type)), None)
        elif resource := _resource(name, annotation, local_names or {}):
            resources.append(resource)
        elif classes := _event_classes(annotation):
            events[name] = classes
        elif classes := _list_classes(annotation):
            events[name] = classes
            gathered = annotation
    _require_annotations(function, events, hints)
    bare_returns, list_returns, strange_returns = _returns(function, hints["return"])
    return StepSignature(
        is_method=is_method,
        event_parameters=events,
        join=_join(function, events, gathered),
        take=_take(gathered),
        return_types=tuple(dict.fromkeys((*bare_returns, *list_returns))),
        list_returns=list_returns,
        bare_returns=bare_returns,
        strange_returns=strange_returns,
        context_parameter=context_parameter,
        state_type=state_type,
        resources=tuple(resources),
    )


def is_context(annotation: Any) -> bool:
    """Whether an annotation is `Context` or `Context[T]`; by name, so that this layer needs no import of it."""
    return getattr(get_origin(annotation) or annotation, "__name__", None) == "Context"


def _hints(function: Callable[..., Any], local_names: Mapping[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = getattr(function, "__annotations__", {})
    if not any(isinstance(a, str) or _has_forward_reference(a) for a in raw.values()):
        return dict(raw)
    try:
        return get_type_hints(function, localns=dict(local_names), include_extras=True)
    except NameError as error:
        raise UnresolvedAnnotation(
            f"Step {function.__qualname__}: the annotation names {error.name!r}, which is not defined where the step "
            f"is. Define or import it above the workflow class (not only under TYPE_CHECKING).",
            step=function.__name__,
        ) from error


def _has_forward_reference(annotation: Any) -> bool:
    return isinstance(annotation, ForwardRef) or any(
        isinstance(a, (str, ForwardRef)) or _has_forward_reference(a)
        for a in get_args(annotation)
        if get_origin(annotation) is not Annotated or isinstance(a, (str, ForwardRef))
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated and not _list_classes(annotation):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(m for part in get_args(annotation) for m in _members(part))
    return (annotation,)


def _is_event(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Event)


def _event_classes(annotation: Any) -> tuple[type[Event], ...]:
    members = [m for m in _members(annotation) if m is not type(None)]
    return tuple(members) if members and all(_is_event(m) for m in members) else ()


def _list_classes(annotation: Any) -> tuple[type[Event], ...]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is list:
        return _event_classes(get_args(annotation)[0])
    return ()


def _resource(name: str, annotation: Any, local_names: Mapping[str, Any]) -> ResourceParameter | None:
    if get_origin(annotation) is not Annotated:
        return None
    annotated, *extras = get_args(annotation)
    for extra in extras:
        if is_descriptor(extra):
            extra.set_localns(dict(local_names))
            extra.set_type_annotation(annotated)
            return ResourceParameter(name, extra, annotated)
    return None


def _require_annotations(function: Callable[..., Any], events: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    where = f"Step {function.__qualname__}"
    if not events:
        raise WorkflowValidationError(
            f"{where} has no parameter annotated with an event class, so nothing could ever trigger it. "
            f"Annotate one, for example `ev: StartEvent`.",
            step=function.__name__,
        )
    if "return" not in hints:
        raise WorkflowValidationError(
            f"{where} has no return annotation, so the workflow cannot know what it produces. "
            f"Annotate it, for example `-> StopEvent` (or `-> None`).",
            step=function.__name__,
        )


def _join(function: Callable[..., Any], events: Mapping[str, tuple[type[Event], ...]], gathered: Any) -> JoinKind:
    where = f"Step {function.__qualname__}"
    if gathered is not None:
        if len(events) > 1:
            raise WorkflowValidationError(
                f"{where} takes a list of events and other events besides ({', '.join(events)}). A step that gathers a "
                f"list takes nothing else: put a step between.",
                step=function.__name__,
            )
        return "list"
    unions = [name for name, classes in events.items() if len(classes) > 1]
    if len(events) > 1 and unions:
        raise WorkflowValidationError(
            f"{where} waits for one event of each of its parameters, so each names one class: "
            f"{', '.join(unions)} names several. Use one parameter with a union to run for either.",
            step=function.__name__,
        )
    return "each" if len(events) > 1 else "one"


def _take(gathered: Any) -> int | None:
    if get_origin(gathered) is not Annotated:
        return None
    from workflows.collect import Collect, Take  # loaded by who annotates with them

    cardinality = next((e.cardinality for e in get_args(gathered)[1:] if isinstance(e, Collect)), None)
    return cardinality.n if isinstance(cardinality, Take) else None


def _returns(
    function: Callable[..., Any], annotation: Any
) -> tuple[tuple[type[Event], ...], tuple[type[Event], ...], tuple[str, ...]]:
    """What a step returns as it is, in lists, and what no step can return, as its author wrote it."""
    if inspect.isasyncgenfunction(function) or get_origin(annotation) in (AsyncGenerator, AsyncIterator):
        raise WorkflowValidationError(
            f"Step {function.__qualname__} is an async generator; a step returns events. Send several with "
            f"ctx.send_event(...), or stream progress with ctx.write_event_to_stream(...).",
            step=function.__name__,
        )
    bare: list[type[Event]] = []
    listed: list[type[Event]] = []
    strange: list[str] = []
    for member in _members(annotation):
        if found := _list_classes(member):
            listed.extend(found)
        elif _is_event(member):
            bare.append(member)
        elif member not in (None, type(None)):
            strange.append(member.__name__ if isinstance(member, type) and not get_args(member) else str(member))
    return tuple(dict.fromkeys(bare)), tuple(dict.fromkeys(listed)), tuple(strange)
