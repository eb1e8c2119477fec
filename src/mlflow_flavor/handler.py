"""`MlflowHandler`: draws the records of runs as MLflow traces, live."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from mlflow_flavor._runs import RunSpans
from mlflow_flavor._settings import AutologSettings
from workflows.instrumentation.records import Record, RunEnded, RunStarted, RunSuspended

__all__ = ["MlflowHandler"]

REMEMBERED_RUNS = 10_000


class MlflowHandler:
    """A record handler that draws every run started while `is_on()` says so.

    It never patches MLflow and never blocks: spans go to MLflow's own queue. What is drawn for a run is decided when
    the run starts.
    """

    name = "mlflow"
    destination = "mlflow"

    def __init__(self, is_on: Callable[[], bool], settings: AutologSettings | None = None) -> None:
        self.settings = settings or AutologSettings()
        self._is_on = is_on
        self._runs: dict[str, RunSpans] = {}
        self._trace_ids: OrderedDict[str, str] = OrderedDict()

    def handle(self, record: Record) -> None:
        """Take one record; those of runs that are not drawn cost a dictionary look-up."""
        if isinstance(record, RunStarted):
            if self._is_on():
                self._start(record)
            return
        run = self._runs.get(record.run_id)
        if run is None:
            return
        if isinstance(record, RunEnded | RunSuspended):
            del self._runs[record.run_id]
        run.tell(record)

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Trace and span of the sender (and the session), for links and for what resumes the run later."""
        run = self._runs.get(run_id)
        return run.carrier() if run is not None else None

    def trace_id(self, run_id: str) -> str | None:
        """The trace of a run of this process, running or over; None where it was not traced (or is long ago)."""
        return self._trace_ids.get(run_id)

    def close(self) -> None:
        """End the spans of every open run, whose rest is not drawn."""
        while self._runs:
            _, run = self._runs.popitem()
            run.close(None)

    def _start(self, record: RunStarted) -> None:
        run = self._runs[record.run_id] = RunSpans(record, self.settings)
        if run.trace_id is not None:
            self._trace_ids[record.run_id] = run.trace_id
            if len(self._trace_ids) > REMEMBERED_RUNS:
                self._trace_ids.popitem(last=False)
