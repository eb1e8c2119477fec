"""Each back end gets as much of payloads as is meant for it, whatever others get and whenever they come and go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.span_log import SpanLog
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import Mode
from workflows.instrumentation.dispatcher import process_dispatcher
from workflows_otel import OtelHandler, Setup, otlp, redacting

pytestmark = pytest.mark.usefixtures("no_provider")

MODES: tuple[Mode, ...] = ("off", "types", "full")
PAIRS = list(product(MODES, MODES))
SAID = (at.INPUT_SIZE, at.OUTPUT_SIZE, at.INPUT_COMPLETE, at.TRUNCATED)
ABOUT_PAYLOADS = ("input.", "output.", "llm.", "gen_ai.input", "gen_ai.output", "gen_ai.tool.call", "retrieval.")
KIND = r"<[^>]+>|\*{10}"
GIVEN: dict[str, Any] = {"words": "about Ada", "api_key": "of Ada", "user-id": 7, 'a "b"': None, "": 1}


class Page2(BaseModel):
    text: str = "about Ada"


class Tells(Workflow):
    """Shows payloads in every way that there is; once it has begun, it waits until it is told to go on."""

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__()
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        if not waits:
            self.go_on.set()

    @step
    async def tell(self, ev: StartEvent) -> StopEvent:
        _note("Began", {"about": "Ada"})
        with workflows_otel.tool(name="early") as call:
            call.input({"page": Page2(), "of": int})
            self.begun.set()
            await self.go_on.wait()
            call.output(Page2())
        _note("Ended", {"about": "Ada"})
        say("late")
        return StopEvent(result={"about": "Ada", "password": "of Ada"})


def say(name: str) -> None:
    with workflows_otel.llm_call(model=name) as call:
        call.input([{"role": "user", "content": "Who is Ada?"}]).output("Ada is a person.")
    with workflows_otel.retriever(name=name) as call:
        call.input("Ada").output([{"text": "about Ada", "score": 0.5}])


def _note(name: str, fields: dict[str, Any]) -> None:
    """As the bridge to llama-index does for `dispatcher.event`."""
    for told in process_dispatcher.handlers:
        if isinstance(told.handler, OtelHandler):
            told.handler.note(name, fields)


Got = dict[tuple[str, str], str]


def got(sink: OtlpSink) -> Got:
    """What came of payloads, by span and attribute; a class that is not known any more is that of plain data."""
    found: Got = {}
    for span in sink.spans:
        noted = {f"{name} {key}": value for name, about in span.events for key, value in about.items()}
        shown = {key: value for key, value in span.attributes.items() if key.startswith(ABOUT_PAYLOADS)}
        shown |= {key: "" if key.endswith(".size") else value for key, value in span.attributes.items() if key in SAID}
        for key, value in (shown | noted).items():
            found[span.name, key] = re.sub(r'^\{"type":"(StartEvent|Page2)"', '{"type":"dict"', str(value))
    return found


async def alone(mode: Mode) -> Got:
    """What a back end gets that has the process to itself."""
    with http_sink() as sink:
        telemetry = workflows_otel.setup(otlp(sink.endpoint), content=mode)
        await Tells().run(**GIVEN)
        say("outside")
        telemetry.shutdown()
        workflows_otel.uninstrument()
        return got(sink)


def assert_is_meant(found: Got, mode: Mode, expected: Got) -> None:
    """Where others get values, shapes are made of those: of steps as well, and without the classes of fields."""
    if mode == "types":
        assert "Ada" not in str(found)
        found, expected = ({key: re.sub(KIND, "<>", got[key]) for key in expected} for got in (found, expected))
    assert found == expected


@pytest.mark.parametrize(("mode", "other"), PAIRS)
@pytest.mark.parametrize("comes", ["first", "last"])
async def test_a_back_end_gets_beside_another_one_what_it_gets_alone(
    sink: OtlpSink, mode: Mode, other: Mode, comes: str
) -> None:
    expected = await alone(mode)
    with http_sink() as others:
        places: list[tuple[OtlpSink, Mode]] = [(sink, mode), (others, other)]
        if comes == "last":
            places.reverse()
        made = [workflows_otel.setup(otlp(place.endpoint), content=shown) for place, shown in places]
        await Tells().run(**GIVEN)
        say("outside")
        for one in made:
            one.shutdown()
    assert_is_meant(got(sink), mode, expected)


async def test_shapes_are_whole_where_one_that_got_values_has_gone(sink: OtlpSink) -> None:
    expected = await alone("types")
    with http_sink() as others:
        telemetry = workflows_otel.setup(otlp(sink.endpoint))
        workflows_otel.setup(otlp(others.endpoint), content="full").shutdown()
        await Tells().run(**GIVEN)
        say("outside")
        telemetry.shutdown()
    assert got(sink) == expected


Change = Callable[[list[Setup], OtlpSink, Mode], None]


def _comes(made: list[Setup], others: OtlpSink, other: Mode) -> None:
    made.append(workflows_otel.setup(otlp(others.endpoint), content=other))


def _goes(made: list[Setup], others: OtlpSink, other: Mode) -> None:
    made.pop().shutdown()


def _comes_and_goes(made: list[Setup], others: OtlpSink, other: Mode) -> None:
    _comes(made, others, other)
    _goes(made, others, other)


@pytest.mark.parametrize(("mode", "other"), [pair for pair in PAIRS if pair[0] != pair[1]])
@pytest.mark.parametrize("change", [_comes, _goes, _comes_and_goes])
async def test_a_change_while_a_run_is_open_changes_nothing_for_a_back_end_that_stays(
    sink: OtlpSink, mode: Mode, other: Mode, change: Change
) -> None:
    expected = await alone(mode)
    with http_sink() as others:
        made = [workflows_otel.setup(otlp(sink.endpoint), content=mode)]
        if change is _goes:
            _comes(made, others, other)
        say("outside")
        tells = Tells(waits=True)
        handler = tells.run(**GIVEN)
        await tells.begun.wait()
        change(made, others, other)
        tells.go_on.set()
        await handler
        for one in made:
            one.shutdown()
    assert_is_meant(got(sink), mode, expected)


async def test_a_text_of_a_steps_own_does_not_pass_for_a_shape(sink: OtlpSink) -> None:
    with http_sink() as others:
        made = [workflows_otel.setup(otlp(sink.endpoint))]
        changes = Changes(lambda: made.append(workflows_otel.setup(otlp(others.endpoint), content="full")))
        await changes.run()
        for one in made:
            one.shutdown()
    assert "Ada" not in str(sink.named("run_step tell").attributes)


class Changes(Workflow):
    """Its step writes under a name of ours, and more is drawn from then on."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__()
        self._change = change

    @step
    async def tell(self, ev: StartEvent) -> StopEvent:
        trace.get_current_span().set_attribute("output.value", "tea")
        self._change()
        _note("Told", {"about": "tea"})
        return StopEvent(result="about Ada")


@pytest.mark.parametrize(("before", "after"), [("full", "types"), ("full", "off"), ("types", "off")])
async def test_what_is_open_when_less_is_asked_for_shows_no_more(sink: OtlpSink, before: Mode, after: Mode) -> None:
    expected = await alone(after)
    with http_sink() as others:
        tells = Tells(waits=True)
        made = [workflows_otel.setup(otlp(others.endpoint), content=before)]
        handler = tells.run(**GIVEN)
        await tells.begun.wait()
        made += [workflows_otel.setup(otlp(place.endpoint), content=after) for place in (others, sink)]
        tells.go_on.set()
        await handler
        say("outside")
        for one in made:
            one.shutdown()
        for place in (others, sink):
            assert_is_meant(got(place), after, expected)


async def test_calls_of_a_run_that_is_open_are_drawn_as_is_said_by_now(spans: SpanLog) -> None:
    workflows_otel.instrument(spans.provider, content="full")
    tells = Tells(waits=True)
    handler = tells.run(**GIVEN)
    await tells.begun.wait()
    workflows_otel.instrument(spans.provider, content="types")
    tells.go_on.set()
    await handler
    assert "Ada" not in str(spans.named("chat late").attributes)


async def test_a_span_of_the_sdk_says_what_it_shows_as_well(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is used for steps where limits are low."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "60")
    expected = await alone("types")
    with http_sink() as others:
        made = [workflows_otel.setup(otlp(others.endpoint), content="full")]
        tells = Tells(waits=True)
        handler = tells.run(**GIVEN)
        await tells.begun.wait()
        made.append(workflows_otel.setup(otlp(sink.endpoint), content="types"))
        tells.go_on.set()
        await handler
        say("outside")
        for one in made:
            one.shutdown()
    assert_is_meant(got(sink), "types", expected)


async def test_an_exporter_that_was_given_no_policy_shows_what_is_drawn() -> None:
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(redacting(memory)))
    workflows_otel.instrument(provider, content="full")
    await Tells().run(**GIVEN)
    assert "about Ada" in str([span.attributes for span in memory.get_finished_spans()])


def test_nobody_is_sent_how_much_a_span_shows(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), content="types")
    say("outside")
    telemetry.shutdown()
    assert "types" not in str(sink.named("chat outside"))
