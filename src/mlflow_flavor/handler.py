"""`MlflowHandler`: draws the records of runs as MLflow traces, live."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_flavor._compat import buffer_pressure
from mlflow_flavor._handover import Handover
from mlflow_flavor._limits import FULL, raise_limits
from mlflow_flavor._recording import Recording
from mlflow_flavor._runs import RunSpans
from mlflow_flavor._settings import AutologSettings
from mlflow_flavor._shared import drawn_on_shared_provider
from workflows.instrumentation.records import Record, RunEnded, RunStarted, RunSuspended
from workflows.instrumentation.scope import current_attempt

__all__ = ["MlflowHandler", "ModelAttribution"]

REMEMBERED_RUNS = 10_000

logger = logging.getLogger("workflows.mlflow")


class MlflowHandler:
    """A record handler that draws every run started while `is_on()` says so.

    It never patches MLflow and never blocks: spans go to MLflow's own queue. What is drawn for a run is decided when
    the run starts. A run that MLflow has no room for is not drawn at all, rather than in part.

    Attributes:
        settings: What `autolog()` was asked for.
        traced: Runs that were drawn.
        untraced: Runs that were not, for want of room.
        silent: Nobody is warned of that.
    """

    name = "mlflow"
    destination = "mlflow"

    def __init__(
        self,
        is_on: Callable[[], bool],
        settings: AutologSettings | None = None,
        pressure: Callable[[], float] = buffer_pressure,
        drawn_elsewhere: Callable[[], bool] = drawn_on_shared_provider,
    ) -> None:
        self.settings = settings or AutologSettings()
        self.traced = 0
        self.untraced = 0
        self.silent = False
        self._is_on = is_on
        self._pressure = pressure
        self._is_drawn_elsewhere = drawn_elsewhere
        self._warned = False
        self._handover = Handover()
        self._runs: dict[str, RunSpans] = {}
        self._trace_ids: OrderedDict[str, str] = OrderedDict()

    def handle(self, record: Record) -> None:
        """Take one record; those of runs that are not drawn cost a dictionary look-up."""
        if isinstance(record, RunStarted):
            if self._is_on() and not self._is_drawn_elsewhere():
                self._start(record)
            return
        run = self._runs.get(record.run_id)
        if run is None:
            return
        if isinstance(record, RunEnded | RunSuspended):
            del self._runs[record.run_id]
        run.tell(record)
        if run.trace_id is not None:
            self._trace_ids[record.run_id] = run.trace_id  # a run that is open for long goes on in another trace

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Trace and span of the sender (and the session), for links and for what resumes the run later."""
        run = self._runs.get(run_id)
        return run.carrier() if run is not None else None

    def trace_id(self, run_id: str) -> str | None:
        """The trace of a run of this process, running or over; None where it was not traced (or is long ago)."""
        return self._trace_ids.get(run_id)

    def attribute(self, run_id: str, model_id: str, loaded: Mapping[str, str]) -> None:
        """Name the logged model of a run, whatever model MLflow thinks is active, and with what it was loaded."""
        run = self._runs.get(run_id)
        if run is not None:
            run.attribute(model_id, loaded)

    def recording(self, run_id: str) -> Recording | None:
        """Where answers of models and tools are kept for a run; None where they are not."""
        run = self._runs.get(run_id)
        return run.recording if run is not None else None

    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        """Put what the current step says of itself (by llama-index's `dispatcher.event`, say) on its span."""
        scope = current_attempt.get()
        run = self._runs.get(scope.run_id) if scope is not None else None
        if scope is not None and run is not None:
            run.note(scope.exec_id, name, fields)

    def close(self) -> None:
        """End the spans of every open run, whose rest is not drawn."""
        while self._runs:
            _, run = self._runs.popitem()
            run.close(None)

    def _start(self, record: RunStarted) -> None:
        if not self.traced:
            raise_limits()
        if not self._has_room(record):
            self.untraced += 1
            return
        self.traced += 1
        run = self._runs[record.run_id] = RunSpans(record, self.settings, self._handover)
        if run.trace_id is not None:
            self._trace_ids[record.run_id] = run.trace_id
            if len(self._trace_ids) > REMEMBERED_RUNS:
                self._trace_ids.popitem(last=False)

    def _has_room(self, record: RunStarted) -> bool:
        """Whether MLflow can hold the trace of one more run; a child's run is part of a trace that it holds already."""
        if record.parent is not None and record.parent[0] in self._runs:
            return True
        full = self._pressure()
        if full < FULL:
            return True
        if not self._warned and not self.silent:
            self._warned = True
            logger.warning(
                "MLflow's trace buffers are %d %% full: runs are not traced until there is room (%d traced so far). "
                "Raise MLFLOW_TRACE_BUFFER_MAX_SIZE and MLFLOW_ASYNC_TRACE_LOGGING_MAX_QUEUE_SIZE",
                full * 100,
                self.traced,
            )
        return False


class ModelAttribution:
    """Tells the traces of one loaded workflow which logged model it is; told after `MlflowHandler`, by its name."""

    name = "mlflow_model"
    destination = None

    def __init__(self, drawer: MlflowHandler, model_id: str, loaded: Mapping[str, str]) -> None:
        self._drawer = drawer
        self._model_id = model_id
        self._loaded = loaded

    def handle(self, record: Record) -> None:
        """Take the start of a run; nothing else matters."""
        if isinstance(record, RunStarted):
            self._drawer.attribute(record.run_id, self._model_id, self._loaded)

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None
