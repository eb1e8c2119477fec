"""Every example of the users' own documents, and the test that runs it.

What imports `llama_index.*` runs in the venv where the real llama-index-core stands on our engine; its LLM calls go
over HTTP, in the OpenAI protocol, to a server that says the lines of the test. In this table, `inside` is
`tests/compat_llama_index/inside`.

| document | example | test |
| --- | --- | --- |
| 000, 001: README in Indonesian and French | quick start: typed state kept over two runs of one context | this file |
| 002: guide | one async entry point, `asyncio.run(main())` | `inside/test_seed_002` |
| | `JokeFlow`: events, steps, `run(topic=...)` | `inside/test_seed_code` |
| | `ev.get("topic")` beside `ev.topic` | `inside/test_seed_002` |
| | custom start event with a path, an index and an LLM; `run(start_event=...)` | `inside/test_seed_002` |
| | custom stop event, given its field by position | `inside/test_seed_002` |
| | `draw_all_possible_flows`, `draw_most_recent_execution` with the workflow | `inside/test_seed_002` |
| | `ctx.get`, `ctx.set` | `inside/test_seed_002` |
| | `collect_events` of a query and its nodes, then a response synthesizer | `inside/test_seed_002` |
| | events sent by hand, gathered | `inside/test_seed_code` |
| | progress streamed while the run goes on | `inside/test_seed_002` |
| | `ConstantDelayRetryPolicy` | `inside/test_seed_code` |
| | a retry policy of one's own, for Fridays | `inside/test_seed_002` |
| | a person asked with `input()` while the stream is read | `inside/test_seed_002` |
| | the same after a `break`, then the stream read on | `inside/test_seed_code` |
| | `run(stepwise=True)`, `run_step()` | `inside/test_seed_code` |
| | free functions attached to a bare `Workflow(...)` | `inside/test_seed_002` |
| | the context of one run passed to the next | `inside/test_seed_code` |
| | `WorkflowCheckpointer`, `run_from` | `inside/test_seed_code` |
| 003: streaming tutorial | words of the model streamed, then the flows drawn | `inside/test_seed_code` |
| 004: MLflow tutorial | the tools and the ReAct agent, run and asked again | `inside/test_react_tutorial` |
| | the agent drawn for the notebook | `inside/test_seed_004` |
| | `mlflow.llama_index.autolog()` | `inside/test_seed_004` |
| | the model script made from the notebook; log, dummy LLM, load, run again | `inside/test_seed_004` |
| | the same with our flavor | `inside/test_seed_004_flavor` |
| | the same without llama-index, in a fresh process | `tests/mlflow_flavor/test_tutorial` |
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_the_quick_start_prints_what_it_promises() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "quick_start.py")],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Résultat du workflow : Processed 1 times, data length: 13",
        "Résultat du workflow : Processed 2 times, data length: 26",
    ]


def test_every_test_of_the_list_is_there() -> None:
    listed = {word.strip("`,") for line in (__doc__ or "").splitlines() for word in line.split() if "test_" in word}
    places = {"inside/": HERE.parent / "compat_llama_index", "tests/": HERE.parents[1]}
    for name in listed:
        root = next(folder for start, folder in places.items() if name.startswith(start))
        assert (root / f"{name}.py").is_file(), name
