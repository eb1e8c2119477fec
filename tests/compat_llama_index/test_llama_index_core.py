"""Runs the tests of `inside/` in a venv of their own, where the real llama-index-core stands on our engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"

pytestmark = pytest.mark.server


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the venv, which is made once and kept."""
    command = ["make", "--silent", ".venv-llama-index/.installed"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / ".venv-llama-index" / "bin" / "python"


def test_llama_index_core_works_on_our_engine(python: Path) -> None:
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INSIDE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
