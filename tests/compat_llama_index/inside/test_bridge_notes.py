"""What a step says of itself by `dispatcher.event(...)` is shown, whoever draws the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import mlflow
import pytest
from llama_index_instrumentation.dispatcher import instrument_tags

import mlflow_flavor
import workflows_otel
from tests.compat_llama_index.inside.call_log import logged
from tests.compat_llama_index.inside.jokes import Jokes, Laughs
from tests.compat_llama_index.inside.tracers import Back, llama_index_otel, mlflow_llama_index, openinference


@pytest.fixture
def ours() -> Iterator[Back]:
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False, content="full")
    yield back
    workflows_otel.uninstrument()


def noted(back: Back, span: str) -> list[tuple[str, Mapping[str, object]]]:
    return [(event.name, dict(event.attributes or {})) for event in back.named(span).events]


async def test_an_event_sent_in_a_step_is_on_our_span_with_its_tags(ours: Back) -> None:
    with openinference(ours):
        await Laughs().run()
    assert noted(ours, "run_step hear") == [("Laughed", {"mood": "good", "loudness": 3, "password": "**********"})]


async def test_in_mode_types_its_values_are_not_shown(ours: Back) -> None:
    workflows_otel.instrument(ours.provider, start_marker=False, content="types")
    with openinference(ours):
        await Laughs().run()
    ((_, fields),) = noted(ours, "run_step hear")
    assert fields["mood"] == "<str 4>"


async def test_it_is_on_our_span_and_told_to_a_handler_of_another_destination(ours: Back) -> None:
    with logged() as log:
        await Laughs().run()
    assert [name for name, _ in noted(ours, "run_step hear")] == ["Laughed"]
    assert any(line.startswith("event Laughed in Laughs.hear") for line in log.lines)


async def test_events_of_models_stay_on_their_own_spans(ours: Back) -> None:
    with llama_index_otel(ours.provider):
        await Jokes().run(topic="pirates")
    assert noted(ours, "run_step write") == []
    assert "LLMCompletionEndEvent" in [name for name, _ in noted(ours, "MockLLM.acomplete")]


async def test_tags_around_a_run_are_on_our_span_where_a_handler_is_not_told_of_the_run(ours: Back) -> None:
    with openinference(ours), instrument_tags({"tenant": "north"}):
        await Jokes().run(topic="pirates")
    assert (ours.named("invoke_workflow Jokes").attributes or {})["llamaindex.tenant"] == "north"


async def test_an_event_sent_outside_of_a_run_is_nobodys(ours: Back) -> None:
    from tests.compat_llama_index.inside.jokes import Laughed, dispatcher

    with openinference(ours):
        await Jokes().run(topic="pirates")
        dispatcher.event(Laughed(loudness=1))
    assert [event.name for span in ours.spans for event in span.events if event.name == "Laughed"] == []


async def test_it_is_there_again_after_a_time_without_handlers(ours: Back) -> None:
    first, second = Laughs(), Laughs()
    with openinference(ours):
        await first.run()
        await second.run()
    await first.run()
    ours.spans.clear()
    with openinference(ours):
        await second.run()
    assert [name for name, _ in noted(ours, "run_step hear")] == ["Laughed"]


@pytest.mark.usefixtures("mlflow_store")
async def test_it_is_on_the_span_of_the_flavor_in_mlflow() -> None:
    mlflow_flavor.autolog()
    try:
        with mlflow_llama_index():
            await Laughs().run()
            trace = mlflow.get_trace(mlflow.get_last_active_trace_id() or "", flush=True)
    finally:
        mlflow_flavor.autolog(disable=True)
    assert trace is not None
    (span,) = trace.search_spans(name="hear")
    assert [(event.name, event.attributes["loudness"]) for event in span.events] == [("Laughed", 3)]
