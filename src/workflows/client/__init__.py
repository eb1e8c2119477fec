"""Older path of `llama_agents.client`, a client of served workflows; it comes with a distribution of its own."""

import warnings

try:
    from llama_agents.client import *  # type: ignore[import-not-found]  # noqa: F403
    from llama_agents.client import __all__ as __all__  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(
        "workflows.client needs the distribution llama-agents-client. Install it with `pip install "
        f"llama-agents-client httpx` ({error}).",
        name=error.name,
    ) from error

warnings.warn(
    "workflows.client is an older path: install llama-agents-client and import llama_agents.client instead.",
    DeprecationWarning,
    stacklevel=2,
)
