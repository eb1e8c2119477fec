"""`autolog()`: live traces of every workflow run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache

from mlflow_flavor._compat import (
    FLAVOR_NAME,
    autologging_integration,
    autologging_is_on,
    invalid,
    otlp_diverts_traces,
    trace_lifetime,
)
from mlflow_flavor._ownership import warn_if_mixed
from mlflow_flavor._settings import MAX_STREAM_EVENTS, AutologSettings
from mlflow_flavor.handler import MlflowHandler, ModelAttribution
from workflows import Workflow
from workflows.instrumentation import add_handler
from workflows.instrumentation.content import SMALLEST_LIMIT, ContentPolicy

__all__ = ["autolog"]

logger = logging.getLogger("workflows.mlflow")

DEFAULT_STREAM_EVENTS = 64
DEFAULT_MAX_OPEN = 1800


def autolog(
    log_traces: bool = True,
    disable: bool = False,
    silent: bool = False,
    *,
    log_stream_events: bool | int = DEFAULT_STREAM_EVENTS,
    max_payload_bytes: int = 32_768,
    publish_after_seconds: float | None = 2.0,
    max_open_seconds: float = DEFAULT_MAX_OPEN,
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
        max_open_seconds: When a run that is still open goes on in a new, linked trace; at the latest when half of the
            time is over after which MLflow forgets an open trace.
        run_span_type: Type of the run's span, unless the class says `__span_kind__ = "AGENT"`.
        record_inputs: Store each run's whole input, as it is, as an attachment of its trace, for `reproduce()`.
        record_calls: Store what functions marked with `recorded` gave, as it is, in the same way.

    Raises:
        MlflowException: If a limit is out of range.
    """
    if not silent:
        warn_if_mixed()
    settings = _settings(
        DEFAULT_STREAM_EVENTS if log_stream_events is True else log_stream_events,
        max_payload_bytes,
        publish_after_seconds,
        max_open_seconds,
        run_span_type,
        record_inputs,
        record_calls,
    )
    _configure(log_traces=log_traces, disable=disable, silent=silent)
    if disable or not log_traces:
        _stop()
        return
    handler.settings = settings
    handler.silent = silent
    listen()
    if otlp_diverts_traces() and not silent:
        _warn_of_diverted_traces()


@cache
def _warn_of_diverted_traces() -> None:
    """Once a process."""
    logger.warning(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set: MLflow sends its traces there and not to its own store. "
        "Set MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT=true to have both"
    )


def _settings(
    stream_events: int,
    max_payload: int,
    publish_after: float | None,
    max_open: float,
    run_span_type: str,
    record_inputs: bool,
    record_calls: bool,
) -> AutologSettings:
    if not isinstance(stream_events, int) or not 0 <= stream_events <= MAX_STREAM_EVENTS:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid(f"log_stream_events={stream_events!r} is out of range. Use 0 to {MAX_STREAM_EVENTS}.")
    if max_payload < SMALLEST_LIMIT:
        raise invalid(f"max_payload_bytes={max_payload} leaves no room for a payload. Use {SMALLEST_LIMIT} or more.")
    if publish_after is not None and publish_after < 0:
        raise invalid(f"publish_after_seconds={publish_after} is over already. Use 0 or more, or None.")
    lifetime = trace_lifetime()
    if max_open <= 0 or (max_open >= lifetime and max_open != DEFAULT_MAX_OPEN):
        raise invalid(
            f"max_open_seconds={max_open} must be more than 0, and less than the {lifetime:g} s after which MLflow "
            "forgets an open trace (MLFLOW_TRACE_BUFFER_TTL_SECONDS)."
        )
    return AutologSettings(
        content=ContentPolicy.from_environment("full", max_chars=max_payload),
        stream_events=stream_events,
        publish_after=publish_after,
        max_open=max_open,
        run_span_type=run_span_type,
        record_inputs=record_inputs,
        record_calls=record_calls,
    )


@autologging_integration(FLAVOR_NAME)
def _configure(log_traces: bool = True, disable: bool = False, silent: bool = False) -> None:
    """MLflow's decorator keeps the arguments, where `autologging_is_on` (and MLflow itself) finds them."""


def mark_model(workflow: Workflow, model_id: str, loaded: Mapping[str, str]) -> None:
    """Have the traces of this instance's runs name the logged model it was loaded from, and with what (metadata)."""
    workflow.__mlflow_model_id__ = model_id  # pyright: ignore[reportAttributeAccessIssue]  # ours, on a loaded model
    add_handler(ModelAttribution(handler, model_id, loaded), workflow=workflow)


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
