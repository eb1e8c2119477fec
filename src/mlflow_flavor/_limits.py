"""MLflow's trace buffers: made larger before MLflow makes them, and watched, because what they cannot hold is lost."""

from __future__ import annotations

import os

import mlflow

from mlflow_flavor._compat import tracing_has_begun

__all__ = ["FULL", "raise_limits"]

FULL = 0.8
"""From this part of a buffer on, a further run could make MLflow drop traces that it has begun."""

# With MLflow's own limits (1,000 each), 1,500 runs at once kept 745 of their traces; with these, all of them.
LIMITS = {
    "MLFLOW_TRACE_BUFFER_MAX_SIZE": "5000",
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE": "20000",
    # MLflow stores five spans at a time, of traces that are not over; a finished trace is stored by `Handover` at once.
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "512",
}

# SQLite has one writer. With several workers MLflow writes a trace's spans and its summary at the same time, and in one
# trace out of fifty the summary loses its previews.
SQLITE_LIMITS = {"MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS": "1"}


def raise_limits() -> None:
    """Set larger limits where the user has set none and MLflow has not read them yet."""
    if tracing_has_begun():
        return
    sqlite = mlflow.get_tracking_uri().startswith("sqlite:")
    for name, value in {**LIMITS, **(SQLITE_LIMITS if sqlite else {})}.items():
        os.environ.setdefault(name, value)
