"""What a workflow class is made of: the step functions in it and attached to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from workflows.errors import WorkflowValidationError

__all__ = ["WorkflowMeta", "attach_to_class", "check_new_step", "step_function", "steps_of_class"]


class WorkflowMeta(type):
    """Gives every workflow class its own list of attached free-function steps."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        cls._step_functions: dict[str, Callable[..., Any]] = {}
        cls._step_functions_version = 0  # grows when a function is attached to the class, or to one above it


def steps_of_class(cls: type) -> dict[str, Callable[..., Any]]:
    """Every step function by name: base classes first, each in definition order."""
    steps: dict[str, Callable[..., Any]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            function = step_function(member)
            if function is not None:
                steps[name] = function
            elif name in steps:
                del steps[name]  # a subclass overrode the step with something that is none
        steps.update(vars(base).get("_step_functions", {}))
    return steps


def step_function(member: Any) -> Callable[..., Any] | None:
    """The decorated function that an attribute of a class is, or makes a class method of; None where it is no step.

    It may be any callable, of a class that decorates functions, say, and is asked only for what it holds itself: mocks,
    proxies of servers and the like have an attribute of every name, and others raise for one that they lack.
    """
    if isinstance(member, classmethod):
        member = member.__func__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # any function
    try:
        return member if callable(member) and "_step_config" in vars(member) else None
    except Exception:  # noqa: BLE001  # a proxy that stands for nothing at the moment, or what has no attributes
        return None


def attach_to_class(cls: WorkflowMeta, func: Callable[..., Any], known: Iterable[str]) -> None:
    """Attach a decorated free function to a class; instances that are there already get it, too.

    Raises:
        WorkflowValidationError: If it is not decorated with `@step`, or is named as one of the `known` steps.
    """
    check_new_step(cls.__name__, func, known)
    cls._step_functions[func.__name__] = func  # pyright: ignore[reportPrivateUsage]  # the metaclass above makes it
    _outdate(cls)


def _outdate(cls: WorkflowMeta) -> None:
    cls._step_functions_version += 1  # pyright: ignore[reportPrivateUsage]  # as above
    for derived in cls.__subclasses__():
        _outdate(derived)


def check_new_step(where: str, func: Callable[..., Any], known: Iterable[str]) -> None:
    """Refuse what cannot be attached as a step.

    Raises:
        WorkflowValidationError: If it is not decorated with `@step`, or a step of that name exists.
    """
    name = getattr(func, "__name__", repr(func))
    if step_function(func) is None:
        raise WorkflowValidationError(f"{name} is no step: decorate it with @step before it is added to {where}.")
    if name in known:
        raise WorkflowValidationError(f"{where} has a step named {name} already; give the function another name.")
