"""Payload capture: what values look like, what they cost, what is never looked at, and what is masked."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from time import process_time
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from workflows.errors import WorkflowValidationError
from workflows.events import Event, StepFailedEvent, StopEvent
from workflows.instrumentation.content import (
    ContentPolicy,
    capture_event,
    capture_value,
    describe_exception,
    redact_text,
    to_jsonable,
)
from workflows.instrumentation.redaction import Redact

FULL = ContentPolicy(mode="full")


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Account:
    name: str
    pin: Annotated[str, Redact()]


class Inner(BaseModel):
    n: int = 1


class Order(Event):
    item: str
    inner: Inner = Inner()
    hidden: Annotated[str, Redact()] = "hide me"
    internal: int = Field(default=7, exclude=True)


class Untouchable:
    """Whoever looks at it fails."""

    def __repr__(self) -> str:
        raise AssertionError("repr")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (2.5, "2.5"),
        ("text", "text"),
        ([1, "a", None], '[1,"a",null]'),
        ((1, 2), "[1,2]"),
        ({1}, "[1]"),
        (deque(["a"]), '["a"]'),
        ({"a": {"b": 1}, 2: 3}, '{"a":{"b":1},"2":3}'),
        (OrderedDict(a=1), '{"a":1}'),
        (Colour.RED, "red"),
        (Point(1, 2), '{"x":1,"y":2}'),
        (Inner(), '{"n":1}'),
        (datetime(2025, 1, 2, tzinfo=UTC), "2025-01-02T00:00:00+00:00"),
        (date(2025, 1, 2), "2025-01-02"),
        (timedelta(seconds=90), "0:01:30"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("a/b"), "a/b"),
        (ValueError("boom"), "ValueError: boom"),
    ],
)
def test_values_become_json_or_text(value: Any, expected: str) -> None:
    captured = to_jsonable(value, FULL)
    assert (captured.text, captured.complete, captured.size) == (expected, True, len(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"123", "<bytes 3>"),
        (bytearray(5), "<bytes 5>"),
        ([0.5] * 1536, "<vector 1536>"),
        (range(9), "<range 9>"),
        (SecretStr("abc"), "**********"),
        (float("nan"), "nan"),
        (1 << 200, "<int 201 bits>"),
        (KeyError(7), "<KeyError>"),
        (ValueError("gone", 2), "ValueError: gone"),
        (Untouchable(), "<Untouchable>"),
        (Untouchable, "<class Untouchable>"),
        (Account("ann", "1234"), '{"name":"ann","pin":"**********"}'),
    ],
)
def test_what_json_cannot_say_becomes_a_placeholder(value: Any, expected: str) -> None:
    captured = to_jsonable(value, FULL)
    assert (captured.text, captured.complete) == (expected, False)


def test_an_event_shows_declared_and_dynamic_fields() -> None:
    captured = capture_event(Order(item="tea", extra=[1]), FULL)  # pyright: ignore[reportCallIssue]  # dynamic
    assert captured is not None
    assert captured.value == {
        "item": "tea",
        "inner": {"n": 1},
        "hidden": "**********",
        "internal": "**********",
        "extra": [1],
    }
    assert captured.mime_type == "application/json"


def test_a_stop_event_shows_its_result() -> None:
    captured = capture_event(StopEvent(result={"a": 1}), FULL)
    assert captured is not None
    assert captured.value == {"result": {"a": 1}}


def test_an_event_that_holds_an_exception_can_be_captured() -> None:
    failed = StepFailedEvent(
        step_name="s",
        input_event=Order(item="tea"),
        exception=ValueError("no"),
        attempts=1,
        elapsed_seconds=0.5,
        failed_at=datetime(2025, 1, 1, tzinfo=UTC),
    )
    captured = capture_event(failed, FULL)
    assert captured is not None
    assert captured.value["exception"] == "ValueError: no"


def test_types_mode_tells_names_kinds_and_sizes_only() -> None:
    captured = capture_event(Order(item="tea", blob=b"12"), ContentPolicy())  # pyright: ignore[reportCallIssue]  # dynamic
    assert captured is not None
    assert captured.value == {
        "type": "Order",
        "fields": {
            "item": "<str 3>",
            "inner": "<Inner>",
            "hidden": "**********",
            "internal": "**********",
            "blob": "<bytes 2>",
        },
    }
    assert not captured.complete


def test_off_mode_captures_nothing() -> None:
    assert capture_event(Order(item="tea"), ContentPolicy(mode="off")) is None
    assert capture_value("text", ContentPolicy(mode="off")) is None


def test_a_long_text_is_cut_and_says_so() -> None:
    captured = to_jsonable("x" * 100_000, FULL)
    kept = len(captured.text) - len("…[95938 chars omitted]")
    assert captured.text == "x" * kept + f"…[{100_000 - kept} chars omitted]"
    assert (captured.truncated, captured.complete, captured.mime_type) == (True, False, "text/plain")
    assert captured.size >= 100_000


def test_json_that_is_cut_stays_valid_and_says_what_is_missing() -> None:
    captured = to_jsonable({f"k{n}": n for n in range(10_000)}, ContentPolicy(mode="full", max_chars=256))
    cut = json.loads(captured.text)
    assert cut["…"] == f"{10_000 - (len(cut) - 1)} items omitted"


def test_what_comes_after_the_cut_is_never_looked_at() -> None:
    class Watched(dict[str, int]):
        looked = 0

        def items(self) -> Any:
            for n in range(1_000_000):
                Watched.looked += 1
                yield f"key{n}", n

        def __len__(self) -> int:
            return 1_000_000

    to_jsonable(Watched(), FULL)
    assert Watched.looked < 1000


@pytest.mark.parametrize("limit", [4096, 32_768, 1_000_000])
@pytest.mark.parametrize("deep", [False, True])
def test_a_payload_of_many_small_values_is_looked_at_in_part(limit: int, deep: bool) -> None:
    class Watched(dict[str, Any]):
        looked = 0

        def items(self) -> Any:
            for n in range(1_000_000):
                Watched.looked += 1
                yield str(n), [1] if deep else "a"

        def __len__(self) -> int:
            return 1_000_000

    captured = to_jsonable(Watched(), ContentPolicy(mode="full", max_chars=limit))
    assert Watched.looked <= 513
    assert (captured.truncated, captured.complete) == (True, False)


def test_a_cycle_ends() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert to_jsonable(cycle, FULL).truncated


def test_a_lone_surrogate_can_be_sent() -> None:
    assert to_jsonable({"a\ud800": "b\udfff"}, FULL).text.encode()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(value=plain, limit=st.integers(min_value=256, max_value=2000))
def test_any_value_gives_valid_json_within_the_limit(value: Any, limit: int) -> None:
    captured = to_jsonable(value, ContentPolicy(mode="full", max_chars=limit))
    assert len(captured.text) <= limit
    assert captured.mime_type == "text/plain" or json.loads(captured.text) == captured.value


def test_the_callback_is_told_the_path_of_every_value() -> None:
    paths: list[str] = []
    policy = ContentPolicy(mode="full", redact=lambda path, value: paths.append(path) or value)
    to_jsonable({"user": {"name": "ann"}, "items": ["a", "b"]}, policy)
    assert paths == ["", "user", "user.name", "items", "items.0", "items.1"]


def test_a_callback_that_raises_hides_the_value() -> None:
    policy = ContentPolicy(mode="full", redact=lambda path, value: 1 / 0 if path == "a" else value)
    assert to_jsonable({"a": "secret", "b": 1}, policy).value == {"a": "<redaction failed>", "b": 1}


def test_a_value_that_cannot_be_walked_is_not_shown() -> None:
    class Broken(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("changed while it was read")

    assert to_jsonable(Broken(), FULL).text == "<redaction failed>"


@pytest.mark.parametrize(
    "key",
    [
        "password", "db_passwd", "clientSecret", "apiKey", "api-key", "X-API-Key", "authorization", "Set-Cookie",
        "credentials", "private_key", "access_token", "refreshToken", "id_token",
    ],
)  # fmt: skip
def test_the_value_of_a_secret_key_is_masked(key: str) -> None:
    assert to_jsonable({key: ["anything", {"a": 1}]}, FULL).value == {key: "**********"}


@pytest.mark.parametrize("key", ["token", "max_tokens", "token_count", "key", "secretary", "author", "passage"])
def test_an_ordinary_key_is_shown(key: str) -> None:
    assert to_jsonable({key: "value"}, FULL).value == {key: "value"}


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnopqrst",
        "sk-proj-AbC123_def-456ghi",
        "sk-lf-01234567-89ab-cdef",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "ghp_0123456789abcdefghijABCDEFGHIJ",
        "xoxb-123456789012-abcdef",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE cut off here",
    ],
)
@pytest.mark.parametrize("padding", ["", "x " * 500])
def test_what_looks_like_a_secret_is_masked(secret: str, padding: str) -> None:
    assert redact_text(f"{padding}see {secret}") == f"{padding}see **********"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdef0123456789", "Authorization: **********"),
        ("uses Bearer abcdef0123456789 here", "uses Bearer ********** here"),
        ("password=hunter2&next=1", "password=**********&next=1"),
        ("{'password': 'hun\\'ter2', 'x': 1}", "{'password': '**********', 'x': 1}"),
        ('{"api_key": "a b c"}', '{"api_key": "**********"}'),
        ('{"api_key": 12, "n": 1}', '{"api_key": "**********", "n": 1}'),
        ('{"authorization": ["tok"], "n": 1}', '{"authorization": "**********", "n": 1}'),
        ('{"credentials": {"pin": "}", "k": [1]}, "n": 1}', '{"credentials": "**********", "n": 1}'),
        ("password=[a, b] n=1", "password=********** n=1"),
        ("{'password': ('a',), 'n': 1}", "{'password': '**********', 'n': 1}"),
        ("password=Secret('a b', n=[1]) n=1", "password=********** n=1"),
        ("password=hunt(er", "password=**********"),
        (f"password=Secret('{'a, ' * 3000}b')\nn=1", "password=**********\nn=1"),
        ("Cookie: sid=a; theme=b\nHost: x", "Cookie: **********\nHost: x"),
        ('Authorization: Digest username="a b", response="c"\nHost: x', "Authorization: **********\nHost: x"),
        ("Authorization: ApiKey abc", "Authorization: **********"),
        ('{"credentials": {"pin": "x', '{"credentials": "**********"'),
        ("postgres://user:pass@host/db", "postgres://user:**********@host/db"),
        ("basic understanding of bearer instruments", "basic understanding of bearer instruments"),
        ("max_tokens=5, token_count: 7", "max_tokens=5, token_count: 7"),
        ("no secrets here", "no secrets here"),
    ],
)
def test_a_secret_in_a_sentence_is_masked(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@given(secret=st.text(min_size=1) | st.lists(st.text()) | st.integers(), depth=st.integers(min_value=0, max_value=3))
def test_masked_json_is_json_however_often_it_is_quoted(secret: Any, depth: int) -> None:
    text = json.dumps({"password": secret, "n": 1})
    for _ in range(depth):
        text = json.dumps({"inner": text})
    shown = json.loads(redact_text(text, max_chars=10**6))
    for _ in range(depth):
        shown = json.loads(shown["inner"])
    assert shown == {"password": "**********", "n": 1}


WORDS = ("password", "Cookie", "Authorization", "Digest ", "Bearer ", "a", "b=c", "\\", *"""\'":= ;,()[]{}\n1""")


@given(words=st.lists(st.sampled_from(WORDS)), depth=st.integers(min_value=0, max_value=2))
def test_json_stays_json_whatever_its_texts_say(words: list[str], depth: int) -> None:
    text = json.dumps({"said": "".join(words), "n": 1})
    for _ in range(depth):
        text = json.dumps({"inner": text})
    json.loads(redact_text(text))


def test_a_private_key_line_by_line_in_json_is_masked() -> None:
    text = json.dumps({"lines": ["-----BEGIN PRIVATE KEY-----", "MIIEvQ"], "n": 1})
    assert redact_text(text) == '{"lines": "**********", "n": 1}'


def test_a_line_of_source_that_names_a_secret_leaves_the_lines_below_alone() -> None:
    stack = 'in f\n    raise ValueError("api_key=" + key)\n  File "b.py", line 5, in g\n    client(api_key=load(\nEnd'
    assert 'File "b.py", line 5, in g' in redact_text(stack)
    assert redact_text(stack).endswith("\nEnd")


@pytest.mark.parametrize(
    "part",
    [
        "password=", "password=f()", "password=f(\n", "pwd=((", '"password": {', "x pwd='\n", 'password="',
        "cookie: a; ", "cookie: a=b", "authorization: x ", "authorization: \t", "key ", "eyJ", "://a:", "bearer ", "\\",
        "-----BEGIN ",
    ],
)  # fmt: skip
def test_a_long_text_is_masked_in_a_time_that_grows_with_its_length_alone(part: str) -> None:
    def seconds(chars: int) -> float:
        text = "password: " + part * (chars // len(part))
        begun = process_time()
        redact_text(text)
        return process_time() - begun

    # Sixteen times the text: a square would take 256 times as long. The shortest of several is what it costs.
    assert seconds(160_000) < 100 * min(seconds(10_000) for _ in range(3)) + 0.3


@pytest.mark.parametrize("text", ['{"password": "x", "n": 1}', "password='x'", "password=x", '{"api_key": [1]}'])
def test_what_is_masked_stays_as_it_is(text: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001  # whatever it is
        return caught


def test_a_long_message_is_cut_in_the_stack_and_its_frame_is_kept() -> None:
    described = describe_exception(raised(ExceptionGroup("several", [ValueError("line\n" * 200_000)])), FULL)
    assert "in raised" in described.stacktrace
    assert described.stacktrace.rstrip("\n+- ").endswith("chars omitted]")
    assert len(described.stacktrace) <= 8192


def test_no_secret_of_a_long_chain_of_errors_is_in_its_stack() -> None:
    error = raised(ValueError("first password=hunter2"))
    for number in range(60):
        outer = KeyError(f"{number} {{'credentials': {{'pin': 'hunter2'}}}}")
        outer.__cause__ = error
        error = raised(outer)
    described = describe_exception(error, FULL)
    assert "hunter2" not in described.stacktrace
    assert "chars omitted]\n" in described.stacktrace
    assert len(described.stacktrace) <= 8192


def test_a_stack_may_be_shorter_still() -> None:
    assert len(describe_exception(raised(ValueError("x" * 5000)), FULL, 1024).stacktrace) <= 1024


def test_a_secret_at_the_cut_is_masked() -> None:
    text = "x" * 3990 + " sk-" + "a" * 200
    assert "sk-" not in to_jsonable(text + "y" * 5000, FULL).text


def test_an_exception_is_described_without_its_secrets() -> None:
    try:
        try:
            raise KeyError("password=hunter2")
        except KeyError as error:
            raise ConnectionError("Bearer abcdef0123456789") from error
    except ConnectionError as error:
        described = describe_exception(error, FULL)
    assert (described.type, described.message) == ("ConnectionError", "Bearer **********")
    assert "hunter2" not in described.stacktrace
    assert "test_an_exception_is_described_without_its_secrets" in described.stacktrace


def test_an_exception_that_cannot_be_printed_is_described() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mute")

    assert "Mute" in describe_exception(Mute(), FULL).type


def test_a_long_stack_keeps_both_ends() -> None:
    def deep(n: int) -> None:
        if n:
            (deep if n % 2 else deeper)(n - 1)
        raise ValueError("bottom " + "x" * 5000)

    def deeper(n: int) -> None:
        deep(n - 1)

    with pytest.raises(ValueError, match="bottom") as caught:
        deep(300)
    stack = describe_exception(caught.value, FULL).stacktrace
    assert len(stack) <= 8192
    assert stack.startswith("Traceback")
    assert "chars omitted]" in stack


@pytest.mark.parametrize(
    ("value", "default", "mode"),
    [
        ("true", "types", "full"),
        ("SPAN_AND_EVENT", "off", "full"),
        ("false", "full", "types"),
        ("NO_CONTENT", "off", "off"),
        ("nonsense", "full", "types"),
        ("", "full", "full"),
    ],
)
def test_the_environment_sets_the_mode(monkeypatch: pytest.MonkeyPatch, value: str, default: Any, mode: str) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    assert ContentPolicy.from_environment(default).mode == mode


def test_hidden_inputs_and_outputs_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENINFERENCE_HIDE_INPUTS", "true")
    policy = ContentPolicy.from_environment("full")
    assert (policy.for_inputs().mode, policy.for_outputs().mode) == ("off", "full")


@pytest.mark.parametrize("wrong", [{"mode": "all"}, {"max_chars": 10}])
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WorkflowValidationError, match="Use"):
        ContentPolicy(**wrong)
