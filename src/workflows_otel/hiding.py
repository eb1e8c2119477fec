"""What OpenInference's variables hide of calls, beyond all inputs or outputs: those are in the content policy."""

from __future__ import annotations

import os
from typing import Literal

__all__ = ["hides", "hides_parameters"]

_HIDES = {
    ("LLM", "INPUT"): ("INPUT_MESSAGES", "INPUT_TEXT"),
    ("LLM", "OUTPUT"): ("OUTPUT_MESSAGES", "OUTPUT_TEXT"),
    ("EMBEDDING", "INPUT"): ("EMBEDDINGS_TEXT", "INPUT_MESSAGES", "INPUT_TEXT"),
    ("RETRIEVER", "OUTPUT"): ("RETRIEVAL_DOCUMENTS",),
}
_HIDES_OF_COMPLETIONS = {"INPUT": "PROMPTS", "OUTPUT": "CHOICES"}


def hides(kind: str, operation: str, side: Literal["INPUT", "OUTPUT"]) -> bool:
    """Whether what goes into calls of a kind, or comes out of them, is not to be shown."""
    if any(_is_set(what) for what in _HIDES.get((kind, side), ())):
        return True
    return operation == "text_completion" and _is_set(_HIDES_OF_COMPLETIONS[side])


def hides_parameters() -> bool:
    """Whether the parameters of models are not to be shown."""
    return _is_set("LLM_INVOCATION_PARAMETERS")


def _is_set(what: str) -> bool:
    return os.environ.get(f"OPENINFERENCE_HIDE_{what}", "").strip().lower() in ("true", "1", "yes", "on")
