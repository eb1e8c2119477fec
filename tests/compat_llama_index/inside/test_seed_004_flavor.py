"""The MLflow tutorial's notebook with our flavor: its marked cells are the model, which answers in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.llms.openai import OpenAI

import mlflow_flavor
from tests.compat_llama_index.inside import react_tutorial
from tests.compat_llama_index.inside.openai_script import Script
from tests.compat_llama_index.inside.test_seed_004 import LINES, QUESTION

MARK = "# [USE IN MODEL]\n"
ANSWER = "(123 + 456) * 789 = 456831"
DEFAULT_LLM = """
from llama_index.core import Settings
from llama_index.llms.openai import OpenAI

Settings.llm = OpenAI()
"""

FRESH = """
import asyncio, json, sys
import mlflow, mlflow_flavor
from llama_index.core import Settings
from llama_index.core.llms import MockLLM

Settings.llm = MockLLM(max_tokens=1)  # whatever the process has set: the model's script sets its own

async def run():
    return await mlflow_flavor.load_model(sys.argv[1]).run(**json.loads(sys.argv[2]))

print(asyncio.run(run()))
"""


@pytest.fixture(autouse=True)
def no_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow does not ask the internet for the prices of models."""
    monkeypatch.setenv("MLFLOW_MODEL_CATALOG_URI", "")


@pytest.fixture
def llm(openai: Script) -> Iterator[Script]:
    """The default LLM, which says the tutorial's lines."""
    before = Settings._llm
    Settings.llm = OpenAI()
    openai.lines = list(LINES)
    yield openai
    Settings._llm = before


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """The tutorial's notebook, whose choice of an LLM is part of the model."""
    agent = Path(react_tutorial.__file__).read_text()
    sources = [
        "import mlflow",
        MARK + DEFAULT_LLM.strip(),
        MARK + agent,
        "raise AssertionError('no part of the model')",
    ]
    sources.append(f"{MARK}agent = ReActAgent(timeout=180)")
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    path = tmp_path / "tutorial.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


async def test_autolog_draws_the_tutorials_agent(llm: Script, mlflow_store: None) -> None:
    mlflow_flavor.autolog(publish_after_seconds=None)
    try:
        handler = react_tutorial.ReActAgent(timeout=180).run(**QUESTION)
        assert await handler == ANSWER
        mlflow.flush_trace_async_logging()
        trace = mlflow.get_trace(mlflow_flavor.trace_id(handler) or "")
    finally:
        mlflow_flavor.autolog(disable=True)
    assert trace is not None
    steps = [span.name for span in sorted(trace.data.spans, key=lambda span: span.start_time_ns)]
    turn = ["prepare_llm_prompt", "invoke_llm", "handle_llm_response"]
    tool = ["handle_tool_calls"]
    assert steps == ["ReActAgent.run", "new_user_msg", *turn, *tool, *turn, *tool, *turn]
    assert (trace.info.request_preview, trace.info.response_preview) == (QUESTION["input"], ANSWER)


async def test_the_model_answers_alike_after_the_settings_were_broken(
    llm: Script, mlflow_store: None, notebook: Path, tmp_path: Path
) -> None:
    script = mlflow_flavor.script_from_notebook(notebook, tmp_path / "react_agent.py")
    name = f"tutorial {tmp_path}"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(name, artifact_location=tmp_path.as_uri()))
    with mlflow.start_run(run_name="react-agent-workflow"):
        info = mlflow_flavor.log_model(script, name="model", pip_requirements=["llama-index-core"])
    Settings.llm = MockLLM(max_tokens=1)
    assert await react_tutorial.ReActAgent(timeout=180).run(**QUESTION) == "text"
    llm.lines = list(LINES)
    assert await mlflow_flavor.load_model(info.model_uri).run(**QUESTION) == ANSWER


def test_the_model_answers_alike_in_a_fresh_process(
    llm: Script, mlflow_store: None, notebook: Path, tmp_path: Path
) -> None:
    script = mlflow_flavor.script_from_notebook(notebook, tmp_path / "react_agent.py")
    mlflow_flavor.save_model(script, tmp_path / "model", pip_requirements=["llama-index-core"])
    command = [sys.executable, "-c", FRESH, str(tmp_path / "model"), json.dumps(QUESTION)]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ANSWER
