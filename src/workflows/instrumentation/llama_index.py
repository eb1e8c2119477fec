"""The bridge to `llama_index_instrumentation`: tells runs and steps to the handlers that are registered there.

`Dispatcher.awake` imports this module once that package is loaded, and calls `look` at the start of each run: while a
real handler is registered there, a `Bridge` is among the handlers of the workflow's dispatcher; else there is none.

A handler gets spans of runs and steps, unless one of ours draws them for the same destination. Then it gets none, and
its own spans (of models, tools, user code) nest below ours: the current span of OpenTelemetry, or of MLflow, is ours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Token, copy_context
from dataclasses import dataclass, field
from typing import Any, cast

from workflows.instrumentation.dispatcher import Dispatcher
from workflows.instrumentation.llama_index_events import (
    SpanCancelledEvent,
    WorkflowRunOutputEvent,
    WorkflowStepOutputEvent,
)
from workflows.instrumentation.llama_index_handlers import (
    EventHandler,
    SpanDropEvent,
    SpanHandler,
    active_span_id,
    active_tags,
    draws_by_current_span,
    draws_in_mlflow,
    event_handlers,
    is_anybody_there,
    processor_of,
    root_dispatcher,
    span_handler_of,
    span_handlers,
    tracer_of,
)
from workflows.instrumentation.llama_index_notes import (
    INPUT_EVENT_TAG,
    INPUT_SUMMARY_TAG,
    RUN_ID_TAG,
    START_EVENT_TAG,
    NoteTaker,
    StepNotes,
    TagTaker,
    bridges,
    of_user,
)
from workflows.instrumentation.llama_index_spans import BridgedSpan, HasSteps, Receiver, arguments_of, summary
from workflows.instrumentation.records import Record, RunEnded, RunStarted, RunSuspended, StepEnded, StepStarted
from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["Bridge", "look"]

SUMMARY_CHARS = 200
CARRIED = "context"
CARRIED_TAGS = "instrument_tags"

logger = logging.getLogger("workflows.instrumentation")
_warned: set[str] = set()
_WHY = {"cancelled": "workflow cancelled by user", "interrupted": "the event loop stopped"}


def look(dispatcher: Dispatcher, workflow: HasSteps) -> None:
    """Have a bridge among a workflow's handlers while somebody is registered, and none otherwise."""
    found = is_anybody_there()
    if not found and not dispatcher.handlers:
        return
    bridge = next((told.handler for told in dispatcher.handlers if isinstance(told.handler, Bridge)), None)
    if found:
        if bridge is None:
            Bridge(dispatcher, workflow).begin()
        if not any(isinstance(handler, StepNotes) for handler in root_dispatcher.event_handlers):
            root_dispatcher.event_handlers.append(StepNotes())
    elif bridge is not None and bridge.is_idle:
        bridge.stop()
        told = root_dispatcher.event_handlers
        told[:] = [handler for handler in told if not isinstance(handler, StepNotes)]


@dataclass(slots=True)
class _OpenStep:
    span: BridgedSpan
    span_token: Token[str | None]
    tags_token: Token[dict[str, Any]]


@dataclass(slots=True)
class _OpenRun:
    span: BridgedSpan
    tags: dict[str, Any]
    receivers: Sequence[Receiver]
    listeners: Sequence[EventHandler]
    steps: dict[str, _OpenStep] = field(default_factory=dict[str, _OpenStep])
    shows_tags: bool = False


class Bridge:
    """A record handler of one workflow instance that replays its runs for other people's handlers."""

    name = "llama_index"
    destination = "llama_index"

    def __init__(self, dispatcher: Dispatcher, workflow: HasSteps) -> None:
        self._dispatcher = dispatcher
        self._workflow = workflow
        self._remove: Callable[[], None] | None = None
        self._runs: dict[str, _OpenRun] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no run is open."""
        return not self._runs

    def begin(self) -> None:
        """Take the records of the workflow's runs from now on."""
        self._remove = self._dispatcher.add(self)

    def stop(self) -> None:
        """Take none any more."""
        if self._remove is not None:
            self._remove()

    def handle(self, record: Record) -> None:
        """Replay one record."""
        match record:
            case RunStarted():
                self._run_started(record)
            case StepStarted():
                self._step_started(record)
            case StepEnded():
                self._step_ended(record)
            case RunEnded() | RunSuspended():
                self._run_ended(record)
            case _:
                pass

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """For a snapshot: what the handlers need to go on in another process. Events carry nothing."""
        run, scope = self._runs.get(run_id), current_attempt.get()
        if run is None or (scope is not None and scope.run_id == run_id):
            return None
        carried: dict[str, Any] = {}
        for receiver in run.receivers:
            carried.update(receiver.capture())
        if tags := of_user(run.tags):
            carried[CARRIED_TAGS] = tags
        return {CARRIED: json.dumps(carried, default=str)} if carried else None

    def takers(self, scope: AttemptScope, span_id: str | None) -> Iterator[NoteTaker]:
        """Who of ours shows an event of an attempt that belongs to no span but the attempt's own."""
        run = self._runs.get(scope.run_id)
        step = run.steps.get(scope.exec_id) if run is not None else None
        if step is not None and span_id in (None, step.span.id):
            for told in self._dispatcher.handlers:
                if hasattr(told.handler, "note"):
                    yield cast("NoteTaker", told.handler)

    def _run_started(self, record: RunStarted) -> None:
        receivers, listeners = self._takers(record.run_id)
        carried = record.carriers.get(self.name, {}).get(CARRIED)
        carried = cast("dict[str, Any]", json.loads(carried)) if carried else {}
        for receiver in receivers if carried else ():
            receiver.restore(carried)
        tags = {**carried.get(CARRIED_TAGS, {}), **of_user(active_tags.get()), RUN_ID_TAG: record.run_id}
        event = record.start_event
        arguments = {"start_event": event} if event is not None else {}
        about = {**tags, START_EVENT_TAG: type(event).__name__} if event is not None else tags
        name = f"{type(self._workflow).__name__}.run"
        span = BridgedSpan(name, arguments, about, receivers, listeners, self._workflow)
        self._runs[record.run_id] = _OpenRun(span, tags, receivers, listeners)
        bridges[record.run_id] = self
        outer = active_span_id.get()
        # In the run's own context, which every attempt copies. None where the handlers know no span of this run: they
        # would look for their parent by its id, and hang their spans below whatever was around run().
        active_span_id.set(span.id if receivers else None)
        active_tags.set(tags)
        span.enter(outer)

    def _step_started(self, record: StepStarted) -> None:
        run = self._runs.get(record.run_id)
        if run is None:
            return
        if not run.shows_tags:
            run.shows_tags = True
            self._show_tags(record.run_id, run)
        events = [cause.event for cause in record.causes]
        tags = {
            **run.tags,
            INPUT_EVENT_TAG: ", ".join(dict.fromkeys(type(event).__name__ for event in events)),
            INPUT_SUMMARY_TAG: summary(events, SUMMARY_CHARS),
        }
        receivers = [receiver.inner() for receiver in run.receivers]
        name = f"{type(self._workflow).__name__}.{record.step}"
        span = BridgedSpan(name, arguments_of(self._workflow, record.step, events), tags, receivers, run.listeners)
        span_token = active_span_id.set(span.id if receivers else None)
        run.steps[record.exec_id] = _OpenStep(span, span_token, active_tags.set(tags))
        span.enter(run.span.id)

    def _show_tags(self, run_id: str, run: _OpenRun) -> None:
        """Give the user's tags to those who draw the run in place of a handler, once they have begun to draw it."""
        tags = of_user(run.tags)
        if tags and len(run.receivers) < sum(1 for _ in span_handlers()):
            for told in self._dispatcher.handlers:
                if hasattr(told.handler, "tag"):
                    cast("TagTaker", told.handler).tag(run_id, tags)

    def _step_ended(self, record: StepEnded) -> None:
        run = self._runs.get(record.run_id)
        step = run.steps.pop(record.exec_id, None) if run is not None else None
        if step is None:
            return
        events = [envelope.event for envelope in record.emitted]
        match record.outcome:
            case "completed":
                step.span.tell_output(WorkflowStepOutputEvent, events)
                step.span.exit(events[0] if len(events) == 1 else events or None)
            case "failed" | "retrying" | "timed_out" if record.error is not None:
                _drop(step.span, record.error)
            case "waiting" | "suspended":
                step.span.exit()
            case _:
                _cancel(step.span, "step cancelled")
        try:
            active_tags.reset(step.tags_token)
            active_span_id.reset(step.span_token)
        except ValueError:
            logger.debug("step %s ended in another context than it began in", record.step)

    def _run_ended(self, record: RunEnded | RunSuspended) -> None:
        run = self._runs.pop(record.run_id, None)
        if run is None:
            return
        bridges.pop(record.run_id, None)
        for step in run.steps.values():
            _cancel(step.span, "step cancelled")
        if isinstance(record, RunSuspended):
            run.span.exit()
        elif record.outcome == "completed":
            run.span.tell_output(WorkflowRunOutputEvent, [record.stop_event] if record.stop_event is not None else [])
            run.span.exit(record.stop_event)
        elif record.outcome in ("failed", "timed_out") and record.error is not None:
            _drop(run.span, record.error)
        else:
            _cancel(run.span, record.reason or _WHY.get(record.outcome, f"workflow {record.outcome}"))

    def _takers(self, run_id: str) -> tuple[list[Receiver], list[EventHandler]]:
        """Who draws this run, and who is told its events: all but those for whose destination ours draw it."""
        told = self._dispatcher.handlers
        processors = [p for h in told if (p := processor_of(getattr(h.handler, "tracer", None))) is not None]
        in_mlflow = any(h.handler.destination == "mlflow" and h.carrier(run_id, self._dispatcher.strict) for h in told)
        receivers: list[Receiver] = []
        kept: list[SpanHandler] = []
        for handler in span_handlers():
            processor = processor_of(tracer_of(handler))
            if (in_mlflow and draws_in_mlflow(handler)) or any(processor is p for p in processors):
                kept.append(handler)
                continue
            # With a provider of its own beside ours: what it makes current must not become the parent of our spans.
            apart = processor is not None and bool(processors)
            receivers.append(Receiver(handler, copy_context() if apart else None))
            if apart and draws_by_current_span(handler):
                _warn_of_two_providers()
        return receivers, [h for h in event_handlers() if not any(span_handler_of(h) is handler for handler in kept)]


def _drop(span: BridgedSpan, error: BaseException) -> None:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # the user's exception, which must not keep the span open
        text = type(error).__name__
    span.tell(SpanDropEvent, err_str=text)
    span.drop(error)


def _cancel(span: BridgedSpan, reason: str) -> None:
    span.tell(SpanCancelledEvent, reason=reason)
    span.exit()


def _warn_of_two_providers() -> None:
    if "providers" not in _warned:
        _warned.add("providers")
        logger.warning(
            "LlamaIndexOpenTelemetry and workflows_otel use two tracer providers. It hangs its spans below whatever "
            "OpenTelemetry span is current, so its spans of models and tools land in traces of the other provider. "
            "Give both the same one: LlamaIndexOpenTelemetry(tracer_provider=...), or "
            "workflows_otel.instrument(tracer_provider=...)"
        )
