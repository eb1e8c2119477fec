"""Starts and stops the demo's model server: a real small model on this machine, or a scripted one that says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LLM:
    """A running server; `why_scripted` is None where a real model answers."""

    base_url: str
    model: str
    seconds: float
    why_scripted: str | None


@contextmanager
def local_llm(log: Path, *, scripted: bool = False) -> Iterator[LLM]:
    """A model server on a free port of the loopback, for the `openai` client of this process and of its children.

    Args:
        log: Where the server's own output goes.
        scripted: Do not even try the real model.
    """
    llm, server = _start_any(log, scripted=scripted)
    try:
        os.environ.update(OPENAI_BASE_URL=llm.base_url, OPENAI_API_KEY="no-key-needed", DEMO_MODEL=llm.model)
        yield llm
    finally:
        assert server.stdin, "it is a pipe"
        assert server.stdout, "it is a pipe"
        server.stdin.close()  # the server ends when this pipe does, even if this process is killed
        server.stdout.close()
        server.wait(timeout=10)


def _start_any(log: Path, *, scripted: bool) -> tuple[LLM, subprocess.Popen[str]]:
    why = "asked for with --scripted"
    if not scripted:
        server, line = _start("llama_server.py", log)
        if line:
            return LLM(**json.loads(line), why_scripted=None), server
        server.communicate()
        why = (log.read_text().strip().splitlines() or [f"exit code {server.returncode}"])[-1]
    server, line = _start("scripted_server.py", log)
    return LLM(**json.loads(line), why_scripted=why), server


def _start(script: str, log: Path) -> tuple[subprocess.Popen[str], str]:
    """The child and the first line that it printed: where it serves. The line is empty where it could not start."""
    pipe = subprocess.PIPE
    with log.open("w") as errors:
        # A session of its own: Ctrl-C is for the demo, which then closes the pipe.
        server = subprocess.Popen(
            [sys.executable, str(FOLDER / script)],
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    assert server.stdout, "it is a pipe"
    watchdog = threading.Timer(START_SECONDS, server.kill)
    watchdog.start()
    line = server.stdout.readline()
    watchdog.cancel()
    return server, line
