"""Which trace a run is in, also after its end: what `trace_of`, `feedback` and the notes on errors look up."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.trace import SpanContext

from workflows.handler import WorkflowHandler

__all__ = ["TraceRef", "forget_pages", "note_trace", "remember", "show_pages", "trace_of"]

REMEMBERED_RUNS = 10_000  # about 3 MB
NOTE = "workflow run "
MOST_NOTES = 8  # one exception object may be raised by every run of a process


@dataclass(frozen=True, slots=True)
class TraceRef:
    """A run's place in the back ends; keep its two ids to give `feedback` from another process.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits: the run's own span, of its latest segment in this process.
        urls: The trace's page, by the name of the back end, where `setup()` knows of one; none where it is left out by
            `LANGFUSE_SAMPLE_RATE`.
        sampled: Whether it is sent at all.
    """

    trace_id: str
    span_id: str
    urls: Mapping[str, str] = field(default_factory=dict[str, str])
    sampled: bool = True

    @property
    def url(self) -> str | None:
        """The trace's page in the first back end that has one."""
        return next(iter(self.urls.values()), None)


logger = logging.getLogger("workflows.otel")

PageUrls = Callable[[str], Mapping[str, str]]

_runs: OrderedDict[str, SpanContext] = OrderedDict()
_pages: list[PageUrls] = []


def trace_of(run: WorkflowHandler | str) -> TraceRef | None:
    """The trace of a run of this process, by its handler or its id; None where none is known.

    Known are the latest 10,000 runs that were drawn, sampled or not. With several tracer providers it is the process's
    own, else the one that was instrumented first.
    """
    run_id = run if isinstance(run, str) else run.run_id
    found = _runs.get(run_id)
    return None if found is None else _ref(found)


def _ref(context: SpanContext) -> TraceRef:
    trace_id = f"{context.trace_id:032x}"
    urls = (
        {name: url for pages in _pages for name, url in pages(trace_id).items()} if context.trace_flags.sampled else {}
    )
    return TraceRef(trace_id, f"{context.span_id:016x}", urls, sampled=context.trace_flags.sampled)


def remember(run_id: str, context: SpanContext) -> None:
    """Take note of the span of a run, or of a later segment of it, that begins; who is told last is heard."""
    if not context.is_valid:
        return
    _runs[run_id] = context  # without a lock: whatever comes in between, in whatever thread, each line is right
    if len(_runs) > REMEMBERED_RUNS:
        _runs.popitem(last=False)


def note_trace(run_id: str, error: BaseException) -> None:
    """Say on an exception which run it ended, and where its trace is; some take no notes (a frozen dataclass, say)."""
    ref = trace_of(run_id)
    if ref is None:
        return
    try:
        ours: list[str] = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)]
        if len(ours) < MOST_NOTES and not any(ref.trace_id in note for note in ours):
            error.add_note(f"{NOTE}{run_id}, trace {ref.trace_id}" + (f": {ref.url}" if ref.url else ""))
    except Exception:  # the guard around the user's class
        logger.debug("an error of type %s takes no notes", type(error).__name__, exc_info=True)


def show_pages(pages: PageUrls) -> None:
    """Ask this, too, for the pages of a trace."""
    _pages.append(pages)


def forget_pages(pages: PageUrls) -> None:
    """Ask it no more."""
    if pages in _pages:
        _pages.remove(pages)
