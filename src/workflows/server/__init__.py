"""Older path of `llama_agents.server`. That server drives the engine that it was written for, by its inner parts."""

import warnings

try:
    from llama_agents.server import *  # type: ignore[import-not-found]  # noqa: F403
except ImportError as error:
    raise ImportError(
        "workflows.server needs the distribution llama-agents-server and the engine that it was written for, "
        "llama-index-workflows; Spanflow cannot stand in for that. To serve a workflow on Spanflow, log it with "
        "mlflow_flavor and run `mlflow models serve`, or its AgentServer: install them with `pip install "
        f"'spanflow[mlflow]'` ({error}).",
        name=error.name,
    ) from error

warnings.warn(
    "workflows.server is an older path: import llama_agents.server, where that is installed.",
    DeprecationWarning,
    stacklevel=2,
)
