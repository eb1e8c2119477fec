"""What differs between two runs before they do anything: code, prompts, configuration, packages, recorded answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from mlflow.entities import Span, Trace

from mlflow_flavor._facts import CONFIG_METADATA, PROMPTS_METADATA
from mlflow_flavor._prompts import loaded_prompts, pinned_prompts, prompts_now
from mlflow_flavor._recording import Playback
from workflows.instrumentation import attributes as names
from workflows.instrumentation.records import (
    RunStarted,
)

__all__ = ["Difference", "different_calls", "different_code", "different_environment", "different_source"]

LINKED_PROMPTS = "mlflow.linkedPrompts"
"""The tag of a trace in which MLflow notes them."""

_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the second run did otherwise.

    Attributes:
        kind: `code`: another graph, version or source; `prompt`: a prompt that the model names is another version;
            `configuration`: the first run's model was loaded with another one (only digests are kept); `environment`:
            another version of a package that the model pins; `call`: a recorded model or tool answered otherwise;
            `output`: a step made something else of the same input (an answer, a clock, the outside world): it gave,
            asked or streamed something else, or failed otherwise, in one of its attempts; `input`: a step was given
            something else; `path`: a step ran only then, or only now; `result`: what the caller got.
        where: The step, as `name#n` for its n-th call, the recorded function, the package, or what else differs. What
            is below a step follows it: `name#n/Child.run#1/step#1` in a run that it made, `name#n/wait_for_event#1`.
        then: What the trace shows; of an error its class and message, `(cancelled)` and such for other ends.
        now: What it was this time.
    """

    kind: Literal["code", "prompt", "configuration", "environment", "path", "input", "call", "output", "result"]
    where: str
    then: object
    now: object


def different_environment(requirements: Path) -> Iterable[Difference]:
    """Packages of a model's `requirements.txt` that are installed in another version, or not at all."""
    for line in requirements.read_text().splitlines() if requirements.is_file() else ():
        pinned = _PINNED.match(line.strip())
        if pinned is None:
            continue
        try:
            found: str | None = version(pinned["name"])
        except PackageNotFoundError:
            found = None
        if found is None or found.partition("+")[0] != pinned["version"].partition("+")[0]:
            yield Difference("environment", pinned["name"], pinned["version"], found)


def different_source(directory: Path, pinned: object, now: str, traces: Iterable[Trace]) -> Iterable[Difference]:
    """What has changed since the model was logged: its source, or the versions of the prompts that it names.

    Of a prompt that the run has loaded, MLflow has noted with its traces which version that was; of one that was loaded
    with the model, we have.
    """
    if pinned is not None and pinned != now:
        yield Difference("code", "source_sha256", pinned, now)
    then = pinned_prompts(directory)
    traces = list(traces)
    for trace in traces[:1]:
        then |= json.loads(trace.info.trace_metadata.get(PROMPTS_METADATA, "{}"))
    then |= loaded_prompts((trace.info.tags.get(LINKED_PROMPTS, "[]") for trace in traces), then)
    found = prompts_now(then)
    yield from (Difference("prompt", uri, then[uri], found[uri]) for uri in then if then[uri] != found[uri])


def different_calls(playback: Playback) -> Iterable[Difference]:
    """Recorded calls that were made again and answered otherwise."""
    for where, then, now in playback.changed:
        yield Difference("call", where, then, now)


def different_code(trace: Trace, root: Span, started: RunStarted, config: str) -> Iterable[Difference]:
    """Another graph, version or configuration."""
    facts = {names.GRAPH_HASH: started.graph_hash, names.WORKFLOW_VERSION: started.version}
    for name, now in facts.items():
        if (then := root.attributes.get(name)) != now:
            yield Difference("code", name, then, now)
    then = trace.info.trace_metadata.get(CONFIG_METADATA)
    if then is not None and then != config:
        yield Difference("configuration", "model_config", then, config)
