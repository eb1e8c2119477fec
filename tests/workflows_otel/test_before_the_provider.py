"""Runs that are to be drawn on the process's tracer provider, asked for before there is one: each is one tree."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context
from workflows_otel import otlp

pytestmark = pytest.mark.usefixtures("no_provider")

ONE_RUN = ["invoke_workflow Echo OK completed", "  run_step reply OK completed"]


def provider_of_the_process() -> SpanLog:
    log = SpanLog()
    trace.set_tracer_provider(log.provider)
    return log


@pytest.mark.parametrize("times", [1, 2])
async def test_setup_after_instrument_draws_each_run_once(sink: OtlpSink, times: int) -> None:
    workflows_otel.instrument()
    handles = [workflows_otel.setup(otlp(sink.endpoint), start_marker=False) for _ in range(times)]
    await Echo().run()
    for handle in handles:
        handle.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply"]


async def test_setup_after_a_run_that_was_drawn_nowhere_draws_the_next_once(sink: OtlpSink) -> None:
    workflows_otel.instrument()
    await Echo().run()
    handle = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Echo().run()
    handle.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply"]


@pytest.mark.parametrize("named", [False, True])
async def test_instrument_before_and_after_the_provider_is_set_draws_each_run_once(named: bool) -> None:
    workflows_otel.instrument(start_marker=False)
    log = provider_of_the_process()
    workflows_otel.instrument(log.provider if named else None, start_marker=False)
    await Echo().run()
    assert log.outline() == ONE_RUN


async def test_options_that_were_given_before_the_provider_was_set_can_be_changed_after_it() -> None:
    def content_of(log: SpanLog) -> Any:
        return about(log.all_named("invoke_workflow Echo")[-1]).get("input.value")

    workflows_otel.instrument(start_marker=False, content="full")
    log = provider_of_the_process()
    workflows_otel.instrument()  # as auto-instrumentation does: it changes nothing
    await Echo().run(text="hello")
    assert "hello" in content_of(log)
    workflows_otel.instrument(content="off")
    await Echo().run(text="hello")
    assert content_of(log) is None


def asked_for_early_and_by_name(log: SpanLog, *, early_first: bool, **named: Any) -> None:
    """`instrument()` as a library says it, and as the application does, of a provider that it sets afterwards."""
    asks = [
        lambda: workflows_otel.instrument(start_marker=False, run_parent="root"),
        lambda: workflows_otel.instrument(log.provider, **named),
    ]
    for ask in asks if early_first else reversed(asks):
        ask()


@pytest.mark.parametrize("early_first", [True, False])
async def test_a_provider_that_was_named_and_becomes_the_process_s_own_draws_each_run_once(early_first: bool) -> None:
    log = SpanLog()
    asked_for_early_and_by_name(log, early_first=early_first)
    trace.set_tracer_provider(log.provider)
    await Echo().run()
    assert log.outline() == ONE_RUN


@pytest.mark.parametrize("early_first", [True, False])
async def test_what_was_said_of_a_provider_wins_over_what_was_said_before_it_was_the_process_s_own(
    early_first: bool,
) -> None:
    log = SpanLog()
    asked_for_early_and_by_name(log, early_first=early_first, run_parent="child", content="full")
    trace.set_tracer_provider(log.provider)
    with trace.get_tracer("app").start_as_current_span("request"):
        await Echo().run(text="hello")
    run = log.named("invoke_workflow Echo")
    assert log.parent(run) == "request"
    assert "hello" in about(run)["input.value"]
    assert "workflow.started" not in [span.name for span in log.finished]  # of which only the library said something


async def test_what_a_library_asked_to_be_hidden_is_hidden_from_the_first_run_on() -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full", start_marker=False)
    workflows_otel.instrument(redact=lambda path, value: "[name]" if value == "Ada" else value)
    trace.set_tracer_provider(log.provider)
    await Echo().run(text="Ada")
    run = about(log.named("invoke_workflow Echo"))
    assert "[name]" in run["input.value"]
    assert "Ada" not in str(run)


async def test_a_run_that_was_open_when_its_provider_became_the_process_s_own_goes_on() -> None:
    log = SpanLog()
    workflows_otel.instrument()
    workflows_otel.instrument(log.provider, start_marker=False)
    handler = AskPerson(timeout=None).run()
    await asyncio.sleep(0)
    trace.set_tracer_provider(log.provider)
    await Echo().run()
    handler.ctx.send_event(Answer(text="yes"))
    assert await handler == "yes"
    assert about(log.named("invoke_workflow AskPerson"))["workflow.run.outcome"] == "completed"
    assert len(log.all_named("invoke_workflow Echo")) == 1


async def test_a_suspended_run_goes_on_in_its_trace_where_nothing_was_asked_for_early() -> None:
    log, workflow = SpanLog(), AskPerson(timeout=None)
    workflows_otel.instrument()
    workflows_otel.instrument(log.provider, start_marker=False)
    trace.set_tracer_provider(log.provider)
    handler = workflow.run()
    await asyncio.sleep(0)
    snapshot = await handler.suspend()
    workflows_otel.uninstrument()
    workflows_otel.instrument(log.provider, start_marker=False)  # as another process would
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(0)
    handler.ctx.send_event(Answer(text="yes"))
    assert await handler == "yes"
    assert len({span.context.trace_id for span in log.finished if span.context is not None}) == 1


async def test_a_setup_after_that_draws_each_run_once(sink: OtlpSink) -> None:
    log = SpanLog()
    workflows_otel.instrument(start_marker=False)
    workflows_otel.instrument(log.provider)
    trace.set_tracer_provider(log.provider)
    handle = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    handle.shutdown()
    assert log.outline() == ONE_RUN
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply"]


@pytest.mark.parametrize("early_first", [True, False])
async def test_a_provider_that_was_named_and_became_the_process_s_own_ends_by_its_name(early_first: bool) -> None:
    log = SpanLog()
    asked_for_early_and_by_name(log, early_first=early_first)
    trace.set_tracer_provider(log.provider)
    workflows_otel.uninstrument(log.provider)
    await Echo().run()
    assert log.outline() == []


async def test_what_was_asked_for_before_the_provider_was_set_ends_by_its_name() -> None:
    workflows_otel.instrument()
    log = provider_of_the_process()
    workflows_otel.uninstrument(log.provider)
    await Echo().run()
    assert log.outline() == []
