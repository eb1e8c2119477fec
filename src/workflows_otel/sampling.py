"""Keep what is worth looking at: traces with an error, a retry or a long wait, and a part of the others.

Whether a trace is one of those is known at its end, so its spans are held back until then, within bounds.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakMethod

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from workflows.instrumentation import attributes as at
from workflows_otel.errors import TelemetrySetupError
from workflows_otel.statuses import outcome_of
from workflows_otel.turns import in_turn

__all__ = ["KeepErrorsAndSlow", "TailProcessor", "keep_errors_and_slow"]

SPANS_A_TRACE = 512
SPANS_IN_ALL = 65_536  # about 200 MB at worst
SECONDS_A_TRACE = 300.0
REMEMBERED_TRACES = 8_192
TRACE_ID_LIMIT = 1 << 64


@dataclass(frozen=True, slots=True)
class KeepErrorsAndSlow:
    """What to keep; made by `keep_errors_and_slow`."""

    part: float
    slow: float

    def keeps(self, trace_id: int, spans: Sequence[ReadableSpan]) -> bool:
        """Whether a trace with these spans is to be sent; the same answer in every process for the same part."""
        # The lower half of the id, which is what the SDK's own ratio sampler looks at.
        if trace_id & (TRACE_ID_LIMIT - 1) < round(self.part * TRACE_ID_LIMIT):
            return True
        return any(map(self._is_worth_it, spans))

    def _is_worth_it(self, span: ReadableSpan) -> bool:
        if span.status.status_code is StatusCode.ERROR:
            return True
        if ((span.end_time or 0) - (span.start_time or 0)) / 1e9 >= self.slow:
            return True
        attributes = span.attributes or {}
        if attributes.get(at.RUN_RETRIES) or attributes.get(at.RUN_SEGMENT):
            return True
        # How a suspended run ends is not known yet, and its later segments need this one: all of them are kept.
        return outcome_of(attributes) in ("retrying", "abandoned", "timed_out", "suspended")


def keep_errors_and_slow(part: float, *, slow: float = float("inf")) -> KeepErrorsAndSlow:
    """Send every trace with an error, a retry, a suspension or a slow span, and a part of the others.

    setup("otlp", sampler=keep_errors_and_slow(0.01, slow=10))

    The spans of a trace are held back until its last one in this process has ended: at most 512 a trace, 65,536 in
    all, for five minutes; what exceeds that is sent undecided. What a task does that outlives its trace goes the way
    that went. Metrics see every run in any case.

    Args:
        part: Of the traces without anything special, from 0 to 1; chosen by trace id.
        slow: A trace with a span that took as many seconds is kept.

    Raises:
        TelemetrySetupError: If `part` is not from 0 to 1, or `slow` not above 0.
    """
    if not 0 <= part <= 1:
        raise TelemetrySetupError(
            f"keep_errors_and_slow: part={part} is no part of all traces. Use a number from 0 to 1."
        )
    if slow <= 0:
        raise TelemetrySetupError(f"keep_errors_and_slow: slow={slow} would keep everything. Use seconds above 0.")
    return KeepErrorsAndSlow(part, slow)


@dataclass(slots=True)
class _Trace:
    """What is open and held of a trace; `late`: it lies below spans of this process that are forgotten already."""

    open: int = 0
    late: bool = False
    held_since: float = 0.0
    spans: list[ReadableSpan] = field(default_factory=list[ReadableSpan])


class TailProcessor(SpanProcessor):
    """Holds spans back until their trace has ended here, then passes them on or forgets them."""

    def __init__(self, keep: KeepErrorsAndSlow, processors: Sequence[SpanProcessor]) -> None:
        self._keep = keep
        self._processors = tuple(processors)
        self._traces: dict[int, _Trace] = {}
        self._holding: OrderedDict[int, None] = OrderedDict()  # of those, the ones with spans, the oldest first
        self._decided: OrderedDict[int, bool] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()
        in_child = WeakMethod(self._forget)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (forget := in_child()) and forget())

    def _forget(self) -> None:
        """In a forked child: what is held is its parent's, which sends it."""
        self._lock = threading.Lock()
        self._traces.clear()
        self._holding.clear()
        self._held = 0

    @property
    def held(self) -> int:
        """How many spans are held back now."""
        return self._held

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Take note that a trace has one more open span."""
        context = span.get_span_context()
        if not context.trace_flags.sampled:
            return
        enters = span.parent is None or span.parent.is_remote
        if enters:
            for processor in self._processors:
                processor.on_start(span, parent_context)
        in_turn(self._begin, context.trace_id, enters)

    def on_end(self, span: ReadableSpan) -> None:
        """Hold a span back, and decide about its trace if it was the last one."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        in_turn(self._end, context.trace_id, span)

    def release(self) -> None:
        """Pass on what is undecided: nobody is going to end those traces here."""
        in_turn(self._release_all)

    # These hold the lock, which a thread cannot take twice: they are called in turn.

    def _begin(self, trace_id: int, enters: bool) -> None:
        with self._lock:
            trace = self._traces.get(trace_id)
            if trace is None:
                forgotten = self._decided.get(trace_id) is False
                trace = self._traces[trace_id] = _Trace(late=forgotten)
            trace.late = trace.late and not enters
            trace.open += 1

    def _end(self, trace_id: int, span: ReadableSpan) -> None:
        with self._lock:
            ready = self._ended(trace_id, span)
        self._pass_on(ready)

    def _release_all(self) -> None:
        with self._lock:
            ready = [span for trace_id in list(self._traces) for span in self._release(trace_id)]
        self._pass_on(ready)

    def _pass_on(self, ready: Sequence[ReadableSpan]) -> None:
        for one in ready:
            for processor in self._processors:
                processor.on_end(one)

    def _ended(self, trace_id: int, span: ReadableSpan) -> list[ReadableSpan]:
        trace = self._traces.get(trace_id)
        if trace is None:  # began before this processor was there
            trace = self._traces[trace_id] = _Trace(open=1)
        trace.open -= 1
        if not trace.spans:
            trace.held_since = time.monotonic()
            self._holding[trace_id] = None
        trace.spans.append(span)
        self._held += 1
        ready: list[ReadableSpan] = []
        decided = self._decided.get(trace_id)
        if trace.open <= 0:
            keep = decided or (not trace.late and self._keep.keeps(trace_id, trace.spans))
            spans = self._pop(trace_id, keep)
            ready += spans if keep else []
        elif decided or len(trace.spans) >= SPANS_A_TRACE:
            ready += self._release(trace_id)
        while self._holding and self._is_over(oldest := next(iter(self._holding))):
            ready += self._release(oldest)
        return ready

    def _is_over(self, oldest: int) -> bool:
        held_for = time.monotonic() - self._traces[oldest].held_since
        return self._held > SPANS_IN_ALL or held_for > SECONDS_A_TRACE

    def _release(self, trace_id: int) -> list[ReadableSpan]:
        """The spans of a trace that is kept undecided; its open ones are counted on."""
        still_open = self._traces[trace_id].open
        spans = self._pop(trace_id, keep=True)
        if still_open > 0:
            self._traces[trace_id] = _Trace(still_open)
        return spans

    def _pop(self, trace_id: int, keep: bool) -> list[ReadableSpan]:
        spans = self._traces.pop(trace_id).spans
        self._holding.pop(trace_id, None)
        self._held -= len(spans)
        self._decided[trace_id] = keep or self._decided.get(trace_id, False)
        if len(self._decided) > REMEMBERED_TRACES:
            self._decided.popitem(last=False)
        return spans
