"""Every private name of MLflow that the flavor needs, feature-tested, behind functions with types.

Private names move between MLflow's minor versions; when one does, this is the only file to change.
"""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# Private names are what this file is for, and most of MLflow has no types.
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, cast

import mlflow
import yaml
from mlflow import environment_variables
from mlflow.entities import LiveSpan, Span, TraceInfo, TraceState
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracing import provider
from mlflow.tracing.client import TracingClient
from mlflow.tracing.context import get_configured_trace_metadata
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.utils import autologging_utils

__all__ = [
    "FLAVOR_NAME",
    "OpenTrace",
    "SpanToken",
    "attach",
    "attached_text",
    "attachment",
    "autologging_integration",
    "autologging_is_on",
    "buffer_pressure",
    "check_model_code_allowed",
    "configured_metadata",
    "detach",
    "download",
    "environment_files",
    "in_requirement_capture",
    "in_serving_process",
    "invalid",
    "make_active_if_none",
    "model_config_of_script",
    "otlp_diverts_traces",
    "save_example",
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


def attach(span: Span) -> SpanToken | None:
    """Make `span` the current one in this context; None where it stands for nothing (tracing is off)."""
    otel_span: Any = span._span
    if otel_span.get_span_context() is None:
        return None
    return provider.set_span_in_context(span)


def detach(token: SpanToken | None) -> None:
    """Undo `attach`; in another context than that of `attach` it does nothing."""
    if token is not None:
        provider.detach_span_from_context(token)


def configured_metadata() -> Mapping[str, str]:
    """Trace metadata set by `mlflow.tracing.context()` around the caller."""
    return get_configured_trace_metadata() or {}


def otlp_diverts_traces() -> bool:
    """Whether MLflow sends its traces to an OTLP endpoint only, away from its own store."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    dual = os.environ.get("MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT", "").lower() in ("true", "1")
    exporting = os.environ.get("MLFLOW_ENABLE_OTLP_EXPORTER", "true").lower() in ("true", "1")
    return bool(endpoint) and exporting and not dual


def tracing_has_begun() -> bool:
    """Whether MLflow has made its trace buffers, whose limits it reads but once."""
    return provider.provider.once._done or InMemoryTraceManager._instance is not None


def buffer_pressure() -> float:
    """How full MLflow's fullest trace buffer is, 0 to 1: open traces, or tasks that wait to be stored."""
    manager = InMemoryTraceManager._instance
    if manager is None:
        return 0.0
    traces: Any = manager._traces
    queue: Any = getattr(getattr(provider._get_trace_exporter(), "_async_queue", None), "_queue", None)
    waiting = queue.qsize() / queue.maxsize if queue is not None and queue.maxsize else 0.0
    return max(len(traces) / traces.maxsize, waiting)


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

    def store_as_it_was(self) -> None:
        """Store what was known of the trace when this object was made."""
        TracingClient().start_trace(self._copy)

    def store_as_it_is(self) -> None:
        """Store what is known of the trace now."""
        TracingClient().start_trace(self._live)


# --- autologging ------------------------------------------------------------------------------------------------------

autologging_integration: Callable[[str], Callable[[Callable[..., None]], Callable[..., None]]] = (
    autologging_utils.autologging_integration
)


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


# --- models from code -------------------------------------------------------------------------------------------------


@contextmanager
def model_config_of_script(config: Mapping[str, Any]) -> Generator[None]:
    """Let `mlflow.models.ModelConfig()` read `config` in the script that runs inside the block.

    Without a config nothing is set, so that `ModelConfig(development_config=...)` keeps working in a logged script.
    """
    if not config:
        yield
        return
    from mlflow.models.utils import _config_context

    with _config_context(dict(config)):
        yield


def check_model_code_allowed() -> None:
    """Raise MLflow's own error where running a model's code is forbidden.

    MLflow 3.18 has the check; before it, only the variable that it reads is honoured.
    """
    for module in ("mlflow.models.utils", "mlflow.utils.model_utils"):
        check = getattr(import_module(module), "_check_model_code_loading_allowed", None)
        if check is not None:
            check("a model from code")
            return
    if os.environ.get("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "true").strip().lower() in ("false", "0"):
        raise invalid(
            "Loading a model from code runs its script, and MLFLOW_ALLOW_MODEL_CODE_EXECUTION forbids that. "
            "Set it to true if you trust the model's author."
        )


def make_active_if_none(model_id: str) -> None:
    """Make a loaded model the process's active one, where no model is; what the user set stays."""
    from mlflow.tracking import fluent  # not in mlflow-tracing

    if fluent.get_active_model_id() is None:
        fluent._set_active_model_id(model_id)


def download(model_uri: str, target: str | None) -> str:
    """The model's directory on this machine; every kind of model URI is understood."""
    from mlflow.tracking.artifact_utils import _download_artifact_from_uri

    return _download_artifact_from_uri(artifact_uri=model_uri, output_path=target)


def save_example(model: Any, example: object, path: str) -> tuple[object, dict[str, Any] | None]:
    """Store an input example with the model; gives its data and its parameters."""
    from mlflow.models.utils import _save_example

    saved: Any = _save_example(model, cast("Any", example), path)
    return saved.inference_data, saved.inference_params


def environment_files(conda_env: Any, requirements: Any, extra: Any, defaults: list[str] | None) -> dict[str, str]:
    """The files that say what a model needs, by name; the arguments are those of MLflow's own flavors."""
    from mlflow.utils import environment  # not in mlflow-tracing

    if conda_env is not None:
        conda, pip, constraints = environment._process_conda_env(conda_env)
    else:
        conda, pip, constraints = environment._process_pip_requirements(defaults, requirements, extra)
    files = {"conda.yaml": yaml.safe_dump(conda), "requirements.txt": "\n".join(pip)}
    python = {name: value for name, value in environment._PythonEnv.current().to_dict().items() if value}
    files["python_env.yaml"] = yaml.safe_dump(python, sort_keys=False)
    if constraints:
        files["constraints.txt"] = "\n".join(constraints)
    return files


def in_requirement_capture() -> bool:
    """Whether this is the process in which MLflow looks for a model's requirements by loading and calling it."""
    return bool(environment_variables._MLFLOW_IN_CAPTURE_MODULE_PROCESS.get())


def in_serving_process() -> bool:
    """Whether this process serves a model (`mlflow models serve` and what is built like it)."""
    return "__pyfunc_model_path__" in os.environ or bool(environment_variables._MLFLOW_IS_IN_SERVING_ENVIRONMENT.get())
