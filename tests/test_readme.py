"""Every code block of README and docs runs, and prints what the page says.

A `python` block is executed on its own; a `text` block right after it (a line of prose may stand between)
is what it prints, times and ids aside. A `sh`
block is a person's; of those only the `make` targets are looked up.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+(?:[^\n`#|][^\n]*\n+)?^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
CHANGING = re.compile(r"\d+\.\d+|\b[0-9a-f]{16}\b")
LINK = re.compile(r"\]\((?!\w+://|#)([^)#]+)")


class Block(NamedTuple):
    """A fenced block and the output that the page claims for it."""

    where: str
    language: str
    code: str
    output: str


def blocks(*languages: str) -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        text = page.read_text()
        for fence in FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 1
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", fence[1], fence[2], fence[3] or ""))
    return [block for block in found if block.language in languages]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.where)
def test_python_block_runs_and_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    # MLflow hands its active experiment to child processes, and other tests have one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**inherited, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "0.2"  # no back end of the pages is there
    done = subprocess.run(
        [sys.executable, "-c", block.code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if block.output:
        assert CHANGING.sub("~", done.stdout) == CHANGING.sub("~", block.output)


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.where)
def test_shell_block_names_make_targets_that_exist(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", block.code, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []
