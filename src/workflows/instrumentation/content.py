"""Payload capture for every reader: how much of an event may leave the process, and in what shape.

Three modes: `off` (nothing), `types` (class, field names, kinds and sizes; no value) and `full` (values, redacted and
bounded). It fails closed: a value whose redaction or encoding raises is not shown at all.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel

from workflows.errors import WorkflowValidationError
from workflows.events import Event
from workflows.instrumentation.encoder import Encoder, fields_of, kind_of, omitted_text, printable
from workflows.instrumentation.redaction import REDACTION_FAILED, mask_secrets

__all__ = [
    "JSON_MIME",
    "SMALLEST_LIMIT",
    "STACK_CHARS",
    "Captured",
    "ContentPolicy",
    "ExceptionText",
    "Mode",
    "capture_event",
    "capture_fields",
    "capture_value",
    "cut_values",
    "describe_exception",
    "exception_message",
    "exception_type",
    "redact_text",
    "to_jsonable",
]

Mode = Literal["off", "types", "full"]

JSON_MIME = "application/json"
TEXT_MIME = "text/plain"

SMALLEST_LIMIT = 256
MESSAGE_CHARS = 2048
SHORT_MESSAGE = 1920  # in a stack, behind the name of its class
STACK_CHARS = 8192
STACK_FRAMES = 40
OMISSION_CHARS = 64
SHOWN_FIELDS = 64  # names of fields in mode `types`
LOOK_AHEAD = 512
BLOB_CHARS = 16 * 1024 * 1024  # of what is kept elsewhere: beyond, that is cut as well

_OTEL_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_HIDE_INPUTS = "OPENINFERENCE_HIDE_INPUTS"
_HIDE_OUTPUTS = "OPENINFERENCE_HIDE_OUTPUTS"

logger = logging.getLogger("workflows.instrumentation")
_cut = 0


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """What of a payload may leave the process.

    Attributes:
        mode: `off`, `types` or `full`.
        max_chars: Longest text of one value, in characters, markers included; at least 256. Of what a value holds, no
            more than 512 values are shown.
        redact: Called with the dotted path ("" for the whole, `user.name`, `items.0`, `exception.message`) and the
            value, before it is encoded; what it returns is shown instead. Where it raises, nothing is shown.
        hide_inputs: Inputs are captured as in mode `off`.
        hide_outputs: Outputs are captured as in mode `off`.
        blob: In mode `full`, called with the whole of a payload that is longer than `max_chars` (redacted, at most
            16 million characters) and its mime type; it keeps that elsewhere, and returns a URI, or None. It is called
            where the payload is captured, so it must not block.
        max_attribute_chars: What the back end, or the way to it, keeps of one text or JSON, in characters; nothing is
            captured that would be cut there, where JSON would be cut in the middle. None: no limit but our own.
    """

    mode: Mode = "types"
    max_chars: int = 4096
    redact: Callable[[str, Any], Any] | None = None
    hide_inputs: bool = False
    hide_outputs: bool = False
    blob: Callable[[str, str], str | None] | None = None
    max_attribute_chars: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise WorkflowValidationError(
                f"Content mode {self.mode!r} is unknown. Use 'off' (nothing), 'types' (names and sizes) or 'full'."
            )
        if self.max_chars < SMALLEST_LIMIT:
            raise WorkflowValidationError(
                f"max_chars={self.max_chars} leaves no room for a payload and its markers. Use {SMALLEST_LIMIT} or "
                "more, or mode='off' to capture nothing."
            )

    @classmethod
    def from_environment(
        cls,
        default_mode: Mode = "types",
        *,
        max_chars: int = 4096,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> ContentPolicy:
        """The policy of this process: environment variables win over `default_mode`.

        `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` sets the mode (`true`, `SPAN_ONLY` or `SPAN_AND_EVENT`:
        full; anything else: no values). `OPENINFERENCE_HIDE_INPUTS` and `OPENINFERENCE_HIDE_OUTPUTS` hide that side.
        """
        return cls(
            mode=_mode_from_environment(default_mode),
            max_chars=max_chars,
            redact=redact,
            hide_inputs=_is_true(_HIDE_INPUTS),
            hide_outputs=_is_true(_HIDE_OUTPUTS),
        )

    def within(self, max_chars: int | None) -> int | None:
        """The lower of two limits: that of an attribute, and another one; None where neither is set."""
        if self.max_attribute_chars is None or max_chars is None:
            return self.max_attribute_chars or max_chars
        return min(max_chars, self.max_attribute_chars)

    def for_inputs(self) -> ContentPolicy:
        """The policy for what goes into a run, a step or a call."""
        return replace(self, mode="off") if self.hide_inputs else self

    def for_outputs(self) -> ContentPolicy:
        """The policy for what comes out of a run, a step or a call."""
        return replace(self, mode="off") if self.hide_outputs else self


def _mode_from_environment(default: Mode) -> Mode:
    asked = os.environ.get(_OTEL_CAPTURE, "").strip().lower()
    if not asked:
        return default
    if asked in ("true", "1", "span_only", "span_and_event"):
        return "full"
    if asked not in ("false", "0", "no_content", "event_only"):
        logger.warning(
            "%s=%r is no known value; no payload values are captured. Use true or false", _OTEL_CAPTURE, asked
        )
    return "off" if default == "off" else "types"


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("true", "1", "yes", "on")


@dataclass(frozen=True, slots=True)
class Captured:
    """A payload as it may leave the process.

    Attributes:
        value: Plain data (None, bool, int, float, str, list, dict), bounded.
        text: The same as valid JSON; plain text where the payload is a text.
        mime_type: `application/json` or `text/plain`.
        size: Characters of the whole payload; where items were left out, the least it can be.
        truncated: Something was left out for its length.
        complete: `value` is the whole payload: nothing left out, masked or replaced by a placeholder.
        uri: Where the whole payload is kept, if it was truncated and `ContentPolicy.blob` keeps such.
    """

    value: Any
    text: str
    mime_type: str
    size: int
    truncated: bool
    complete: bool
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class ExceptionText:
    """An exception, redacted and bounded; `type` is the full class name, `stacktrace` keeps both ends where cut."""

    type: str
    message: str
    stacktrace: str


_FAILED = Captured(
    REDACTION_FAILED, REDACTION_FAILED, TEXT_MIME, len(REDACTION_FAILED), truncated=False, complete=False
)
_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def capture_event(event: Event, policy: ContentPolicy) -> Captured | None:
    """An event's declared and dynamic fields, as `policy.mode` says; None in mode `off`."""
    return capture_value(event, policy)


def capture_value(value: object, policy: ContentPolicy) -> Captured | None:
    """Any value, as `policy.mode` says; None in mode `off`."""
    if policy.mode == "full":
        return to_jsonable(value, policy)
    if policy.mode == "off":
        return None
    shape = _shape(value)
    text = _as_json(shape)
    longest = policy.max_attribute_chars
    if longest is None or len(text) <= longest:
        return Captured(shape, text, JSON_MIME, len(text), truncated=False, complete=False)
    cut = Encoder(longest, None).encode(shape)
    return Captured(cut, _as_json(cut), JSON_MIME, len(text), truncated=True, complete=False)


def capture_fields(fields: Mapping[str, Any], policy: ContentPolicy) -> dict[str, str | int | float]:
    """Named values, each as an attribute can hold it: itself, JSON, or in mode `types` its kind; none in mode `off`."""
    captured = capture_value(dict(fields), policy)
    shown: object = captured.value if captured is not None else None
    if isinstance(shown, dict) and policy.mode == "types":
        shown = cast("dict[str, Any]", shown)["fields"]
    if not isinstance(shown, dict):
        return {}
    plain = cast("dict[str, Any]", shown)
    return {name: item if isinstance(item, (str, int, float)) else _as_json(item) for name, item in plain.items()}


def cut_values() -> int:
    """How many values were cut for their length in this process so far."""
    return _cut


def to_jsonable(value: object, policy: ContentPolicy) -> Captured:
    """Any value, redacted and cut to `policy.max_chars`, whatever `policy.mode` is."""
    encoder = Encoder(policy.within(policy.max_chars) or policy.max_chars, policy.redact)
    uri: str | None = None
    try:
        plain = encoder.encode(value)
        as_text = isinstance(plain, str)
        text = plain if as_text else _as_json(plain)
        if encoder.truncated and policy.blob is not None and policy.mode == "full":
            uri = _kept_elsewhere(value, policy, policy.blob)
    except Exception:  # the guard around values of the user's: it fails closed
        logger.warning("a payload of type %s cannot be encoded; it is not shown", type(value).__name__, exc_info=True)
        return _FAILED
    if encoder.truncated:
        global _cut  # a count for the whole process
        _cut += 1
    return Captured(
        value=plain,
        text=text,
        mime_type=TEXT_MIME if as_text else JSON_MIME,
        size=len(text) + encoder.omitted,
        truncated=encoder.truncated,
        complete=not (encoder.truncated or encoder.altered),
        uri=uri,
    )


def _kept_elsewhere(value: object, policy: ContentPolicy, blob: Callable[[str, str], str | None]) -> str | None:
    plain = Encoder(BLOB_CHARS, policy.redact, max_values=BLOB_CHARS).encode(value)
    try:
        return blob(plain, TEXT_MIME) if isinstance(plain, str) else blob(_as_json(plain), JSON_MIME)
    except Exception:  # the guard around the user's hook: the payload is shown without it
        logger.warning("the blob hook raised; the payload is kept nowhere else", exc_info=True)
        return None


def _shape(value: object) -> dict[str, Any]:
    """What a value is, without what is in it: its class, and the kinds and sizes of its fields."""
    fields: Mapping[Any, Any]
    if isinstance(value, BaseModel):
        fields = fields_of(value)
    elif type(value) is dict:
        fields = cast("Mapping[Any, Any]", value)
    else:
        return {"type": kind_of(value)}
    first = islice(fields.items(), SHOWN_FIELDS)
    shown = {printable(name[:128]): kind_of(item) for name, item in first if type(name) is str}
    if len(fields) > len(shown):
        shown["…"] = f"{len(fields) - len(shown)} items omitted"
    return {"type": type(cast(object, value)).__name__, "fields": shown}


def redact_text(text: str, policy: ContentPolicy | None = None, *, path: str = "", max_chars: int | None = None) -> str:
    """A text with its secrets masked, after the user's callback, cut where it is longer than `max_chars`.

    Args:
        text: What to show.
        policy: Whose callback is asked; none without a policy.
        path: What the callback is told the text is.
        max_chars: Longest result, in characters; unlimited by default, but for what `policy` says of attributes.
    """
    if policy is not None:
        max_chars = policy.within(max_chars)
        if policy.redact is not None:
            text = _asked(policy.redact, path, text)
    if max_chars is None or len(text) <= max_chars:
        clean = printable(mask_secrets(text))
        if max_chars is None or len(clean) <= max_chars:
            return clean
    else:
        clean = printable(mask_secrets(text[: max_chars + LOOK_AHEAD]))
    room = max_chars - len(omitted_text(len(text)))
    return clean[:room] + omitted_text(max(len(text) - room, 1))


def _asked(redact: Callable[[str, Any], Any], path: str, text: str) -> str:
    try:
        answer = redact(path, text)
    except Exception:  # the guard around the user's callback: it fails closed
        logger.warning("the redact callback raised on %r; it is not shown", path, exc_info=True)
        return REDACTION_FAILED
    return answer if isinstance(answer, str) else REDACTION_FAILED


def describe_exception(error: BaseException, policy: ContentPolicy, stack_chars: int = STACK_CHARS) -> ExceptionText:
    """An exception's class, message and stack trace, with secrets masked; never raises.

    The stack keeps its innermost 40 frames, and 2,048 characters of each message in it. Where it is longer than
    `stack_chars` its middle is left out: the first lines say where it came from and the last ones what happened.
    """
    try:
        message, parts = _described(error)
    except Exception:  # noqa: BLE001  # the guard around the user's class, which even `traceback` cannot read
        message, parts = _plainly_described(error)
    return ExceptionText(
        type=exception_type(error),
        message=redact_text(message, policy, path="exception.message", max_chars=MESSAGE_CHARS),
        stacktrace=_stack(parts, policy, policy.within(stack_chars) or stack_chars),
    )


def _described(error: BaseException) -> tuple[str, list[str]]:
    """An exception's message, and the parts of its stack; raises where what `traceback` asks it raises."""
    described = traceback.TracebackException(type(error), error, error.__traceback__, limit=-STACK_FRAMES, compact=True)
    message = str(described)
    _shorten_messages(described)
    return message, list(described.format())


def _plainly_described(error: BaseException) -> tuple[str, list[str]]:
    """The same without its notes and causes, and without a look at anything else that its class could define."""
    frames = traceback.format_tb(BaseException.__getattribute__(error, "__traceback__"), -STACK_FRAMES)
    message = _text_of(error)
    return message, ["Traceback (most recent call last):\n", *frames, f"{exception_type(error)}: {message}\n"]


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the guard around the user's class
        return "<exception str() failed>"  # as `traceback` says


def _shorten_messages(described: traceback.TracebackException) -> None:
    """Cut long messages before they are formatted: that looks at each line, in megabytes of an API's answer."""
    found = [described]
    while found:
        one = found.pop()
        if len(message := str(one)) > SHORT_MESSAGE:
            # There is no public way, and without the attribute it is only slower.
            one._str = redact_text(message, max_chars=SHORT_MESSAGE)  # type: ignore[attr-defined]
        found += [more for more in (one.__cause__, one.__context__, *(one.exceptions or ())) if more is not None]


def _stack(parts: list[str], policy: ContentPolicy, max_chars: int) -> str:
    """A stack of frames and messages, each masked by itself: a secret in one does not hide the next, nor cost time."""
    longest = min(MESSAGE_CHARS, max_chars // 2)
    if policy.redact is not None:
        whole = "".join(_without_end(part, longest, part[: longest + LOOK_AHEAD]) for part in parts)
        answer = _asked(policy.redact, "exception.stacktrace", whole)
        if answer != whole:
            return redact_text(answer, max_chars=max_chars)
    first = _that_fit(parts, max_chars, longest)
    if len(first) == len(parts):
        return "".join(first)
    first = _that_fit(parts, max_chars // 4, longest)
    last = _that_fit(parts[: len(first) - 1 if first else None : -1], max_chars * 3 // 4 - OMISSION_CHARS, longest)
    omitted = sum(map(len, parts[len(first) : len(parts) - len(last)]))
    return "".join((*first, f"{omitted_text(omitted)}\n", *reversed(last)))


def _that_fit(parts: list[str], max_chars: int, longest: int) -> list[str]:
    """The first parts that have room together, masked."""
    shown: list[str] = []
    for part in parts:
        text = _without_end(part, longest, redact_text(part, max_chars=longest))
        max_chars -= len(text)
        if max_chars < 0:
            break
        shown.append(text)
    return shown


def _without_end(part: str, max_chars: int, kept: str) -> str:
    return f"{kept}\n" if len(part) > max_chars and part.endswith("\n") and not kept.endswith("\n") else kept


def exception_message(error: BaseException, policy: ContentPolicy) -> str:
    """An exception's message alone, with secrets masked; never raises."""
    try:
        message = str(traceback.TracebackException(type(error), error, None, compact=True))
    except Exception:  # noqa: BLE001  # the guard around the user's class
        message = _text_of(error)
    return redact_text(message, policy, path="exception.message", max_chars=MESSAGE_CHARS)


def exception_type(error: BaseException) -> str:
    """The full name of an exception's class, without `builtins`."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
