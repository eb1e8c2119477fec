"""The MLflow tutorial's agent runs as it is printed."""

from collections.abc import Iterator

import pytest
from llama_index.core import Settings
from llama_index.llms.openai import OpenAI

from tests.compat_llama_index.inside.openai_script import Script

LINES = [
    'Thought: I must add first.\nAction: add\nAction Input: {"x": 123, "y": 456}',
    'Thought: Now multiply.\nAction: multiply\nAction Input: {"x": 579, "y": 789}',
    "Thought: I can answer without using any more tools.\nAnswer: The result is 456831.",
]


@pytest.fixture
def script(openai: Script) -> Iterator[Script]:
    """The lines of the tutorial's question; the default LLM talks to it."""
    before = Settings._llm
    Settings.llm = OpenAI()
    openai.lines = list(LINES)
    yield openai
    Settings._llm = before


async def test_the_agent_uses_its_tools_and_answers(script: Script) -> None:
    from tests.compat_llama_index.inside.react_tutorial import ReActAgent

    agent = ReActAgent(timeout=180)
    assert await agent.run(input="What is (123 + 456) * 789?") == "The result is 456831."
    assert "Observation: 456831" in script.asked[-1][-1]["content"]


async def test_the_agent_remembers_its_user(script: Script) -> None:
    from tests.compat_llama_index.inside.react_tutorial import ReActAgent

    script.lines += ["Thought: I can answer.\nAnswer: As before."]
    agent = ReActAgent(timeout=180)
    await agent.run(input="What is (123 + 456) * 789?")
    assert await agent.run(input="And again?") == "As before."
    assert [m["content"] for m in script.asked[-1] if m["role"] == "user"][-2:] == [
        "What is (123 + 456) * 789?",
        "And again?",
    ]
