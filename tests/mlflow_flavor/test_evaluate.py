"""`mlflow.genai.evaluate`: judgements land on the traces of the runs that were judged."""

from __future__ import annotations

import asyncio
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
from tests.mlflow_flavor.fresh import Interpreter
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

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


SLOW = """
import asyncio, mlflow, mlflow_flavor
from mlflow import genai
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Slow(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.1)
        return StopEvent(result="WHY!")

@genai.scorer
def right(outputs):
    return outputs == "WHY!"

mlflow_flavor.autolog(publish_after_seconds=0.01)
rows = [{"inputs": {"question": "why"}}, {"inputs": {"question": "how"}}]
judged = genai.evaluate(data=rows, predict_fn=mlflow_flavor.predict_fn(Slow()), scorers=[right])
print(len(judged.result_df), "rows")
"""


@pytest.mark.server
def test_runs_that_are_shown_before_they_are_over_are_judged(
    interpreter: Interpreter, tmp_path: Path, experiment: str, traces: Callable[[], list[Trace]]
):
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    done = interpreter.run(SLOW, tmp_path, environment=environment)
    assert "2 rows" in done.stdout, done.stderr
    found = traces()
    assert [sorted(span.name for span in trace.data.spans) for trace in found] == [
        ["Slow.run", "work", "workflow.started"]
    ] * 2
    assert [a.value for trace in found for a in trace.info.assessments if a.name == "right"] == [True, True]  # pyright: ignore[reportAttributeAccessIssue]


asking = pytest.mark.parametrize("workflow", [Approve(timeout=None), Inquire(timeout=None)], ids=["run", "step"])


@asking
def test_a_run_that_only_waits_for_a_person_fails_with_its_question(workflow: Workflow):
    with pytest.raises(UnansweredError) as caught:
        mlflow_flavor.predict_fn(workflow)(question="deploy")
    assert [dict(question) for question in caught.value.questions] == [{"prefix": "deploy?"}]
    assert 'for 1 s nobody answers: InputRequiredEvent {"prefix": "deploy?"}. Pass a function' in str(caught.value)


class Done(Event):
    by: str


class Approved(HumanResponseEvent):
    by: str


class Question(InputRequiredEvent):
    pass


class Stage(Event):
    pass


class Job(Workflow):
    """Waits for an event of its own, which a webhook sends when the run has done nothing for a while."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asyncio.get_running_loop().call_later(0.1, ctx.send_event, Done(by="webhook"))
        return StopEvent(result=(await ctx.wait_for_event(Done, waiter_event=Stage())).by)


class Default(Workflow):
    """Goes on by itself where nobody answers in time."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Approved, waiter_event=Question(), timeout=0.1)
        except TimeoutError:
            return StopEvent(result="default")
        return StopEvent()


class Bot(Workflow):
    """Answers for the person."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asyncio.get_running_loop().call_later(0.1, ctx.send_event, Approved(by="bot"))
        return StopEvent(result=(await ctx.wait_for_event(Approved, waiter_event=Question())).by)


class JobBesides(Workflow):
    """Asks a person who is not needed, and waits for a job, which ends the run."""

    @step
    async def ask(self, ev: StartEvent) -> Question:
        return Question()

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asyncio.get_running_loop().call_later(0.1, ctx.send_event, Done(by="job"))
        return StopEvent(result=(await ctx.wait_for_event(Done)).by)

    @step
    async def decide(self, ev: Approved) -> None:
        pass


@pytest.mark.parametrize(
    ("workflow", "result"), [(Job(), "webhook"), (Default(), "default"), (Bot(), "bot"), (JobBesides(), "job")]
)
def test_a_run_that_needs_no_person_goes_on_to_its_end(workflow: Workflow, result: str):
    assert mlflow_flavor.predict_fn(workflow)() == result


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
