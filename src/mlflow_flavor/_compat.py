"""Every private name of MLflow that the flavor needs, feature-tested, behind functions with types.

Private names move between MLflow's minor versions; when one does, this is the only file to change, or
`_compat_models` (what is about models, most of which mlflow-tracing does not have).
"""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# Private names are what this file is for, and most of MLflow has no types.
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import mlflow
from mlflow import environment_variables
from mlflow.entities import LiveSpan, Span, Trace, TraceInfo, TraceState
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracing import provider
from mlflow.tracing.client import TracingClient
from mlflow.tracing.constant import TraceTagKey
from mlflow.tracing.context import get_configured_trace_metadata
from mlflow.tracing.export.async_export_queue import Task
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils import maybe_get_request_id
from mlflow.utils import autologging_utils
from mlflow.utils.uri import is_databricks_uri

__all__ = [
    "FLAVOR_NAME",
    "HAS_LINKS",
    "HAS_LOG_LEVEL",
    "FinishedTrace",
    "OpenTrace",
    "SpanToken",
    "TraceExporter",
    "add_link",
    "attach",
    "attached_text",
    "attachment",
    "autologging_integration",
    "autologging_is_decided",
    "autologging_is_on",
    "begin_tracing",
    "buffer_pressure",
    "configured_metadata",
    "detach",
    "invalid",
    "keep_open",
    "otlp_diverts_traces",
    "set_facts",
    "shares_provider",
    "spans_of_open_trace",
    "state_of_trace",
    "trace_lifetime",
    "tracing_has_begun",
]

FLAVOR_NAME = "workflows"
OLDEST_MLFLOW = (3, 11)


def _check_version(version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_MLFLOW:
        raise ImportError(f"mlflow_flavor needs mlflow>={'.'.join(map(str, OLDEST_MLFLOW))} (found {version}).")


_check_version(mlflow.__version__)

HAS_LOG_LEVEL = hasattr(LiveSpan, "set_log_level")
"""Span log levels came with MLflow 3.13."""

HAS_LINKS = hasattr(LiveSpan, "add_link")
"""Span links came with MLflow 3.15."""

SpanToken = Any
"""What `attach` gives and `detach` takes; its shape is MLflow's own."""


def invalid(message: str) -> MlflowException:
    """The exception for a wrong argument or model, as MLflow's REST layer understands it (HTTP 400)."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


# --- tracing ----------------------------------------------------------------------------------------------------------


def otel_span(span: Span) -> Any:
    """What OpenTelemetry knows as a span of MLflow's."""
    return span._span


def attach(span: Any) -> SpanToken | None:
    """Make `span`, one of MLflow's or what stands for one, current in this context; None where tracing is off."""
    if span._span.get_span_context() is None:
        return None
    return provider.set_span_in_context(span)


def detach(token: SpanToken | None) -> None:
    """Undo `attach`; in another context than that of `attach` it does nothing."""
    if token is not None:
        provider.detach_span_from_context(token)


def set_facts(span: Span, facts: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    """Set attributes of an open span, in the form in which MLflow keeps them: as JSON.

    MLflow's own way sets them one by one, and makes JSON of each by an encoder of its own, on the event loop.

    Args:
        span: The span, or what stands for one that is not recorded.
        facts: Plain data.
        texts: What is JSON already.
    """
    otel_span(span).set_attributes({**{key: _as_json(value) for key, value in facts.items()}, **texts})


_as_json = json.JSONEncoder(ensure_ascii=False).encode


def add_link(span: LiveSpan, trace_id: str, span_id: str, facts: Mapping[str, str]) -> None:
    """Link an open span to another one; only where `HAS_LINKS`."""
    from mlflow.entities import Link  # MLflow 3.15

    span.add_link(Link(trace_id=trace_id, span_id=span_id, attributes=dict(facts)))


def configured_metadata() -> Mapping[str, str]:
    """Trace metadata set by `mlflow.tracing.context()` around the caller."""
    return get_configured_trace_metadata() or {}


def otlp_diverts_traces() -> bool:
    """Whether MLflow sends its traces to an OTLP endpoint only, away from its own store."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    dual = os.environ.get("MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT", "").lower() in ("true", "1")
    exporting = os.environ.get("MLFLOW_ENABLE_OTLP_EXPORTER", "true").lower() in ("true", "1")
    return bool(endpoint) and exporting and not dual


def shares_provider() -> bool:
    """Whether MLflow uses the tracer provider of the process, and not one of its own."""
    return not environment_variables.MLFLOW_USE_DEFAULT_TRACER_PROVIDER.get()


def begin_tracing() -> None:
    """Have MLflow listen to its tracer provider; else it does when the first span is made by its own functions."""
    provider.provider.get_or_init_tracer(__name__)


def tracing_has_begun() -> bool:
    """Whether MLflow has made its trace buffers, whose limits it reads but once."""
    return provider.provider.once._done or InMemoryTraceManager._instance is not None


def buffer_pressure() -> float:
    """How full MLflow's fullest trace buffer is, 0 to 1: open traces, or tasks that wait to be stored."""
    manager = InMemoryTraceManager._instance
    if manager is None:
        return 0.0
    traces: Any = manager._traces
    queue: Any = getattr(getattr(_trace_exporter(), "_async_queue", None), "_queue", None)
    waiting = queue.qsize() / queue.maxsize if queue is not None and queue.maxsize else 0.0
    return max(len(traces) / traces.maxsize, waiting)


def trace_lifetime() -> float:
    """Seconds after which MLflow forgets a trace that is open."""
    return float(environment_variables.MLFLOW_TRACE_BUFFER_TTL_SECONDS.get())


def keep_open(trace_id: str) -> None:
    """Let an open trace's lifetime begin anew; where the user asked MLflow to end long traces, it does."""
    manager: Any = InMemoryTraceManager.get_instance()
    with manager._lock:
        held = manager._traces.get(trace_id)
        if held is not None and not hasattr(manager._traces, "timeout"):
            manager._traces[trace_id] = held


def _trace_exporter() -> Any:
    try:
        return provider._get_trace_exporter()
    except AttributeError:  # MLflow 3.11, while its tracing is off
        return None


def attachment(text: str) -> object:
    """JSON text that MLflow stores beside a trace where it is an input or output of a span."""
    from mlflow.tracing.attachments import Attachment

    return Attachment(content_type="application/json", content_bytes=text.encode())


def attached_text(info: TraceInfo, reference: str) -> str:
    """The text behind a stored attachment's reference."""
    from mlflow.tracing.attachments import Attachment

    found = Attachment.parse_ref(reference)
    if found is None:
        raise invalid(f"'{reference[:80]}' refers to no attachment of trace {info.trace_id}.")
    repository = TracingClient()._get_artifact_repo_for_trace(info)
    return repository.download_trace_attachment(str(found["attachment_id"])).decode()


def state_of_trace(trace_id: str) -> TraceState | None:
    """How a trace ended, as far as MLflow's list has it, whether its spans can be read or not; None if it has not."""
    try:
        return TracingClient().get_trace_info(trace_id).state
    except MlflowException:  # there is none
        return None


@dataclass(frozen=True, slots=True)
class OpenTrace:
    """A trace that MLflow holds in memory because its root is open."""

    trace_id: str
    _live: TraceInfo
    _copy: TraceInfo

    @classmethod
    def of(cls, trace_id: str) -> OpenTrace | None:
        """The open trace of that id; None if it is over, or MLflow has forgotten it."""
        with InMemoryTraceManager.get_instance().get_trace(trace_id) as found:
            if found is None:
                return None
            info: TraceInfo = found.info
            tags, metadata = dict(info.tags), dict(info.trace_metadata)
            return cls(trace_id, info, replace(info, tags=tags, trace_metadata=metadata))

    @property
    def experiment(self) -> str | None:
        """The experiment it belongs to."""
        return self._copy.experiment_id

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags, MLflow's own included."""
        return self._copy.tags

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its metadata, MLflow's own included."""
        return self._copy.trace_metadata

    def is_over(self) -> bool:
        """Whether its root has ended by now."""
        return self._live.state != TraceState.IN_PROGRESS

    def show_input(self, inputs: object) -> None:
        """Show the JSON of what its root has got where nothing else is to be shown yet, as MLflow does at the end."""
        if inputs is not None and not self._copy.request_preview:
            self._copy.request_preview = _json_preview(inputs)

    def store_as_it_was(self) -> None:
        """Store what was known of the trace when this object was made."""
        TracingClient().start_trace(self._copy)

    def store_as_it_is(self) -> None:
        """Store what is known of the trace now."""
        TracingClient().start_trace(self._live)


def spans_of_open_trace(trace_id: str) -> dict[str, LiveSpan]:
    """The spans that MLflow holds of a trace, by id; none if it is over."""
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as found:
        return dict(found.span_dict) if found is not None else {}


# --- storing ----------------------------------------------------------------------------------------------------------

PREVIEW_CHARS = 1000
"""What MLflow shows of a payload in its list of traces."""

SPANS_LOCATION: str | None = getattr(TraceTagKey, "SPANS_LOCATION", None)
"""Tag that tells readers of a trace where its spans are."""


@dataclass(frozen=True, slots=True)
class FinishedTrace:
    """A trace whose root has ended, taken out of MLflow's buffer."""

    trace: Trace
    prompts: Any

    @property
    def experiment(self) -> str:
        """The experiment it belongs to."""
        return str(self.trace.info.experiment_id)


class TraceExporter:
    """MLflow's exporter of this process, where it writes to a tracking store through a queue."""

    PARTS = ("_async_queue", "_client", "_display_handler", "_log_trace", "_log_spans", "_store_supports_log_spans")

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    @classmethod
    def current(cls) -> TraceExporter | None:
        """The exporter in use; None where MLflow's is another one (OTLP, Databricks, no queue) or has other parts."""
        exporter: Any = _trace_exporter()
        if type(exporter) is not MlflowV3SpanExporter or not all(hasattr(exporter, part) for part in cls.PARTS):
            return None
        if SPANS_LOCATION is None or is_databricks_uri(exporter._client.tracking_uri):
            return None
        return cls(exporter)

    def is_current(self) -> bool:
        """Whether MLflow still uses this exporter."""
        return _trace_exporter() is self._exporter

    @property
    def stores_spans(self) -> bool:
        """Whether the store takes spans; MLflow finds out when it first tries."""
        return bool(self._exporter._store_supports_log_spans)

    def take(self, root: LiveSpan) -> Callable[[], FinishedTrace] | None:
        """Take a finished trace out of MLflow's buffer, which then exports it no more; what it gives makes the trace.

        None where MLflow has exported it already, must do so at once (evaluation), waits for spans that are open, or
        flushes its queue, which meanwhile does what it is given in the thread that gives it.
        """
        queue: Any = self._exporter._async_queue
        if maybe_get_request_id(is_evaluate=True) or queue._queue.full() or queue._stop_event.is_set():
            return None
        manager: Any = InMemoryTraceManager.get_instance()
        otel_span: Any = root._span
        otel_id = otel_span.context.trace_id
        with manager._lock:
            held = manager._traces.get(manager._otel_id_to_mlflow_trace_id.get(otel_id))
            if held is None or held.is_remote_trace or getattr(held, "workspace", None):
                return None
            if any(span.end_time_ns is None for span in held.span_dict.values()):
                return None
            manager._traces.pop(manager._otel_id_to_mlflow_trace_id.pop(otel_id))
        return lambda: FinishedTrace(_converted(held), held.prompts)

    def pause(self, seconds: float) -> None:
        """Wait, in one of MLflow's workers, until the time is over or the queue is flushed."""
        self._exporter._async_queue._stop_event.wait(seconds)

    def submit(self, work: Callable[[], None]) -> None:
        """Have one of MLflow's own workers do `work`; `mlflow.flush_trace_async_logging()` waits for it."""
        task = Task(handler=work, args=(), error_msg="Failed to store the traces of workflow runs.")
        self._exporter._async_queue.put(task)

    def store_info(self, found: FinishedTrace, spans_are_in: Literal["TRACKING_STORE", "ARTIFACT_REPO"]) -> None:
        """Store everything of a trace but its spans; those too where they go to its artifacts."""
        found.trace.info.tags[str(SPANS_LOCATION)] = spans_are_in
        self._exporter._log_trace(found.trace, found.prompts)

    def store_spans(self, found: Sequence[FinishedTrace]) -> None:
        """Store the spans of traces of one experiment, by one call; raises what the store raises."""
        spans = [span for each in found for span in each.trace.data.spans]
        self._exporter._client.log_spans(found[0].experiment, spans)

    def store_in_mlflows_order(self, found: FinishedTrace) -> None:
        """Store spans first, as MLflow does; this is how it finds out what the store can do."""
        self._exporter._log_spans(found.experiment, list(found.trace.data.spans))
        self._exporter._log_trace(found.trace, found.prompts)

    def display(self, found: Sequence[FinishedTrace]) -> None:
        """Show stored traces in a notebook, as MLflow does."""
        self._exporter._display_handler.display_traces([each.trace for each in found])


def _converted(held: Any) -> Trace:
    """The trace as MLflow stores it; one whose preview MLflow cannot make is shown by the JSON of its payloads.

    MLflow reads a chat out of payloads that look like one, and raises (or gives no text) where a part of a message
    holds no text: `{"type": "text", "text": {"value": "hi"}}` of OpenAI's assistants does.
    """
    info: TraceInfo = held.info
    try:
        trace: Trace = held.to_mlflow_trace()
    except (TypeError, AttributeError, KeyError, IndexError):
        root = held.get_root_span()
        info.request_preview = info.request_preview or _json_preview(root.inputs)
        info.response_preview = info.response_preview or _json_preview(root.outputs)
        return held.to_mlflow_trace()
    for field, payload in (("request_preview", trace.data.request), ("response_preview", trace.data.response)):
        if not isinstance(getattr(info, field), str | None):
            setattr(info, field, _json_preview(payload))
    return trace


def _json_preview(payload: Any) -> str:
    text = (
        payload
        if isinstance(payload, str)
        else json.dumps(payload, ensure_ascii=False, separators=(",", ":"), default=str)
    )
    return text if len(text) <= PREVIEW_CHARS else f"{text[: PREVIEW_CHARS - 3]}..."


# --- autologging ------------------------------------------------------------------------------------------------------

autologging_integration: Callable[[str], Callable[[Callable[..., None]], Callable[..., None]]] = (
    autologging_utils.autologging_integration
)


def autologging_is_decided() -> bool:
    """Whether our own `autolog()` was called."""
    return bool(autologging_utils.AUTOLOGGING_INTEGRATIONS.get(FLAVOR_NAME))


def autologging_is_on() -> bool:
    """Whether runs are to be traced: our own `autolog()` decides, before it was called `mlflow.autolog()` does.

    Read at each run's start: this is how the flavor takes part in `mlflow.autolog()`, whose list of flavors is closed.
    """
    if autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED:
        return False
    own = autologging_utils.AUTOLOGGING_INTEGRATIONS.get(FLAVOR_NAME)
    if own:
        return not own["disable"] and own["log_traces"]
    everything = autologging_utils.AUTOLOGGING_INTEGRATIONS.get("mlflow")
    if not everything:
        return False
    excluded = everything.get("exclude_flavors") or ()
    return not everything["disable"] and everything.get("log_traces", True) and FLAVOR_NAME not in excluded
