"""What may answer a question: the event classes that its wait takes, and what it requires of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from mlflow_flavor._bytes_read import with_bytes
from mlflow_flavor._compat import invalid
from mlflow_flavor._kinds import is_a
from mlflow_flavor._serializer import home_of, modules_of
from workflows import Workflow
from workflows.context.serializers import JsonSerializer
from workflows.events import Event, HumanResponseEvent, InternalDispatchEvent, StopEvent
from workflows.instrumentation.records import WaitStarted

__all__ = ["Expected", "equal", "expected_by", "read_answer"]

Expected = dict[str, Any]
"""What a wait takes, as a token holds it: names of classes, whether classes below them do, and what it requires."""


def expected_by(wait: WaitStarted, serializer: JsonSerializer) -> Expected:
    """What this wait takes."""
    try:
        requires = serializer.serialize(dict(wait.requirements)) if wait.requirements else None
    except (ValueError, TypeError):  # the engine compares them in any case; then it asks again
        requires = None
    return {"takes": [_name_of(c) for c in wait.takes], "below": wait.subclasses, "requires": requires}


def read_answer(
    workflow: Workflow, wait_id: str, expected: Expected, answer: object, serializer: JsonSerializer
) -> Event:
    """The event that a caller's `{"type": class name, "data": fields}` stands for.

    Raises:
        MlflowException: If its class does not answer this wait, its fields do not fit, or not what the wait requires.
    """
    try:
        classes = _classes(workflow, expected, serializer)
        requires: Mapping[str, Any] = serializer.deserialize(expected["requires"]) if expected["requires"] else {}
    except ValueError as error:
        raise invalid(f"what may answer '{wait_id}' cannot be read: {error}") from error
    given = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    found = classes.get(str(given.get("type")))
    if found is None:
        raise invalid(f"answer '{wait_id}' names no event class that answers it: {', '.join(sorted(classes))}.")
    try:
        event = found(**with_bytes({**given.get("data", {})}, found))
    except (ValueError, TypeError) as error:
        raise invalid(f"answer '{wait_id}' does not fit {found.__name__}: {error}") from error
    for name, value in requires.items():
        if not equal(getattr(event, name, None), value):
            raise invalid(f"answer '{wait_id}' is not the one that was asked for: its '{name}' is another.")
    return event


def _classes(workflow: Workflow, expected: Expected, serializer: JsonSerializer) -> dict[str, type[Event]]:
    """The classes of the answers that a wait takes, by name."""
    known = {_name_of(c): c for c in _known(workflow)}
    takes: list[type[Event]] = []
    for name in expected["takes"]:
        found = known.get(name) or serializer.resolve_class(name)
        if issubclass(found, Event):
            takes.append(found)
    below = [c for c in known.values() if issubclass(c, tuple(takes))] if expected["below"] else []
    return {c.__name__: c for c in (*below, *takes)}


def _known(workflow: Workflow) -> Iterator[type[Event]]:
    """The event classes that a model's code names, at the top of its modules or in the signatures of its steps."""
    named: Iterable[object] = [item for module in modules_of(home_of(workflow)) for item in list(vars(module).values())]
    for item in (HumanResponseEvent, *named, *workflow.events):
        if is_a(item, type) and issubclass(item, Event) and not issubclass(item, InternalDispatchEvent | StopEvent):
            yield item


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def equal(value: object, required: object) -> bool:
    """Whether both are equal; what cannot be compared is not."""
    try:
        return bool(value == required)
    except Exception:  # noqa: BLE001  # both are the user's; an array, for one, has no truth value: it is no match
        return False
