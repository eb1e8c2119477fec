"""The code on docs/llama-index.md runs where llama-index is, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "llama-index.md").read_text()
BLOCK = re.compile(r"^```py\n(.*?)^```\n+```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"\d+\.\d+")


def test_every_block_says_what_it_prints() -> None:
    assert len(BLOCK.findall(PAGE)) == PAGE.count("```py\n") == 4


@pytest.mark.parametrize(("code", "output"), BLOCK.findall(PAGE), ids=["tracing", "beside", "events", "alone"])
def test_a_block_prints_what_the_page_says(code: str, output: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert TIME.sub("~", ran.stdout) == TIME.sub("~", output)
