"""What raises where a run is told of: errors that cannot be read, processors, samplers. The run ends as without us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog
from tests.workflows_otel.test_metrics import Metrics
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import context
from workflows.testing import RecordLog
from workflows_otel import llm_call, tool


@dataclass(frozen=True)
class Frozen(Exception):  # what matters of it
    """Takes no notes."""

    code: int = 500


class WithoutTruth(ValueError):
    def __bool__(self) -> bool:
        raise RuntimeError("ambiguous")


class WithoutNotes(ValueError):
    def __getattribute__(self, name: str) -> Any:
        if name in ("__notes__", "__cause__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


UNREADABLE = pytest.mark.parametrize("error", [Frozen(), WithoutTruth("no"), WithoutNotes("no")], ids=lambda e: type(e))


class Raises(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        raise ev.get("error")


class RaisesInTool(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        with tool(name="dig"):
            raise ev.get("error")


class Asks(Workflow):
    """Its step begins and ends calls in every way."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        with tool(name="dig") as call:
            call.input({"deep": True}).output("gold")
        streamed = [part async for part in _parts("yes")]
        return StopEvent(result=await _answer("yes") + "".join(streamed))


@llm_call(model="m-1")
async def _answer(prompt: str) -> str:
    return prompt.upper()


@llm_call(model="m-1")
async def _parts(prompt: str) -> AsyncIterator[str]:
    for part in prompt:
        yield part


@UNREADABLE
async def test_an_error_that_cannot_be_read_ends_the_spans_of_its_run(spans: SpanLog, error: Exception) -> None:
    with pytest.raises(type(error)):
        await Raises().run(error=error)
    assert [tree["name"] for tree in spans.trees()] == ["invoke_workflow Raises"]
    assert [child["attributes"]["workflow.step.outcome"] for child in spans.trees()[0]["children"]] == ["failed"]


@UNREADABLE
async def test_an_error_that_cannot_be_read_leaves_a_call_as_itself(spans: SpanLog, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await RaisesInTool().run(error=error)
    assert caught.value is error
    assert spans.outline()[-1].startswith("    execute_tool dig ERROR")


async def test_what_can_be_read_of_an_error_is_shown(spans: SpanLog) -> None:
    with pytest.raises(WithoutNotes):
        await Raises().run(error=WithoutNotes("the reason"))
    (event,) = spans.named("run_step work").events
    shown = event.attributes or {}
    assert (shown["exception.message"], "in work" in str(shown["exception.stacktrace"])) == ("the reason", True)


class RaisingAtStart(SpanProcessor):
    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("on_start")


class RaisingAtEnd(SpanProcessor):
    def on_end(self, span: object) -> None:
        raise RuntimeError("on_end")


class RaisingSampler(Sampler):
    def should_sample(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("sampler")

    def get_description(self) -> str:
        return "raising"


def _raising_at_start() -> TracerProvider:
    return _with(RaisingAtStart())


def _raising_at_end() -> TracerProvider:
    return _with(RaisingAtEnd())


def _raising_sampler() -> TracerProvider:
    return TracerProvider(sampler=RaisingSampler(), shutdown_on_exit=False)


def _with(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Errors of handlers are logged, as in a program; the log is not looked at."""
    caplog.set_level(logging.CRITICAL)
    yield
    workflows_otel.uninstrument()


@pytest.mark.parametrize("make", [_raising_at_start, _raising_at_end, _raising_sampler])
async def test_a_processor_or_sampler_that_raises_does_not_hurt_calls_in_a_run(make: Any, quiet: None) -> None:
    workflows_otel.instrument(make())
    assert await Asks().run() == "YESyes"


@pytest.mark.parametrize("make", [_raising_at_start, _raising_at_end])
async def test_a_processor_that_raises_costs_another_no_span_of_a_run(
    make: Any, records: RecordLog, quiet: None
) -> None:
    log = SpanLog(make())
    workflows_otel.instrument(log.provider, start_marker=False)
    await Asks().run()
    assert log.outline() == [
        "invoke_workflow Asks OK completed",
        "  run_step work OK completed",
        "    execute_tool dig OK",
        "    chat m-1 OK",
        "    chat m-1 OK",
    ]


@pytest.mark.usefixtures("no_provider")
async def test_a_processor_that_raises_costs_a_back_end_no_span_of_a_run(sink: OtlpSink, quiet: None) -> None:
    trace.set_tracer_provider(_raising_at_end())
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint))
    for _ in range(30):  # more than a breaker allows
        await Echo().run()
    assert (telemetry.flush().sent, len(sink.spans)) == (90, 90)
    telemetry.shutdown()


async def test_what_a_processor_raises_is_counted(quiet: None) -> None:
    class Unsteady(RaisingAtEnd):
        pass

    found = Metrics()
    workflows_otel.instrument(_with(Unsteady()), start_marker=False, meter_provider=found.provider)
    await Echo().run()
    assert [n for labels, n in found.read("workflow.telemetry.errors") if labels["handler"] == "Unsteady"] == [2]


async def _answer_of_a_server() -> AsyncGenerator[int]:
    with workflows_otel.context(session_id="s-1"), tool(name="dig"):
        yield 1
        yield 2


async def test_a_generator_with_our_blocks_may_be_closed_by_another_task(
    spans: SpanLog, caplog: pytest.LogCaptureFixture
) -> None:
    answer = _answer_of_a_server()
    await anext(answer)
    async with asyncio.TaskGroup() as group:
        group.create_task(answer.aclose())
    assert (spans.outline(), caplog.records) == (["execute_tool dig UNSET"], [])


async def test_the_error_of_a_program_is_not_replaced_where_a_block_is_left_elsewhere() -> None:
    block = context(user_id="u-1")
    copy_context().run(block.__enter__)
    error = KeyError("its own")
    assert block.__exit__(KeyError, error, None) is not True
