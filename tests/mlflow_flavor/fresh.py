"""Fresh processes in milliseconds: one interpreter that has imported everything, and forks for each program.

An own interpreter for each program would import MLflow each time, for two seconds. A program runs in a process of its
own all the same: nothing of the tests' process is in it, no model was loaded before, no trace was made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FORKS = """
import atexit, json, os, sys, traceback, types, warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow, mlflow.pyfunc, mlflow_flavor, sqlalchemy, workflows_otel
    import mlflow.store.tracking.sqlalchemy_store
    import tests.mlflow_flavor.agents

def run(job):
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    sys.path.insert(0, job["cwd"])
    sys.argv[1:] = job["arguments"]
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    program.__file__ = job["program"]
    code = 1
    try:
        exec(compile(open(job["program"]).read(), job["program"], "exec"), vars(program))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if not pid:
        run(job)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Interpreter:
    """An interpreter that runs programs, each in a fork of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, program: str, directory: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program with `directory` as its own, and wait for its end; `environment` comes on top of ours."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source, out, err = (directory / name for name in ("program.py", "stdout.txt", "stderr.txt"))
        source.write_text(program)
        files = {"program": str(source), "stdout": str(out), "stderr": str(err), "cwd": str(directory)}
        job = {**files, "arguments": arguments, "environment": environment or {}}
        if self._started():
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(["python", *arguments], code, out.read_text(), err.read_text())

    def _started(self) -> bool:
        """Wait until everything is imported, before the first program."""
        if not hasattr(self, "_ready"):
            assert self._process.stdout is not None
            self._ready = self._process.stdout.readline() == "ready\n"
        return self._ready

    def stop(self) -> None:
        """End the interpreter."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        assert self._process.stdout is not None
        self._process.stdout.close()
