"""The MLflow tutorial, from its notebook to the model that is loaded again, with MLflow's own llama-index flavor."""

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.llms.openai import OpenAI
from mlflow.entities import Span, Trace

from tests.compat_llama_index.inside import react_tutorial
from tests.compat_llama_index.inside.openai_script import Script

QUESTION = {"input": "What is (123 + 456) * 789?"}
LINES = [
    'Thought: I must add first.\nAction: add\nAction Input: {"x": 123, "y": 456}',
    'Thought: Now multiply.\nAction: multiply\nAction Input: {"x": 579, "y": 789}',
    "Thought: I can answer without using any more tools.\nAnswer: (123 + 456) * 789 = 456831",
]


def generate_model_script(output_path, notebook_path="llama_index_workflow_tutorial.ipynb"):
    """
    A utility function to generate a ready-to-log .py script that
    contains necessary library imports and model definitions.
    """
    import nbformat

    with open(notebook_path, encoding="utf-8") as f:
        notebook = nbformat.read(f, as_version=4)

    # Filter cells that are code cells and contain the specified marker
    merged_code = (
        "\n\n".join(
            [
                cell.source
                for cell in notebook.cells
                if cell.cell_type == "code" and cell.source.startswith("# [USE IN MODEL]")
            ]
        )
        + "\n\nimport mlflow\n\nmlflow.models.set_model(agent)"
    )

    # Write to the output .py file
    with open(output_path, "w", encoding="utf-8") as f:
        f.write(merged_code)

    print(f"Model code saved to {output_path}")


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tutorial's notebook, in the working directory."""
    monkeypatch.chdir(tmp_path)
    define = "# [USE IN MODEL]\n" + Path(react_tutorial.__file__).read_text()
    sources = ["import mlflow", define, "raise AssertionError('no part of the model')"]
    sources.append("# [USE IN MODEL]\nagent = ReActAgent(timeout=180)")
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**cell, "id": str(n), "source": source} for n, source in enumerate(sources)]
    path = tmp_path / "llama_index_workflow_tutorial.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture(autouse=True)
def no_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow does not ask the internet for the prices of models."""
    monkeypatch.setenv("MLFLOW_MODEL_CATALOG_URI", "")


@pytest.fixture
def experiment(mlflow_store: None, tmp_path: Path) -> Iterator[None]:
    """The tutorial's experiment, whose models are kept in the test's own folder."""
    name = "MLflow LlamaIndex Workflow Tutorial"
    mlflow.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment(name)
    yield
    gc.collect()  # MLflow tries a model on an event loop that it does not close: warn of it here, not of the session


@pytest.fixture
def llm(openai: Script) -> Iterator[Script]:
    """The default LLM, which says the tutorial's lines."""
    before = Settings._llm
    Settings.llm = OpenAI()
    openai.lines = list(LINES)
    yield openai
    Settings._llm = before


def test_the_agent_is_drawn_for_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython.display import HTML
    from llama_index.utils.workflow import draw_all_possible_flows

    monkeypatch.chdir(tmp_path)
    draw_all_possible_flows(react_tutorial.ReActAgent, filename="workflow.html")
    with open("workflow.html") as file:
        html_content = file.read()
    assert "handle_tool_calls" in HTML(html_content).data


async def test_the_trace_shows_what_the_tutorial_looks_for(llm: Script, mlflow_store: None) -> None:
    mlflow.llama_index.autolog()
    try:
        agent = react_tutorial.ReActAgent(timeout=180)
        assert await agent.run(**QUESTION) == "(123 + 456) * 789 = 456831"
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id() or "", flush=True)
    finally:
        mlflow.llama_index.autolog(disable=True)
    assert trace is not None
    add = next(s for s in trace.data.spans if s.name == "FunctionTool.call" and "123" in str(s.inputs))
    assert add.inputs["kwargs"] == {"x": 123, "y": 456}
    assert "ReActAgent.handle_tool_calls" in _names_above(trace, add)
    first_call = next(s for s in trace.data.spans if s.span_type == "CHAT_MODEL")
    assert first_call.attributes["mlflow.chat.tokenUsage"]["total_tokens"] == 2


def _names_above(trace: Trace, span: Span) -> list[str]:
    spans = {s.span_id: s for s in trace.data.spans}
    names: list[str] = []
    while span.parent_id is not None:
        span = spans[span.parent_id]
        names.append(span.name)
    return names


def test_a_logged_agent_answers_again_when_it_is_loaded(llm: Script, experiment: None, notebook: Path) -> None:
    generate_model_script(output_path="react_agent.py")
    with mlflow.start_run(run_name="react-agent-workflow"):
        model_info = mlflow.llama_index.log_model(
            "react_agent.py",
            name="model",
            # Logging with an input example help MLflow to record dependency and signature information accurately.
            input_example=QUESTION,
            pip_requirements=["llama-index-core"],  # this venv has no distribution "llama-index" to pin
        )

    Settings.llm = MockLLM(max_tokens=1)
    agent = react_tutorial.ReActAgent(timeout=180)
    assert asyncio.run(_ask(agent)) == "text"

    llm.lines = list(LINES)
    loaded_model = mlflow.llama_index.load_model(model_info.model_uri)
    assert asyncio.run(_ask(loaded_model)) == "(123 + 456) * 789 = 456831"


async def _ask(agent: react_tutorial.ReActAgent) -> object:
    return await agent.run(**QUESTION)
