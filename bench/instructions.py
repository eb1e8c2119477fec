"""What `make bench` times, counted instead: instructions a unit of work, which a busy machine does not change.

usage: python bench/instructions.py [--scale S] [--only NAME,NAME]

Needs valgrind (`apt-get install valgrind`). Each workload runs once at its size and once at twice that, on us, on the
peer and, where there is one, as the machine's limit, in processes of their own; what a run of one unit takes (imports,
first use) is taken off. Hashes are not random, so the same commit gives the same figures to about one in a thousand.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compare import LIMITED_BY
from peer import PEER, peer_environment, peer_python

HERE = Path(__file__).parent
SIZES = {"chain": 1000, "runs": 300, "seq": 200, "fan": 100, "stream": 2000, "state": 300}
RUN = "import asyncio, sys, {module}; asyncio.run({module}.{name}(int(sys.argv[1])))"


def main() -> None:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(prog="bench/instructions.py")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the workloads (1.0: about five minutes)")
    parser.add_argument("--only", help="names of workloads, with commas")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("bench/instructions.py counts with valgrind, which is not here: apt-get install valgrind")
    theirs = peer_python(".venv-peer", [PEER])
    print("workload    units    ours k/unit    peer k/unit   ratio  growth   peer  of limit")
    for name in options.only.split(",") if options.only else SIZES:
        units = max(2, round(SIZES[name] * options.scale))
        mine, growth = _counted(sys.executable, "engine", name, units)
        peers, peers_growth = _counted(theirs, "engine", name, units)
        limit = LIMITED_BY.get(name)
        share = f"{_counted(sys.executable, 'limit', limit, units)[0] / mine:9.0%}" if limit else ""
        print(
            f"{name:9} {units:7} {mine / 1e3:14,.1f} {peers / 1e3:14,.1f} {peers / mine:6.1f}x "
            f"{growth:7.2f} {peers_growth:6.2f} {share}".rstrip(),
            flush=True,
        )
    print("\ngrowth: instructions for twice the work, 2.00 is linear")


def _counted(python: str, module: str, name: str, units: int) -> tuple[float, float]:
    """Instructions a unit, and those of twice the units over those of once."""
    with ThreadPoolExecutor(os.cpu_count()) as several:
        one, once, twice = several.map(lambda n: _instructions(python, module, name, n), (1, units, 2 * units))
    return (once - one) / (units - 1), (twice - one) / (once - one)


def _instructions(python: str, module: str, name: str, units: int) -> int:
    counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", python]
    command = [*counting, "-c", RUN.format(module=module, name=name), str(units)]
    environment = {**peer_environment(), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return int(found[1])


if __name__ == "__main__":
    main()
