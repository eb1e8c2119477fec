"""What differs between a run that a trace shows and the same run made again."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

from mlflow.entities import Span, SpanEvent, Trace

from mlflow_flavor._facts import CONFIG_METADATA
from mlflow_flavor._payloads import Shown, show_causes, show_emitted, show_result
from mlflow_flavor._prompts import pinned_prompts, prompts_now
from mlflow_flavor._recording import Playback
from mlflow_flavor._stream import StreamLog
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, capture_event, exception_type
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.records import (
    EventStreamed,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)

__all__ = ["Comparison", "Difference", "different_calls", "different_environment", "different_run", "different_source"]

MAX_QUESTIONS = 100
"""Of one call, that are compared."""

ATTACHMENT = "mlflow-attachment://"

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
class Comparison:
    """What a comparison of two runs came to.

    Attributes:
        code: What differs in the code.
        steps: What the steps did otherwise, and the result.
        seen_in_part: Steps, and the run, that gave the same as far as the trace shows it, which is not all.
    """

    code: list[Difference]
    steps: list[Difference]
    seen_in_part: list[str]


Streamed = tuple[str, object]
"""The class of a streamed event, and what is shown of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of a step took and gave, as a trace shows it.

    Attributes:
        step: The step's name.
        inputs: What it took.
        outputs: What it gave; None if it gave nothing, or waits.
        streamed: What it streamed.
        asks: Classes of the questions that it waits for an answer to.
        is_whole: The outputs and the questions are shown whole; of a call of the first run nobody asks.
    """

    step: str
    inputs: object
    outputs: object
    streamed: Sequence[Streamed] = ()
    asks: AbstractSet[str] = frozenset()
    is_whole: bool = True

    def questions(self, types: AbstractSet[str]) -> list[dict[str, object]]:
        """What it streamed of these classes."""
        return [{name: text} for name, text in self.streamed if name in types]


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
) -> Comparison:
    """What differs in the code and in what it did, and what the trace shows too little of to tell.

    Where both runs look the same, what is shown of the second one says whether it is all: both were shown alike.

    Args:
        segments: The run's traces in order, each with the span of the run in it.
        recorder: The records of the second run.
        policy: How its payloads are shown.
        config: Digest of the configuration that the second run's model was loaded with.
    """
    (trace, root), (_, last), run_id = segments[0], segments[-1], recorder.of(RunStarted)[0].run_id
    code = list(different_code(trace, root, recorder.of(RunStarted)[0], config))
    then = _numbered(
        call for number, each in enumerate(segments, 1) for call in _calls_then(*each, goes_on=number < len(segments))
    )
    now = _numbered(_calls_now(recorder, policy))
    went_on = not recorder.of(RunEnded, run_id=run_id) and last.attributes.get(names.RUN_OUTCOME) != "suspended"
    steps = list(_different_steps(then, now, went_on=went_on))
    seen_in_part = list(_seen_in_part(then, now))
    result = last.attributes.get(names.ERROR_TYPE) or last.outputs
    again = _result_now(recorder, policy)
    if not _are_same(result, again.value) and not went_on:
        steps.append(Difference("result", root.name, result, again.value))
    elif not again.complete or _has_attachment(result):
        seen_in_part.append(root.name)
    return Comparison(code, steps, seen_in_part)


def _result_now(recorder: RunRecorder, policy: ContentPolicy) -> Shown:
    run_id = recorder.of(RunStarted)[0].run_id
    ended = next(iter(recorder.of(RunEnded, run_id=run_id)), None)
    if ended is None or (ended.error is None and ended.stop_event is None):
        return Shown(None, complete=True)  # it waits for a person
    if ended.error is not None:
        return Shown(exception_type(ended.error), complete=True)
    assert ended.stop_event is not None, "a run that ended has an error or a stop event"
    return show_result(ended.stop_event, policy.for_outputs()) or Shown(None)


def _different_steps(then: Mapping[str, Call], now: Mapping[str, Call], *, went_on: bool) -> Iterable[Difference]:
    """What the steps did otherwise, up to where the second run waits for a person, though the first one `went_on`."""
    for where, call in then.items():
        other = now.get(where)
        if other is None:
            if not went_on:
                yield Difference("path", where, call.inputs, None)
        elif _are_same(call.inputs, other.inputs):
            yield from _different_outputs(where, call, other)
    for where, call in now.items():
        if where not in then:
            yield Difference("path", where, None, call.inputs)


def _seen_in_part(then: Mapping[str, Call], now: Mapping[str, Call]) -> Iterable[str]:
    """Calls that made the same of the same input, as far as it is shown, which is not all."""
    for where, call in now.items():
        first = then.get(where)
        if first is None or (call.is_whole and not _has_attachment(first.outputs)):
            continue
        if not _are_same(first.inputs, call.inputs):
            continue
        if not any(_different_outputs(where, first, call)):
            yield where


def _different_outputs(where: str, then: Call, now: Call) -> Iterable[Difference]:
    asked, asks = then.questions(now.asks), now.questions(now.asks)
    if asked != asks:
        yield Difference("output", where, asked, asks)
    elif not asks and not _are_same(then.outputs, now.outputs):
        yield Difference("output", where, then.outputs, now.outputs)


def _calls_then(trace: Trace, root: Span, *, goes_on: bool) -> Iterable[Call]:
    """The calls in one trace of the run; those that were open when it went on in the next one are in that one too."""
    steps = [s for s in trace.data.spans if s.parent_id == root.span_id and names.STEP_EXECUTION_ID in s.attributes]
    for span in sorted(steps, key=lambda s: s.start_time_ns):
        if goes_on and span.attributes.get(names.STEP_OUTCOME) == "suspended":
            continue
        yield Call(str(span.attributes[names.STEP_NAME]), span.inputs, span.outputs, list(_streamed(span.events)))


def _calls_now(recorder: RunRecorder, policy: ContentPolicy) -> Iterable[Call]:
    run_id = recorder.of(RunStarted)[0].run_id
    ends = {record.exec_id: record for record in recorder.of(StepEnded, run_id=run_id) if record.outcome in FINAL}
    is_over = bool(recorder.of(RunEnded, run_id=run_id))
    asks = _asked_now(recorder, run_id)
    seen: set[str] = set()
    for record in recorder.of(StepStarted, run_id=run_id):
        end = ends.get(record.exec_id)
        if record.exec_id in seen or (end is None and is_over):  # a call's first attempt stands for it
            continue
        seen.add(record.exec_id)
        emitted = end.emitted if end is not None else ()
        inputs = show_causes(record.causes, policy.for_inputs())
        outputs = show_emitted(emitted, policy.for_outputs()) or Shown(None, complete=not emitted)
        asked = asks.get(record.exec_id, frozenset[str]())
        questions = _questions_now(recorder, record.exec_id, asked)
        yield Call(
            record.step,
            inputs.value if inputs is not None else None,
            outputs.value,
            _streamed_now(questions, policy),
            asked,
            is_whole=outputs.complete and _are_whole(questions, policy),
        )


def _asked_now(recorder: RunRecorder, run_id: str) -> Mapping[str, AbstractSet[str]]:
    """Classes of the questions that calls wait for an answer to, by call."""
    waits = {w.wait_id: w for w in recorder.of(WaitStarted, run_id=run_id)}
    for kind in (WaitResolved, WaitTimedOut):
        for wait in recorder.of(kind, run_id=run_id):
            waits.pop(wait.wait_id, None)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for wait in waits.values():
        if wait.exec_id is not None and wait.asked is not None:
            found[wait.exec_id].add(type(wait.asked).__name__)
    return found


def _questions_now(recorder: RunRecorder, exec_id: str, types: AbstractSet[str]) -> Sequence[EventStreamed]:
    """What a call streamed of these classes."""
    streamed = recorder.of(EventStreamed) if types else ()
    return [each for each in streamed if each.exec_id == exec_id and type(each.event).__name__ in types]


def _streamed_now(records: Iterable[EventStreamed], policy: ContentPolicy) -> Sequence[Streamed]:
    """The events as a trace shows them."""
    log = StreamLog(MAX_QUESTIONS, policy.max_chars)
    for record in records:
        log.add(record)
    return list(_streamed(log.span_events(policy.for_outputs())))


def _are_whole(records: Sequence[EventStreamed], policy: ContentPolicy) -> bool:
    """Whether a trace shows all of the events."""
    captured = [capture_event(record.event, policy.for_outputs()) for record in records[:MAX_QUESTIONS]]
    return len(records) <= MAX_QUESTIONS and all(each is not None and each.complete for each in captured)


def _streamed(events: Iterable[SpanEvent]) -> Iterable[Streamed]:
    for event in events:
        if event.name == names.SPAN_EVENT_STREAM:
            name = str(event.attributes[names.EVENT_TYPE])
            yield name, event.attributes.get(name)


def _numbered(calls: Iterable[Call]) -> dict[str, Call]:
    """Calls by `step#n`, in the order of their starts."""
    by_step: dict[str, list[Call]] = {}
    for call in calls:
        by_step.setdefault(call.step, []).append(call)
    return {f"{step}#{number}": call for step, found in by_step.items() for number, call in enumerate(found, 1)}


def _are_same(then: object, now: object) -> bool:
    """Whether both show the same; MLflow keeps an image or a sound beside the trace, which has a reference to it."""
    if _is_attachment(then):
        return isinstance(now, str)
    match then, now:
        case dict(), dict():
            one, other = cast("dict[str, object]", then), cast("dict[str, object]", now)
            return one.keys() == other.keys() and all(_are_same(one[name], other[name]) for name in one)
        case list(), list():
            items, others = cast("list[object]", then), cast("list[object]", now)
            return len(items) == len(others) and all(map(_are_same, items, others))
        case _:
            return _plain(then) == _plain(now)


def _is_attachment(value: object) -> bool:
    return isinstance(value, str) and value.startswith(ATTACHMENT)


def _has_attachment(value: object) -> bool:
    return ATTACHMENT in _plain(value)


def _plain(value: object) -> str:
    return json.dumps(cast("Any", value), sort_keys=True, default=str)
