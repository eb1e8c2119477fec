"""What `autolog()` was asked for, as its record handler reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from workflows.instrumentation.content import ContentPolicy

__all__ = ["AutologSettings"]

MAX_STREAM_EVENTS = 100
"""MLflow keeps 128 events a span and drops the oldest in silence; the rest is for exceptions, retries and the like."""


@dataclass(frozen=True, slots=True)
class AutologSettings:
    """How runs are drawn.

    Attributes:
        content: What of payloads is shown; its limit is per value.
        stream_events: How many streamed events a span shows, 0 to `MAX_STREAM_EVENTS`.
        publish_after: Seconds after which an open run is shown in MLflow's list; None: not before its end.
        max_open: Seconds after which a run goes on in a new trace.
        record_inputs: Whether a run's whole input is stored beside its trace.
        record_calls: Whether the answers of `recorded` functions are stored beside it.
        run_span_type: Type of the run's span, unless the workflow class says that it is an agent.
    """

    content: ContentPolicy = field(default_factory=lambda: ContentPolicy.from_environment("full", max_chars=32_768))
    stream_events: int = 64
    publish_after: float | None = 2.0
    max_open: float = 1800.0
    run_span_type: str = "WORKFLOW"
    record_inputs: bool = False
    record_calls: bool = False
