"""What a resource's factory needs in turn: the parameters that are annotated with resources themselves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from inspect import Parameter, ismethod, isroutine, signature
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from workflows._slotted import FieldsCompared, slotted
from workflows.errors import ResourceError

__all__ = ["Need", "check_needs", "is_descriptor", "needs_of", "resource_key"]


@slotted
class Need(FieldsCompared):
    """A parameter that is filled from a resource."""

    parameter: str
    resource: Any
    type_annotation: Any


def needs_of(factory: Callable[..., Any], localns: Mapping[str, Any]) -> tuple[Need, ...]:
    """The parameters of a factory that are annotated `Annotated[T, Resource(...)]`, in order.

    Raises:
        NameError: If such an annotation names something that cannot be found.
    """
    try:
        parameters = signature(factory).parameters
    except ValueError:  # some builtins have none
        return ()
    found: list[Need] = []
    for name, parameter in parameters.items():
        annotation = _evaluated(parameter, factory, localns)
        if get_origin(annotation) is Annotated:
            annotated, *extras = get_args(annotation)
            found += [Need(name, extra, annotated) for extra in extras if is_descriptor(extra)]
    return tuple(found)


def is_descriptor(extra: Any) -> bool:
    """Whether something in `Annotated[T, ...]` is a resource: ours, or what has the methods of one."""
    return hasattr(extra, "is_workflow_resource") or (hasattr(extra, "resolve") and hasattr(extra, "get_dependencies"))


def resource_key(resource: Any, type_annotation: Any = None) -> Hashable:
    """What makes two descriptors one resource: the factory itself, or the place in a file and the type it is read as.

    Good for as long as the descriptor lives.
    """
    factory = getattr(resource, "factory", None)
    if factory is not None:
        return (id(factory.__self__), id(factory.__func__)) if ismethod(factory) else id(factory)
    if hasattr(resource, "config_file"):
        return (resource.config_file, resource.path_selector, type_annotation)
    return id(resource)


def check_needs(resource: Any, above: tuple[Any, ...] = ()) -> None:
    """Check what a resource needs in turn, without making anything.

    Raises:
        ResourceError: If it needs itself, or lives longer than what it needs.
    """
    if any(resource_key(other) == resource_key(resource) for other in above):
        raise ResourceError(
            f"Circular resource dependency detected: {' -> '.join(r.name for r in (*above, resource))}. One of these "
            f"factories must do without the other."
        )
    if above and getattr(resource, "scope", None) == "run" and _outlives_runs(above[-1]):
        raise ResourceError(
            f"Resource {above[-1].name} is cached for all runs, but needs {resource.name}, which each run has its own "
            f"of. Give {above[-1].name} scope='run' as well."
        )
    for _, needed, _ in resource.get_dependencies():
        check_needs(needed, (*above, resource))


def _outlives_runs(resource: Any) -> bool:
    return resource.cache and getattr(resource, "scope", "workflow") == "workflow"


def _evaluated(parameter: Parameter, factory: Callable[..., Any], localns: Mapping[str, Any]) -> Any:
    annotation = parameter.annotation
    if not isinstance(annotation, str) and not _mentions_names(annotation):
        return annotation
    try:
        holder = SimpleNamespace(__annotations__={"it": annotation})
        return get_type_hints(holder, _globals(factory), dict(localns), include_extras=True)["it"]
    except NameError:
        if "Resource" in str(annotation):
            raise
        return None  # an ordinary parameter whose type is not imported at run time


def _mentions_names(annotation: Any) -> bool:
    return any(isinstance(part, str) or hasattr(part, "__forward_arg__") for part in get_args(annotation))


def _globals(factory: Any) -> dict[str, Any]:
    while hasattr(factory, "__wrapped__") or not hasattr(factory, "__globals__"):
        if hasattr(factory, "__wrapped__"):
            factory = factory.__wrapped__
        elif isinstance(factory, partial):
            factory = factory.func
        elif hasattr(factory, "__func__"):
            factory = factory.__func__
        elif isinstance(factory, type):
            factory = factory.__init__
        elif not isroutine(factory):
            factory = type(factory).__call__
        else:
            return {}
    return factory.__globals__
