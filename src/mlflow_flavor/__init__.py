"""Workflows in MLflow: live traces, logging as a model, loading, serving.

With only `mlflow-tracing` installed there are `autolog`, `trace_id` and `feedback`; everything else needs `mlflow`.
"""

from mlflow.version import IS_TRACING_SDK_ONLY

from mlflow_flavor._compat import FLAVOR_NAME
from mlflow_flavor.autolog import autolog, listen
from mlflow_flavor.feedback import feedback, predict_fn, trace_id

if not IS_TRACING_SDK_ONLY:
    from mlflow_flavor._model_code import config, set_model
    from mlflow_flavor.flavor import (
        load_model,
        log_model,
        save_model,
    )
    from mlflow_flavor.flavor import load_pyfunc as _load_pyfunc  # noqa: F401  # pyright: ignore[reportUnusedImport]  # the name that MLflow calls
    from mlflow_flavor.notebook import script_from_notebook
    from mlflow_flavor.pyfunc import WorkflowPyfunc
    from mlflow_flavor.reproduction import Difference, IncompleteInputError, Reproduction, reproduce
    from mlflow_flavor.serving import as_responses_agent, register_agent

__all__ = [
    "FLAVOR_NAME",
    "Difference",
    "IncompleteInputError",
    "Reproduction",
    "WorkflowPyfunc",
    "as_responses_agent",
    "autolog",
    "config",
    "feedback",
    "load_model",
    "log_model",
    "predict_fn",
    "register_agent",
    "reproduce",
    "save_model",
    "script_from_notebook",
    "set_model",
    "trace_id",
]

listen()
