"""What tracing to MLflow costs us and the peer (`mlflow.llama_index.autolog`), side by side: `python bench/mlflow.py`.

usage: python bench/mlflow.py [--rounds N] [--only cpu,block,many] [--peer-python PATH]

Two processes of ours and two of the peer's, one on a sqlite file and one on an HTTP server, take turns; a figure is
the median of the rounds. The peer's venv is made once. Only ratios are worth remembering. What is measured is in
`mlflow_runs.py`; "bare" makes the spans of the same run by MLflow's own functions alone.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from measured import Measured
from peer import PEER, peer_environment, peer_python

RUNS = Path(__file__).with_name("mlflow_runs.py")
PEER_VENV = ".venv-peer-mlflow"
SIDES = ("ours", "peer")
PAYLOADS = ("rows", "text", "values")  # of `mlflow_runs.py`
TO_START = 120.0  # seconds until a server answers


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """The URL of a real MLflow server with a sqlite store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'server.db'}", "--workers", "1"]
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/health")
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + TO_START
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    sys.exit(f"The MLflow server did not answer at {url} within {TO_START:g} s.")


Processes = dict[tuple[str, str], Measured]
Figures = dict[tuple[str, str], list[float]]


def cpu(processes: Processes, rounds: int) -> None:
    """Print CPU time a run, by variant."""
    found: Figures = defaultdict(list)
    for _ in range(rounds):
        for side in SIDES:
            found[side, "off"].append(processes[side, "sqlite"].ask("off"))
            found[side, "spans"].append(processes[side, "sqlite"].ask("spans"))
            found[side, "sqlite"].append(processes[side, "sqlite"].ask("stored"))
            found[side, "http"].append(processes[side, "http"].ask("stored"))
        found["ours", "bare"].append(processes["ours", "sqlite"].ask("bare"))
    middle = {key: statistics.median(values) for key, values in found.items()}
    print(f"{'CPU ms a run':14}{'ours':>8}{'x off':>8}{'peer':>8}{'x off':>8}{'peer/ours':>11}")
    for variant in ("off", "spans", "sqlite", "http"):
        mine, theirs = middle["ours", variant], middle["peer", variant]
        times = mine / middle["ours", "off"], theirs / middle["peer", "off"]
        print(f"{variant:14}{mine:8.2f}{times[0]:8.1f}{theirs:8.2f}{times[1]:8.1f}{theirs / mine:10.1f}x")
    added, plain = middle["ours", "spans"] - middle["ours", "off"], middle["ours", "bare"]
    print(f"{'bare':14}{plain:8.2f}\nour spans cost {added / plain:.2f} x MLflow's bare spans of the same shape\n")


def block(processes: Processes, rounds: int) -> None:
    """Print how long the event loop stands still in a run with 1 MB in and 1 MB out, traced or not."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for _ in range(rounds):
        for side in SIDES:
            found[side, "rows, off"].append(processes[side, "sqlite"].ask("blocked_off rows"))
            for payload in PAYLOADS:
                found[side, payload].append(processes[side, "sqlite"].ask(f"blocked {payload}"))
    print(f"longest block, ms, of {rounds:3}      CPU: median    p95  worst   clock: median    p95  worst")
    for (side, name), values in sorted(found.items()):
        cpu_times, clock_times = zip(*values, strict=True)
        shown = [f"{_middle(times):15.1f}{_p95(times):7.1f}{max(times):7.1f}" for times in (cpu_times, clock_times)]
        print(f"{f'{side}, {name}':24}{'  '.join(shown)}")
    print()


def _middle(times: Sequence[float]) -> float:
    return statistics.median(times)


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[max(math.ceil(len(times) * 0.95) - 1, 0)]


def many(processes: Processes) -> None:
    """Print what became of runs that were all open at once."""
    for side in SIDES:
        found = processes[side, "sqlite"].ask("many")
        lost = found["runs"] - found["finished"] - found["unfinished"] - found["untraced_on_purpose"]
        print(
            f"{found['runs']} runs at once, {side}: {found['finished']} finished traces, {found['unfinished']} "
            f"unfinished, {found['untraced_on_purpose']} not traced and counted, {lost} lost"
        )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="bench/mlflow.py")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="cpu,block,many", help="cpu, block, many, with commas")
    parser.add_argument("--peer-python", help="a peer's venv that is there already")
    options = parser.parse_args()
    wanted = options.only.split(",")
    mlflow = f"mlflow=={version('mlflow')}"
    theirs = options.peer_python or peer_python(PEER_VENV, [PEER, "llama-index-core==0.14.25", mlflow])
    print(f"{PEER}, {mlflow}, Python {platform.python_version()}, {os.cpu_count()} CPUs, {options.rounds} rounds\n")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(server(directory)) if "cpu" in wanted else None
        processes: Processes = {}
        quiet = {"MLFLOW_LOGGING_LEVEL": "WARNING"}
        for side, python, environment in (
            ("ours", sys.executable, {**os.environ, **quiet}),
            ("peer", theirs, {**peer_environment(), **quiet}),
        ):
            for store, uri in (("sqlite", f"sqlite:///{directory / f'{side}.db'}"), ("http", url)):
                if uri is not None:
                    processes[side, store] = Measured([python, "-P", "-W", "ignore", str(RUNS), uri], environment)
                    stack.callback(processes[side, store].stop)
        if "cpu" in wanted:
            cpu(processes, options.rounds)
        if "block" in wanted:
            block(processes, 2 * options.rounds)
        if "many" in wanted:
            many(processes)


if __name__ == "__main__":
    main()
