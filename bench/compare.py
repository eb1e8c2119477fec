"""Us, the peer and the machine's limit in one table: `make bench`.

usage: python bench/compare.py [--scale S] [--rounds N] [--only NAME,NAME] [--without-collector]

The peer (llama-index-workflows) is installed once, into a venv of its own. Every round runs the same workloads on us
and then on the peer, so that both see the same machine; of twice the work and of once, each the least time of the
rounds counts. Machines differ by a factor of five: only ratios are worth remembering. Nothing is written but that venv.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

from peer import PEER, peer_environment, peer_python

HERE = Path(__file__).parent
LIMITED_BY = {"chain": "chain", "stream": "stream"}  # workload -> what `limit.py` measures for it

Figures = dict[str, dict[str, float]]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="bench/compare.py")
    parser.add_argument("--scale", type=float, default=0.5, help="size of the workloads (0.5: about a minute)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", help="names of workloads, with commas")
    parser.add_argument("--without-collector", action="store_true", help="switch Python's garbage collector off")
    options = parser.parse_args()
    theirs = peer_python(".venv-peer", [PEER])
    ours: Figures = {}
    peers: Figures = {}
    limit: dict[str, float] = {}
    for _ in range(options.rounds):
        _keep_best(ours, _engine(sys.executable, options))
        _keep_best(peers, _engine(theirs, options))
        for name, per_second in json.loads(_run([sys.executable, "limit.py"])).items():
            limit[name] = max(per_second, limit.get(name, 0))
    _print(ours, peers, limit)


def _engine(python: str, options: argparse.Namespace) -> Figures:
    command = [python, "engine.py", "--scale", str(options.scale), "--reps", "3"]
    command += ["--only", options.only] if options.only else []
    command += ["--setup", "gc:disable"] if options.without_collector else []
    return json.loads(_run(command))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=HERE, env=peer_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def _keep_best(best: Figures, found: Figures) -> None:
    for name, figures in found.items():
        kept = best.setdefault(name, {"n": figures["n"], "once": math.inf, "twice": math.inf})
        kept["once"] = min(kept["once"], figures["s"] / figures["growth"])
        kept["twice"] = min(kept["twice"], figures["s"])


def _print(ours: Figures, peers: Figures, limit: dict[str, float]) -> None:
    print("workload    units     ours/s     peer/s   ratio  growth   peer  of limit")
    for name, mine in ours.items():
        theirs = peers[name]
        per_second = mine["n"] / mine["twice"]
        allowed = limit.get(LIMITED_BY.get(name, ""))
        share = f"{per_second / allowed:9.0%}" if allowed else f"{'':9}"
        print(
            f"{name:9} {mine['n']:7.0f} {per_second:10,.0f} {theirs['n'] / theirs['twice']:10,.0f} "
            f"{theirs['twice'] / mine['twice']:6.1f}x {mine['twice'] / mine['once']:7.2f} "
            f"{theirs['twice'] / theirs['once']:6.2f} {share}"
        )
    allowed = ", ".join(f"{name} {each:,.0f}/s" for name, each in limit.items())
    print(f"\nlimit: {allowed}\ngrowth: time for twice the work, 2.00 is linear")


if __name__ == "__main__":
    main()
