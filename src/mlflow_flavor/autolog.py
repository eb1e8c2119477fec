"""`autolog()`: live traces of every workflow run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow_flavor._compat import (
    FLAVOR_NAME,
    autologging_integration,
    autologging_is_on,
    invalid,
    otlp_diverts_traces,
)
from mlflow_flavor._ownership import warn_if_mixed
from mlflow_flavor._settings import MAX_STREAM_EVENTS, AutologSettings
from mlflow_flavor.handler import MlflowHandler, ModelAttribution
from workflows import Workflow
from workflows.instrumentation import add_handler
from workflows.instrumentation.content import ContentPolicy

__all__ = ["autolog"]

logger = logging.getLogger("workflows.mlflow")

DEFAULT_STREAM_EVENTS = 64


def autolog(
    log_traces: bool = True,
    disable: bool = False,
    silent: bool = False,
    *,
    log_stream_events: bool | int = DEFAULT_STREAM_EVENTS,
    max_payload_bytes: int = 32_768,
    publish_after_seconds: float | None = 2.0,
    max_open_seconds: float = 1800,
    run_span_type: str = "WORKFLOW",
    record_inputs: bool = False,
    record_calls: bool = False,
) -> None:
    """Trace every workflow run that starts from now on; `disable=True` ends that, also for runs that are open.

    Without a call of this function `mlflow.autolog()` decides (once `mlflow_flavor` is imported).

    Args:
        log_traces: False is the same as `disable=True`.
        disable: Stop tracing workflows, whatever `mlflow.autolog()` says.
        silent: Do not warn.
        log_stream_events: How many streamed events a step's span shows, first and last ones first; at most 100.
        max_payload_bytes: Longest input or output of a span, in characters of JSON; longer ones are cut.
        publish_after_seconds: When an open run appears in MLflow's list; None: at its end.
        max_open_seconds: When a run that is still open goes on in a new, linked trace.
        run_span_type: Type of the run's span, unless the class says `__span_kind__ = "AGENT"`.
        record_inputs: Store each run's whole input, as it is, as an attachment of its trace, for `reproduce()`.
        record_calls: Store what functions marked with `recorded` gave, as it is, in the same way.

    Raises:
        MlflowException: If a limit is out of range.
    """
    warn_if_mixed()
    limit = DEFAULT_STREAM_EVENTS if log_stream_events is True else int(log_stream_events)
    if not 0 <= limit <= MAX_STREAM_EVENTS:
        raise invalid(f"log_stream_events={log_stream_events!r} is out of range. Use 0 to {MAX_STREAM_EVENTS}.")
    _configure(log_traces=log_traces, disable=disable, silent=silent)
    if disable or not log_traces:
        _stop()
        return
    handler.settings = AutologSettings(
        content=ContentPolicy.from_environment("full", max_chars=max_payload_bytes),
        stream_events=limit,
        publish_after=publish_after_seconds,
        max_open=max_open_seconds,
        run_span_type=run_span_type,
        record_inputs=record_inputs,
        record_calls=record_calls,
    )
    listen()
    if otlp_diverts_traces() and not silent:
        logger.warning(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set: MLflow sends its traces there and not to its own store. "
            "Set MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT=true to have both"
        )


@autologging_integration(FLAVOR_NAME)
def _configure(log_traces: bool = True, disable: bool = False, silent: bool = False) -> None:
    """MLflow's decorator keeps the arguments, where `autologging_is_on` (and MLflow itself) finds them."""


def mark_model(workflow: Workflow, model_id: str, config: str) -> None:
    """Have the traces of this instance's runs name the logged model it was loaded from, and its configuration."""
    workflow.__mlflow_model_id__ = model_id  # pyright: ignore[reportAttributeAccessIssue]  # ours, on a loaded model
    add_handler(ModelAttribution(handler, model_id, config), workflow=workflow)


handler = MlflowHandler(is_on=autologging_is_on)
_stop_listening: Callable[[], None] | None = None


def listen() -> None:
    """Take the records of this process; called on import, so that `mlflow.autolog()` alone is enough."""
    global _stop_listening
    if _stop_listening is None:
        _stop_listening = add_handler(handler)


def _stop() -> None:
    global _stop_listening
    if _stop_listening is not None:
        _stop_listening()
        _stop_listening = None
    handler.close()
