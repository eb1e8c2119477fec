"""The house keeps its shape: imports point down the layers, no cycles, and the few bans that a machine can see."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
PACKAGES = ("workflows", "workflows_otel", "mlflow_flavor")
LONGEST_FILE = 500

# A module imports from rows above its own, or from modules before it in its own row; a blank line ends a row.
LAYERS = """
_submodules _slotted _dict_like events errors _option_checks

instrumentation.scope instrumentation.records instrumentation.history instrumentation.attributes
instrumentation.redaction instrumentation.marks instrumentation.encoder instrumentation.content
instrumentation.backlog
instrumentation.dispatcher
instrumentation.recorder instrumentation.log_handler instrumentation.watchdog instrumentation.llama_index_events
instrumentation.llama_index_handlers instrumentation.llama_index_notes instrumentation.llama_index_spans
instrumentation.llama_index

types _retry_callables _retry_words retry_policy collect context.generic_names context.json_values
context.field_checks context.class_names context.model_forms context.model_writer context.serializers
context.state_paths context.state_draft context.state_serde context.state_patch context.state_merge
context.writer_turns context.stored_state context.state_store context.state_store_integration _resource_needs
_kept_contexts _resource_store resource _signature _spec context.own_types _run_resources _step_functions decorators
service utils context.utils runtime.types.step_function runtime.types.results runtime.types.ticks
context.external_context

_engine.ticks _engine.calls _engine.open_waits _engine.wait_names _engine.asleep _engine.questions _engine.state
_engine.effects _engine.routing _engine.fan_in _engine.fan_out _engine.resumed_waits _engine.asking _engine.waits
_engine.retries _engine.idle _engine.going_on _engine.snapshot _engine.reduce

_engine.clock _engine.gate _engine.mailbox _engine.timers _engine.deadlines _engine.turnstile _engine.starts
_engine.crowd _engine.awaited_runs _engine.stream _engine.live _engine.child_waits _engine.wait_ids
_engine.only_waiting _engine.wait_ends _engine.together _engine.replay_order _engine.watched_attempt _engine.attempt
_engine.internal_events _engine.senders _engine.idle_watch _engine.telling _engine.pieces _engine.closing
_engine.attempt_telling _engine.attempt_ticks _engine.returned _engine.step_attempt _engine.stepper
_engine.held_workers _engine.loop
runtime.runtime plugins.journal plugins.runs_of_loop plugins.basic runtime.types.plugin

representation.levels context.context_types context.version_two context.snapshots context.context handler _checkpoints
representation.validation representation.graph representation.schema representation.compiling
representation.children representation.resources representation.build _definition _run_start workflow checkpointer

testing.virtual_clock testing.record_log testing.runner drawing.picture drawing.colors drawing.mermaid
drawing.layout drawing.html drawing.draw
"""
RANKS = {
    f"workflows.{name}": (row, column)
    for row, names in enumerate(LAYERS.strip().split("\n\n"))
    for column, name in enumerate(names.split())
}
EDGES = ("workflows_otel", "mlflow_flavor")


def _module(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(p for package in PACKAGES for p in (SRC / package).rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
MODULES = {_module(path): path for path in FILES}
by_file = pytest.mark.parametrize("path", FILES, ids=_module)


def _imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever in it, TYPE_CHECKING and functions included."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_module(path)} has a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module or "" for name in inner]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in PACKAGES)


def _is_package_front(path: Path) -> bool:
    return path.name == "__init__.py"


@by_file
def test_imports_point_down_the_layers(path: Path) -> None:
    module = _module(path)
    if not module.startswith("workflows.") or _is_package_front(path):
        return
    assert module in RANKS, f"{module} has no place in the layer table"
    wrong = [name for name in _imports(path) if name not in RANKS or RANKS[name] >= RANKS[module]]
    assert wrong == []


@by_file
def test_edges_use_public_modules_of_the_engine_only(path: Path) -> None:
    package, _, _ = _module(path).partition(".")
    if package not in EDGES:
        return
    others = [name for name in _imports(path) if name.partition(".")[0] != package]
    assert [n for n in others if not n.startswith("workflows") or "._" in n or n.partition(".")[0] in EDGES] == []


def test_no_import_cycles() -> None:
    graph = {_module(p): set(_imports(p)) - {_module(p)} for p in FILES if not _is_package_front(p)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@by_file
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@by_file
def test_no_file_has_a_name_that_says_nothing(path: Path) -> None:
    older_paths = {"workflows.utils", "workflows.context.utils"}  # other packages import them
    assert path.stem not in {"utils", "helpers", "common", "manager", "base", "misc"} or _module(path) in older_paths


@by_file
def test_nothing_swallows_cancellation(path: Path) -> None:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            silent = all(isinstance(s, ast.Pass) for s in node.body)
            assert "BaseException" not in caught.split("Group"), f"line {node.lineno} catches {caught}"
            assert not (silent and caught == "Exception"), f"line {node.lineno} passes in silence"


@by_file
def test_every_task_has_an_owner(path: Path) -> None:
    module = _module(path)
    # A resource that is a context manager has a task of its own; its run, or its workflow, awaits it.
    if module.startswith(("workflows.plugins", "workflows.runtime", "workflows._kept_contexts", "mlflow_flavor")):
        return
    calls = {_called(n) for n in ast.walk(TREES[path]) if isinstance(n, ast.Call)}
    assert calls & {"create_task", "ensure_future", "gather"} == set()


@by_file
def test_the_engine_reads_time_from_its_clock_alone(path: Path) -> None:
    module = _module(path)
    if not module.startswith("workflows._engine") or module.endswith(".clock"):
        return
    imported = {a.name for n in ast.walk(TREES[path]) if isinstance(n, ast.Import) for a in n.names}
    called = {ast.unparse(n.func) for n in ast.walk(TREES[path]) if isinstance(n, ast.Call)}
    assert imported & {"time", "random", "uuid"} == set()
    assert called & {"asyncio.sleep", "datetime.now", "time.time"} == set()


@by_file
def test_libraries_do_not_print(path: Path) -> None:
    if path.stem == "log_handler":
        return
    assert "print" not in {_called(n) for n in ast.walk(TREES[path]) if isinstance(n, ast.Call)}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_importing_workflows_loads_no_extra() -> None:
    script = "import sys, workflows; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"opentelemetry", "mlflow", "dbos", "starlette", "tenacity", "yaml"}.isdisjoint(loaded)


def test_importing_workflows_leaves_for_later_what_few_need() -> None:
    script = "import sys, workflows; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    # The last builds models, and for that looks through every distribution that is installed.
    later = {"pickle", "workflows.representation.graph", "workflows._engine.loop", "pydantic.plugin._loader"}
    words = {"workflows.collect", "workflows.retry_policy", "workflows.instrumentation.records"}
    stores = {"workflows.context.serializers", "workflows.context.state_store"}
    assert (later | words | stores).isdisjoint(loaded)


def test_modules_are_found_without_having_been_imported() -> None:
    script = "import workflows as w; print(w.retry_policy, w.context.serializers, w.runtime.types, hasattr(w, 'none'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
