"""The two small distributions in `compat/`: what they hold, and that they say they are ours."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

from workflows import drawing

COMPAT = Path(__file__).parents[2] / "compat"


@pytest.mark.parametrize(
    ("name", "version"), [("llama-index-workflows", "2.99.0+spanflow"), ("llama-index-utils-workflow", "0.99+spanflow")]
)
def test_a_bridge_says_whose_it_is_and_needs_spanflow(name: str, version: str) -> None:
    project = tomllib.loads((COMPAT / name / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == (name, version)
    assert "spanflow" in project["dependencies"]


def test_the_workflows_bridge_holds_an_older_import_and_nothing_of_workflows() -> None:
    bridge = COMPAT / "llama-index-workflows"
    assert sorted(str(p.relative_to(bridge)) for p in bridge.rglob("*.py")) == [
        "llama_index/core/workflow/WorkflowCheckpointer.py",
        "llama_index/core/workflow/checkpointer.py",
    ]


def test_the_drawing_bridge_gives_our_functions() -> None:
    path = COMPAT / "llama-index-utils-workflow" / "llama_index" / "utils" / "workflow" / "__init__.py"
    spec = importlib.util.spec_from_file_location("bridge", path)
    assert spec is not None
    assert spec.loader is not None
    bridge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bridge)
    assert sorted(bridge.__all__) == sorted(drawing.__all__)
    assert all(getattr(bridge, name) is getattr(drawing, name) for name in drawing.__all__)
