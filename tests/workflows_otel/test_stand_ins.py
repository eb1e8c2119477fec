"""What a decorated call of a model gives back does what it did undecorated: streams, what opens them, and all else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from tests.workflows_otel.span_log import SpanLog, about
from workflows_otel import llm_call

pytestmark = pytest.mark.payloads


def asked(result: Any) -> Any:
    """What a decorated function gives back that returns `result`."""

    @llm_call(model="m")
    def ask() -> Any:
        return result

    return ask()


def outcome(spans: SpanLog) -> tuple[StatusCode, Any]:
    span = spans.named("chat m")
    return span.status.status_code, about(span).get("workflow.call.outcome")


class Countdown:
    """A stream that is many other things besides, all by methods that Python looks up on the class."""

    def __init__(self, left: int = 3) -> None:
        self.left = left

    def __iter__(self) -> Countdown:
        return self

    def __next__(self) -> str:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return str(self.left)

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Countdown)

    def __hash__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "countdown"

    def __format__(self, how: str) -> str:
        return how

    def __contains__(self, item: object) -> bool:
        return item == "2"

    def __add__(self, more: int) -> int:
        return self.left + more

    def __radd__(self, more: int) -> int:
        return more - self.left


class Page(Countdown):
    """A stream that has a length: a page of results."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> int:
        return place


# --- things that are streams ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("spans")
@pytest.mark.parametrize(
    "use",
    [
        bool,
        hash,
        str,
        repr,
        dir,
        vars,
        list,
        lambda one: one == Countdown(),
        lambda one: Countdown() == one,
        lambda one: one != 3,
        lambda one: {one: 1} == {Countdown(): 1},
        lambda one: f"{one:>3}",
        lambda one: ("2" in one, "9" in one),
        lambda one: (one + 1, 1 + one),
        lambda one: type(copy.copy(one)) is Countdown,
        lambda one: list(copy.deepcopy(one)),
        lambda one: list(pickle.loads(pickle.dumps(one))),
        lambda one: isinstance(one, Countdown),
        lambda one: (one.__doc__, one.__module__, one.__class__),
        lambda one: (setattr(one, "left", 1), list(one)),
        lambda one: (delattr(one, "left"), hasattr(one, "left")),
    ],
)
def test_a_stream_does_what_it_did(use: Callable[[Any], Any]) -> None:
    plain = Countdown()
    expected = use(plain)
    if use is repr:  # which has an address
        drawn = Countdown()
        assert use(asked(drawn)) == repr(drawn)
    else:
        assert use(asked(Countdown())) == expected


@pytest.mark.usefixtures("spans")
def test_an_iterator_of_python_can_be_copied_and_pickled() -> None:
    lines = asked(iter(["a", "b"]))
    assert list(copy.copy(lines)) == list(pickle.loads(pickle.dumps(lines))) == list(lines) == ["a", "b"]


def test_what_a_stream_returns_at_its_end_comes_to_who_asks_for_it(spans: SpanLog) -> None:
    class Answers:
        def __iter__(self) -> Generator[str, None, str]:
            yield "yes"
            return "stop"

        def __next__(self) -> str:
            raise StopIteration

    def read() -> Generator[str, None, str]:
        return (yield from asked(Answers()))

    reading = read()
    assert next(reading) == "yes"
    with pytest.raises(StopIteration) as end:
        next(reading)
    assert end.value.value == "stop"
    assert outcome(spans) == (StatusCode.OK, None)


def test_a_stream_whose_iterator_is_of_another_class_is_read_there(spans: SpanLog) -> None:
    stream = MagicMock(spec=Countdown)
    stream.__iter__.side_effect = lambda: iter(["y", "es"])
    assert list(asked(stream)) == ["y", "es"]
    assert about(spans.named("chat m"))["output.value"] == "yes"


# --- things that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [MagicMock(), AsyncMock(), Page(), [1], "text", None, Countdown, {"a": 1}])
def test_what_is_more_than_a_stream_is_given_as_it_is(result: Any, spans: SpanLog) -> None:
    assert asked(result) is result
    assert outcome(spans) == (StatusCode.OK, None)


async def test_a_step_with_a_mocked_client_passes_as_without_the_decorator(spans: SpanLog) -> None:
    client = AsyncMock()
    client.chat.return_value = {"message": {"content": "hello"}}

    @llm_call(model="m")
    async def ask(prompt: str) -> Any:
        return await client.chat(prompt)

    assert (await ask("x"))["message"]["content"] == "hello"
    assert outcome(spans) == (StatusCode.OK, None)


def test_an_object_that_cannot_be_looked_at_is_given_as_it_is(spans: SpanLog, caplog: pytest.LogCaptureFixture) -> None:
    class Unbound:
        @property
        def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            raise RuntimeError("working outside of a context")

    unbound = Unbound()
    assert asked(unbound) is unbound
    assert "result of a call could not be shown" in caplog.text
    assert outcome(spans)[0] is StatusCode.OK


# --- what opens a stream ----------------------------------------------------------------------------------------------


@dataclass
class Text:
    """What the helpers of OpenAI and Anthropic stream: deltas, and the whole at the end."""

    type: str
    text: str = ""
    delta: Any = None


@dataclass
class MessageStream:
    """As Anthropic's: with its texts alone, and with methods that read what is left."""

    texts: tuple[str, ...]
    read: list[str] = field(default_factory=list[str])
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._events = iter([*(Text("content_block_delta", delta=Text("text_delta", one)) for one in self.texts)])
        self.text_stream = (event.delta.text for event in self)

    def __iter__(self) -> Iterator[Text]:
        for event in self._events:
            self.read.append(event.delta.text)
            yield event

    def __next__(self) -> Text:
        return next(self._events)

    def until_done(self) -> None:
        for _ in self:
            pass

    def get_final_text(self) -> str:
        self.until_done()
        return "".join(self.read)


class Manager:
    """As `client.messages.stream(...)` and `client.chat.completions.stream(...)`: asks when it is entered."""

    def __init__(self, *texts: str, fails: bool = False) -> None:
        self._stream = MessageStream(texts)
        self._fails = fails

    def __enter__(self) -> Any:
        if self._fails:
            raise ConnectionError("refused")
        with trace.get_tracer("client").start_as_current_span("POST"):
            return self._stream

    def __exit__(self, *error: object) -> None:
        self._stream.is_closed = True


def read_events(stream: Any) -> str:
    return "".join(event.delta.text for event in stream)


def read_texts(stream: Any) -> str:
    return "".join(stream.text_stream)


def read_some_and_the_rest(stream: Any) -> str:
    for _ in stream:
        break
    return stream.get_final_text()


@pytest.mark.parametrize(
    "read", [read_events, read_texts, read_some_and_the_rest, lambda stream: stream.get_final_text()]
)
def test_a_stream_that_is_opened_by_with_is_drawn_to_its_end(read: Callable[[Any], str], spans: SpanLog) -> None:
    manager = asked(Manager("y", "es"))
    with manager as stream:
        assert spans.finished == ()
        assert isinstance(stream, MessageStream)
        assert read(stream) == "yes"
    assert stream.is_closed
    chat = about(spans.named("chat m"))
    assert (chat["output.value"], outcome(spans)) == ("yes", (StatusCode.OK, None))
    assert chat["gen_ai.response.time_to_first_chunk"] > 0


def test_a_stream_that_is_left_early_says_so(spans: SpanLog) -> None:
    with asked(Manager("y", "es")) as stream:
        assert next(stream.text_stream) == "y"
    assert (about(spans.named("chat m"))["output.value"], outcome(spans)) == ("y", (StatusCode.UNSET, "closed"))


def test_a_stream_that_cannot_be_opened_is_an_error_of_its_call(spans: SpanLog) -> None:
    with pytest.raises(ConnectionError), asked(Manager(fails=True)):
        pass
    assert outcome(spans) == (StatusCode.ERROR, None)


def test_what_is_never_entered_ends_when_it_is_thrown_away(spans: SpanLog) -> None:
    asked(Manager("yes"))
    assert outcome(spans) == (StatusCode.UNSET, "closed")


def test_a_with_that_gives_an_answer_and_no_stream_ends_with_its_block(spans: SpanLog) -> None:
    @llm_call(model="m")
    @contextmanager
    def response() -> Iterator[dict[str, str]]:
        yield {"answer": "yes"}

    with response() as answer:
        assert (answer, spans.finished) == ({"answer": "yes"}, ())
    assert (about(spans.named("chat m"))["output.value"], outcome(spans)) == (
        '{"answer":"yes"}',
        (StatusCode.OK, None),
    )


async def test_a_stream_that_is_opened_by_async_with_is_drawn_to_its_end(spans: SpanLog) -> None:
    async def texts() -> AsyncIterator[str]:
        yield "y"
        yield "es"

    @llm_call(model="m")
    @asynccontextmanager
    async def stream() -> AsyncIterator[AsyncIterator[str]]:
        yield texts()

    async with stream() as chunks:
        assert [chunk async for chunk in chunks] == ["y", "es"]
    assert (about(spans.named("chat m"))["output.value"], outcome(spans)) == ("yes", (StatusCode.OK, None))


def test_what_is_current_in_a_block_and_after_it_is_as_before(spans: SpanLog) -> None:
    @llm_call(model="m")
    @contextmanager
    def opened() -> Iterator[str]:
        with spans.provider.get_tracer("client").start_as_current_span("POST"):
            yield "yes"

    before = trace.get_current_span()
    with opened():
        assert trace.get_current_span() is before
    assert trace.get_current_span() is before
    assert spans.parent(spans.named("POST")) == "chat m"


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"type": "content.done", "content": "yes"},
        {"type": "response.reasoning_summary_text.delta", "delta": "hmm"},
        {"type": "response.function_call_arguments.delta", "delta": '{"a":'},
        {"type": "response.output_text.done", "delta": "yes"},
    ],
)
def test_what_a_stream_repeats_or_thinks_is_not_in_the_answer(beside: dict[str, str], spans: SpanLog) -> None:
    deltas = [{"type": "response.output_text.delta", "delta": one} for one in ("y", "es")]
    list(asked(iter([*deltas, beside])))
    assert about(spans.named("chat m"))["output.value"] == "yes"
