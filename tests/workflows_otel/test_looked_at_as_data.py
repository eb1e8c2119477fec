"""What decorated functions take and give is looked at as data: nobody's code is called, and no mark is passed over."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import pytest
import requests

from tests.workflows_otel.span_log import SpanLog, about
from workflows.instrumentation.redaction import Redact
from workflows_otel import llm_call, retriever, tool

pytestmark = pytest.mark.payloads

DECORATORS = [tool, llm_call, retriever]


class Lazy:
    """Somebody's object whose class works everything out."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def content(self) -> str:
        """The text, which would be read from somewhere now."""
        self.asked.append("content")
        return "text"

    @property
    def choices(self) -> list[Any]:
        """As of an answer."""
        self.asked.append("choices")
        return []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        raise AttributeError(name)


class Slotted:
    """A document without a `__dict__`, with a score that all of its class have."""

    __slots__ = ("id", "text")
    score = 0.5

    def __init__(self, text: str) -> None:
        self.text = text


class Doc(NamedTuple):
    """A document, or an answer, with something in it that nobody is to see."""

    content: str
    note: Annotated[str, Redact()] = "the pin is 2604"


class Hidden(NamedTuple):
    """The same, where that is what would be shown."""

    content: Annotated[str, Redact()] = "the pin is 2604"


@dataclass
class HiddenInside:
    """The same as a dataclass."""

    content: Annotated[str, Redact()] = "the pin is 2604"


class HiddenPlainly:
    """The same as a class of nobody's making."""

    content: Annotated[str, Redact()]

    def __init__(self) -> None:
        self.content = "the pin is 2604"


def _drawn(spans: SpanLog, decorate: Callable[..., Any], value: Any) -> dict[str, Any]:
    """The attributes of a call that gives a value."""

    def give() -> Any:
        return value

    assert decorate(give)() is value
    return about(spans.finished[-1])


@pytest.mark.parametrize("decorate", DECORATORS)
def test_the_body_of_a_streamed_response_is_left_to_its_reader(decorate: Callable[..., Any], spans: SpanLog) -> None:
    response = requests.Response()
    response.raw = io.BytesIO(b"one\ntwo\n")
    _drawn(spans, decorate, response)
    assert response.raw.tell() == 0
    assert list(response.iter_lines()) == [b"one", b"two"]


@pytest.mark.parametrize("decorate", DECORATORS)
def test_no_property_of_what_a_function_gives_is_asked(decorate: Callable[..., Any], spans: SpanLog) -> None:
    value = Lazy()
    _drawn(spans, decorate, value)
    assert value.asked == []


def test_no_property_of_what_is_streamed_is_asked(spans: SpanLog) -> None:
    value = Lazy()

    @llm_call
    def stream() -> Iterator[Any]:
        yield value

    assert list(stream()) == [value]
    assert value.asked == []


def test_no_property_of_what_a_model_is_given_is_asked(spans: SpanLog) -> None:
    value = Lazy()

    @llm_call
    def ask(prompt: Any) -> str:
        return "done"

    ask(value)
    assert value.asked == []


def test_nothing_inside_of_an_answer_is_asked_for_an_attribute(spans: SpanLog) -> None:
    asked: list[str] = []

    class Remote:
        def __getattribute__(self, name: str) -> Any:
            if name != "__class__":  # of which `isinstance` asks
                asked.append(name)
            return object.__getattribute__(self, name)

    far = Remote()
    call = {"type": far, "name": "add", "id": far, "arguments": far}
    _drawn(spans, llm_call, [{"role": far, "type": far, "content": [far, call], "tool_calls": [call]}])
    assert asked == []
    assert json.loads(about(spans.finished[-1])["gen_ai.output.messages"])[0]["role"] == "assistant"


def test_fields_of_objects_with_slots_and_of_their_class_are_read(spans: SpanLog) -> None:
    shown = _drawn(spans, retriever, [Slotted("Bonn is on the Rhine.")])
    start = "retrieval.documents.0.document."
    assert {name.removeprefix(start): shown[name] for name in shown if name.startswith(start)} == {
        "content": "Bonn is on the Rhine.",
        "score": 0.5,
    }


@pytest.mark.parametrize("decorate", DECORATORS)
@pytest.mark.parametrize(
    "value", [Doc("visible"), Hidden(), HiddenInside(), HiddenPlainly()], ids=lambda v: type(v).__name__
)
def test_what_is_marked_is_shown_nowhere(value: Any, decorate: Callable[..., Any], spans: SpanLog) -> None:
    _drawn(spans, decorate, value)
    _drawn(spans, decorate, [value])
    assert "2604" not in "".join(str(about(span)) for span in spans.finished)


def test_what_is_marked_in_an_argument_or_a_chunk_is_shown_nowhere(spans: SpanLog) -> None:
    @llm_call
    def ask(prompt: Any) -> Iterator[Any]:
        yield from (prompt, HiddenInside(), Hidden())

    list(ask(Doc("visible")))
    assert "2604" not in str(about(spans.finished[-1]))


def test_a_named_tuple_is_one_message_and_one_document(spans: SpanLog) -> None:
    said = _drawn(spans, llm_call, Doc("visible"))
    found = _drawn(spans, retriever, Doc("visible"))
    assert [name for name in said if name.endswith("message.content")] == ["llm.output_messages.0.message.content"]
    assert [name for name in found if name.endswith("document.content")] == ["retrieval.documents.0.document.content"]
