"""What a back end gets that may see less of payloads than another one of the same run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, Mode, capture_fields, capture_value

__all__ = ["MODES", "TAG", "Redact", "fields_without_values", "shows_more", "together", "without_values"]

Redact = Callable[[str, Any], Any]

KIND = r"<[a-zA-Z_.]+(?: \d+)?>"
NAME = r'"(?:[^"\\]|\\.)+"'  # in JSON
OMITTED = r'"…":"\d+ items omitted"'
SHAPE = re.compile(rf'\{{"type":(?:"{KIND}"|"\w+","fields":\{{(?:(?:{NAME}:"{KIND}"|{OMITTED}),?)*\}})\}}')

TAG = "llamaindex."
"""What the names of attributes begin with that hold tags of llama-index's `instrument_tags`."""

MODES = ("off", "types", "full")
"""How much of payloads is shown, from the least to the most."""


def shows_more(mode: Mode, other: Mode) -> bool:
    """Whether one mode shows more of payloads than another one."""
    return MODES.index(mode) > MODES.index(other)


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
_VALUE_PREFIXES = ("llm.input_messages.", "llm.output_messages.", f"{at.RETRIEVAL_DOCUMENTS}.", f"{at.EMBEDDINGS}.")


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


def without_values(attributes: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """The attributes of a span of ours that shows values, for a back end whose `policy` shows fewer.

    In mode `types` payloads become their shape: field names, kinds and sizes. The class is then that of plain data.
    """
    shown = {key: value for key, value in attributes.items() if not _is_value(key)}
    tags = {key: shown.pop(key) for key in attributes if key.startswith(TAG)}
    shown |= fields_without_values(tags, policy)
    for key, mime_type in _VALUES.items():
        text = shown.pop(key, None)
        if not isinstance(text, str):
            continue
        if _is_shape(text):
            shown[key] = text
            continue
        captured = capture_value(_payload(text, shown.get(mime_type)), replace(policy, redact=None))
        if captured is None:
            shown.pop(mime_type, None)
        else:
            shown |= {key: captured.text, mime_type: captured.mime_type}
    return shown


def _is_kind(value: object) -> bool:
    """Whether a value is a kind already, as `<str 3>`."""
    return isinstance(value, str) and re.fullmatch(KIND, value) is not None


def _is_shape(text: str) -> bool:
    """Whether a payload is a shape already: of a run that began when no more than that was drawn."""
    return SHAPE.fullmatch(text) is not None


def _payload(text: str, mime_type: object) -> Any:
    try:
        return json.loads(text) if mime_type == "application/json" else text
    except ValueError:  # a step has put a text of its own in the place of ours
        return text


def fields_without_values(fields: Mapping[str, Any], policy: ContentPolicy) -> dict[str, Any]:
    """What is left of named values for a back end whose `policy` shows fewer: their kinds, or nothing."""
    kinds = {name: value for name, value in fields.items() if _is_kind(value)} if policy.mode == "types" else {}
    values = {name: value for name, value in fields.items() if name not in kinds}
    return {**kinds, **(capture_fields(values, replace(policy, redact=None)) if values else {})}


def _is_value(key: str) -> bool:
    return key in _MORE_VALUES or key.startswith(_VALUE_PREFIXES)
