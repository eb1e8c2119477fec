"""The engine's package under its other name, and paths of packages that are distributed on their own."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

import llama_agents.workflows
import workflows
from llama_agents.workflows import Context, Workflow, catch_error, step

MODULES = ["events", "context", "context.serializers", "context.state_store", "errors", "handler", "testing", "plugins"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_the_same_under_both_names(name: str) -> None:
    assert importlib.import_module(f"llama_agents.workflows.{name}") is importlib.import_module(f"workflows.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_its_own_name(name: str) -> None:
    module = importlib.import_module(f"llama_agents.workflows.{name}")
    assert module.__name__ == f"workflows.{name}"
    assert module.__spec__ is not None
    assert module.__spec__.name == f"workflows.{name}"


def test_the_package_gives_the_same_names() -> None:
    assert (Context, Workflow, catch_error, step) == tuple(getattr(workflows, n) for n in workflows.__all__)
    assert llama_agents.workflows.__all__ == workflows.__all__


def test_a_module_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"llama_agents\.workflows\.nowhere"):
        importlib.import_module("llama_agents.workflows.nowhere")


def test_the_other_name_may_come_first() -> None:
    script = (
        "import llama_agents.workflows.events as a, workflows.events as b, sys; from workflows import Workflow; "
        "assert a is b and a.Event is b.Event; print(sum(m.endswith('.events') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]  # asyncio's, and the two names of ours


def test_importing_workflows_leaves_imports_alone() -> None:
    script = "import sys; before = list(sys.meta_path); import workflows; assert sys.meta_path == before"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("client", "pip install llama-agents-client"),
        ("protocol", "pip install llama-agents-client"),
        ("server", r"pip install 'spanflow\[mlflow\]'"),
    ],
)
@pytest.mark.skipif(importlib.util.find_spec("llama_agents.client") is not None, reason="llama-agents is installed")
def test_what_is_distributed_alone_says_how_to_get_it(name: str, hint: str) -> None:
    with pytest.raises(ImportError, match=hint):
        importlib.import_module(f"workflows.{name}")


@pytest.mark.parametrize("name", ["client", "protocol", "server"])
@pytest.mark.skipif(importlib.util.find_spec("llama_agents.client") is not None, reason="llama-agents is installed")
def test_what_is_distributed_alone_is_no_attribute(name: str) -> None:
    assert getattr(workflows, name, None) is None
