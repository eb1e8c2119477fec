"""A handler of `llama_index_instrumentation` that writes down what it is told, ids without their random part."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_index_instrumentation
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr


class CallLog(BaseSpanHandler[BaseSpan]):
    """Lines `enter Jokes.write < Jokes.run`, `exit Jokes.write: ...`, `drop ...`, `event ...`, in order."""

    _lines: list[str] = PrivateAttr(default_factory=list)
    _entered: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """Everything."""
        return self._lines

    def spans(self) -> list[str]:
        """Only what was entered, exited and dropped."""
        return [line for line in self._lines if not line.startswith("event ")]

    def entered(self, name: str) -> dict[str, Any]:
        """What came with the span of that name that was entered last."""
        return self._entered[name]

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseSpan:
        facts = {"id": id_, "arguments": bound_args.arguments, "instance": instance, "tags": tags}
        self._entered[name_of(id_)] = facts
        self._lines.append(f"enter {name_of(id_)}" + (f" < {name_of(parent_span_id)}" if parent_span_id else ""))
        return BaseSpan(id_=id_, parent_id=parent_span_id)

    def prepare_to_exit_span(
        self, id_: str, bound_args: inspect.BoundArguments, instance: Any = None, result: Any = None, **kwargs: Any
    ) -> BaseSpan:
        self._lines.append(f"exit {name_of(id_)}: {result!r}")
        return self.open_spans[id_]

    def prepare_to_drop_span(
        self, id_: str, bound_args: inspect.BoundArguments, instance: Any = None, err: Any = None, **kwargs: Any
    ) -> BaseSpan:
        self._lines.append(f"drop {name_of(id_)}: {err!r}")
        return self.open_spans[id_]


class EventLog(BaseEventHandler):
    """Writes its lines into a `CallLog`: class name, span, and what the event says."""

    _log: CallLog = PrivateAttr()

    def __init__(self, log: CallLog) -> None:
        super().__init__()
        self._log = log

    @classmethod
    def class_name(cls) -> str:
        return "EventLog"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        said = {name: getattr(event, name) for name in type(event).model_fields if name not in BaseEvent.model_fields}
        self._log.lines.append(f"event {event.class_name()} in {name_of(event.span_id)}: {said}")


def name_of(span_id: str | None) -> str:
    """A span's name, `Class.step`."""
    return (span_id or "nothing").partition("-")[0]


@contextmanager
def logged() -> Iterator[CallLog]:
    """Registers both, as user code does."""
    root = llama_index_instrumentation.get_dispatcher()
    log = CallLog()
    root.add_span_handler(log)
    root.add_event_handler(events := EventLog(log))
    try:
        yield log
    finally:
        root.span_handlers.remove(log)
        root.event_handlers.remove(events)
