"""One sqlite store for all tests (making one takes seconds), a new experiment for each, and traces as plain text."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mlflow
import pytest
from mlflow.entities import Trace

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.trees import lines
from workflows.instrumentation.dispatcher import process_dispatcher

# What MLflow imports late warns about MLflow itself, and in tests warnings are errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_module("mlflow.pyfunc")
    import_module("mlflow.types.responses")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("mlflow")
    # Spans are written by whoever ends them: nothing to flush, which takes MLflow a second each time.
    environment = pytest.MonkeyPatch()
    environment.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
    yield directory
    environment.undo()


@pytest.fixture(scope="session")
def interpreter(store: Path) -> Iterator[Interpreter]:
    """Runs programs in processes of their own, which trace into the store of the tests as they would anywhere."""
    async_as_everywhere = os.environ.pop("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING")
    found = Interpreter()
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = async_as_everywhere
    yield found
    found.stop()


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a text as a module of the test's own."""
    name = f"written_{tmp_path.name}"

    def load(text: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return found

    yield load
    sys.modules.pop(name, None)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is a package to import, and forgotten after the test."""
    folder = tmp_path / f"tools_{tmp_path.name}"
    folder.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for loaded in [each for each in sys.modules if each.partition(".")[0] == folder.name]:
        del sys.modules[loaded]


@pytest.fixture
def experiment(store: Path, request: pytest.FixtureRequest) -> str:
    """A new experiment, which is the active one."""
    name = f"{request.node.nodeid}"
    artifacts = store / "artifacts" / str(abs(hash(name)))
    created = mlflow.create_experiment(name, artifact_location=artifacts.as_uri())
    mlflow.set_experiment(experiment_id=created)
    return created


@pytest.fixture
def autolog(experiment: str) -> Iterator[str]:
    """Runs are traced into a new experiment; a failing record handler fails the test."""
    process_dispatcher.set_strict(True)
    mlflow_flavor.autolog(publish_after_seconds=None)
    yield experiment
    mlflow_flavor.autolog(disable=True)
    process_dispatcher.set_strict(False)


@pytest.fixture
def traces(autolog: str) -> Callable[[], list[Trace]]:
    """The stored traces of the experiment, oldest first."""

    def stored() -> list[Trace]:
        found = mlflow.search_traces(locations=[autolog], return_type="list", order_by=["timestamp_ms ASC"])
        return [trace for trace in found if isinstance(trace, Trace)]

    return stored


@pytest.fixture
def trace(traces: Callable[[], list[Trace]]) -> Callable[[], Trace]:
    """The only stored trace of the experiment."""

    def only() -> Trace:
        (found,) = traces()
        return found

    return only


@pytest.fixture
def tree(trace: Callable[[], Trace]) -> Callable[[], list[str]]:
    """The only stored trace as indented lines, children in the order of their start: `step TASK OK`."""
    return lambda: lines(trace())
