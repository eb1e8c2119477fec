"""Every example runs alone, offline, and is as short as promised."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
OUTPUT = {
    "01_first_run": '9 words, longest "events"',
    "02_streaming": "page 1 of 4\npage 2 of 4\npage 3 of 4\npage 4 of 4\n4 pages copied",
    "03_retries": "attempt 1: connection refused\nattempt 2: connection refused\nattempt 3: fine\ngot news",
}

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def run_example(example: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@each_example
def test_example_prints_what_its_header_says(example: Path) -> None:
    printed = run_example(example)
    assert printed
    assert printed == OUTPUT.get(example.stem, printed)


@each_example
def test_example_asks_one_question_in_under_80_lines(example: Path) -> None:
    text = example.read_text()
    assert len(text.splitlines()) < 80
    assert "?" in text.splitlines()[0]
    assert "\nYou see: " in text
