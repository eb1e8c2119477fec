"""What a back end gets that may see less of payloads than another one of the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, capture_value

__all__ = ["MODES", "without_values"]

MODES = ("off", "types", "full")
"""How much of payloads is shown, from the least to the most."""

_VALUES = {
    at.INPUT_VALUE: at.INPUT_MIME_TYPE,
    at.OUTPUT_VALUE: at.OUTPUT_MIME_TYPE,
}
_MORE_VALUES = frozenset(
    (
        at.GEN_AI_INPUT_MESSAGES,
        at.GEN_AI_OUTPUT_MESSAGES,
        at.GEN_AI_TOOL_CALL_ARGUMENTS,
        at.GEN_AI_TOOL_CALL_RESULT,
        at.TOOL_PARAMETERS,
        at.INPUT_URI,
        at.OUTPUT_URI,
    )
)
_VALUE_PREFIXES = ("llm.input_messages.", "llm.output_messages.", f"{at.RETRIEVAL_DOCUMENTS}.")


def without_values(attributes: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """The attributes of a span of ours that shows values, for a back end whose `policy` shows fewer.

    In mode `types` payloads become their shape: field names, kinds and sizes. The class is then that of plain data.
    """
    shown = {key: value for key, value in attributes.items() if not _is_value(key)}
    for key, mime_type in _VALUES.items():
        text = shown.pop(key, None)
        if not isinstance(text, str):
            continue
        payload = json.loads(text) if shown.get(mime_type) == "application/json" else text
        captured = capture_value(payload, replace(policy, redact=None))
        if captured is None:
            shown.pop(mime_type, None)
        else:
            shown |= {key: captured.text, mime_type: captured.mime_type}
    return shown


def _is_value(key: str) -> bool:
    return key in _MORE_VALUES or key.startswith(_VALUE_PREFIXES)
