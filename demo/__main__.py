"""`make demo`: one real agent run on this machine, from the engine to the trace to the model in a new process."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from demo import store
from demo.llm import LLM, local_llm

QUESTION = "What is the weather in Oslo, and what is 17 times 23?"
QUESTION_AGAIN = "What is 12 times 12, and is it warm in Lisbon?"
FOLDER = Path(__file__).parent

console = Console(highlight=False)


def main() -> None:
    """Run the demo; see `--help`."""
    options = _options()
    started = time.perf_counter()
    store.FOLDER.mkdir(exist_ok=True)
    with local_llm(store.FOLDER / "llm.log", scripted=options.scripted) as llm:
        _tell_llm(llm)
        experiment = store.SCRIPTED_EXPERIMENT if llm.why_scripted else store.EXPERIMENT
        close_telemetry = _open_telemetry(experiment, options.otlp)
        asyncio.run(_joke(options.topic))
        model_uri = _log_agent()
        asyncio.run(_agent(model_uri))
        _ask_in_new_process(experiment, model_uri)
        close_telemetry()
    _tell_where(experiment, model_uri, time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--topic", default="pirates", help="what the joke is about")
    parser.add_argument("--scripted", action="store_true", help="scripted answers instead of the real model")
    parser.add_argument("--otlp", metavar="ENDPOINT", help="export to an OpenTelemetry collector as well")
    return parser.parse_args()


def _tell_llm(llm: LLM) -> None:
    if llm.why_scripted is None:
        console.print(f"[bold]{llm.model}[/], on this machine in {llm.seconds:.1f} s: {llm.base_url}")
        return
    console.print("[bold yellow]No language model: every answer below is scripted.[/]")
    console.print(Text(f"({llm.why_scripted})", style="dim"))


def _open_telemetry(experiment: str, otlp: str | None) -> Callable[[], object]:
    """Traces of runs and of model calls go to the MLflow store (and to a collector); returns what flushes them."""
    _quiet()
    import mlflow  # takes seconds: only once the model server is known to run
    from mlflow.openai import autolog as autolog_openai

    import mlflow_flavor

    mlflow.set_tracking_uri(store.store_uri())
    if mlflow.get_experiment_by_name(experiment) is None:
        mlflow.create_experiment(experiment, artifact_location=store.artifacts_uri())
    mlflow.set_experiment(experiment)
    autolog_openai()
    mlflow_flavor.autolog()
    if otlp is None:
        return mlflow.flush_trace_async_logging
    from openinference.instrumentation.openai import OpenAIInstrumentor

    import workflows_otel

    telemetry = workflows_otel.setup(workflows_otel.otlp(otlp))
    OpenAIInstrumentor().instrument(tracer_provider=telemetry.provider)
    return lambda: (mlflow.flush_trace_async_logging(), telemetry.flush())


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    for chatty in ("alembic", "httpx", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def _joke(topic: str) -> None:
    from demo.joke import JokeFlow
    from demo.watch import watch

    console.rule(f"[bold]1[/] JokeFlow: a joke about {escape(topic)}, and its critique", align="left")
    await watch(console, JokeFlow(timeout=60), topic=topic)


def _log_agent() -> str:
    import mlflow_flavor

    started = time.perf_counter()
    with console.status("Logging the agent as a model ..."):
        info = mlflow_flavor.log_model(
            str(FOLDER / "agent.py"),
            name="agent",
            code_paths=[str(FOLDER)],
            input_example={"question": QUESTION},
            run_input_example=False,
        )
    console.rule(f"[bold]2[/] Agent: logged as {info.model_uri} in {time.perf_counter() - started:.1f} s", align="left")
    return info.model_uri


async def _agent(model_uri: str) -> None:
    import mlflow_flavor
    from demo.watch import watch

    agent = mlflow_flavor.load_model(model_uri)
    console.print(f"[dim]{QUESTION}[/]")
    await watch(console, agent, question=QUESTION)


def _ask_in_new_process(experiment: str, model_uri: str) -> None:
    console.rule("[bold]3[/] The same agent, loaded from the store by a new process", align="left")
    console.print(f"[dim]{QUESTION_AGAIN}[/]")
    command = [sys.executable, str(FOLDER / "ask.py"), store.store_uri(), experiment, model_uri, QUESTION_AGAIN]
    started = time.perf_counter()
    with console.status("Starting it ..."):
        done = subprocess.run(command, cwd=store.FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    console.print(Text(told["answer"], style="italic"))
    loaded, answered, seconds = told["load_s"], told["answer_s"], time.perf_counter() - started
    times = f"{seconds:.1f} s, of which loaded in {loaded:.1f} s and answered in {answered:.1f} s"
    console.print(f"[dim]process {told['pid']}: {times}[/]")


def _tell_where(experiment: str, model_uri: str, seconds: float) -> None:
    import mlflow

    console.rule("[bold]Where it is[/]", align="left")
    experiment_id = mlflow.set_experiment(experiment).experiment_id
    traces = mlflow.MlflowClient().search_traces(locations=[experiment_id], max_results=3)
    for trace, about in zip(reversed(traces), ("1", "2", "3, new process"), strict=True):
        spans, tokens = len(trace.data.spans), (trace.info.token_usage or {}).get("total_tokens")
        console.print(f"trace  {trace.info.trace_id}  {spans} spans, {tokens} tokens  ({about})")
    console.print(f"model  {model_uri}")
    console.print(f"store  {store.DATABASE}, experiment {experiment!r}")
    console.print(f"\nSee it:  [bold green]make demo-ui[/]   [dim](all this took {seconds:.0f} s)[/]")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
