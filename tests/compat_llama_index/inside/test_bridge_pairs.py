"""Every tracing set-up of llama-index, alone and beside ours: whose spans there are, and that each tree is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import mlflow_flavor
import workflows_otel
from tests.compat_llama_index.inside.jokes import Jokes, evening
from tests.compat_llama_index.inside.tracers import (
    Back,
    llama_index_otel,
    mlflow_llama_index,
    mlflow_tree,
    openinference,
)

pytestmark = pytest.mark.usefixtures("no_provider")

MODEL = ["MockLLM.acomplete", "  MockLLM.complete"]


def below(depth: int, *lines: str) -> list[str]:
    return ["  " * depth + line for line in lines]


THEIRS = ["Jokes.run", *below(1, "Jokes.write", *below(1, *MODEL), "Jokes.judge", "  rate")]
OURS = ["invoke_workflow Jokes", *below(1, "run_step write", *below(1, *MODEL), "run_step judge", "  rate")]
OURS_ALONE = ["invoke_workflow Jokes", "  run_step write", "  run_step judge"]
FLAVOR = ["Jokes.run", *below(1, "write", *below(1, *MODEL), "judge", "  rate")]


@pytest.fixture
def ours() -> Back:
    """Where workflows_otel draws."""
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False)
    return back


@pytest.fixture
def flavor() -> Iterator[None]:
    mlflow_flavor.autolog()
    yield
    mlflow_flavor.autolog(disable=True)


async def joke() -> None:
    assert await Jokes().run(topic="pirates") == 7


# --- OpenInference ----------------------------------------------------------------------------------------------------


async def test_openinference_alone_draws_everything() -> None:
    back = Back()
    with openinference(back):
        await joke()
    assert back.tree() == THEIRS


async def test_openinference_on_our_provider_hangs_models_and_user_code_below_our_steps(ours: Back) -> None:
    with openinference(ours):
        await joke()
    assert ours.tree() == OURS


async def test_openinference_on_another_provider_gets_a_whole_tree_beside_ours(ours: Back) -> None:
    theirs = Back()
    with openinference(theirs):
        await joke()
    assert (theirs.tree(), ours.tree()) == (THEIRS, OURS_ALONE)


async def test_openinference_shows_what_went_into_a_step_and_what_came_out() -> None:
    back = Back()
    with openinference(back):
        await joke()
    attributes = back.named("Jokes.judge").attributes or {}
    assert attributes["input.value"] == """{"joke": "Joke(text='pirates')"}"""
    assert attributes["output.value"] == "StopEvent(result=7)"


# --- llama-index-observability-otel -----------------------------------------------------------------------------------


async def test_llama_index_otel_alone_draws_everything() -> None:
    with llama_index_otel() as theirs:
        await joke()
    assert theirs.tree() == THEIRS


async def test_llama_index_otel_and_ours_after_it_draw_one_tree() -> None:
    with llama_index_otel() as theirs:
        workflows_otel.instrument(start_marker=False)
        await joke()
    assert theirs.tree() == OURS


async def test_ours_before_llama_index_otel_draws_on_the_provider_that_it_sets() -> None:
    workflows_otel.instrument(start_marker=False)
    with llama_index_otel() as theirs:
        await joke()
    assert theirs.tree() == OURS


async def test_llama_index_otel_with_our_provider_draws_one_tree_for_both(ours: Back) -> None:
    with llama_index_otel(ours.provider) as theirs:
        await joke()
    assert theirs.tree() == ours.tree() == OURS


async def test_llama_index_otel_with_another_provider_leaves_our_tree_whole(ours: Back) -> None:
    with llama_index_otel() as theirs:
        await joke()
    assert ours.tree() == OURS_ALONE
    assert theirs.tree()[:3] == ["Jokes.run", "  Jokes.write", "  Jokes.judge"]


async def test_two_providers_beside_llama_index_otel_are_warned_of_once(
    ours: Back, caplog: pytest.LogCaptureFixture
) -> None:
    with llama_index_otel(), caplog.at_level(logging.WARNING, "workflows.instrumentation"):
        await joke()
        await joke()
    (said,) = [record.getMessage() for record in caplog.records if record.name == "workflows.instrumentation"]
    assert "Give both the same one: LlamaIndexOpenTelemetry(tracer_provider=...)" in said


# --- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mlflow_store")
async def test_mlflow_alone_draws_everything() -> None:
    with mlflow_llama_index():
        await joke()
        assert mlflow_tree() == THEIRS


@pytest.mark.usefixtures("mlflow_store", "flavor")
async def test_mlflow_hangs_models_and_user_code_below_the_steps_of_the_flavor() -> None:
    with mlflow_llama_index():
        await joke()
        assert mlflow_tree() == FLAVOR


@pytest.mark.usefixtures("mlflow_store")
async def test_mlflow_and_opentelemetry_have_a_whole_tree_each(ours: Back) -> None:
    with mlflow_llama_index():
        await joke()
        assert (mlflow_tree(), ours.tree()) == (THEIRS, OURS_ALONE)


@pytest.mark.usefixtures("mlflow_store", "flavor")
async def test_all_at_once_is_one_tree_for_each_destination(ours: Back) -> None:
    with mlflow_llama_index(), openinference(ours):
        await joke()
        assert (mlflow_tree(), ours.tree()) == (FLAVOR, OURS)


# --- a run inside somebody's span -------------------------------------------------------------------------------------


async def test_a_run_inside_a_span_of_openinference_is_below_it() -> None:
    back = Back()
    with openinference(back):
        await evening()
    assert back.tree() == ["evening", *below(1, *THEIRS)]


async def test_our_run_inside_a_span_of_openinference_keeps_its_children(ours: Back) -> None:
    with openinference(ours):
        await evening()
    assert ours.tree() == ["evening", *below(1, *OURS)]


async def test_our_run_inside_a_span_of_llama_index_otel_keeps_its_children(ours: Back) -> None:
    with llama_index_otel(ours.provider):
        await evening()
    assert ours.tree() == ["evening", *below(1, *OURS)]


@pytest.mark.usefixtures("mlflow_store", "flavor")
async def test_a_run_of_the_flavor_inside_a_span_of_mlflow_keeps_its_children() -> None:
    with mlflow_llama_index():
        await evening()
        assert mlflow_tree() == ["evening", *below(1, *FLAVOR)]


async def test_a_span_of_another_provider_around_the_run_leaves_their_tree_whole(ours: Back) -> None:
    theirs = Back()
    with openinference(theirs):
        await evening()
    assert theirs.tree() == ["evening", *below(1, *THEIRS)]
