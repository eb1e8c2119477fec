"""What differs between a run that a trace shows and the same run made again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

from mlflow.entities import Span, Trace

from mlflow_flavor._facts import CONFIG_METADATA
from mlflow_flavor._payloads import Shown, show_causes, show_emitted, show_result
from mlflow_flavor._prompts import pinned_prompts, prompts_now
from mlflow_flavor._recording import Playback
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, exception_type
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.records import RunEnded, RunStarted, StepEnded, StepStarted

__all__ = ["Difference", "different_calls", "different_environment", "different_run", "different_source"]

FINAL = ("completed", "failed", "timed_out", "cancelled", "abandoned")

_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the second run did otherwise.

    Attributes:
        kind: `code`: another graph, version or source; `prompt`: a prompt that the model names is another version;
            `configuration`: the first run's model was loaded with another one (only digests are kept); `environment`:
            another version of a package that the model pins; `path`: other steps ran; `call`: a recorded model or tool
            answered otherwise; `output`: a step made something else of the same input (an answer, a clock, the outside
            world); `result`: what the caller got.
        where: The step, as `name#n` for its n-th call, the recorded function, the package, or what else differs.
        then: What the trace shows.
        now: What it was this time.
    """

    kind: Literal["code", "prompt", "configuration", "environment", "path", "call", "output", "result"]
    where: str
    then: object
    now: object


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of a step took and gave, as a trace shows it."""

    step: str
    inputs: object
    outputs: object


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


def different_source(directory: Path, pinned: object, now: str) -> Iterable[Difference]:
    """What has changed since the model was logged: its source, or the versions of the prompts that it names."""
    if pinned is not None and pinned != now:
        yield Difference("code", "source_sha256", pinned, now)
    then = pinned_prompts(directory)
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


def different_run(
    segments: Sequence[tuple[Trace, Span]], recorder: RunRecorder, policy: ContentPolicy, config: str
) -> tuple[list[Difference], list[Difference]]:
    """What differs in the code, and in what it did.

    Args:
        segments: The run's traces in order, each with the span of the run in it.
        recorder: The records of the second run.
        policy: How its payloads are shown.
        config: Digest of the configuration that the second run's model was loaded with.
    """
    (trace, root), (_, last) = segments[0], segments[-1]
    code = list(different_code(trace, root, recorder.of(RunStarted)[0], config))
    then = [
        call for number, each in enumerate(segments, 1) for call in _calls_then(*each, goes_on=number < len(segments))
    ]
    steps = list(_different_steps(_numbered(then), _numbered(_calls_now(recorder, policy))))
    result = last.attributes.get(names.ERROR_TYPE) or last.outputs
    again = _result_now(recorder, policy)
    if _plain(result) != _plain(again):
        steps.append(Difference("result", root.name, result, again))
    return code, steps


def _result_now(recorder: RunRecorder, policy: ContentPolicy) -> object:
    run_id = recorder.of(RunStarted)[0].run_id
    ended = next(iter(recorder.of(RunEnded, run_id=run_id)), None)
    if ended is None or (ended.error is None and ended.stop_event is None):
        return None  # it waits for a person
    if ended.error is not None:
        return exception_type(ended.error)
    return _shown(show_result(ended.stop_event, policy.for_outputs())) if ended.stop_event is not None else None


def _different_steps(then: Mapping[str, Call], now: Mapping[str, Call]) -> Iterable[Difference]:
    for where, call in then.items():
        other = now.get(where)
        if other is None:
            yield Difference("path", where, call.inputs, None)
        elif _plain(call.inputs) == _plain(other.inputs) and _plain(call.outputs) != _plain(other.outputs):
            yield Difference("output", where, call.outputs, other.outputs)
    for where, call in now.items():
        if where not in then:
            yield Difference("path", where, None, call.inputs)


def _calls_then(trace: Trace, root: Span, *, goes_on: bool) -> Iterable[Call]:
    """The calls in one trace of the run; those that were open when it went on in the next one are in that one too."""
    steps = [s for s in trace.data.spans if s.parent_id == root.span_id and names.STEP_EXECUTION_ID in s.attributes]
    for span in sorted(steps, key=lambda s: s.start_time_ns):
        if goes_on and span.attributes.get(names.STEP_OUTCOME) == "suspended":
            continue
        yield Call(str(span.attributes[names.STEP_NAME]), span.inputs, span.outputs)


def _calls_now(recorder: RunRecorder, policy: ContentPolicy) -> Iterable[Call]:
    run_id = recorder.of(RunStarted)[0].run_id
    ends = {record.exec_id: record for record in recorder.of(StepEnded, run_id=run_id) if record.outcome in FINAL}
    is_over = bool(recorder.of(RunEnded, run_id=run_id))
    seen: set[str] = set()
    for record in recorder.of(StepStarted, run_id=run_id):
        end = ends.get(record.exec_id)
        if record.exec_id in seen or (end is None and is_over):  # a call's first attempt stands for it
            continue
        seen.add(record.exec_id)
        inputs = _shown(show_causes(record.causes, policy.for_inputs()))
        outputs = _shown(show_emitted(end.emitted, policy.for_outputs())) if end is not None else None
        yield Call(record.step, inputs, outputs)


def _numbered(calls: Iterable[Call]) -> dict[str, Call]:
    """Calls by `step#n`, in the order of their starts."""
    by_step: dict[str, list[Call]] = {}
    for call in calls:
        by_step.setdefault(call.step, []).append(call)
    return {f"{step}#{number}": call for step, found in by_step.items() for number, call in enumerate(found, 1)}


def _shown(shown: Shown | None) -> object:
    return shown.value if shown is not None else None


def _plain(value: object) -> str:
    return json.dumps(cast("Any", value), sort_keys=True, default=str)
