"""These tests run in a venv of their own (`make .venv-llama-index/.installed`), with the real llama-index-core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat_llama_index.inside.openai_script import Script, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))  # other people's packages warn


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """What `OpenAI()` talks to."""
    with serving() as script:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_API_BASE", script.url)
        monkeypatch.setenv("OPENAI_BASE_URL", script.url)
        yield script
