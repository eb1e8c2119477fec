"""The tutorial notebook as it is executed: trace, log, load; and the model's answer in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import nbformat
import pytest
from mlflow.artifacts import download_artifacts
from mlflow.entities import Trace
from nbclient import NotebookClient

from tests.mlflow_flavor.test_llm_clients import Chat
from tests.mlflow_flavor.trees import lines

pytestmark = pytest.mark.server

NOTEBOOK = Path(__file__).parents[2] / "examples" / "10_react_agent.ipynb"
ANSWER = "(123 + 456) * 789 = 456831"
CELL_SECONDS = 120

FRESH = """
import asyncio, sys
import mlflow, mlflow_flavor

async def run():
    return await mlflow_flavor.load_model(sys.argv[1]).run(input="What is (123 + 456) * 789?")

print(asyncio.run(run()))
print(mlflow.pyfunc.load_model(sys.argv[1]).predict({"input": "What is (123 + 456) * 789?"}))
"""


class ScriptedLlm(Chat):
    """Calls both tools, then answers; the model `mock` knows nothing."""

    failures = 0
    script: ClassVar = [
        'Action: add\nAction Input: {"x": 123, "y": 456}',
        'Action: multiply\nAction Input: {"x": 579, "y": 789}',
        f"Answer: {ANSWER}",
    ]

    def reply(self, request: dict[str, Any]) -> str:
        if request["model"] == "mock":
            return "Answer: text"
        return self.script[str(request["messages"]).count("Observation: ")]


@pytest.fixture(scope="module")
def environment(store: Path) -> Iterator[dict[str, str]]:
    """What another process needs to find our packages, the store and the scripted LLM."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedLlm)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield {
        **os.environ,
        "PYTHONPATH": ":".join(sys.path),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "OPENAI_API_KEY": "none",
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_MODEL_CATALOG_URI": "",  # MLflow would ask the internet for the prices of models
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def executed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The code cells of the notebook after a real kernel ran them."""
    directory = tmp_path_factory.mktemp("tutorial")
    shutil.copy(NOTEBOOK, directory)
    notebook = nbformat.read(directory / NOTEBOOK.name, as_version=4)
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(directory)}})
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells: list[dict[str, Any]], beginning: str) -> str:
    """What is below the cell that begins with `beginning`: its value, else what it printed."""
    (cell,) = [cell for cell in cells if cell["source"].startswith(beginning)]
    values = [o["data"]["text/plain"] for o in cell["outputs"] if o["output_type"] == "execute_result"]
    printed = [o["text"] for o in cell["outputs"] if o["output_type"] == "stream" and o["name"] == "stdout"]
    return "".join(values or printed).replace("workflow.started TASK OK\n", "")  # a run of over two seconds has it


def model_uri() -> str:
    """The model that the notebook logged."""
    experiment = mlflow.get_experiment_by_name("Workflow tutorial")
    assert experiment is not None
    (model,) = mlflow.search_logged_models(experiment_ids=[experiment.experiment_id], output_format="list")
    return model.model_uri


def test_the_answer_survives_broken_globals(executed: list[dict[str, Any]]):
    beginnings = ("mlflow_flavor.autolog()", "Settings.llm = ", "loaded = ")
    assert [shown(executed, text) for text in beginnings] == [repr(ANSWER), "'text'", repr(ANSWER)]


def test_the_stored_notebook_shows_what_running_it_shows(executed: list[dict[str, Any]]):
    stored = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    for cell in executed:
        assert shown(stored, cell["source"]) == shown(executed, cell["source"])


def test_the_model_answers_alike_in_a_fresh_process(
    executed: list[dict[str, Any]], environment: dict[str, str], tmp_path: Path
):
    command = [sys.executable, "-c", FRESH, model_uri()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ANSWER, ANSWER]


def test_the_model_needs_what_its_cells_import(executed: list[dict[str, Any]]):
    requirements = (Path(download_artifacts(model_uri())) / "requirements.txt").read_text()
    assert {"openai", "spanflow"} <= {line.partition("==")[0] for line in requirements.splitlines()}


def test_the_trace_holds_every_step_call_and_tool(executed: list[dict[str, Any]]):
    experiment = mlflow.get_experiment_by_name("Workflow tutorial")
    assert experiment is not None
    first, *_ = mlflow.search_traces(
        locations=[experiment.experiment_id], return_type="list", order_by=["timestamp_ms ASC"]
    )
    assert isinstance(first, Trace)
    turn = ["  prepare_prompt TASK OK", "  invoke_llm TASK OK", "    AsyncCompletions CHAT_MODEL OK"]
    turn.append("  handle_response TASK OK")
    assert [line for line in lines(first) if "workflow.started" not in line] == [
        "ReActAgent.run AGENT OK",
        "  new_user_message TASK OK",
        *turn,
        "  call_tool TASK OK",
        "    add TOOL OK",
        *turn,
        "  call_tool TASK OK",
        "    multiply TOOL OK",
        *turn,
    ]
    assert (first.info.request_preview, first.info.response_preview) == ("What is (123 + 456) * 789?", ANSWER)
    assert json.loads(first.info.trace_metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 15
