"""Venvs of the peer's, made once: what a benchmark compares us with is never installed beside us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["PEER", "peer_environment", "peer_python"]

PEER = "llama-index-workflows==2.26.1"
ROOT = Path(__file__).parents[1]


def peer_python(venv: str, requirements: Sequence[str]) -> str:
    """The interpreter of the venv `venv` in the checkout, which is made if it does not have all of `requirements`."""
    directory = ROOT / venv
    python = directory / "bin" / "python"
    installed = directory / ".installed"
    wanted = "\n".join(requirements)
    if not installed.exists() or installed.read_text() not in ("", wanted):
        print(f"Installing {', '.join(requirements)} into {venv} ...", file=sys.stderr)
        if uv := shutil.which("uv"):
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, directory], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
        else:
            subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *requirements], check=True)
        installed.write_text(wanted)
    return str(python)


def peer_environment() -> dict[str, str]:
    """The environment without PYTHONPATH, which would put our package in front of the peer's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
