"""`reproduce`: run the model version that made a trace on the trace's input again, and say what differs."""

from __future__ import annotations

import logging

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import Span, Trace, TraceState
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracing.constant import TraceMetadataKey
from pydantic import ValidationError

from mlflow_flavor import _daemon
from mlflow_flavor._comparison import (
    Difference,
    different_calls,
    different_code,
    different_environment,
    different_source,
)
from mlflow_flavor._compat import attached_text, invalid, state_of_trace
from mlflow_flavor._compat_models import download
from mlflow_flavor._facts import FIRST_TRACE
from mlflow_flavor._loading import StoredModel, config_digest
from mlflow_flavor._open_questions import OpenQuestions
from mlflow_flavor._recording import RECORDING_SPAN, ROOT_RUN, ChildRuns, Playback, RunPath
from mlflow_flavor._rows import plain_result
from mlflow_flavor._run_comparison import RunComparison
from mlflow_flavor._run_parts import Part
from mlflow_flavor._serializer import ModelSerializer
from mlflow_flavor._traced_run import traced_run
from mlflow_flavor._watched_run import WatchedRun
from mlflow_flavor.autolog import handler as drawer
from mlflow_flavor.recorded import played_back
from workflows import Workflow
from workflows.context.serializers import JsonSerializer
from workflows.events import StartEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation import attributes as names
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.records import RunStarted

__all__ = ["Difference", "IncompleteInputError", "Reproduction", "reproduce"]

NAMED = 5
"""Names in a warning."""

INPUT_SPAN = "workflow.input"
RESUMED = names.LINK_RESUMED_FROM

logger = logging.getLogger("workflows.mlflow")


class IncompleteInputError(MlflowException):
    """A trace shows only part of its run's input: it was cut for its length, masked, or not shown at all."""

    def __init__(self, trace_id: str) -> None:
        super().__init__(
            f"Trace {trace_id} does not hold the whole input of its run: it was cut, masked or left out. Pass input=, "
            "or call mlflow_flavor.autolog(record_inputs=True) where the runs are traced.",
            error_code=INVALID_PARAMETER_VALUE,
        )
        self.trace_id = trace_id


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run of the past, and the same again.

    Attributes:
        trace_id: The trace of the first run.
        result: What the second run gave, as plain data; None if it failed, or stopped to ask a person.
        error: What failed the second run.
        differences: What differs, causes first; empty if nothing does that the trace shows (see `not_compared`).
        new_trace_id: The trace of the second run; None where this process does not trace.
        replayed: How many calls got the answer that was recorded, and were not made.
        made: Names of `recorded` functions that were called although recorded answers were asked for: the first run
            did not ask them that, or in a thread without its context, or nobody gave them up as then.
        not_compared: What did the same as far as it can be seen, which is not all: steps (`name#n`), what is below them
            (`name#n/Child.run#1`), and the run. Of those the trace has only part of a long text, list or stream, only
            the size of bytes, vectors and arrays, only the class of other objects, only the last of several errors that
            were raised from one another, and nothing of what is masked; or the second run stopped in them to ask a
            person, where the first one went on. Whether they did the same is not known.
    """

    trace_id: str
    result: Any
    error: Exception | None
    differences: list[Difference]
    new_trace_id: str | None = None
    replayed: int = 0
    made: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()


def reproduce(trace_id: str, *, input: Mapping[str, Any] | None = None, recorded: bool = False) -> Reproduction:
    """Run the model version that made a trace once more, on the same input, and compare step by step.

    Calls of a step are compared with those that took the same then, whichever started first. One that gives something
    else for the same input, in the same code, shows that a model's answer (or the world) changed; of one that was given
    something else, only that is told. Where the trace holds the answers of `mlflow_flavor.recorded` functions, they are
    compared one by one; or they are given again.

    What did the same as far as the trace shows it, which is not all, is in `not_compared`, and a warning names it: two
    runs did the same only if `differences` and `not_compared` are both empty.

    A run that waits for a person ends there, and is compared up to there. One that went on in other traces, because it
    was open for long, is compared whole.

    Args:
        trace_id: A trace of a logged model's run; the first, if it has several.
        input: The start event's fields; those of the trace if left out.
        recorded: Give the recorded answers of models and tools again, and call none of them: what differs then comes
            from the code, the configuration or the environment.

    Raises:
        IncompleteInputError: If the trace does not hold the whole input, and none is given.
        MlflowException: If there is no such trace, it is of no workflow run, of none that has ended, or of no logged
            model, or the run began in an earlier one; or if recorded answers are asked for and it holds none.
    """
    then = FirstRun.read(trace_id)
    model_id = then.trace.info.trace_metadata.get(TraceMetadataKey.MODEL_ID)
    if model_id is None:
        raise invalid(f"Trace {trace_id} names no logged model: only runs of models from load_model() can be repeated.")
    if input is None and not then.has_whole_input():
        raise IncompleteInputError(trace_id)
    stored = StoredModel.read(download(f"models:/{model_id}", None))
    workflow = stored.load(None)
    start = _start_event(then, workflow, input)
    playback = _playback_of(then, workflow, gives=recorded)
    again = _daemon.call(lambda: _again(workflow, start, playback))
    compared = RunComparison.of(traced_run(then.segments), again.parts)
    _warn_of_parts(trace_id, compared.in_part)
    code = different_code(then.trace, then.root, again.started, config_digest(stored.config))
    traces = [trace for trace, _ in then.segments]
    source = different_source(stored.directory, stored.facts.get("source_sha256"), stored.code.sha256, traces)
    environment = different_environment(stored.directory / "requirements.txt")
    return Reproduction(
        trace_id,
        again.result,
        again.error,
        [*source, *code, *environment, *different_calls(playback), *compared.differences],
        new_trace_id=drawer.trace_id(again.started.run_id),
        replayed=playback.given,
        made=tuple(playback.missing),
        not_compared=tuple(compared.in_part),
    )


def _warn_of_parts(trace_id: str, where: Sequence[str]) -> None:
    if where:
        logger.warning(
            "As far as it is shown, %s did the same as in trace %s, but not all of it can be compared: it was cut or "
            "masked, is no data, or came after a question that nobody answered this time. Mark what gives such values "
            "with mlflow_flavor.recorded, and call mlflow_flavor.autolog(record_calls=True) where the runs are traced: "
            "recorded answers are compared whole.",
            ", ".join(where[:NAMED]) + (f" and {len(where) - NAMED} more" if len(where) > NAMED else ""),
            trace_id,
        )


@dataclass(frozen=True, slots=True)
class FirstRun:
    """The run that is repeated: its trace and, where it was open for long, those in which it went on.

    Attributes:
        segments: Each trace with the run's span in it, in order.
    """

    segments: list[tuple[Trace, Span]]

    @classmethod
    def read(cls, trace_id: str) -> FirstRun:
        """Read the run that began in a trace.

        Raises:
            MlflowException: If there is no such trace, its run has not ended, or the run began in another one.
        """
        # Of a run that has just ended, the trace is on its way: spans in several pieces, then the model that it is of.
        mlflow.flush_trace_async_logging()
        found = cls._stored(trace_id)
        if found is not None:
            return found
        state = state_of_trace(trace_id)
        if state is None:
            raise invalid(f"There is no trace '{trace_id}' in {mlflow.get_tracking_uri()}.")
        if state != TraceState.IN_PROGRESS:
            raise invalid(f"MLflow cannot read the spans of trace {trace_id}: some of them were not stored.")
        raise invalid(
            f"The run of trace {trace_id} is still going on, or its process ended before it did: only a run that has "
            "ended can be repeated."
        )

    @classmethod
    def _stored(cls, trace_id: str) -> FirstRun | None:
        """The run as it is stored; None if it is not stored up to the end of that trace."""
        trace = mlflow.get_trace(trace_id)
        root = _root_of(trace) if trace is not None else None
        if trace is None or (root is None and trace.info.state == TraceState.IN_PROGRESS):
            return None
        if root is None:
            raise invalid(f"Trace {trace_id} is of no workflow run.")
        if (earlier := _earlier_trace(trace, root)) is not None:
            raise invalid(f"The run of trace {trace_id} began in trace {earlier}: reproduce that one.")
        found = mlflow.search_traces(
            locations=[str(trace.info.experiment_id)],
            filter_string=f"metadata.`{FIRST_TRACE}` = '{trace_id}'",
            order_by=["timestamp_ms ASC"],
            return_type="list",
        )
        later = [(t, span) for t in found if isinstance(t, Trace) and (span := _root_of(t)) is not None]
        return cls([(trace, root), *later])

    @property
    def trace(self) -> Trace:
        """Where it began."""
        return self.segments[0][0]

    @property
    def root(self) -> Span:
        """The span of the run where it began."""
        return self.segments[0][1]

    def recorded_input(self) -> str | None:
        """The whole input, as it was stored beside the trace."""
        for span in self.trace.data.spans:
            if span.name == INPUT_SPAN and isinstance(span.inputs, dict):
                return attached_text(self.trace.info, str(span.inputs["start_event"]))
        return None

    def has_whole_input(self) -> bool:
        """Whether the trace shows or holds the input as it was."""
        shown = self.root.attributes.get(names.INPUT_COMPLETE) is True and isinstance(self.root.inputs, dict)
        return shown or any(span.name == INPUT_SPAN for span in self.trace.data.spans)


def _root_of(trace: Trace) -> Span | None:
    return next((s for s in trace.data.spans if names.RUN_ID in s.attributes), None)


def _earlier_trace(trace: Trace, root: Span) -> str | None:
    """The trace in which a run began that only goes on in this one."""
    first = trace.info.trace_metadata.get(FIRST_TRACE)
    if first is not None or not root.attributes.get(names.RUN_SEGMENT):
        return first
    resumed = [link for link in getattr(root, "links", ()) if (link.attributes or {}).get(names.LINK_TYPE) == RESUMED]
    if not resumed:
        return "that is not linked here"
    before = mlflow.get_trace(resumed[0].trace_id, silent=True)
    root_before = _root_of(before) if before is not None else None
    earlier = _earlier_trace(before, root_before) if before is not None and root_before is not None else None
    return earlier or resumed[0].trace_id


def _start_event(then: FirstRun, workflow: Workflow, given: Mapping[str, Any] | None) -> StartEvent:
    name = then.root.attributes.get(names.GEN_AI_WORKFLOW_NAME)
    if name not in (type(workflow).__name__, workflow.workflow_name):
        # MLflow names its active model where a trace is of no model at all.
        trace_id = then.trace.info.trace_id
        raise invalid(f"Trace {trace_id} is of {name}, but the model it names is {type(workflow).__name__}.")
    text = then.recorded_input() if given is None else None
    found: object = _serializer(workflow).deserialize(text) if text is not None else None
    if isinstance(found, workflow.start_event_class):
        return found
    fields: Any = given if given is not None else (found or then.root.inputs)
    try:
        return workflow.start_event_class(**_by_alias(workflow.start_event_class, fields))
    except ValidationError as error:
        raise invalid(f"The input does not fit {workflow.start_event_class.__name__}: {error}") from error


def _by_alias(cls: type[StartEvent], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the class takes them: a trace shows them by name, where it may take only their aliases."""
    aliases = {name: field.validation_alias for name, field in cls.model_fields.items()}
    return {alias if isinstance(alias := aliases.get(name), str) else name: value for name, value in fields.items()}


def _serializer(workflow: Workflow) -> ModelSerializer:
    return ModelSerializer(workflow, JsonSerializer(), closed=False)


def _playback_of(then: FirstRun, workflow: Workflow, *, gives: bool) -> Playback:
    recordings = [found for trace, root in then.segments for found in _recordings_of(trace, root)]
    playback = Playback(recordings, _serializer(workflow), gives=gives)
    if gives and not playback:
        raise invalid(
            f"Trace {then.trace.info.trace_id} holds no recorded answers. Mark what asks models and tools with "
            "mlflow_flavor.recorded, and call mlflow_flavor.autolog(record_calls=True) where the runs are traced; in "
            "threads, call it with the step's context (asyncio.to_thread)."
        )
    return playback


def _recordings_of(trace: Trace, root: Span) -> Iterable[tuple[RunPath, str]]:
    """What each run of the trace recorded, and where that run is below the one of `root`."""
    children = ChildRuns(str(root.attributes[names.RUN_ID]))
    paths: dict[str, RunPath] = {root.span_id: ROOT_RUN}
    spans = sorted(trace.data.spans, key=lambda s: s.start_time_ns)
    for span in spans:
        parent = span.attributes.get(names.PARENT_RUN_ID)
        if parent is not None and names.RUN_ID in span.attributes:
            name = str(span.attributes[names.GEN_AI_WORKFLOW_NAME])
            path = children.started(str(span.attributes[names.RUN_ID]), name, str(parent))
            if path is not None:
                paths[span.span_id] = path
    for span in spans:
        path = paths.get(span.parent_id or "")
        if span.name == RECORDING_SPAN and path is not None and isinstance(span.inputs, dict):
            yield path, attached_text(trace.info, str(span.inputs["calls"]))


@dataclass(frozen=True, slots=True)
class Again:
    """The second run: how it began, what a trace would show of it, and how it ended."""

    started: RunStarted
    parts: Part
    result: Any = None
    error: Exception | None = None


async def _again(workflow: Workflow, start: StartEvent, playback: Playback) -> Again:
    """The second run, up to its end or to where it waits for a person."""
    questions, beginning = OpenQuestions(), RunRecorder()
    add_handler(questions, workflow=workflow)
    remove = add_handler(beginning, workflow=workflow)
    handler = workflow.run(start_event=start)
    remove()  # the start of the run has been told, and nothing else that matters
    (started,) = beginning.of(RunStarted)
    watched = WatchedRun(started, drawer.settings.content)
    with played_back(handler.run_id, playback), watched.watching():
        try:
            if await questions.stopping(handler):
                await handler.suspend()
                return Again(started, watched.root)
            return Again(started, watched.root, plain_result(await handler.stop_event_result()))
        except Exception as error:  # noqa: BLE001  # whatever fails the run is part of what is compared
            return Again(started, watched.root, error=error)
