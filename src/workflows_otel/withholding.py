"""What a back end gets that may see less of payloads than another one of the same run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, capture_fields, capture_value

__all__ = ["TAG", "Redact", "fields_without_values", "together", "without_values"]

Redact = Callable[[str, Any], Any]

TAG = "llamaindex."
"""What the names of attributes begin with that hold tags of llama-index's `instrument_tags`."""

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
_VALUE_PREFIXES = (
    "llm.input_messages.",
    "llm.output_messages.",
    f"{at.RETRIEVAL_DOCUMENTS}.",
    f"{at.EMBEDDINGS}.",
    TAG,
)
# What is said of values, and would say how large those are where nothing of them is shown.
_ABOUT_VALUES = frozenset(
    (
        at.INPUT_MIME_TYPE,
        at.OUTPUT_MIME_TYPE,
        at.INPUT_SIZE,
        at.OUTPUT_SIZE,
        at.INPUT_COMPLETE,
        at.TRUNCATED,
    )
)


@dataclass(frozen=True, slots=True)
class _Together:
    """Several people's callbacks as one: what any of them hides is hidden from all, since it is captured once."""

    callbacks: tuple[Redact, ...]

    def __call__(self, path: str, value: Any) -> Any:
        for callback in self.callbacks:
            value = callback(path, value)
        return value


def together(callbacks: Iterable[Redact | None]) -> Redact | None:
    """One callback that asks each of these, once; None where there is none."""
    each: list[Redact] = []
    for one in (one for callback in callbacks for one in _apart(callback)):
        if one not in each:  # by equality: they need not be hashable, and bound methods are made anew each time
            each.append(one)
    return _Together(tuple(each)) if len(each) > 1 else next(iter(each), None)


def _apart(callback: Redact | None) -> tuple[Redact, ...]:
    """The callbacks that `together` has made one of."""
    if callback is None:
        return ()
    return callback.callbacks if isinstance(callback, _Together) else (callback,)


def without_values(
    attributes: Mapping[str, Any], policy: ContentPolicy, shapes: Set[str] = frozenset()
) -> dict[str, Any] | None:
    """The attributes of a span of ours for a back end whose `policy` shows less; None where it has no payloads.

    In mode `types` payloads become their shape: field names, kinds and sizes. The class is then that of plain data.

    Args:
        attributes: Of the span.
        policy: What the back end may see.
        shapes: Names of attributes that are shapes already.
    """
    kept = shapes if policy.mode == "types" else frozenset[str]()
    values = {key: value for key, value in attributes.items() if _is_value(key) and key not in kept}
    if not values:
        return None
    shown = {key: value for key, value in attributes.items() if key not in values}
    shown |= fields_without_values({key: value for key, value in values.items() if key.startswith(TAG)}, policy)
    for key, mime_type in _VALUES.items():
        text = values.get(key)
        if not isinstance(text, str):
            continue
        captured = capture_value(_payload(text, attributes.get(mime_type)), replace(policy, redact=None))
        if captured is not None:
            shown |= {key: captured.text, mime_type: captured.mime_type}
    if at.INPUT_COMPLETE in shown:
        shown[at.INPUT_COMPLETE] = False  # no shape is
    if policy.mode == "off":
        return {key: value for key, value in shown.items() if key not in _ABOUT_VALUES}
    return shown


def _payload(text: str, mime_type: object) -> Any:
    try:
        return json.loads(text) if mime_type == "application/json" else text
    except ValueError:  # a step has put a text of its own in the place of ours
        return text


def fields_without_values(fields: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """What is left of named values for a back end whose `policy` shows fewer: their kinds, or nothing."""
    return {**capture_fields(fields, replace(policy, redact=None))} if fields else {}


def _is_value(key: str) -> bool:
    return key in _VALUES or key in _MORE_VALUES or key.startswith(_VALUE_PREFIXES)
