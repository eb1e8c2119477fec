"""What steps say of themselves by `dispatcher.event(...)`: shown on our spans, since no other span is there for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from llama_index_instrumentation.base import (  # pyright: ignore[reportMissingImports]  # loaded before this module is
    BaseEvent,  # pyright: ignore[reportUnknownVariableType]
)
from llama_index_instrumentation.event_handlers import (  # pyright: ignore[reportMissingImports]
    BaseEventHandler,  # pyright: ignore[reportUnknownVariableType]
)

from workflows.instrumentation.llama_index_handlers import unbridged
from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = [
    "INPUT_EVENT_TAG",
    "INPUT_SUMMARY_TAG",
    "RUN_ID_TAG",
    "START_EVENT_TAG",
    "NoteTaker",
    "StepNotes",
    "TagTaker",
    "bridges",
    "of_user",
]

RUN_ID_TAG = "llamaindex.run_id"
START_EVENT_TAG = "llamaindex.start_event"
INPUT_EVENT_TAG = "llamaindex.step.input_event"
INPUT_SUMMARY_TAG = "llamaindex.step.input_summary"
OWN_TAGS = frozenset((RUN_ID_TAG, START_EVENT_TAG, INPUT_EVENT_TAG, INPUT_SUMMARY_TAG))


class NoteTaker(Protocol):
    """A record handler that also shows what a step says of itself."""

    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        """Show it on what is drawn of the current attempt; its content is captured as that of any payload."""
        ...


class TagTaker(Protocol):
    """A record handler that also shows the tags that are around a run."""

    def tag(self, run_id: str, tags: Mapping[str, Any]) -> None:
        """Show them on what is drawn of the run."""
        ...


class KnowsTakers(Protocol):
    """The bridge of a run."""

    def takers(self, scope: AttemptScope, span_id: str | None) -> Iterable[NoteTaker]: ...


bridges: dict[str, KnowsTakers] = {}
"""Of the runs that are open, by their id."""


class StepNotes(BaseEventHandler):  # pyright: ignore[reportUntypedBaseClass]
    """Takes the events that steps send of themselves, which no span of a registered handler stands for."""

    @classmethod
    def class_name(cls) -> str:
        return "StepNotes"

    def handle(self, event: Any, **kwargs: Any) -> None:
        """Give an event to those of ours who draw the attempt in which it was sent."""
        scope = current_attempt.get()
        bridge = bridges.get(scope.run_id) if scope is not None else None
        if scope is None or bridge is None:
            return
        for taker in bridge.takers(scope, event.span_id):
            taker.note(_name(event), {**of_user(event.tags), **_fields(event)})


unbridged.add(StepNotes)


def of_user(tags: Mapping[str, Any]) -> dict[str, Any]:
    """The tags that the user gave, without those of the run and the step."""
    return {name: value for name, value in tags.items() if name not in OWN_TAGS}


def _name(event: Any) -> str:
    name = event.class_name()
    return event.__class__.__name__ if name == BaseEvent.class_name() else name  # pyright: ignore[reportUnknownMemberType]


def _fields(event: Any) -> dict[str, Any]:
    own: Mapping[str, Any] = event.__class__.model_fields
    common: Mapping[str, Any] = BaseEvent.model_fields  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return {name: getattr(event, name) for name in own if name not in common}
