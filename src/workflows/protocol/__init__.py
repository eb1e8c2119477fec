"""Older path of `llama_agents.client.protocol`: what a client and a server of workflows say to each other."""

import warnings

try:
    from llama_agents.client.protocol import *  # type: ignore[import-not-found]  # noqa: F403
except ImportError as error:
    raise ImportError(
        "workflows.protocol needs the distribution llama-agents-client. Install it with `pip install "
        f"llama-agents-client httpx` ({error}).",
        name=error.name,
    ) from error

warnings.warn(
    "workflows.protocol is an older path: install llama-agents-client and import llama_agents.client.protocol instead.",
    DeprecationWarning,
    stacklevel=2,
)
