"""Every private name of MLflow that the flavor uses is there in the version that is installed."""

from __future__ import annotations

from importlib import import_module

import mlflow
import pytest

from mlflow_flavor import _compat
from mlflow_flavor._compat_models import check_model_code_allowed

NAMES = [
    "mlflow.environment_variables:_MLFLOW_IN_CAPTURE_MODULE_PROCESS",
    "mlflow.environment_variables:_MLFLOW_IS_IN_SERVING_ENVIRONMENT",
    "mlflow.environment_variables:MLFLOW_USE_DEFAULT_TRACER_PROVIDER",
    "mlflow.models.model:Model.get_serving_input",
    "mlflow.models.utils:_config_context",
    "mlflow.models.utils:_save_example",
    "mlflow.tracing.attachments:Attachment.parse_ref",
    "mlflow.tracing.client:TracingClient._get_artifact_repo_for_trace",
    "mlflow.tracing.client:TracingClient.log_spans",
    "mlflow.tracing.client:TracingClient.start_trace",
    "mlflow.tracing.context:get_configured_trace_metadata",
    "mlflow.tracing.export.async_export_queue:AsyncTraceExportQueue.put",
    "mlflow.tracing.export.async_export_queue:Task",
    "mlflow.tracing.export.mlflow_v3:MlflowV3SpanExporter._log_spans",
    "mlflow.tracing.export.mlflow_v3:MlflowV3SpanExporter._log_trace",
    "mlflow.tracing.provider:_get_trace_exporter",
    "mlflow.tracing.provider:detach_span_from_context",
    "mlflow.tracing.provider:provider.get_or_init_tracer",
    "mlflow.tracing.provider:provider.once._done",
    "mlflow.tracing.provider:set_span_in_context",
    "mlflow.tracing.trace_manager:InMemoryTraceManager._instance",
    "mlflow.tracing.utils:maybe_get_request_id",
    "mlflow.tracking.artifact_utils:_download_artifact_from_uri",
    "mlflow.tracking.fluent:_set_active_model_id",
    "mlflow.tracking.fluent:get_active_model_id",
    "mlflow.utils.autologging_utils:_AUTOLOGGING_GLOBALLY_DISABLED",
    "mlflow.utils.autologging_utils:AUTOLOGGING_INTEGRATIONS",
    "mlflow.utils.autologging_utils:autologging_integration",
    "mlflow.utils.environment:_process_conda_env",
    "mlflow.utils.environment:_process_pip_requirements",
    "mlflow.utils.environment:_PythonEnv.current",
    "mlflow.utils.uri:is_databricks_uri",
]


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_has(name: str):
    module, _, path = name.partition(":")
    found: object = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)


async def test_finished_traces_can_be_taken_over_from_mlflows_exporter(autolog: str):
    with mlflow.start_span("any"):
        pass
    # The tests store synchronously: MLflow's exporter has a queue where it is asked for one, and then all the parts.
    exporter = _compat.MlflowV3SpanExporter("sqlite://")
    assert [part for part in _compat.TraceExporter.PARTS if not hasattr(exporter, part)] in ([], ["_async_queue"])


def test_running_model_code_is_allowed_by_default():
    check_model_code_allowed()


def test_an_mlflow_that_is_too_old_is_refused():
    with pytest.raises(ImportError, match=r"mlflow_flavor needs mlflow>=3\.11 \(found 3\.9\.0\)\."):
        _compat._check_version("3.9.0")  # pyright: ignore[reportPrivateUsage]  # the installed one is new enough
