"""From a run to its trace: ids, pages, notes on errors, ids in logs."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import weakref

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop
from workflows_otel import RunIdFilter, TraceRef, jaeger, langfuse, otlp, phoenix, trace_of

KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-2"}
HERE = "http://127.0.0.1:1"


async def test_a_handler_leads_to_the_span_of_its_run(spans: SpanLog) -> None:
    handler = Echo().run()
    during = trace_of(handler)
    await handler
    context = spans.named("invoke_workflow Echo").get_span_context()
    assert context is not None
    assert during == TraceRef(f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert trace_of(handler) == trace_of(handler.run_id) == during


async def test_a_run_that_goes_on_on_another_provider_leads_to_its_trace_there() -> None:
    first, second = SpanLog(), SpanLog()
    workflow = AskPerson(timeout=None)
    workflows_otel.instrument(first.provider)
    handler = workflow.run()
    await asyncio.sleep(0.01)
    snapshot = await handler.suspend()
    workflows_otel.uninstrument(first.provider)
    workflows_otel.instrument(second.provider, start_marker=False, resume_trace="link")
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(0.01)
    handler.ctx.send_event(Answer(text="yes"))
    await handler
    workflows_otel.uninstrument(second.provider)
    run = second.named("invoke_workflow AskPerson").get_span_context()
    assert run is not None
    assert trace_of(handler) == TraceRef(f"{run.trace_id:032x}", f"{run.span_id:016x}")


async def test_a_provider_that_draws_no_more_is_kept_by_nobody() -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider)
    handler = Echo().run()
    await handler
    workflows_otel.uninstrument(log.provider)
    provider = weakref.ref(log.provider)
    del log
    gc.collect()
    assert provider() is None
    assert trace_of(handler) is not None


async def test_a_run_that_nobody_drew_has_no_trace() -> None:
    handler = Echo().run()
    await handler
    assert trace_of(handler) is None
    assert trace_of("no such run") is None


async def test_a_run_that_is_sampled_out_says_so() -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    workflows_otel.instrument(provider)
    handler = Echo().run()
    await handler
    workflows_otel.uninstrument(provider)
    found = trace_of(handler)
    assert found is not None
    assert (found.sampled, found.urls) == (False, {})


async def test_a_resumed_run_leads_to_its_latest_segment(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = AskPerson()
    first = workflow.run()
    await asyncio.sleep(1)
    before = trace_of(first)
    snapshot = await first.suspend()
    second = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    second.ctx.send_event(Answer(text="yes"))
    assert await second == "yes"
    after = trace_of(second)
    assert before is not None
    assert after is not None
    assert after.trace_id == before.trace_id
    assert after.span_id != before.span_id


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize(
    ("preset", "url"),
    [
        (phoenix(endpoint=HERE), f"{HERE}/redirects/traces/{{trace_id}}"),
        (phoenix(endpoint="http://127.0.0.1:4317"), "http://127.0.0.1:6006/redirects/traces/{trace_id}"),
        (phoenix(endpoint=HERE, ui="https://phoenix.example/"), "https://phoenix.example/redirects/traces/{trace_id}"),
        (jaeger(HERE), "http://127.0.0.1:16686/trace/{trace_id}"),
        (jaeger(HERE, ui="https://jaeger.example"), "https://jaeger.example/trace/{trace_id}"),
        (langfuse(**KEYS, base_url=HERE), f"{HERE}/trace/{{trace_id}}"),
        (langfuse(**KEYS, base_url=HERE, project="p1"), f"{HERE}/project/p1/traces/{{trace_id}}"),
        (otlp(HERE, trace_url="https://tempo.example/t?id={trace_id}"), "https://tempo.example/t?id={trace_id}"),
        (otlp(HERE), None),
    ],
)
async def test_each_back_end_has_its_page_of_a_trace(preset: workflows_otel.Preset, url: str | None) -> None:
    telemetry = workflows_otel.setup(preset)
    handler = Echo().run()
    found = trace_of(handler)
    await handler
    telemetry.shutdown(timeout=0)
    assert found is not None
    assert found.url == (url and url.replace("{trace_id}", found.trace_id))
    after = trace_of(handler)
    assert after is not None
    assert after.urls == {}  # nobody can tell any more


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize(("rate", "names"), [("0", ["jaeger"]), ("1", ["langfuse", "jaeger"])])
async def test_a_back_end_that_does_not_get_a_trace_has_no_page_of_it(
    monkeypatch: pytest.MonkeyPatch, rate: str, names: list[str]
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", rate)
    telemetry = workflows_otel.setup([langfuse(**KEYS, base_url=HERE), jaeger(HERE)])
    handler = Failing().run(error=ValueError("broken"))
    with pytest.raises(ValueError, match="broken") as caught:
        await handler
    found = trace_of(handler)
    telemetry.shutdown(timeout=0)
    assert found is not None
    assert list(found.urls) == names
    assert str(found.url) in caught.value.__notes__[0]


@pytest.mark.usefixtures("no_provider")
async def test_a_back_end_whose_later_setup_gets_every_trace_has_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    less = workflows_otel.setup([langfuse(**KEYS, base_url=HERE), otlp(HERE)])
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "1")
    more = workflows_otel.setup(langfuse(**KEYS, base_url=HERE))
    handler = Echo().run()
    await handler
    found = trace_of(handler)
    less.shutdown(timeout=0)
    more.shutdown(timeout=0)
    assert found is not None
    assert list(found.urls) == ["langfuse"]


@pytest.mark.usefixtures("no_provider")
async def test_an_error_says_where_its_trace_is() -> None:
    telemetry = workflows_otel.setup(jaeger(HERE))
    handler = Failing().run(error=ValueError("broken"))
    with pytest.raises(ValueError, match="broken") as caught:
        await handler
    telemetry.shutdown(timeout=0)
    found = trace_of(handler)
    assert found is not None
    (note,) = caught.value.__notes__
    page = f"http://127.0.0.1:16686/trace/{found.trace_id}"
    assert note == f"workflow run {handler.run_id}, trace {found.trace_id}: {page}"
    assert note in "".join(traceback.format_exception(caught.value))


async def test_the_error_of_a_child_run_is_noted_once_a_trace(spans: SpanLog) -> None:
    class Parent(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Failing().run(error=ValueError("broken")))

    with pytest.raises(ValueError, match="broken") as caught:
        await Parent().run()
    assert len(caught.value.__notes__) == 1


async def test_an_exception_that_many_runs_raise_does_not_grow(spans: SpanLog) -> None:
    error = ValueError("broken")
    for _ in range(20):
        with pytest.raises(ValueError, match="broken"):
            await Failing().run(error=error)
    assert len(error.__notes__) == 8


async def test_logs_have_the_ids_that_trace_of_gives(spans: SpanLog, caplog: pytest.LogCaptureFixture) -> None:
    class Logs(Workflow):
        @step
        async def say(self, ev: StartEvent) -> StopEvent:
            logging.getLogger("my.app").warning("here")
            return StopEvent()

    caplog.handler.addFilter(ids := RunIdFilter())
    handler = Logs().run()
    await handler
    caplog.handler.removeFilter(ids)
    (record,) = [record for record in caplog.records if record.name == "my.app"]
    found = trace_of(handler)
    assert found is not None
    assert (record.__dict__["run_id"], record.__dict__["trace_id"]) == (handler.run_id, found.trace_id)


@pytest.mark.usefixtures("no_provider")
async def test_the_trace_of_trace_of_is_the_one_that_arrives(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    handler = Echo().run()
    await handler
    telemetry.shutdown()
    arrived = sink.named("invoke_workflow Echo")
    found = trace_of(handler)
    assert found is not None
    assert (found.trace_id, found.span_id) == (arrived.trace_id, arrived.span_id)
    assert trace.get_tracer_provider() is telemetry.provider
