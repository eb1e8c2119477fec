"""A limit on the length of attributes: JSON is cut by us, at a value, and not by the SDK in the middle."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

import workflows_otel
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.instrumentation.content import ContentPolicy
from workflows_otel import llm_call, retriever, tool

LONG = "word " * 400
FIELDS: dict[str, Any] = {f"field{n}": n for n in range(40)}
WORDS: list[str] = [*LONG.split()]


class Found(Event):
    text: str
    words: list[str]


class Wordy(Workflow):
    """Has long payloads wherever there can be one."""

    @step
    async def look(self, ev: StartEvent) -> Found:
        with retriever(name="notes") as search:
            search.input(LONG).output([{"text": LONG, "id": "1"}])
        return Found(text=LONG, words=WORDS)

    @step
    async def ask(self, ev: Found) -> StopEvent:
        with llm_call(model="m") as call:
            said = [{"role": "system", "content": "Be brief."}, *({"role": "user", "content": LONG} for _ in range(5))]
            call.input(said).output(LONG)
        with tool(name="t") as use:
            use.input({"text": LONG}).output({"found": [LONG]})
        return StopEvent(result={"text": LONG})


def provider(limit: int) -> TracerProvider:
    return TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attribute_length=limit))


@pytest.fixture
def no_cut_by_the_sdk(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The SDK warns where it cuts an attribute."""
    with caplog.at_level(logging.WARNING, logger="opentelemetry.attributes"):
        yield
    assert "truncating" not in caplog.text


async def drawn(limit: int, content: Any = "full") -> SpanLog:
    log = SpanLog(provider(limit))
    workflows_otel.instrument(log.provider, content=content)
    with workflows_otel.context(metadata={"note": LONG}):
        await Wordy().run(text=LONG, words=WORDS, **FIELDS)
    workflows_otel.uninstrument(log.provider)
    return log


def texts(log: SpanLog) -> list[str]:
    return [text for span in log.finished for text in about(span).values() if isinstance(text, str)]


@pytest.mark.usefixtures("no_cut_by_the_sdk")
@pytest.mark.parametrize("limit", [64, 100, 200, 1_000, 4_095])
@pytest.mark.parametrize("content", ["full", "types"])
async def test_json_stays_json_below_the_limit_of_a_provider(limit: int, content: str) -> None:
    found = [text for text in texts(await drawn(limit, content)) if text.startswith(("{", "["))]
    assert found
    for text in found:
        json.loads(text)
    assert max(map(len, found)) <= limit


@pytest.mark.usefixtures("no_cut_by_the_sdk")
async def test_what_was_cut_for_the_limit_says_so() -> None:
    log = await drawn(200)
    cut = [span.name for span in log.finished if "workflow.truncated" in about(span)]
    assert sorted(cut) == sorted(span.name for span in log.finished if span.name != "workflow.started")
    assert about(log.named("chat m"))["llm.output_messages.0.message.content"].endswith(" chars omitted]")


async def test_the_variable_of_opentelemetry_is_such_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "300")
    log = SpanLog(TracerProvider(shutdown_on_exit=False))
    workflows_otel.instrument(log.provider, content="full")
    await Wordy().run(text=LONG)
    workflows_otel.uninstrument(log.provider)
    shown = about(log.named("run_step look"))["output.value"]
    assert len(shown) <= 300
    assert json.loads(shown)["text"].endswith(" chars omitted]")


async def test_a_lower_limit_of_the_program_stays() -> None:
    log = await drawn(4_095, ContentPolicy(mode="full", max_chars=512))
    assert max(len(about(span).get("output.value", "")) for span in log.finished) <= 512


async def test_a_limit_that_cuts_nothing_changes_nothing() -> None:
    log = SpanLog(provider(1_000_000))
    workflows_otel.instrument(log.provider, content="full")
    await Wordy().run()
    workflows_otel.uninstrument(log.provider)
    assert "workflow.truncated" not in about(log.named("invoke_workflow Wordy"))


async def test_an_exception_is_cut_with_a_word_of_it() -> None:
    class Fails(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise ValueError(LONG)

    log = SpanLog(TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_attribute_length=300)))
    workflows_otel.instrument(log.provider)
    with pytest.raises(ValueError, match="word"):
        await Fails().run()
    workflows_otel.uninstrument(log.provider)
    (event,) = [event for event in log.named("run_step fail").events if event.name == "exception"]
    told = dict(event.attributes or {})
    assert all("chars omitted]" in str(told[key]) for key in ("exception.message", "exception.stacktrace"))
