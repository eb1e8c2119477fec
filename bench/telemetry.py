"""What telemetry costs a step, ours and the peer's with OpenInference, in one run: `python bench/telemetry.py`.

usage: python bench/telemetry.py [--steps N] [--rounds N] [--peer-python PATH]

One process of ours and one of the peer's take turns; a figure is the median of the rounds, in CPU time of the whole
process, export threads included: wall time says nothing on a shared machine, and only ratios are worth remembering.
The peer's venv is made once. What is measured is in `telemetry_runs.py` and `telemetry_ours.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from measured import Measured
from peer import PEER, peer_environment, peer_python

RUNS = Path(__file__).with_name("telemetry_runs.py")
PEER_VENV = ".venv-peer-openinference"
OPENINFERENCE = "openinference-instrumentation-llama-index==4.6.1"
LLAMA_INDEX = "llama-index-core==0.14.25"  # which that instrumentor needs
BOTH = ("plain", "traced", "small", "small traced", "large", "large traced")
OURS = ("told", "sdk", "same")

Figures = dict[tuple[str, str], list[float]]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="bench/telemetry.py")
    parser.add_argument("--steps", type=int, default=1500, help="length of the chain that is measured")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peer-python", help="of a venv that has the peer and OpenInference")
    options = parser.parse_args()
    same_sdk = f"opentelemetry-sdk=={version('opentelemetry-sdk')}"
    theirs = options.peer_python or peer_python(PEER_VENV, [PEER, OPENINFERENCE, LLAMA_INDEX, same_sdk])
    arguments = ["-W", "ignore", str(RUNS), str(options.steps)]
    ours = Measured([sys.executable, *arguments])
    peer = Measured([theirs, *arguments], peer_environment())
    found = _rounds(ours, peer, options.rounds)
    asking, memory = ours.ask("asking"), ours.ask("memory")
    ours.stop()
    peer.stop()
    _print_steps(found)
    _print_targets(found, asking)
    _print_memory(memory)


def _rounds(ours: Measured, peer: Measured, rounds: int) -> Figures:
    found: Figures = defaultdict(list)
    for number in range(rounds + 1):
        for name in (*BOTH, *OURS):
            figures = {"ours": ours.ask(name)} | ({"peer": peer.ask(name)} if name in BOTH else {})
            if number:  # the first round warms up
                for side, figure in figures.items():
                    found[side, name].append(figure)
    return found


def _print_steps(found: Figures) -> None:
    print(f"{'CPU us a step':30}{'ours':>9}{'':>8}{'peer':>9}{'':>8}{'peer / ours':>13}")
    rows = {
        "chain, nobody listens": ("plain", None),
        "chain, spans": ("traced", "plain"),
        "100 characters": ("small", None),
        "100 characters, spans with them": ("small traced", "small"),
        "100 kB": ("large", None),
        "100 kB, spans with them": ("large traced", "large"),
    }
    for label, (name, base) in rows.items():
        cells = [label.ljust(31)]
        for side in ("ours", "peer"):
            times = f"{_ratio(found[side, name], found[side, base]):7.2f}x" if base else " " * 8
            cells.append(f"{_middle(found[side, name]):8.1f} {times}")
        print("".join(cells) + f"{_ratio(found['peer', name], found['ours', name]):11.1f}x")


def _print_targets(found: Figures, asking: dict[str, float]) -> None:
    plain, traced = found["ours", "plain"], found["ours", "traced"]
    added = [t - p for t, p in zip(traced, plain, strict=True)]
    large = _ratio(found["ours", "large traced"], found["ours", "small traced"]) - 1
    theirs = _ratio(found["peer", "large traced"], found["peer", "small traced"]) - 1
    sdk, same = found["ours", "sdk"], found["ours", "same"]
    records = _middle(found["ours", "told"]) - _middle(plain)
    between = f"{asking['low']:.2%} to {asking['high']:.2%} in 95 of 100 cases"
    print(f"""
asking whether anybody listens     {asking["middle"]:8.2%} of a step ({between})
building and telling records       {records:8.1f} us a step, part of what spans add
spans add                          {_middle(added):8.1f} us a step
  over the SDK's calls (limit.py)  {_ratio(added, sdk):8.2f}x of {_middle(sdk):.1f} us
  over those for the very span     {_ratio(added, same):8.2f}x of {_middle(same):.1f} us
with spans, faster than the peer   {_ratio(found["peer", "plain"], traced):8.1f}x than the peer to which nobody listens
100 kB for 100 characters adds     {large:8.0%} to a traced step (OpenInference: {theirs:.0%})""")


def _print_memory(memory: dict[str, float]) -> None:
    print(
        f"""
an open run that waits             {memory["run"]:8,.0f} bytes
its two open spans                 {memory["spans"]:8,.0f} bytes more (two of the SDK's alone: {memory["sdk"]:,.0f})
when it is over                    {memory["left"]:8,.0f} bytes left (which trace it was, for the latest 10,000 runs)"""
    )


def _middle(figures: list[float]) -> float:
    return statistics.median(figures)


def _ratio(upper: list[float], lower: list[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(u / b for u, b in zip(upper, lower, strict=True))


if __name__ == "__main__":
    main()
