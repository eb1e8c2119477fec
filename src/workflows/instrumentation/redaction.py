"""What must not leave the process: secrets by key, by the look of a value, by field marker, by the user's callback."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

__all__ = ["MASK", "REDACTION_FAILED", "Redact", "is_secret_key", "mask_secrets"]

MASK = "**********"
"""What stands in for a secret: the same ten stars as pydantic's `SecretStr`."""

REDACTION_FAILED = "<redaction failed>"
"""What stands in for a value whose redaction raised: nothing of it is shown."""

_SECRETS = ("password", "passwd", "passphrase", "pwd", "secret", "authorization", "cookie", "credential")
_NO_SECRET = "secretar"  # as in `secretary`

# `token` alone is not a secret: `max_tokens`, `token_count` and `next_page_token` are what people look for in a trace.
_KEYS = ("api", "private")
_TOKENS = ("access", "refresh", "id", "auth", "api", "bearer", "session", "security", "csrf", "xsrf", "bot")
_PARTS_OF_NAMES = ("pass", "pwd", "secret", "authorization", "cookie", "credential", "key", "token")


@dataclass(frozen=True, slots=True)
class Redact:
    """Marks what never leaves the process: `password: Annotated[str, Redact()]`.

    It is read on the fields of pydantic models (events included), dataclasses and named tuples, and on the arguments
    and the result of a function that is decorated by `@tool`, `@llm_call` or `@retriever`. Wherever in a type it stands
    (`Annotated[str, Redact()] | None`, `list[Annotated[...]]`, an alias, a typed dict), the whole value is masked.
    """


@lru_cache(maxsize=1024)  # the same few keys come again and again
def is_secret_key(key: str) -> bool:
    """Whether a field, mapping key or header of this name holds a secret."""
    lowered = _lowered(key)
    for part in _PARTS_OF_NAMES:  # new keys come by the thousand
        if part in lowered:
            return bool(_secret_names(lowered))
    return False


def mask_secrets(text: str) -> str:
    """`text` with everything that looks like a secret masked; the same object where nothing does.

    Masked are API keys (`sk-`, GitHub, Slack, Google, Hugging Face), `Bearer` and `Basic` credentials, AWS key ids,
    JWTs, private keys in PEM, passwords in URLs, and the value after a secret key's name (`password=...`).

    The time it takes grows with the length of the text alone, whatever is in it.
    """
    if len(text) < SHORTEST_UNNAMED and ":" not in text and "=" not in text:
        return text
    lowered = _lowered(text)
    if not _may_hide_a_secret(lowered):
        return text
    masked = _masked(text, lowered)
    return masked if masked is text or not text.startswith(("{", "[")) else _as_json(text, masked)


def _masked(text: str, lowered: str) -> str:
    looked_for = None
    for hint, look in _LOOK_OF_HINT:
        if hint in lowered and look is not looked_for:
            looked_for = look
            masked = look.masked(text, lowered)
            if masked is not text:
                text, lowered = masked, _lowered(masked)
    return text


def _as_json(text: str, masked: str) -> str:
    """`masked`; where that spoilt JSON, the JSON with its texts masked one by one."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):  # it was none
        return masked
    try:
        json.loads(masked)
    except (ValueError, RecursionError):
        separators = None if '": ' in text else (",", ":")
        return json.dumps(_without_secrets(plain), ensure_ascii=text.isascii(), separators=separators)
    return masked


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return mask_secrets(value)
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {mask_secrets(k): MASK if is_secret_key(k) else _without_secrets(v) for k, v in fields.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        whole = "\n".join(item for item in items if isinstance(item, str))
        # A private key line by line: by itself no line but the first looks like a secret.
        return MASK if _PRIVATE_KEY.pattern.search(whole) else [_without_secrets(item) for item in items]
    return value


def _lowered(text: str) -> str:
    """`text` in small letters, each where it was, with those that regular expressions take for `i` and `s` as such."""
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").lower().replace("\u0131", "i").replace("\u017f", "s")


def _may_hide_a_secret(lowered: str) -> bool:
    """Whether a text has any of what no secret is without: every text comes by here, and most go no further."""
    return (
        ":" in lowered
        or "=" in lowered
        or ("-" in lowered and ("sk-" in lowered or "xox" in lowered or "-----begin " in lowered))
        or ("_" in lowered and ("gh" in lowered or "git" in lowered or "hf_" in lowered or "k_live_" in lowered))
        or "eyj" in lowered
        or "basic" in lowered
        or "bearer" in lowered
        or "akia" in lowered
        or "asia" in lowered
        or "aiza" in lowered
    )


def _secret_names(lowered: str) -> list[int]:
    """Where names of secrets are in a text, in order; for a key or token, where that word is."""
    names = [place for place in _places(lowered, _SECRETS) if not lowered.startswith(_NO_SECRET, place)]
    keys = [place for place in _places(lowered, ("key",)) if _is_kind_of(_KEYS, lowered, place, spaced=True)]
    tokens = [place for place in _places(lowered, ("token",)) if _is_kind_of(_TOKENS, lowered, place, spaced=False)]
    return sorted([*names, *keys, *tokens]) if keys or tokens else names


def _is_kind_of(kinds: tuple[str, ...], lowered: str, place: int, *, spaced: bool) -> bool:
    """Whether the word at `place` follows one of `kinds`, as in `apikey`, `api_key` and, if spaced, `api key`."""
    between = lowered[place - 1 : place]
    joined = between in ("_", "-") or (spaced and between.isspace())
    return lowered.endswith(kinds, 0, place - 1 if joined else place)


def _places(text: str, hints: tuple[str, ...]) -> list[int]:
    """Where in a text the hints are, in order."""
    places: list[int] = []
    for hint in hints:
        place = text.find(hint)
        while place >= 0:
            places.append(place)
            place = text.find(hint, place + 1)
    places.sort()
    return places


@dataclass(frozen=True, slots=True)
class _Look:
    """What one kind of secret looks like.

    A regular expression that tries every place of a long text takes milliseconds, looking for a substring takes
    microseconds: `pattern` is tried only where one of `hints` is, in a text with the character `gate`. It begins with
    one of the hints, or `before` characters earlier.
    """

    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    gate: str = ""
    any_case: bool = False
    replacement: str = MASK
    before: int = 0

    def masked(self, text: str, lowered: str) -> str:
        if self.gate not in text:
            return text
        parts: list[str] = []
        end = 0
        for place in _places(lowered if self.any_case else text, self.hints):
            start = place - self.before
            found = self.pattern.match(text, start) if start >= end else None
            if found is not None:
                kept = found[1] if self.pattern.groups else ""
                parts += (text[end:start], self.replacement.replace(r"\1", kept))  # `expand` takes ten times as long
                end = found.end()
        return "".join((*parts, text[end:])) if parts else text


# Headers hold several: `sid=...; theme=...` of a cookie, `Digest username="...", response="..."`.
# What is behind the closing quote of a text in JSON begins no quoted part.
_QUOTED_PART = r"\\*\"[^\s,;:}\])\"'\\][^\"\n]*\""
_PARTS = (
    rf"(?:[^\s\"',;&=}}\])]+={_QUOTED_PART}|[^\s\"',;&}}\])]+)"
    rf"(?:[ \t]*[;,][ \t]*[^\s\"',;&=}}\])]+=(?:{_QUOTED_PART}|[^\s\"',;&}}\])]*))*"
)
_HEADERS = {
    "authorization": re.compile(r"(?:[A-Za-z][\w-]*[ \t]+)?" + _PARTS),
    "cookie": re.compile(_PARTS),
}


class _NamedValues:
    """Values that stand after the name of a secret; the name may be quoted, also within a quoted JSON text.

    JSON stays JSON: a quoted value keeps its quotes, and what was no text gets those of its name.
    """

    hints = (*_SECRETS, "key", "token")

    REST_OF_NAME = re.compile(r"[\w-]*")
    SIGN = re.compile(rf"(\\*[\"']?)\s*(?:=>|:|=(?!>))\s*(?!(?:b?\\*[\"'])?{re.escape(MASK)})")
    # What begins with a quote ends with the same one. A bare value ends before punctuation; brackets in it are part of
    # it with all that is in them, as in `Secret('...')`.
    QUOTED = re.compile(r"(b?)(\\*)([\"'])")
    BARE = re.compile(r"(?:(?:Bearer|Basic)\s+)?[^\s\"',;&}\])]+", re.IGNORECASE)
    BEFORE_BRACKET = re.compile(r"[^\s\"',;&}\])(\[{]*(?=[(\[{])")
    NEXT_SIGN = re.compile(r"[\[\]{}()\"']")
    # In YAML a value may be all lines below that are indented more; within a JSON text their ends have backslashes.
    BLOCK = re.compile(r"[|>][-+0-9]{0,2}[ \t]*(?:#[^\n\\]*)?((?:\r|\\+r)?(?:\n|\\+n))")
    INDENT = re.compile(r"[ \t]*(?:-[ \t]+)*")

    def masked(self, text: str, lowered: str) -> str:
        if ":" not in text and "=" not in text:
            return text
        parts: list[str] = []
        end = name_end = 0
        for place in _secret_names(lowered):
            if place < name_end:  # within a name that was looked at, or a value
                continue
            rest = self.REST_OF_NAME.match(text, place)
            name_end = rest.end() if rest is not None else place
            sign = self.SIGN.match(text, name_end)
            found = self._value(text, lowered, place, sign) if sign is not None else None
            if sign is not None and found is not None:
                shown, value_end = found
                parts += (text[end : sign.end()], shown)
                end = name_end = value_end
        return "".join((*parts, text[end:])) if parts else text

    def _value(self, text: str, lowered: str, name: int, sign: re.Match[str]) -> tuple[str, int] | None:
        """What is shown instead of the value after `sign`, and where it ends; `name` is where its name is."""
        start, quote = sign.end(), sign[1]
        if block := self.BLOCK.match(text, start):
            return quote + MASK + quote, self._end_of_block(text, name, block)
        if quoted := self.QUOTED.match(text, start):
            # `"password=" + word`: that quote is the end of a text, and the lines below are not part of the value.
            limit = _end_of_line(text, start) if not quote and _is_within(text, name, quoted[3]) else len(text)
            if text.startswith(quoted[3] * 2, quoted.end()):  # of three, as in TOML
                value_end = _end_of_triple_quoted(text, quoted.end() - 1, quoted[3] * 3, limit)
                return quoted[0] + MASK + quoted[3], value_end
            value_end, closed = _end_of_quoted(text, quoted.end(), quoted[3], len(quoted[2]), limit)
            if not closed:
                value_end = _rest_of_line(text, value_end)
            return quoted[0] + MASK + (quoted[2] + quoted[3] if closed else ""), value_end
        value_end = self._end_of_header(text, lowered, name, start) if not quote else None
        if value_end is None:
            value_end = self._end_of_bare(text, start)
        return (quote + MASK + quote, value_end) if value_end > start else None

    def _end_of_block(self, text: str, name: int, block: re.Match[str]) -> int:
        """Where the lines of a YAML block end; without any, the sign that begins it is the value."""
        newline, closing = (block[1], '"') if "\\" in block[1] else ("\n", "\n")
        column = self._indent_of_name(text, name, (newline, closing))
        end, place, is_last = block.start() + 1, block.end(), False
        while not is_last:
            line, closed, _ = text[place : _or_end(text, text.find(newline, place))].partition(closing)
            is_last = bool(closed) or place + len(line) >= len(text)
            inner = line.strip()
            if inner and len(line) - len(line.lstrip()) <= column:
                break
            end = place + len(line.rstrip()) if inner else end
            place += len(line) + len(newline)
        return end

    def _indent_of_name(self, text: str, name: int, before_lines: tuple[str, ...]) -> int:
        earliest = max(name - LINE_LOOKED_AT, 0)
        ends = [place + len(sign) for sign in before_lines if (place := text.rfind(sign, earliest, name)) >= 0]
        line = max(ends, default=earliest)
        found = self.INDENT.match(text, line)
        return found.end() - line if found is not None else 0

    def _end_of_header(self, text: str, lowered: str, name: int, start: int) -> int | None:
        """Where the value of a header ends; None for other names."""
        for header, parts in _HEADERS.items():
            if lowered.startswith(header, name) and (found := parts.match(text, start)):
                return _without_escape(text, start, found.end())
        return None

    def _end_of_bare(self, text: str, start: int) -> int:
        end = start
        while (before := self.BEFORE_BRACKET.match(text, end)) is not None:
            # A list or an object may have many lines; `Secret(...)` may not, or a line of source would eat those below.
            bracket = before.end()
            limit = len(text) if bracket == start else _end_of_line(text, bracket)
            end = self._end_of_bracketed(text, bracket, limit)
            if end == limit:
                return _rest_of_line(text, end) if bracket > start else end
        bare = self.BARE.match(text, end)
        return _without_escape(text, end, bare.end()) if bare is not None else end

    def _end_of_bracketed(self, text: str, start: int, limit: int) -> int:
        """Where the bracket at `start` is closed; `limit` where it is not: then all up to there may be secret."""
        depth, place = 0, start
        while (sign := self.NEXT_SIGN.search(text, place, limit)) is not None:
            place = sign.end()
            if sign[0] in "\"'":
                place = _end_of_quoted(text, place, sign[0], _backslashes(text, start, sign.start()), limit)[0]
            else:
                depth += 1 if sign[0] in "[{(" else -1
                if depth == 0:
                    return place
        return limit


def _is_within(text: str, place: int, quote: str) -> bool:
    """Whether a quoted text that began on the same line is open at `place`."""
    earliest = max(place - LINE_LOOKED_AT, 0)
    return text.count(quote, max(text.rfind("\n", earliest, place), earliest), place) % 2 == 1


def _without_escape(text: str, start: int, end: int) -> int:
    """`end`, or the place before the backslashes that belong to the quote there."""
    return end - _backslashes(text, start, end) if text[end : end + 1] in ("'", '"') else end


def _rest_of_line(text: str, start: int) -> int:
    return _or_end(text, text.find("\n", start))


def _or_end(text: str, place: int) -> int:
    return len(text) if place < 0 else place


def _end_of_line(text: str, start: int) -> int:
    """The end of the line, or of as much of it as is looked at."""
    latest = min(start + LONGEST_LINE, len(text))
    end = text.find("\n", start, latest)
    return latest if end < 0 else end


def _end_of_quoted(text: str, start: int, quote: str, backslashes: int, limit: int) -> tuple[int, bool]:
    """Where a quoted text ends, from behind its opening quote, and whether it is closed: if not, at `limit`.

    Within a text that is quoted itself the quotes have backslashes, and those within double and one more.
    """
    place = text.find(quote, start, limit)
    while place >= 0:
        if _backslashes(text, start, place) % (2 * backslashes + 2) == backslashes:
            return place + 1, True
        place = text.find(quote, place + 1, limit)
    return limit, False


def _end_of_triple_quoted(text: str, start: int, quotes: str, limit: int) -> int:
    """Where a text that begins at `start` with three quotes ends; one that is not closed, at the limit."""
    place = text.find(quotes, start + len(quotes), limit)
    return place + len(quotes) if place >= 0 else limit


def _backslashes(text: str, start: int, end: int) -> int:
    """How many stand directly before `end`."""
    place = end
    while place > start and text[place - 1] == "\\":
        place -= 1
    return end - place


SHORTEST_UNNAMED = len("eyJ12345678.")  # of the secrets that stand without their name
# Characters of a line, before a name and behind it: source lines are short, and bounds keep the time from a square.
LINE_LOOKED_AT = 512
LONGEST_LINE = 4096

_PRIVATE_KEY = _Look(
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    hints=("-----BEGIN ",),
)

_LOOKS = (
    _PRIVATE_KEY,
    # A digit, or length, tells a credential from prose ("basic understanding").
    _Look(
        re.compile(r"\b(Bearer|Basic)\s+(?=\S*\d|\S{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
        hints=("bearer", "basic"),
        any_case=True,
        replacement=rf"\1 {MASK}",
    ),
    _NamedValues(),
    _Look(re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"), hints=("://",), gate="@", replacement=rf"\1{MASK}"),
    _Look(re.compile(r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{12,}"), hints=("sk-",)),
    _Look(re.compile(r"(?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{12,}"), hints=("k_live_",), before=1),
    _Look(re.compile(r"(?<![A-Za-z0-9])A(?:KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])"), hints=("AKIA", "ASIA")),
    _Look(
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"),
        hints=("eyJ",),
    ),
    _Look(
        re.compile(r"\b(?:gh[opusr]_|github_pat_)[A-Za-z0-9_]{20,}"),
        hints=("gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    ),
    _Look(re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), hints=("xox",)),
    _Look(re.compile(r"\bAIza[0-9A-Za-z_-]{30,}"), hints=("AIza",)),
    _Look(re.compile(r"\bhf_[A-Za-z0-9]{20,}"), hints=("hf_",)),
)

_LOOK_OF_HINT = tuple((hint.lower(), look) for look in _LOOKS for hint in look.hints)
