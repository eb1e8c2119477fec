"""A loaded model behind `mlflow.pyfunc`: rows in, values out, streams, on one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo

import mlflow_flavor
from mlflow_flavor import WorkflowPyfunc
from tests.mlflow_flavor.agents import Answer, Flaky, Hang, Streaming
from tests.mlflow_flavor.trees import lines
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class Add(StartEvent):
    a: int
    b: int = 10


class Total(StopEvent):
    total: int


class Adder(Workflow):
    @step
    async def add(self, ev: Add) -> Total:
        return Total(total=ev.a + ev.b)


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ({"question": "x"}, "X!"),
        ([{"question": "x"}], "X!"),
        ("x", "X!"),
        ([{"question": "x"}, {"question": "y"}], ["X!", "Y!"]),
        (pd.DataFrame({"question": ["x", "y"]}), ["X!", "Y!"]),
    ],
    ids=["dict", "list of one", "bare value", "rows", "frame"],
)
def test_one_row_gives_one_value_and_rows_a_list(data: object, result: object):
    assert WorkflowPyfunc(Answer()).predict(data) == result


def test_a_start_event_is_a_row():
    assert WorkflowPyfunc(Adder()).predict([Add(a=1), Add(a=1, b=2)]) == [{"total": 11}, {"total": 3}]


def test_the_shape_of_the_result_does_not_depend_on_the_number_of_fields():
    model = WorkflowPyfunc(Adder())
    assert (model.predict({"a": 1}), model.predict({"a": 1, "b": 2})) == ({"total": 11}, {"total": 3})


def test_a_frame_leaves_out_what_is_missing():
    assert WorkflowPyfunc(Adder()).predict(pd.DataFrame({"a": [1, 2], "b": [5, None]})) == [{"total": 6}, {"total": 12}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"a": 1}, {"a": 1, "foo": 2}], r"row 2: unknown field 'foo' for StartEvent 'Add' \(fields: a, b\)\."),
        ({"b": 1}, "row 1: StartEvent 'Add': a: Field required"),
        ("x", "row 1: got str, but StartEvent 'Add' needs a dict with the fields a, b"),
    ],
)
def test_a_row_that_does_not_fit_is_named(data: object, message: str):
    with pytest.raises(MlflowException, match=message):
        WorkflowPyfunc(Adder()).predict(data)


def test_rows_run_at_the_same_time_and_never_more_than_sixteen():
    crowd = Crowd()
    assert WorkflowPyfunc(crowd).predict([{"number": number} for number in range(32)]) == list(range(32))
    assert crowd.most == 16


class Crowd(Workflow):
    """Each run waits until fifteen others do, and then lets whoever else could start do so."""

    def __init__(self) -> None:
        super().__init__()
        self._together = asyncio.Barrier(16)
        self._inside = 0
        self.most = 0

    @step
    async def come_in(self, ev: StartEvent) -> StopEvent:
        self._inside += 1
        self.most = max(self.most, self._inside)
        await self._together.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        self._inside -= 1
        return StopEvent(result=ev.number)


def test_a_failing_run_raises_what_its_step_raised():
    with pytest.raises(ConnectionError, match="no route"):
        WorkflowPyfunc(NoRoute()).predict([{}, {}])


class NoRoute(Workflow):
    @step
    async def fetch(self, ev: StartEvent) -> StopEvent:
        raise ConnectionError("no route")


@dataclass(frozen=True)
class Frozen(Exception):
    """Takes no notes."""

    code: int = 500


class FailsFrozen(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise Frozen


def test_one_of_several_rows_raises_what_its_step_raised_also_where_that_takes_no_notes():
    with pytest.raises(Frozen):
        WorkflowPyfunc(FailsFrozen()).predict([{"n": 1}, {"n": 2}])


def test_a_hundred_predictions_leave_no_thread_and_no_file_behind():
    model = WorkflowPyfunc(Answer())
    model.predict("x")
    before = (threading.active_count(), _open_files())
    for _ in range(100):
        model.predict("x")
    assert (threading.active_count(), _open_files()) == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_predict_works_below_a_running_event_loop():
    assert WorkflowPyfunc(Answer()).predict("x") == "X!"


async def test_apredict_does_not_block_the_callers_loop():
    assert await WorkflowPyfunc(Answer()).apredict("x") == "X!"


def test_a_prediction_nests_below_the_span_of_its_caller(traces: Callable[[], list[Trace]]):
    with mlflow.start_span("request"):
        WorkflowPyfunc(Answer()).predict("x")
    assert [lines(t)[:2] for t in traces()] == [["request UNKNOWN OK", "  Answer.run WORKFLOW OK"]]


async def test_a_prediction_below_a_running_event_loop_is_in_the_callers_trace(traces: Callable[[], list[Trace]]):
    with mlflow.start_span("request"):
        WorkflowPyfunc(Answer()).predict("x")
        await WorkflowPyfunc(Answer()).apredict("x")
    run = ["  Answer.run WORKFLOW OK", "    plan TASK OK", "    answer TASK OK"]
    assert [lines(t) for t in traces()] == [["request UNKNOWN OK", *run, *run]]


def test_session_and_user_are_parameters(trace: Callable[[], Trace]):
    WorkflowPyfunc(Answer()).predict("x", params={"session_id": "s", "user": "u"})
    metadata = trace().info.trace_metadata
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("s", "u")


def test_a_stream_gives_every_event_and_ends_with_the_result():
    assert list(WorkflowPyfunc(Streaming(steps=2)).predict_stream("x")) == [
        {"type": "Progress", "data": {"percent": 0}},
        {"type": "Progress", "data": {"percent": 1}},
        {"type": "StopEvent", "data": {"result": "done"}},
    ]


def test_closing_a_stream_cancels_its_run(trace: Callable[[], Trace]):
    stream = WorkflowPyfunc(Hang()).predict_stream("x")
    assert next(stream) == {"type": "Progress", "data": {"percent": 0}}
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]  # it is a generator
    assert trace().info.tags["outcome"] == "cancelled"


async def test_a_stream_can_be_read_asynchronously():
    chunks = [chunk["type"] async for chunk in WorkflowPyfunc(Streaming(steps=1)).apredict_stream("x")]
    assert chunks == ["Progress", "StopEvent"]


class Typed(StopEvent):
    text: str


class GivesTyped(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> Typed:
        return Typed(text=ev.question)


def test_predict_fn_gives_the_fields_of_a_stop_event_of_the_users_own():
    assert mlflow_flavor.predict_fn(GivesTyped())(question="x") == {"text": "x"}


def test_predict_fn_runs_a_workflow_with_plain_keywords():
    assert mlflow_flavor.predict_fn(Answer())(question="x") == "X!"


@pytest.fixture
def two_models(autolog: str, tmp_path: Path) -> list[ModelInfo]:
    script = tmp_path / "agent.py"
    script.write_text(
        "import mlflow\nfrom tests.mlflow_flavor.agents import Answer\nmlflow.models.set_model(Answer())\n"
    )
    return [mlflow_flavor.log_model(script, name=name, pip_requirements=["mlflow"]) for name in ("a", "b")]


def test_traces_name_the_model_that_ran_however_many_are_loaded(
    two_models: list[ModelInfo], traces: Callable[[], list[Trace]]
):
    first, second = (mlflow.pyfunc.load_model(info.model_uri) for info in two_models)
    for model in (first, second, first):
        model.predict({"question": "x"})
    ids = [info.model_id for info in two_models]
    assert [t.info.trace_metadata["mlflow.modelId"] for t in traces()] == [ids[0], ids[1], ids[0]]


async def test_traces_name_the_model_that_ran_also_of_runs_at_the_same_time(
    two_models: list[ModelInfo], traces: Callable[[], list[Trace]]
):
    first, second = (mlflow_flavor.load_model(info.model_uri) for info in two_models)
    runs = [model.run(question=str(n)) for n, model in enumerate((first, second, first, second))]
    for run in runs:
        await run
    ids = [info.model_id for info in two_models] * 2
    found = {t.info.request_preview: t.info.trace_metadata["mlflow.modelId"] for t in traces()}
    assert found == {str(n): model_id for n, model_id in enumerate(ids)}


def test_retries_need_no_loop_of_the_caller():
    assert WorkflowPyfunc(Flaky(failures=0)).predict("x") == "fetched"
