"""The current span in the task of a step: a run that is open for long goes on in another trace, its tasks do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow.entities import Span
from opentelemetry import trace

from mlflow_flavor._compat import otel_span

__all__ = ["CurrentSpan"]


class CurrentSpan(trace.Span):
    """Stands for the span of an attempt, and then for the one that it has in the run's next trace.

    The context of a task can be set only from within. What is in it stays; what that stands for may be another one.
    """

    def __init__(self, span: Span) -> None:
        self._stands_for: Any = otel_span(span)
        self._asked_for: Callable[[], None] | None = None
        self._span = self  # as MLflow asks for what OpenTelemetry knows

    def stand_for(self, span: Span) -> None:
        """From now on it is this one."""
        self._stands_for = otel_span(span)
        self._asked_for = None

    def is_over(self, asked_for: Callable[[], None] | None) -> None:
        """The span has ended with its trace; `asked_for` is called where somebody wants it, and may open the next one.

        What the step still does draws itself below what is current: that must be there then.
        """
        self._asked_for = asked_for

    @property
    def _of(self) -> Any:
        if (asked_for := self._asked_for) is not None:  # until it stands for another one: threads may ask at once
            asked_for()
        return self._stands_for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def end(self, end_time: int | None = None) -> None:
        self._of.end(end_time)

    def get_span_context(self) -> trace.SpanContext:
        return self._of.get_span_context()

    def set_attributes(self, attributes: Any) -> None:
        self._of.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self._of.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self._of.add_event(name, attributes, timestamp)

    def add_link(self, context: trace.SpanContext, attributes: Any = None) -> None:
        self._of.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self._of.update_name(name)

    def is_recording(self) -> bool:
        return self._of.is_recording()

    def set_status(self, status: Any, description: str | None = None) -> None:
        self._of.set_status(status, description)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        self._of.record_exception(exception, attributes, timestamp, escaped)
