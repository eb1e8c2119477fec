"""`setup()` and `instrument()`: what they take, what they leave alone, what they refuse."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

import workflows_otel
from tests.workflows_otel.flows import Echo, Flaky
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.span_log import SpanLog
from workflows.errors import WorkflowError, WorkflowValidationError
from workflows.instrumentation import add_handler
from workflows_otel import OtelHandler, TelemetrySetupError, otlp

pytestmark = pytest.mark.usefixtures("no_provider")


WRONG: Any = "wrong"  # an option that no type checker would let pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: workflows_otel.setup("zipkin"), "Back end 'zipkin' is unknown"),
        (lambda: otlp("localhost:4318"), "'localhost:4318' is not a URL"),
        (lambda: otlp("http://localhost:port"), "is not a URL"),
        (lambda: otlp(protocol=WRONG), "protocol 'wrong' is not supported"),
        (lambda: workflows_otel.setup("console", run_parent=WRONG), "run_parent='wrong' is unknown"),
        (lambda: workflows_otel.setup("console", resume_trace=WRONG), "resume_trace='wrong' is unknown"),
        (lambda: workflows_otel.setup("console", streams=WRONG), "streams='wrong' is unknown"),
    ],
)
def test_wrong_input_is_refused_with_the_fix(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TelemetrySetupError, match=message) as caught:
        make()
    assert isinstance(caught.value, WorkflowError)
    assert "Use " in str(caught.value) or "Write " in str(caught.value)


def test_an_unknown_content_mode_is_refused() -> None:
    with pytest.raises(WorkflowValidationError, match="'wrong' is unknown"):
        workflows_otel.setup("console", content=WRONG)


def test_nothing_is_changed_when_setup_is_refused() -> None:
    with pytest.raises(TelemetrySetupError):
        workflows_otel.setup(["console", "zipkin"])
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def test_an_unknown_protocol_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(TelemetrySetupError, match="http/json"):
        workflows_otel.setup()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TelemetrySetupError, match=r"pip install 'spanflow\[otel\]'"):
        workflows_otel.setup(otlp(protocol="grpc"))


async def test_an_existing_provider_is_used_and_kept(sink: OtlpSink) -> None:
    mine = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(mine)
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    telemetry.shutdown()
    assert trace.get_tracer_provider() is mine
    assert len(sink.spans) == 3


def test_a_sampler_for_an_existing_provider_is_refused() -> None:
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    with pytest.raises(TelemetrySetupError, match="sampler= cannot be used"):
        workflows_otel.setup("console", sampler=ALWAYS_OFF)


def test_a_provider_that_takes_no_processors_is_refused() -> None:
    trace.set_tracer_provider(NoOpTracerProvider())
    with pytest.raises(TelemetrySetupError, match="instrument"):
        workflows_otel.setup("console")


async def test_the_applications_own_spans_are_sent_as_well(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    with trace.get_tracer("my.app").start_as_current_span("request"):
        await Echo().run()
    telemetry.shutdown()
    assert sink.named("invoke_workflow Echo").parent_id == sink.named("request").span_id


async def test_a_place_that_is_set_up_again_gets_each_span_once(sink: OtlpSink) -> None:
    setups = [workflows_otel.setup(otlp(sink.endpoint), start_marker=False) for _ in range(3)]
    await Echo().run()
    for made in setups:
        made.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply"]


async def test_the_last_setup_of_a_place_says_what_it_gets(sink: OtlpSink) -> None:
    setups = [
        workflows_otel.setup(otlp(sink.endpoint), content="full", start_marker=False),
        workflows_otel.setup(otlp(sink.endpoint), content="off", start_marker=False),
    ]
    await Echo().run(text="hello")
    for made in setups:
        made.shutdown()
    assert "input.value" not in sink.named("run_step reply").attributes


async def test_a_back_end_that_is_added_leaves_the_options_of_an_earlier_setup(sink: OtlpSink) -> None:
    with http_sink() as other:
        handles = [
            workflows_otel.setup(otlp(sink.endpoint), run_parent="root", start_marker=False),
            workflows_otel.setup(otlp(other.endpoint)),
        ]
        with trace.get_tracer("app").start_as_current_span("request"):
            await Echo().run()
        for handle in handles:
            handle.shutdown()
        for place in (sink, other):
            names = {span.name: span for span in place.spans}
            assert set(names) == {"request", "invoke_workflow Echo", "run_step reply"}
            assert names["invoke_workflow Echo"].parent_id == ""


async def test_a_callback_of_a_setup_that_was_mended_is_asked_no_more(sink: OtlpSink) -> None:
    def broken(path: str, value: Any) -> Any:
        raise ValueError(path)

    def seen(path: str, value: Any) -> Any:
        return "seen" if path == "text" else value

    setups = [
        workflows_otel.setup(otlp(sink.endpoint), content="full", redact=redact, start_marker=False)
        for redact in (broken, seen)
    ]
    await Echo().run(text="hello")
    for made in setups:
        made.shutdown()
    assert "seen" in str(sink.named("run_step reply").attributes["input.value"])


async def test_a_callback_of_instrument_is_asked_beside_those_of_setup(sink: OtlpSink) -> None:
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    workflows_otel.instrument(
        provider, content="full", redact=lambda path, value: "hidden" if path == "text" else value
    )
    setups = [workflows_otel.setup(otlp(sink.endpoint), content="full", start_marker=False) for _ in range(2)]
    await Echo().run(text="hello")
    for made in setups:
        made.shutdown()
    assert "hidden" in str(sink.named("run_step reply").attributes["input.value"])


async def test_what_ends_after_a_shutdown_is_not_lost(sink: OtlpSink) -> None:
    first = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    first.shutdown()
    last = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Echo().run()
    assert (last.shutdown().sent, first.flush().dropped) == (2, 0)


async def test_when_the_last_setup_of_a_place_is_shut_down_the_one_before_goes_on(sink: OtlpSink) -> None:
    first = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Echo().run()
    workflows_otel.setup(otlp(sink.endpoint), start_marker=False).shutdown()
    await Echo().run()
    assert first.shutdown().sent == 4
    assert len(sink.names()) == 4


async def test_the_first_setup_of_a_place_flushes_what_the_last_one_sends(sink: OtlpSink) -> None:
    first, last = (workflows_otel.setup(otlp(sink.endpoint), start_marker=False) for _ in range(2))
    await Echo().run()
    assert first.flush().sent == 2
    assert len(sink.names()) == 2
    last.shutdown()
    first.shutdown()


async def test_two_names_of_one_place_get_each_span_once(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup([otlp(sink.endpoint), workflows_otel.jaeger(sink.endpoint)], start_marker=False)
    await Echo().run()
    telemetry.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply"]


async def test_two_projects_of_one_server_are_two_places(sink: OtlpSink) -> None:
    presets = [otlp(sink.endpoint, headers={"x-project-name": name}) for name in ("one", "two")]
    telemetry = workflows_otel.setup(presets, start_marker=False)
    await Echo().run()
    telemetry.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Echo"] * 2 + ["run_step reply"] * 2


async def test_instrument_uses_a_provider_that_is_set_later() -> None:
    workflows_otel.instrument(start_marker=False)
    log = SpanLog()
    trace.set_tracer_provider(log.provider)
    await Echo().run()
    assert log.outline() == ["invoke_workflow Echo OK completed", "  run_step reply OK completed"]


async def test_after_shutdown_runs_are_not_drawn(sink: OtlpSink) -> None:
    workflows_otel.setup(otlp(sink.endpoint)).shutdown()
    await Echo().run()
    assert sink.spans == []


async def test_debug_exports_each_span_at_once(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), debug=True, start_marker=False)
    await Echo().run()
    assert sink.names() == ["run_step reply", "invoke_workflow Echo"]
    assert telemetry.flush().sent == 2
    telemetry.shutdown()


async def test_the_console_shows_a_tree_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = workflows_otel.setup("console")
    await Echo().run()
    await Flaky(failures=0).run()
    telemetry.shutdown()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] if line[0] != " " else line[:20].rstrip() for line in lines] == [
        "invoke_workflow Echo",
        "└─ run_step reply",
        "invoke_workflow Flaky",
        "└─ run_step fetch",
        "   └─ attempt fetch",
    ]


async def test_the_console_shows_at_exit_what_has_no_root(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = workflows_otel.setup("console")
    with trace.get_tracer("my.app").start_as_current_span("never ends", end_on_exit=False):
        await Echo().run()
    telemetry.shutdown()
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "invoke_workflow Echo",
        "└─ run_step reply",
    ]


async def test_a_disabled_sdk_draws_nothing(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    assert await Echo().run(text="hello") == "hello"
    telemetry.shutdown()
    assert sink.spans == []


class RaisingHandler:
    name = "raising"
    destination = None

    def handle(self, record: object) -> None:
        raise RuntimeError("handler")

    def carrier(self, run_id: str) -> None:
        raise RuntimeError("carrier")


async def test_another_handler_that_raises_costs_us_no_span() -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, start_marker=False)
    remove = add_handler(RaisingHandler())
    await Echo().run()
    remove()
    assert log.outline() == ["invoke_workflow Echo OK completed", "  run_step reply OK completed"]


async def test_no_span_stays_open() -> None:
    handler = OtelHandler(TracerProvider(shutdown_on_exit=False).get_tracer("test"))
    remove = add_handler(handler)
    for _ in range(20):
        await Echo().run()
    remove()
    assert handler.open_runs == 0


EXITS = """
    import asyncio, sys
    import workflows_otel
    from tests.workflows_otel.flows import Echo, Flaky

    async def main():
        await Echo().run()

    workflows_otel.setup(workflows_otel.otlp(sys.argv[1]))
    asyncio.run(main())
"""


def _exit(endpoint: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(EXITS), endpoint]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_process_that_exits_sends_its_spans(sink: OtlpSink) -> None:
    assert _exit(sink.endpoint).returncode == 0
    assert len(sink.spans) == 3


def test_a_dead_back_end_delays_the_exit_by_five_seconds_at_most() -> None:
    started = time.monotonic()
    assert _exit("http://127.0.0.1:1").returncode == 0
    assert time.monotonic() - started < 5 + 4  # what Python needs to start and import, on a busy machine
