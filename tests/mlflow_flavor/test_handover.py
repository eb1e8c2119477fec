"""Finished traces on their way to the store, with MLflow's own queue and workers: whole, soon, and never twice."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Trace

from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.trees import lines
from tests.mlflow_flavor.versions import from_3_15

RUNS = 25
TREE = ["Answer.run WORKFLOW OK", "  plan TASK OK", "  answer TASK OK"]

PROGRAM = """
import asyncio, logging, os, sys
import mlflow, mlflow_flavor, sqlalchemy
from mlflow_flavor.autolog import handler
from tests.mlflow_flavor.agents import Answer

mlflow_flavor.autolog(publish_after_seconds=None)

async def answer(runs):
    workflow = Answer(timeout=None)
    for handler in [workflow.run(question=f"question {number}") for number in range(runs)]:
        await handler
{body}
mlflow.flush_trace_async_logging()
"""


def run_program(interpreter: Interpreter, body: str, experiment: str, directory: Path) -> str:
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": experiment}
    done = interpreter.run(PROGRAM.replace("{body}", body), directory, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(experiment: str) -> list[Trace]:
    found = mlflow.search_traces(locations=[experiment], return_type="list", max_results=1000)
    return [trace for trace in found if isinstance(trace, Trace)]


@pytest.mark.server
def test_runs_at_once_are_stored_whole(interpreter: Interpreter, tmp_path: Path, experiment: str):
    run_program(interpreter, f"asyncio.run(answer({RUNS}))", experiment, tmp_path)
    found = stored(experiment)
    assert [lines(trace) for trace in found] == [TREE] * RUNS
    assert {trace.info.request_preview for trace in found} == {f"question {number}" for number in range(RUNS)}
    assert {(trace.info.tags["workflow"], trace.info.tags["outcome"]) for trace in found} == {("Answer", "completed")}


COUNT = """
asyncio.run(answer(2))
mlflow.flush_trace_async_logging()
statements = []
sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", lambda *found: statements.append(found[2]))
asyncio.run(answer(10))
mlflow.flush_trace_async_logging()
print(len([text for text in statements if not text.startswith("PRAGMA")]) // 10)
"""


@from_3_15
@pytest.mark.server
def test_a_trace_takes_few_sql_statements(interpreter: Interpreter, tmp_path: Path, experiment: str):
    assert int(run_program(interpreter, COUNT, experiment, tmp_path)) <= 15  # in MLflow's own order it is over 50


FAIL = """
asyncio.run(answer(1))
mlflow.flush_trace_async_logging()
# The store takes no spans any more; what makes it so is as real as a full disk.
engine = mlflow.tracking._tracking_service.utils._get_store().engine
with engine.begin() as connection:
    connection.execute(sqlalchemy.text(
        "CREATE TRIGGER no_spans BEFORE INSERT ON spans BEGIN SELECT RAISE(ABORT, 'no spans today'); END"
    ))
try:
    asyncio.run(answer(3))
    mlflow.flush_trace_async_logging()
finally:
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TRIGGER no_spans"))
"""


@pytest.mark.server
def test_spans_that_the_store_refuses_are_kept_with_the_artifacts(
    interpreter: Interpreter, tmp_path: Path, experiment: str
):
    run_program(interpreter, FAIL, experiment, tmp_path)
    assert [lines(trace) for trace in stored(experiment)] == [TREE] * 4


NO_PREVIEW = """
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Chat(Workflow):
    @step
    async def chat(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result={"messages": [{"role": "assistant", "content": [{"type": "text", "text": ev.text}]}]})

async def chat(text):
    await Chat().run(text=text)

asyncio.run(answer(1))
asyncio.run(chat(5))  # MLflow reads the length of that
asyncio.run(chat({"value": "hi"}))  # as OpenAI's assistants say it
asyncio.run(answer(1))
"""


@pytest.mark.server
def test_a_chat_that_mlflow_cannot_preview_is_stored_with_its_json(
    interpreter: Interpreter, tmp_path: Path, experiment: str
):
    run_program(interpreter, NO_PREVIEW, experiment, tmp_path)
    shown = {str(trace.info.response_preview) for trace in stored(experiment)}
    assert shown == {
        "QUESTION 0!",
        '{"messages":[{"role":"assistant","content":[{"type":"text","text":5}]}]}',
        '{"messages":[{"role":"assistant","content":[{"type":"text","text":{"value":"hi"}}]}]}',
    }
    assert len(stored(experiment)) == 4


BROKEN = """
from mlflow.tracing.trace_manager import _Trace

whole = _Trace.to_mlflow_trace

def of_the_second(held):
    if held.info.request_preview == "question 1":
        raise IndexError("of MLflow's own")
    return whole(held)

asyncio.run(answer(1))
mlflow.flush_trace_async_logging()
_Trace.to_mlflow_trace = of_the_second
asyncio.run(answer(3))
"""


@pytest.mark.server
def test_a_trace_that_mlflow_cannot_convert_takes_no_other_with_it(
    interpreter: Interpreter, tmp_path: Path, experiment: str
):
    run_program(interpreter, BROKEN, experiment, tmp_path)
    shown = sorted(str(trace.info.request_preview) for trace in stored(experiment))
    assert shown == ["question 0", "question 0", "question 2"]
    assert "MLflow cannot convert a trace of a workflow run, which is lost" in (tmp_path / "stderr.txt").read_text()


OPEN = """
async def run():
    await answer(2)
    with mlflow.start_span("mine"):
        await answer(1)
asyncio.run(run())
"""


@pytest.mark.server
def test_a_run_inside_the_users_own_span_is_stored_with_it(interpreter: Interpreter, tmp_path: Path, experiment: str):
    run_program(interpreter, OPEN, experiment, tmp_path)
    mine, *others = sorted(stored(experiment), key=lambda trace: len(trace.data.spans), reverse=True)
    assert lines(mine) == ["mine UNKNOWN OK", *(f"  {line}" for line in TREE)]
    assert [lines(trace) for trace in others] == [TREE] * 2


FLUSH = """
import threading
from mlflow_flavor._compat import TraceExporter

asyncio.run(answer(2))
mlflow.flush_trace_async_logging()
late, gate = [], threading.Event()

def hold(*found):  # the store answers when the gate opens
    if threading.current_thread() is not threading.main_thread() and not gate.wait(10):
        late.append(True)

sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", hold)
asyncio.run(answer(1))
flushing = threading.Thread(target=mlflow.flush_trace_async_logging)
flushing.start()
TraceExporter.current()._exporter._async_queue._stop_event.wait(30)
asyncio.run(answer(1))
gate.set()
flushing.join()
print(bool(late))
"""


@pytest.mark.server
def test_a_run_that_ends_while_the_queue_is_flushed_waits_for_no_store(
    interpreter: Interpreter, tmp_path: Path, experiment: str
):
    assert run_program(interpreter, FLUSH, experiment, tmp_path).strip() == "False"
    assert [lines(trace) for trace in stored(experiment)] == [TREE] * 4
