"""A span of the bridge: one id, drawn by each of several handlers, and the events that are told about it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast
from uuid import uuid4

from workflows.events import Event
from workflows.instrumentation.content import SMALLEST_LIMIT, ContentPolicy, to_jsonable
from workflows.instrumentation.llama_index_handlers import EventHandler, Listener, SpanHandler

__all__ = ["BridgedSpan", "HasSteps", "Receiver", "arguments_of", "summary"]

OUTPUT_CHARS = 4096
SHOWN_EVENTS = 32

logger = logging.getLogger("workflows.instrumentation")
_failed: set[str] = set()


@dataclass(frozen=True, slots=True)
class Receiver:
    """A handler, and where it is called: in a context of its own (`around`), or in the one that is current."""

    handler: SpanHandler
    around: Context | None = None

    def inner(self) -> Receiver:
        """The same handler for a span below: what it does to its context stays in that span."""
        return Receiver(self.handler, self.around.copy() if self.around is not None else None)

    def call(self, method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Call the handler; what it raises is logged once and hurts nobody."""
        try:
            if self.around is None:
                return method(*arguments, **named)
            return self.around.run(method, *arguments, **named)
        except Exception as error:  # noqa: BLE001  # the guard around somebody else's handler, as theirs has one
            _log_failure(self.handler, error)
            return None

    def capture(self) -> Mapping[str, Any]:
        """What the handler needs to go on in another process; older handlers cannot."""
        capture = getattr(self.handler, "capture_propagation_context", None)
        return (self.call(capture) or {}) if capture is not None else {}

    def restore(self, carried: Mapping[str, Any]) -> None:
        """Let the handler go on with what it captured, maybe elsewhere."""
        restore = getattr(self.handler, "restore_propagation_context", None)
        if restore is not None:
            self.call(restore, carried)


class BridgedSpan:
    """One span, open from `enter` until `exit` or `drop`; its name is `{Class}.{what}-{uuid}`."""

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, object],
        tags: Mapping[str, Any],
        receivers: Sequence[Receiver],
        listeners: Sequence[EventHandler],
        instance: object = None,
    ) -> None:
        self.id = f"{name}-{uuid4()}"
        self.receivers = receivers
        self._listeners = listeners
        self._arguments = _bound(arguments)
        self._tags = tags
        self._instance = instance

    def enter(self, parent_id: str | None) -> None:
        """Begin it."""
        for receiver in self.receivers:
            self._call(receiver, receiver.handler.span_enter, parent_id=parent_id, tags=dict(self._tags))

    def exit(self, result: object = None) -> None:
        """End it well."""
        for receiver in reversed(self.receivers):
            self._call(receiver, receiver.handler.span_exit, result=result)

    def drop(self, error: BaseException) -> None:
        """End it by a failure."""
        for receiver in reversed(self.receivers):
            self._call(receiver, receiver.handler.span_drop, err=error)

    def tell(self, event_class: Callable[..., object], **facts: Any) -> None:
        """Tell an event about it to those who listen and draw it."""
        for listener in self._listeners:
            event = event_class(span_id=self.id, tags=dict(self._tags), **facts)
            try:
                listener.handle(event)
            except Exception as error:  # noqa: BLE001  # as in `Receiver.call`
                _log_failure(listener, error)

    def tell_output(self, event_class: Callable[..., object], output: Sequence[Event]) -> None:
        """Tell what it gave, if anything, as a text; the text is made only where somebody listens."""
        if self._listeners and output:
            self.tell(event_class, output=summary(output, OUTPUT_CHARS))

    def _call(self, receiver: Receiver, method: Callable[..., None], **facts: Any) -> None:
        receiver.call(method, id_=self.id, bound_args=self._arguments, instance=self._instance, **facts)


class StepParameters(Protocol):
    """A compiled step, as this layer sees it: how its function takes events."""

    @property
    def event_name(self) -> str: ...

    @property
    def event_parameters(self) -> Mapping[str, object]: ...

    @property
    def join(self) -> str: ...


class CompiledSteps(Protocol):
    """A compiled workflow, as this layer sees it."""

    @property
    def steps(self) -> Mapping[str, StepParameters]: ...


class Compiled(Protocol):
    """What holds a compiled workflow."""

    @property
    def spec(self) -> CompiledSteps: ...


class HasSteps(Protocol):
    """A workflow instance, as this layer sees it."""

    @property
    def __definition__(self) -> Compiled: ...


def arguments_of(workflow: HasSteps, step: str, events: Sequence[Event]) -> Mapping[str, object]:
    """A call's events, under the names of the step's parameters."""
    spec = workflow.__definition__.spec.steps[step]
    if spec.join == "each":
        return dict(zip(spec.event_parameters, events, strict=False))
    return {spec.event_name: events[0] if spec.join == "one" and events else list(events)}


def summary(events: Sequence[Event], longest: int) -> str:
    """Events as `Class(field=value)`, several in brackets, secrets masked, in at most `longest` characters."""
    policy = ContentPolicy(mode="full", max_chars=max(longest, SMALLEST_LIMIT))
    texts: list[str] = []
    for event in events[:SHOWN_EVENTS]:
        shown: object = to_jsonable(event, policy).value
        fields = cast("dict[str, Any]", shown) if isinstance(shown, dict) else {}
        texts.append(f"{type(event).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})")
    text = texts[0] if len(events) == 1 else f"[{', '.join(texts)}]"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _bound(arguments: Mapping[str, object]) -> inspect.BoundArguments:
    return _signature(tuple(arguments)).bind(**arguments)


@lru_cache(maxsize=1024)
def _signature(names: tuple[str, ...]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in names])


def _log_failure(handler: Listener, error: Exception) -> None:
    name = type(handler).__qualname__
    if name not in _failed:
        _failed.add(name)
        logger.error("handler %s of llama_index_instrumentation failed; its traces have gaps", name, exc_info=error)
