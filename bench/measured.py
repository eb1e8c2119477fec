"""A process that measures what it is asked for, so that ours and the peer's can take turns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Measured"]


class Measured:
    """Runs a command that answers each line of its input, the name of a measurement, with a line of JSON."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str) -> Any:
        """One measurement."""
        assert self._process.stdin is not None, "it was opened with a pipe"
        assert self._process.stdout is not None, "it was opened with a pipe"
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"`{' '.join(self._command)}` ended while it measured {name!r}.")
        return json.loads(line)

    def stop(self) -> None:
        """Let it end."""
        self._process.communicate()
