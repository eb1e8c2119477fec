"""Scripts in processes of their own, with nothing of this machine's telemetry variables around them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """What a script gets to see."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "no_proxy": "*", **variables}


def start(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A script that is under way; its output can be read while it runs."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(
        command, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(script: str, *arguments: str, **variables: str) -> str:
    """What a script prints; it has to end well."""
    with start(script, *arguments, **variables) as process:
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return printed
