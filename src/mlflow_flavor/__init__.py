"""Workflows in MLflow: live traces, logging as a model, loading, serving.

With only `mlflow-tracing` installed there are `autolog`, `recorded`, `trace_id`, `feedback` and `predict_fn`;
everything else needs `mlflow` (or `mlflow-skinny`, with which models have no signature and no `pyfunc`).
"""

from typing import TYPE_CHECKING

from mlflow.version import IS_TRACING_SDK_ONLY

from mlflow_flavor._ownership import explain_imports

with explain_imports():
    from mlflow_flavor._compat import FLAVOR_NAME
    from mlflow_flavor.autolog import autolog, listen
    from mlflow_flavor.feedback import UnansweredError, feedback, predict_fn, trace_id
    from mlflow_flavor.recorded import recorded

    if TYPE_CHECKING or not IS_TRACING_SDK_ONLY:
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
        from mlflow_flavor.token_store import SqliteTokenStore, TokenStore

__all__ = [
    "FLAVOR_NAME",
    "Difference",
    "IncompleteInputError",
    "Reproduction",
    "SqliteTokenStore",
    "TokenStore",
    "UnansweredError",
    "WorkflowPyfunc",
    "as_responses_agent",
    "autolog",
    "config",
    "feedback",
    "load_model",
    "log_model",
    "predict_fn",
    "recorded",
    "register_agent",
    "reproduce",
    "save_model",
    "script_from_notebook",
    "set_model",
    "trace_id",
]

if IS_TRACING_SDK_ONLY:

    def __getattr__(name: str) -> object:
        if name in __all__:
            raise ImportError(
                f"mlflow_flavor.{name} needs MLflow, and only mlflow-tracing is installed: install mlflow."
            )
        raise AttributeError(f"module 'mlflow_flavor' has no attribute '{name}'")


listen()
