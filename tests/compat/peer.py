"""What the cases give at the peer, in the venv that `make compat` and `make bench` share."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from bench.peer import PEER, peer_environment, peer_python

ROOT = Path(__file__).parents[2]
VENV = ".venv-peer"
LONGEST_TOPIC = 60.0  # seconds


@cache
def python() -> str:
    """The peer's interpreter; installs the peer if it must."""
    return peer_python(VENV, [PEER])


@cache
def results_of(topic: str) -> dict[str, Any]:
    """What every case of the topic gives at the peer, by name.

    Raises:
        RuntimeError: If the peer's Python cannot read the topic's file.
    """
    command = [python(), "-m", "tests.compat.engine", topic]
    done = subprocess.run(
        command, cwd=ROOT, env=peer_environment(), capture_output=True, text=True, timeout=LONGEST_TOPIC, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the cases of {topic} do not run at the peer:\n{done.stderr}")
    return json.loads(done.stdout)
