"""Every example runs alone, offline, and is as short as promised."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
OUTPUT = {
    "01_first_run": '9 words, longest "events"',
    "02_streaming": "page 1 of 4\npage 2 of 4\npage 3 of 4\npage 4 of 4\n4 pages copied",
    "03_retries": "attempt 1: connection refused\nattempt 2: connection refused\nattempt 3: fine\ngot news",
    "05_trace_of_a_run": "failed: card refused\npage: https://traces.example/<trace id>\n"
    "note: workflow run <run id>, trace <trace id>: https://traces.example/<trace id>",
    "06_feedback": "taken by phoenix\nabout the run's own span: True\n"
    "helpful HUMAN {'score': 1.0, 'label': 'true', 'explanation': 'short and clear'}",
}

# What examples say in the middle of what MLflow says; those start servers, and MLflow warns about itself.
LINES_OF_MLFLOW_EXAMPLES = {
    "09_mlflow_model": ["a fresh process: bought", "Spend 700 euros? bought"],
}

each_example = pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, marks=[pytest.mark.server] if path.stem in LINES_OF_MLFLOW_EXAMPLES else [])
        for path in EXAMPLES
    ],
    ids=lambda path: path.stem,
)


def run_example(example: Path) -> str:
    warnings = "default" if example.stem in LINES_OF_MLFLOW_EXAMPLES else "error"
    timeout = 300 if example.stem in LINES_OF_MLFLOW_EXAMPLES else 60
    # MLflow hands its active experiment to child processes, and other tests have one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": warnings}
    done = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@each_example
def test_example_prints_what_its_header_says(example: Path) -> None:
    printed = run_example(example)
    assert printed
    assert printed == OUTPUT.get(example.stem, printed)
    lines = LINES_OF_MLFLOW_EXAMPLES.get(example.stem, [])
    assert [line for line in lines if line not in printed.splitlines()] == []


@each_example
def test_example_asks_one_question_in_under_80_lines(example: Path) -> None:
    text = example.read_text()
    assert len(text.splitlines()) < 80
    assert "?" in text.splitlines()[0]
    assert "\nYou see: " in text
