"""Runs that are to be drawn on the process's tracer provider, asked for before there is one: each is one tree."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog, about
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


async def test_what_was_asked_for_before_the_provider_was_set_ends_by_its_name() -> None:
    workflows_otel.instrument()
    log = provider_of_the_process()
    workflows_otel.uninstrument(log.provider)
    await Echo().run()
    assert log.outline() == []
