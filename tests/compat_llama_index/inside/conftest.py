"""These tests run in a venv of their own (`make .venv-llama-index/.installed`), with the real llama-index-core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import opentelemetry.trace
import pytest
from opentelemetry.util._once import Once

import workflows_otel
from tests.compat_llama_index.inside.openai_script import Script, serving
from workflows.instrumentation import llama_index


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


@pytest.fixture(scope="session")
def mlflow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is made once: its tables take seconds."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def mlflow_store(mlflow_file: Path) -> None:
    """Where MLflow keeps its traces."""
    mlflow.set_tracking_uri(f"sqlite:///{mlflow_file}")
    mlflow.set_experiment("jokes")


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has set a tracer provider, and nobody was warned; what a test sets is forgotten."""
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(llama_index, "_warned", set())
    yield
    workflows_otel.uninstrument()
