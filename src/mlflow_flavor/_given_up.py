"""Calls that a step gave up: MLflow's autologging leaves the span of a coroutine open that is cancelled, or of a stream
that is not read to its end. A trace with an open span is not complete, and MLflow does not give it to anybody.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from mlflow.entities import LiveSpan

from mlflow_flavor._compat import spans_of_open_trace
from workflows.instrumentation import attributes as names

__all__ = ["end_given_up", "looked_at"]

CUT_OFF = ("failed", "retrying", "timed_out", "cancelled", "abandoned", "interrupted")
"""Outcomes of steps whose calls go on in a thread at most."""
TURNS = 10
"""In so many turns of the event loop after a run those who were cancelled in its last one end; in so many more, streams
that were left then, once Python has collected them."""
LOOK_AGAIN = (0.1, 2.0, 10.0)
"""Seconds after which spans are looked at again that somebody held."""
NOT_COLLECTED = 1
"""What hold each other (a cancellation, and the frames that it has gone through) are among Python's younger objects."""

Spans = Mapping[str, LiveSpan]

_open: dict[str, tuple[LiveSpan, int | None]] = {}
"""By their traces the runs below which spans were open, and when the runs ended."""


def end_given_up(root: LiveSpan, at_ns: int | None) -> None:
    """End the spans below a run that is over which nobody will end.

    Whoever will end one holds it: the coroutine, or the thread, that makes the call. What a task or a thread goes on
    with that a step left behind keeps its span, and MLflow waits for that; so it does for a stream while it is read.
    """
    if _end(root, at_ns, {}):
        _open[root.trace_id] = root, at_ns
        _look_later(root, at_ns, LOOK_AGAIN, {})
        with suppress(RuntimeError):  # no event loop runs here
            loop = asyncio.get_running_loop()
            loop.call_soon(_look_in_turn, loop, root, at_ns, 2 * TURNS)


def _look_in_turn(loop: asyncio.AbstractEventLoop, root: LiveSpan, at_ns: int | None, turns: int) -> None:
    if turns == TURNS:
        gc.collect(NOT_COLLECTED)
    if not _end(root, at_ns, {}):
        _open.pop(root.trace_id, None)
    elif turns:
        loop.call_soon(_look_in_turn, loop, root, at_ns, turns - 1)


async def looked_at(trace_id: str | None) -> None:
    """Wait until the spans of a run that has just ended on this loop were looked at in each of these turns.

    Those that are left then end all the same, of calls that somebody goes on with: MLflow reads the trace now.
    """
    for _ in range(2 * TURNS + 2):
        await asyncio.sleep(0)
    if trace_id is not None and trace_id in _open:
        root, at_ns = _open[trace_id]
        left = _end(root, at_ns, {})
        spans = spans_of_open_trace(trace_id)
        for span_id in left.keys() & spans.keys():
            _end_one(spans[span_id], at_ns, "closed" if _is_stream(spans[span_id]) else "left")


def _look_later(root: LiveSpan, at_ns: int | None, later: Sequence[float], before: Mapping[str, int]) -> None:
    def look() -> None:
        if (left := _end(root, at_ns, before)) and later[1:]:
            _look_later(root, at_ns, later[1:], left)
        else:
            _open.pop(root.trace_id, None)

    timer = threading.Timer(later[0], look)
    timer.daemon = True
    timer.start()


def _end(root: LiveSpan, at_ns: int | None, before: Mapping[str, int]) -> dict[str, int]:
    """End those that nobody holds, and streams that have brought nothing since; gives how much others have brought."""
    spans = spans_of_open_trace(root.trace_id)
    left: dict[str, int] = {}
    for span_id in [each for each, span in spans.items() if span.end_time_ns is None and each != root.span_id]:
        above = _above(spans, span_id)
        if root.span_id not in (each.span_id for each in above):
            continue
        step = next((each for each in above if names.STEP_OUTCOME in each.attributes), None)
        is_cut_off = step is not None and step.attributes[names.STEP_OUTCOME] in CUT_OFF
        is_left = not _is_held(spans, span_id) or (is_cut_off and not _is_in_a_thread(spans[span_id]))
        span = spans[span_id]
        if is_left or (before.get(span_id) == len(span.events) and _is_stream(span)):
            ended_ns = (step.end_time_ns if step is not None else None) or at_ns
            _end_one(span, ended_ns, "closed" if _is_stream(span) and not is_cut_off else "cancelled")
        else:
            left[span_id] = len(span.events)
    return left


def _end_one(span: LiveSpan, at_ns: int | None, outcome: str) -> None:
    at_ns = max(at_ns or span.start_time_ns, span.start_time_ns)
    span.end(attributes={names.CALL_OUTCOME: outcome}, end_time_ns=at_ns)


def _is_stream(span: LiveSpan) -> bool:
    """Whether the call was to give a stream: whoever reads that only in part closes it some time, and tells nobody."""
    inputs: Any = span.inputs
    return isinstance(inputs, dict) and inputs.get("stream") is True  # pyright: ignore[reportUnknownMemberType]


def _above(spans: Spans, span_id: str) -> list[LiveSpan]:
    found: list[LiveSpan] = []
    span = spans.get(spans[span_id].parent_id or "")
    while span is not None:
        found.append(span)
        span = spans.get(span.parent_id or "")
    return found


def _references(spans: Mapping[str, object], span_id: str) -> int:
    return sys.getrefcount(spans[span_id])


_by_mlflow: Mapping[str, object] = {"": object()}
_NOBODYS = _references(dict(_by_mlflow), "")
"""As many has what is in MLflow's own mapping, and in a copy of that."""


def _is_held(spans: Spans, span_id: str) -> bool:
    """Whether anybody but MLflow's buffer holds a span, who could end it."""
    return _references(spans, span_id) > _NOBODYS


def _is_in_a_thread(span: LiveSpan) -> bool:
    """Whether a function that runs now holds a span; one that has failed does so as long as its error lives."""
    for innermost in sys._current_frames().values():  # pyright: ignore[reportPrivateUsage]  # documented for debuggers
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_globals is not globals() and any(value is span for value in frame.f_locals.values()):
                return True
            frame = frame.f_back
    return False
