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
import pytest
from mlflow.artifacts import download_artifacts
from mlflow.entities import Trace

from tests.mlflow_flavor.test_llm_clients import Chat
from tests.mlflow_flavor.trees import lines

pytestmark = pytest.mark.server

NOTEBOOK = Path(__file__).parent / "tutorial" / "react_agent.ipynb"
ANSWER = "(123 + 456) * 789 = 456831"

# Runs the code cells one by one, with `await` at the top level, as a notebook does.
KERNEL = """
import ast, asyncio, json

async def run():
    space = {"__name__": "__main__"}
    for cell in json.load(open("react_agent.ipynb"))["cells"]:
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if (waiting := eval(code, space)) is not None:
                await waiting
    for name in ("answer", "broken", "again"):
        print(name, space[name], sep=": ")
    print("uri", space["info"].model_uri, sep=": ")

asyncio.run(run())
"""

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


@pytest.fixture
def llm_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedLlm)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def _run(program: str, *arguments: str, directory: Path, llm_url: str) -> str:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OPENAI_BASE_URL": llm_url}
    environment |= {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false"}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_notebooks_model_answers_alike_in_a_fresh_process(store: Path, tmp_path: Path, llm_url: str):
    shutil.copy(NOTEBOOK, tmp_path)
    printed = _run(KERNEL, directory=tmp_path, llm_url=llm_url)
    said = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    assert (said["answer"], said["broken"], said["again"]) == (ANSWER, "text", ANSWER)

    assert _run(FRESH, said["uri"], directory=tmp_path, llm_url=llm_url).splitlines() == [ANSWER, ANSWER]

    requirements = (Path(download_artifacts(said["uri"])) / "requirements.txt").read_text()
    assert {"openai", "spanflow"} <= {line.partition("==")[0] for line in requirements.splitlines()}

    experiment = mlflow.get_experiment_by_name("Workflow tutorial")
    assert experiment is not None
    first, *_ = mlflow.search_traces(
        locations=[experiment.experiment_id], return_type="list", order_by=["timestamp_ms ASC"]
    )
    assert isinstance(first, Trace)
    turn = ["  prepare_prompt TASK OK", "  invoke_llm TASK OK", "    AsyncCompletions CHAT_MODEL OK"]
    turn.append("  handle_response TASK OK")
    assert lines(first) == [
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
