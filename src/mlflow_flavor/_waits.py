"""The waits of one run: each is drawn when it is over, so that no span is ever open for one."""

from __future__ import annotations

from typing import Any

from mlflow.entities import Span, SpanStatus, SpanStatusCode

from mlflow_flavor._calls import end_span, start_span
from mlflow_flavor._payloads import Shown, show
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy
from workflows.instrumentation.records import WaitRecord, WaitResolved, WaitStarted, WaitTimedOut

__all__ = ["Waits"]

WAIT_SPAN = "wait_for_event"


class Waits:
    """Those that are under way, and how those that are over are drawn."""

    def __init__(self, content: ContentPolicy) -> None:
        self._content = content
        self._asked: dict[str, WaitStarted] = {}

    def began(self, record: WaitStarted) -> None:
        """Keep what was asked until the wait is over."""
        self._asked[record.wait_id] = record

    def ended(self, record: WaitRecord, parent: Span, started_ns: int) -> None:
        """Draw a wait below `parent`, as begun at `started_ns`."""
        asked = self._asked.pop(record.wait_id, None)
        question = asked.asked if asked is not None else None
        inputs = Shown({"waiting_for": record.event_type})
        if question is not None and (asks := show({type(question).__name__: question}, self._content.for_inputs())):
            inputs = Shown({"waiting_for": record.event_type, "request": asks.value}, asks.may_hold_media)
        facts: dict[str, Any] = {
            names.WAIT_ID: record.wait_id,
            names.WAIT_EVENT_TYPE: record.event_type,
            names.WAIT_DURATION: (record.at_ns - record.started_at_ns) / 1e9,
        }
        span = start_span(WAIT_SPAN, parent, started_ns, facts, inputs)
        outputs = None
        status = None
        match record:
            case WaitResolved():
                facts = {names.WAIT_OUTCOME: "resolved"}
                answer = record.answer.event
                outputs = show({type(answer).__name__: answer}, self._content.for_outputs())
            case WaitTimedOut():
                facts = {names.WAIT_OUTCOME: "timed_out"}
                status = SpanStatus(SpanStatusCode.ERROR, f"no {record.event_type} came in {record.timeout:g} s")
            case _:
                facts = {names.WAIT_OUTCOME: "cancelled"}
        end_span(span, record.at_ns, facts, outputs, status)
