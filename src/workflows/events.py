"""Events: the messages between steps. Subclass `Event` and declare fields, or pass any keyword and read it back."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from workflows._dict_like import DictLikeModel, PostInit, unpacks

__all__ = [
    "CollectionReleaseEvent",
    "DictLikeModel",
    "Event",
    "EventType",
    "HumanResponseEvent",
    "IdleReleasedEvent",
    "InputRequiredEvent",
    "InternalDispatchEvent",
    "SerializableEvent",
    "SerializableEventType",
    "SerializableException",
    "SerializableOptionalEvent",
    "SerializableOptionalException",
    "StartEvent",
    "StepFailedEvent",
    "StepState",
    "StepStateChanged",
    "StopEvent",
    "UnhandledEvent",
    "UnreconstructedException",
    "WorkflowCancelledEvent",
    "WorkflowFailedEvent",
    "WorkflowIdleEvent",
    "WorkflowTimedOutEvent",
    "rebuild_exception",
]


class Event(DictLikeModel):
    """Base of everything that travels between steps."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class StartEvent(Event):
    """The first event of a run, built from the keywords of `Workflow.run()`."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class StopEvent(Event):
    """Ends its run; `result` is what `await handler` gives, unless a subclass is used, then the event itself is.

    A lone positional value is the `result`; in a subclass that declares exactly one required field, it is that field.
    """

    _result: Any = PrivateAttr(default=None)

    def __init__(self, result: Any = None, **fields: Any) -> None:
        cls = type(self)
        if cls is StopEvent:
            super().__init__(**fields)
        elif "result" in cls.model_fields:
            super().__init__(**({"result": result} if result is not None else {}), **fields)
        else:
            lone = _lone_required_field(cls) if result is not None and not fields else None
            super().__init__(**({lone: result} if lone else fields))
            if lone:
                return
        private = self.__pydantic_private__
        if result is not None and private is not None:  # always there; attribute access would take three times as long
            private["_result"] = result

    @property
    def result(self) -> Any:
        """What the run gives back."""
        return self._get_result()

    def _get_result(self) -> Any:
        """Override to compute the result from declared fields."""
        private = self.__pydantic_private__
        return private["_result"] if private is not None else None

    @model_serializer(mode="wrap")
    def _keep_result(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = self._keep_dynamic_fields_apart(dump)  # type: ignore[operator]  # pydantic leaves the function callable
        if self._result is not None:
            fields["result"] = self._result
        return fields

    def __str__(self) -> str:
        return str(self._result)

    def __repr__(self) -> str:
        shown = {**({} if self._result is None else {"result": self._result}), **self.__dict__, **self._data}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


_set_up: PostInit = StopEvent.model_post_init


@unpacks
def _set_up_at_once(self: StopEvent, context: Any, /) -> None:
    """What pydantic does for private attributes, without looking for them: every run makes a StopEvent."""
    if type(self) is StopEvent:
        object.__setattr__(self, "__pydantic_private__", {"_result": None})
        DictLikeModel.model_post_init(self, context)
    else:
        _set_up(self, context)


StopEvent.model_post_init = _set_up_at_once


def _lone_required_field(cls: type[BaseModel]) -> str | None:
    required = [name for name, field in cls.model_fields.items() if field.is_required()]
    return required[0] if len(required) == 1 else None


class InputRequiredEvent(Event):
    """Asks a person (or any outside party) for input; published to the stream when a step returns it."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class HumanResponseEvent(Event):
    """An answer from outside; steps may accept it though no step produces it."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...


class UnreconstructedException(Exception):  # a compatible name
    """Stands in for an exception that cannot be rebuilt from text; `original_type` is the name of its class."""

    def __init__(self, message: str = "", *, original_type: str | None = None) -> None:
        super().__init__(message)
        self.original_type = original_type

    def __repr__(self) -> str:
        return f"{type(self).__name__}(original_type={self.original_type!r}, {str(self)!r})"


def _exception_as_dict(error: BaseException | None) -> dict[str, str] | None:
    return None if error is None else {"exception_type": _full_name(type(error)), "exception_message": str(error)}


def rebuild_exception(name: str, message: str) -> Exception:
    """An exception of the class of that name, if it is loaded and takes a message; else a stand-in."""
    found = _loaded_class(name)
    if found is not None and issubclass(found, Exception):
        with suppress(TypeError):  # its constructor takes something else
            return found(message)
    return UnreconstructedException(message, original_type=name)


def _exception_from_dict(value: Any) -> Exception:
    if isinstance(value, Exception):
        return value
    saved = cast("dict[str, str]", value if value.__class__ is dict else {})
    if "exception_type" not in saved:
        raise ValueError(f"an Exception, or what it was dumped as, is needed here, not {type(value).__name__}")
    return rebuild_exception(saved["exception_type"], saved.get("exception_message", ""))


def _optional_exception_from_dict(value: Any) -> Exception | None:
    return None if value is None else _exception_from_dict(value)


def _event_as_dict(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {
        "__is_pydantic": True,
        "value": event.model_dump(mode="json"),
        "qualified_name": _full_name(type(event)),
    }


def _event_from_dict(value: Any) -> Event:
    if isinstance(value, Event):
        return value
    saved = cast("dict[str, Any]", value if value.__class__ is dict else {})
    if "qualified_name" not in saved:
        raise ValueError(f"an Event, or what it was dumped as, is needed here, not {type(value).__name__}")
    return _event_class(saved["qualified_name"]).model_validate(saved["value"])


def _optional_event_from_dict(value: Any) -> Event | None:
    return None if value is None else _event_from_dict(value)


def _event_class(value: Any) -> type[Event]:
    found: Any = _loaded_class(value) if isinstance(value, str) else value
    if isinstance(found, type) and issubclass(found, Event):
        return found
    raise ValueError(f"{value!r} is no class of events, or its module is not loaded; import it first")


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _loaded_class(name: str) -> type[Any] | None:
    """The class of that full name; reading it imports nothing."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for part in parts[cut:]:
                found = getattr(found, part, None)
            return found if isinstance(found, type) else None
    return None


SerializableException = Annotated[Exception, PlainValidator(_exception_from_dict), PlainSerializer(_exception_as_dict)]
"""An exception that a model may hold: dumped as its class and message; reading it imports nothing."""
SerializableOptionalException = Annotated[
    Exception | None, PlainValidator(_optional_exception_from_dict), PlainSerializer(_exception_as_dict)
]
"""The same, or None."""
SerializableEvent = Annotated[Event, PlainValidator(_event_from_dict), PlainSerializer(_event_as_dict)]
"""An event that a model may hold whatever its class: dumped with the name of that; reading it imports nothing."""
SerializableOptionalEvent = Annotated[
    Event | None, PlainValidator(_optional_event_from_dict), PlainSerializer(_event_as_dict)
]
"""The same, or None."""
SerializableEventType = Annotated[
    type[Event], PlainValidator(_event_class), PlainSerializer(_full_name, return_type=str)
]
"""A class of events that a model may hold: dumped as its full name; reading it imports nothing."""


class StepFailedEvent(Event):
    """What a `@catch_error` handler receives when a step has failed and its retries are used up.

    Times are in seconds; `failed_at` is in UTC.
    """

    step_name: str
    input_event: SerializableEvent
    exception: SerializableException
    attempts: int
    elapsed_seconds: float
    failed_at: datetime


class CollectionReleaseEvent(Event):
    """Stands for the events of a list's join that failed, as the `input_event` of its `StepFailedEvent`."""

    events: list[SerializableEvent] = Field(default_factory=list[Event])
    stream_id: str = ""
    binding_id: str = ""


class WorkflowTimedOutEvent(StopEvent):
    """Last event of the stream of a run that timed out."""

    timeout: float
    active_steps: list[str]


class WorkflowCancelledEvent(StopEvent):
    """Last event of the stream of a cancelled run."""


class WorkflowFailedEvent(StopEvent):
    """Last event of the stream of a failed run; `exception` is the live object."""

    step_name: str
    exception: SerializableException
    attempts: int | None = None
    elapsed_seconds: float | None = None


class IdleReleasedEvent(StopEvent):
    """What awaiting a run gives after it was suspended and released from memory."""


class InternalDispatchEvent(Event):
    """Base of events about the engine itself; streams hide them unless asked with `expose_internal=True`."""


class StepState(Enum):
    """What a worker of a step is doing."""

    PREPARING = "preparing"
    RUNNING = "running"
    NOT_RUNNING = "not_running"


class StepStateChanged(InternalDispatchEvent):
    """A worker of a step queued, began or ended."""

    name: str
    step_state: StepState
    worker_id: str
    input_event_name: str
    output_event_name: str | None = None


class WorkflowIdleEvent(InternalDispatchEvent):
    """Nothing runs and nothing is queued, yet the run is not finished: it waits for the outside."""


class UnhandledEvent(InternalDispatchEvent):
    """No step and no wait took an event."""

    event_type: str
    qualified_name: str
    step_name: str | None = None
    idle: bool


EventType = type[Event]
"""A class of events."""
