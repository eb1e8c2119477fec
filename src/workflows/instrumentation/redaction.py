"""What must not leave the process: secrets by key, by the look of a value, by field marker, by the user's callback."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["MASK", "REDACTION_FAILED", "Redact", "is_secret_key", "mask_secrets"]

MASK = "**********"
"""What stands in for a secret: the same ten stars as pydantic's `SecretStr`."""

REDACTION_FAILED = "<redaction failed>"
"""What stands in for a value whose redaction raised: nothing of it is shown."""

# `token` alone is not a secret: `max_tokens`, `token_count` and `next_page_token` are what people look for in a trace.
_KEY_WORDS = (
    r"passw(?:or)?d|passphrase|pwd|secret(?!ar)|api[_\s-]?key|authorization|cookie|credential|private[_\s-]?key"
    r"|(?:access|refresh|id|auth|api|bearer|session|security|csrf|xsrf|bot)[_-]?token"
)
_KEY = re.compile(_KEY_WORDS, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Redact:
    """Marks a field whose value never leaves the process: `password: Annotated[str, Redact()]`.

    It is read on the fields of pydantic models (events included) and of dataclasses, not inside their type arguments.
    """


@lru_cache(maxsize=1024)  # the same few keys come again and again
def is_secret_key(key: str) -> bool:
    """Whether a field, mapping key or header of this name holds a secret."""
    return _KEY.search(key) is not None


def mask_secrets(text: str) -> str:
    """`text` with everything that looks like a secret masked; the same object where nothing does.

    Masked are API keys (`sk-`, GitHub, Slack, Google, Hugging Face), `Bearer` and `Basic` credentials, AWS key ids,
    JWTs, private keys in PEM, passwords in URLs, and the value after a secret key's name (`password=...`).
    """
    lowered = text.lower()
    if len(text) < SHORT_TEXT and not _has_hint(lowered):
        return text
    for look in _LOOKS:
        if look.may_occur(text, lowered):
            text = look.pattern.sub(look.replacement, text)
    return text


def _has_hint(lowered: str) -> bool:
    for hint in _HINTS:  # noqa: SIM110  # `any()` over a generator takes twice as long, and every text comes by here
        if hint in lowered:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Look:
    """What one kind of secret looks like.

    Looking for a substring is fifty times faster than a regular expression, so `pattern` is tried only where one of
    `gates` (single characters, the cheapest test) and one of `hints` occurs; it cannot match without them.
    """

    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    gates: str = ""
    any_case: bool = False
    replacement: str = MASK

    def may_occur(self, text: str, lowered: str) -> bool:
        if self.gates and not any(gate in text for gate in self.gates):
            return False
        searched = lowered if self.any_case else text
        return any(hint in searched for hint in self.hints)


SHORT_TEXT = 200  # characters, below which one pass over all hints is faster than a look at each kind's gates

# The name, maybe quoted (also within a quoted JSON text), then `:` or `=`, then a quoted or a bare value.
_NAMED_VALUE = re.compile(
    rf"((?:{_KEY_WORDS})[\w-]*\\?[\"']?\s*(?:=>|[:=])\s*)"
    rf"(?!{re.escape(MASK)})(?:b?\\?\"(?:[^\"\\]|\\.)*\"?|b?\\?'(?:[^'\\]|\\.)*'?"
    r"|(?:(?:Bearer|Basic)\s+)?[^\s\"',;&}\])]+)",
    re.IGNORECASE,
)

_LOOKS = (
    _Look(
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        hints=("-----BEGIN ",),
        gates="-",
    ),
    # A digit, or length, tells a credential from prose ("basic understanding").
    _Look(
        re.compile(r"\b(Bearer|Basic)\s+(?=\S*\d|\S{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
        hints=("bearer", "basic"),
        any_case=True,
        replacement=rf"\1 {MASK}",
    ),
    _Look(
        _NAMED_VALUE,
        hints=("pass", "pwd", "secret", "key", "authorization", "cookie", "credential", "token"),
        gates=":=",
        any_case=True,
        replacement=rf"\1{MASK}",
    ),
    _Look(re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"), hints=("://",), gates="@", replacement=rf"\1{MASK}"),
    _Look(re.compile(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{12,}"), hints=("sk-",), gates="-"),
    _Look(re.compile(r"(?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{12,}"), hints=("k_live_",), gates="_"),
    _Look(re.compile(r"(?<![A-Za-z0-9])A(?:KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])"), hints=("AKIA", "ASIA")),
    _Look(
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"),
        hints=("eyJ",),
        gates=".",
    ),
    _Look(
        re.compile(r"\b(?:gh[opusr]_|github_pat_)[A-Za-z0-9_]{20,}"),
        hints=("gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        gates="_",
    ),
    _Look(re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), hints=("xox",), gates="-"),
    _Look(re.compile(r"\bAIza[0-9A-Za-z_-]{30,}"), hints=("AIza",)),
    _Look(re.compile(r"\bhf_[A-Za-z0-9]{20,}"), hints=("hf_",), gates="_"),
)

_HINTS = tuple(dict.fromkeys(hint.lower() for look in _LOOKS for hint in look.hints))
