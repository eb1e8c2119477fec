"""Runs that are open for long: shown in MLflow's list while they run, and carried over from trace to trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlflow.entities import Span
from mlflow.tracing.constant import TraceMetadataKey

from mlflow_flavor._compat import OpenTrace
from mlflow_flavor._links import link_left_trace

__all__ = ["LeftTrace", "publish", "publisher"]

MOST_WAITING = 100
HANDED_OVER = (TraceMetadataKey.TRACE_SESSION, TraceMetadataKey.TRACE_USER, TraceMetadataKey.MODEL_ID)

# One writer is enough, and more would compete with MLflow's own; it takes 20 to 50 ms a trace.
publisher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workflows-mlflow-live")

logger = logging.getLogger("workflows.mlflow")


def publish(root: Span) -> None:
    """Store what is known of an open trace, in a thread; where that fails, or many wait, it appears at its end."""
    try:
        trace = OpenTrace.of(root.trace_id)
    except Exception:  # MLflow's private names: another version may have others
        logger.debug("the open trace %s cannot be read", root.trace_id, exc_info=True)
        return
    if trace is not None and publisher._work_queue.qsize() < MOST_WAITING:  # pyright: ignore[reportPrivateUsage]  # there is no public way
        trace.show_input(root.inputs)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # of MLflow's
        publisher.submit(_store, trace)


def _store(trace: OpenTrace) -> None:
    try:
        trace.store_as_it_was()
        if trace.is_over():
            trace.store_as_it_is()  # its end may have been stored first, and must not be undone
    except Exception:  # whatever the store raises: the trace is stored at its end anyway
        logger.debug("the open trace %s could not be shown yet", trace.trace_id, exc_info=True)


@dataclass(frozen=True, slots=True)
class LeftTrace:
    """A trace that ended before its run did: what the run's next one takes over from it."""

    trace_id: str
    span_id: str
    experiment: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, root: Span) -> LeftTrace:
        """Read it off an open trace."""
        trace = OpenTrace.of(root.trace_id)
        tags: Mapping[str, str] = trace.tags if trace is not None else {}
        metadata: Mapping[str, str] = trace.metadata if trace is not None else {}
        return cls(
            root.trace_id,
            root.span_id,
            trace.experiment if trace is not None else None,
            {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
            {k: v for k, v in metadata.items() if k in HANDED_OVER or not k.startswith("mlflow.")},
        )

    def hand_over(self, root: Span) -> None:
        """Link the run's new root to this trace."""
        link_left_trace(root, {"trace_id": self.trace_id, "span_id": self.span_id})
