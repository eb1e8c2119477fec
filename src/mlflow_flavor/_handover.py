"""Finished traces on their way to the store: taken over from MLflow's buffer and stored in an order that costs half.

MLflow stores the spans of a trace first and its summary afterwards, which then finds a row in its place and merges
tag by tag: 70 SQL statements a trace. The other way round, with the spans of several traces in one call, it is less
than half of the CPU time. The writing itself stays MLflow's, and so do its queue, its workers and its flushing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from mlflow.entities import LiveSpan

from mlflow_flavor._absent import absence_remembered
from mlflow_flavor._compat import FinishedTrace, TraceExporter

__all__ = ["Handover"]

TRACES_AT_ONCE = 32
SPANS_AT_ONCE = 500

PAUSE = 0.5
"""Seconds, in MLflow's worker, in which the traces of runs that end together come together; flushing ends it.

The spans of several traces are one request, and on a tracking server a request is what costs most.
"""

logger = logging.getLogger("workflows.mlflow")


class Handover:
    """Takes over traces whose run is over; what it cannot take stays with MLflow, which stores it its own way."""

    def __init__(self) -> None:
        self._writer: TraceWriter | None = None

    def hand_over(self, root: LiveSpan) -> None:
        """Take over the trace of a root that has just ended; it never blocks."""
        if self._writer is None or not self._writer.exporter.is_current():
            exporter = TraceExporter.current()
            self._writer = TraceWriter(exporter) if exporter is not None else None
        if self._writer is not None:
            self._writer.take(root)


class TraceWriter:
    """Stores what waits through one exporter, several traces at once where several wait.

    Attributes:
        exporter: MLflow's exporter.
    """

    def __init__(self, exporter: TraceExporter) -> None:
        self.exporter = exporter
        self._proven = False
        self._waiting: deque[Callable[[], FinishedTrace]] = deque()
        self._collecting = threading.RLock()

    def take(self, root: LiveSpan) -> None:
        """Have the trace stored by one of MLflow's workers."""
        if not self.exporter.stores_spans:
            return
        taken = self.exporter.take(root)
        if taken is not None:
            self._waiting.append(taken)
            self.exporter.submit(self._store_waiting)

    def _store_waiting(self) -> None:
        """One such task is queued for each trace: most find that another one has stored it already."""
        batch = list(self._converted(self._collect()))
        with absence_remembered():
            for experiment in dict.fromkeys(found.experiment for found in batch):
                self._store([found for found in batch if found.experiment == experiment])
        if batch:
            self.exporter.display(batch)

    def _collect(self) -> list[Callable[[], FinishedTrace]]:
        """What waits, but no more than is stored at once."""
        with self._collecting:  # while one of MLflow's workers lets traces come together, the others have nothing to do
            if 0 < len(self._waiting) < TRACES_AT_ONCE:
                self.exporter.pause(PAUSE)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), TRACES_AT_ONCE))]

    def _converted(self, taken: list[Callable[[], FinishedTrace]]) -> Iterator[FinishedTrace]:
        for convert in taken:
            try:
                yield convert()
            except Exception:  # whatever MLflow raises: a trace that cannot be stored must not take the others with it
                logger.warning("MLflow cannot convert a trace of a workflow run, which is lost", exc_info=True)

    def _store(self, traces: list[FinishedTrace]) -> None:
        if not self._proven:
            for found in traces:
                self.exporter.store_in_mlflows_order(found)
            self._proven = self.exporter.stores_spans
            return
        for found in traces:
            self.exporter.store_info(found, "TRACKING_STORE")
        for together in _of_bounded_size(traces):
            self._store_together(together)

    def _store_together(self, traces: list[FinishedTrace]) -> None:
        try:
            self.exporter.store_spans(traces)
        except Exception:  # whatever the store raises: one bad trace must not take the others with it
            logger.debug("the spans of %d traces were not stored together", len(traces), exc_info=True)
            for found in traces:
                self._store_alone(found)

    def _store_alone(self, found: FinishedTrace) -> None:
        try:
            self.exporter.store_spans([found])
        except Exception:  # whatever the store raises: MLflow keeps spans beside a trace where its store takes none
            logger.debug("the spans of %s go to its artifacts", found.trace.info.trace_id, exc_info=True)
            self.exporter.store_info(found, "ARTIFACT_REPO")


def _of_bounded_size(traces: list[FinishedTrace]) -> Iterator[list[FinishedTrace]]:
    """Parts of `traces` that have at most `SPANS_AT_ONCE` spans, or are one trace."""
    part: list[FinishedTrace] = []
    spans = 0
    for found in traces:
        size = len(found.trace.data.spans)
        if part and spans + size > SPANS_AT_ONCE:
            yield part
            part, spans = [], 0
        part.append(found)
        spans += size
    yield part
