"""MLflow's own switches: tracing off, sampling, redaction; and what must not switch it off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import tracing
from mlflow.entities import Span, Trace

import mlflow_flavor
from tests.mlflow_flavor import gate
from tests.mlflow_flavor.agents import Answer
from tests.mlflow_flavor.trees import lines

Stored = Callable[[], list[Trace]]


@pytest.fixture
def tracing_as_before() -> Iterator[None]:
    """MLflow's tracing as it was, whatever the test does to it."""
    yield
    tracing.configure(span_processors=[])
    tracing.reset()


@pytest.mark.usefixtures("tracing_as_before")
async def test_nothing_is_stored_while_mlflows_tracing_is_disabled(traces: Stored):
    tracing.disable()
    assert await Answer().run(question="why") == "WHY!"
    tracing.enable()
    assert traces() == []
    await Answer().run(question="why")
    assert len(traces()) == 1


@pytest.mark.usefixtures("tracing_as_before")
async def test_a_run_that_is_not_sampled_is_not_stored(traces: Stored, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACE_SAMPLING_RATIO", "0")
    tracing.reset()
    handler = Answer().run(question="why")
    assert await handler == "WHY!"
    assert (traces(), mlflow_flavor.trace_id(handler)) == ([], None)


@pytest.mark.usefixtures("tracing_as_before")
async def test_mlflows_span_processors_see_every_span(trace: Callable[[], Trace]):
    def hide(span: Span) -> None:
        if "why" in str(span.inputs):
            span.set_inputs("hidden")  # pyright: ignore[reportAttributeAccessIssue]  # it is a live one

    tracing.configure(span_processors=[hide])
    await Answer().run(question="why")
    assert {span.name: span.inputs for span in trace().data.spans} == {
        "Answer.run": "hidden",
        "plan": "hidden",
        "answer": {"Plan": {"text": "WHY"}},
    }


async def test_loading_a_model_in_a_thread_drops_no_span_of_a_run(trace: Callable[[], Trace], tmp_path: Path):
    script = "from tests.mlflow_flavor import gate\nfrom tests.mlflow_flavor.agents import Answer\n"
    (tmp_path / "agent.py").write_text(f"{script}import mlflow\ngate.wait()\nmlflow.models.set_model(Answer())\n")
    gate.leave.set()
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    gate.leave.clear()
    gate.entered.clear()
    loading = asyncio.create_task(asyncio.to_thread(mlflow_flavor.load_model, str(tmp_path / "model")))
    await asyncio.to_thread(gate.entered.wait, 30)
    try:
        await Answer().run(question="why")
    finally:
        gate.leave.set()
    await loading
    assert lines(trace()) == ["Answer.run WORKFLOW OK", "  plan TASK OK", "  answer TASK OK"]
