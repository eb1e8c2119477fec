"""`mlflow.genai.evaluate`: judgements land on the traces of the runs that were judged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Trace

import mlflow_flavor
from mlflow_flavor import UnansweredError
from tests.mlflow_flavor.agents import Answer, Approve, Inquire
from workflows import Workflow
from workflows.events import HumanResponseEvent, InputRequiredEvent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MLflow imports late warns about MLflow itself
    from mlflow import genai
    from mlflow.genai import scorer

ROWS = [
    {"inputs": {"question": "why"}, "expectations": {"answer": "WHY!"}},
    {"inputs": {"question": "how"}, "expectations": {"answer": "WHAT!"}},
]


@scorer
def right(outputs: Any, expectations: dict[str, Any]) -> bool:
    return outputs == expectations["answer"]


def _pyfunc(directory: Path) -> Callable[..., Any]:
    script = directory / "agent.py"
    script.write_text("from mlflow_flavor import set_model\nfrom tests.mlflow_flavor.agents import Answer\n")
    script.write_text(script.read_text() + "set_model(Answer())\n")
    info = mlflow_flavor.log_model(script, name="answer", pip_requirements=["mlflow"])
    model = mlflow.pyfunc.load_model(info.model_uri)
    return lambda question: model.predict({"question": question})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's evaluation warns about MLflow itself
@pytest.mark.parametrize("kind", ["predict_fn", "pyfunc"])
def test_judgements_are_on_the_traces_of_their_runs(kind: str, traces: Callable[[], list[Trace]], tmp_path: Path):
    answer = mlflow_flavor.predict_fn(Answer()) if kind == "predict_fn" else _pyfunc(tmp_path)
    genai.evaluate(data=ROWS, predict_fn=answer, scorers=[right])
    found = {trace.info.request_preview: trace for trace in traces()}
    judged = {
        str(question): [(a.name, a.value) for a in trace.info.assessments if a.name == "right"]  # pyright: ignore[reportAttributeAccessIssue]
        for question, trace in found.items()
    }
    assert len(found) == 2
    assert sorted(judged.values()) == [[("right", False)], [("right", True)]]
    (right_one,) = [question for question, values in judged.items() if values == [("right", True)]]
    assert "why" in right_one
    assert all("plan" in [span.name for span in trace.data.spans] for trace in found.values())


asking = pytest.mark.parametrize("workflow", [Approve(timeout=None), Inquire(timeout=None)], ids=["run", "step"])


@asking
def test_a_run_that_asks_a_person_fails_at_once_with_its_question(workflow: Workflow):
    with pytest.raises(UnansweredError) as caught:
        mlflow_flavor.predict_fn(workflow)(question="deploy")
    assert [dict(question) for question in caught.value.questions] == [{"prefix": "deploy?"}]
    assert 'nobody answers: InputRequiredEvent {"prefix": "deploy?"}. Pass a function of your own' in str(caught.value)


def test_the_run_of_a_question_that_nobody_answers_is_cancelled(traces: Callable[[], list[Trace]]):
    with pytest.raises(UnansweredError):
        mlflow_flavor.predict_fn(Approve(timeout=None))(question="deploy")
    (trace,) = traces()
    assert trace.info.tags["outcome"] == "cancelled"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's evaluation warns about MLflow itself
@asking
def test_a_function_that_answers_is_judged_on_the_trace_of_its_run(
    workflow: Workflow, traces: Callable[[], list[Trace]]
):
    async def answered(question: str) -> str:
        handler = workflow.run(question=question)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response=f"{event['prefix']} yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
        return await handler

    rows = [{"inputs": {"question": "why"}, "expectations": {"answer": "why? yes"}}]
    found = genai.evaluate(data=rows, predict_fn=answered, scorers=[right])
    assert found.metrics == {"right/mean": 1.0}
    assert [[a.name for a in trace.info.assessments if a.name == "right"] for trace in traces()] == [["right"]]
