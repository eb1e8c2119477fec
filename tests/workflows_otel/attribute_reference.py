"""Writes docs/telemetry/attributes.md: every name of `workflows.instrumentation.attributes`, and where it is seen.

    make attributes

What a value is and which spans have it is looked up in the spans of a showcase run here, so that it cannot be wrong;
only what a name means is written below, and a name without a meaning is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, FanOut, Flaky, Form, Slow, Streaming
from tests.workflows_otel.instrument_list import instruments
from tests.workflows_otel.span_log import SpanLog
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy
from workflows.instrumentation.dispatcher import process_dispatcher
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop
from workflows_otel import OtelHandler, llm_call, retriever, tool
from workflows_otel.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "telemetry" / "attributes.md"
HEADING = re.compile(r"^# --- (.+?) -*$")
NAME = re.compile(r"^([A-Z_]+): Final = \"(.+)\"$")
CONVENTIONS = {
    "gen_ai.": "[OpenTelemetry, generative AI](https://opentelemetry.io/docs/specs/semconv/gen-ai/)",
    "exception.": "[OpenTelemetry, exceptions](https://opentelemetry.io/docs/specs/semconv/exceptions/)",
    "error.": "[OpenTelemetry, errors](https://opentelemetry.io/docs/specs/semconv/attributes-registry/error/)",
    "code.": "[OpenTelemetry, code](https://opentelemetry.io/docs/specs/semconv/attributes-registry/code/)",
    "langfuse.": "[Langfuse, OpenTelemetry](https://langfuse.com/integrations/native/opentelemetry)",
    "mlflow.": "[MLflow, OpenTelemetry](https://mlflow.org/docs/latest/genai/tracing/opentelemetry/)",
}
OPENINFERENCE = "[OpenInference](https://github.com/Arize-ai/openinference/tree/main/spec)"

# What names of our own mean. Times are in seconds, sizes in characters.
MEANINGS = {
    "RUN_ID": "the run; kept when it is suspended and goes on",
    "ROOT_RUN_ID": "the run at the top, of which this one is a child or grandchild",
    "PARENT_RUN_ID": "the run whose step started this one",
    "WORKFLOW_VERSION": "`__version__` of the workflow's class",
    "GRAPH_HASH": "changes when steps or their events change",
    "TIMEOUT": "what the run may take",
    "RUN_SEGMENT": "how often it was suspended before: 0, 1, ...",
    "RUN_OUTCOME": "`completed`, `failed`, `cancelled`, `timed_out`, `suspended` or `interrupted`",
    "RUN_STEPS": "attempts of steps that ended",
    "RUN_RETRIES": "attempts that were made again",
    "RUN_EVENTS": "events sent",
    "RUN_STREAMED": "events streamed",
    "RUN_HANDLED_ERRORS": "failures that a `@catch_error` step took",
    "RUN_UNHANDLED": "events that no step took",
    "RUN_QUEUE_WAIT": "how long it waited for `num_concurrent_runs`",
    "RUN_FAILED_STEP": "the step that failed it",
    "CANCEL_REASON": "why it was cancelled or interrupted, in words",
    "STEP_NAME": "the step",
    "STEP_EXECUTION_ID": "one delivery of an event to a step; its attempts share it",
    "STEP_ATTEMPT": "from 1",
    "STEP_ATTEMPTS": "how many there were in the end",
    "STEP_MAX_ATTEMPTS": "how many the retry policy allows",
    "STEP_WORKER": "which of its workers took it, from 0",
    "STEP_NUM_WORKERS": "how many it has",
    "STEP_QUEUE_WAIT": "how long the event waited for a free worker",
    "STEP_QUEUE_DEPTH": "events that waited for this step when it began",
    "STEP_OUTCOME": "`completed`, `failed`, `retrying`, `waiting`, `suspended`, `cancelled`, `timed_out`, "
    "`abandoned` (the run ended first) or `interrupted`",
    "STEP_REPLAY": "the body runs once more, after a wait or a resume",
    "STEP_HANDLED_BY": "the `@catch_error` step that took the failure",
    "CALL_OUTCOME": "of a call of a model, tool or retriever that did not end by itself: `cancelled`, `closed` (a "
    "stream that was not read to its end), or in MLflow `left` (it goes on after a run that is evaluated)",
    "RETRY_DELAY": "until the next attempt",
    "RETRY_WILL_RETRY": "there is a next attempt",
    "RETRY_POLICY": "which policy decided",
    "RETRY_ELAPSED": "since the first attempt began; waits and suspensions do not count",
    "RETRY_PREVIOUS_ERROR_TYPE": "what the attempt before failed with",
    "EVENT_ID": "the event that the step got; of a wait: what answered it",
    "EVENT_TYPE": "its class",
    "EVENT_SOURCE": "where it came from: a `step` of the run, whoever called `run()` (`start`), or elsewhere "
    "(`external`); of a wait also `timer`: nothing came in time",
    "CAUSE_SPAN_IDS": "the spans that sent what the step got (the first 16), of a wait of the run the step that asked; "
    "the links say the same",
    "CAUSE_TRACE_IDS": "the traces of these, where one is another than the span's own",
    "CAUSE_COUNT": "how many events a join got",
    "COLLECT_BUFFERED": "`collect_events` only put the event aside",
    "EMITTED": "events that the step sent, as `Class:id` (the first 32)",
    "EMITTED_COUNT": "how many, where there were more",
    "INPUT_SIZE": "of the whole payload",
    "INPUT_COMPLETE": "`input.value` is the whole payload, so that the run can be repeated from it",
    "INPUT_URI": "where the whole of a payload that was cut is kept, with `setup(blob=...)`",
    "OUTPUT_URI": "the same, of the result",
    "OUTPUT_SIZE": "of the whole result",
    "TRUNCATED": "a payload was cut",
    "STREAM_COUNT": "events streamed",
    "STREAM_TYPES": "of which classes, as `Class=count`",
    "STREAM_FIRST": "from the start to the first",
    "STREAM_LAST": "from the start to the last",
    "STREAM_SEQ": "the number of one streamed event",
    "STREAM_DROPPED": "events that were given up because nobody read them",
    "STREAM_MERGED": "events that were put together because the reader was slow",
    "WAIT_ID": "one wait for an event from outside",
    "WAIT_EVENT_TYPE": "the class of that event",
    "WAIT_OUTCOME": "`resolved`, `timed_out` or `cancelled`",
    "WAIT_DURATION": "how long it was waited for, across processes",
    "WAIT_CROSSED_PROCESS": "it began before the run was suspended, maybe in another process",
    "WAIT_QUESTION_ID": "the `InputRequiredEvent` on which the run waits, where a step returned it",
    "WAIT_QUESTION_TYPE": "its class; `workflow.step.name` is the step that asked",
    "LINK_TYPE": "what a link means, see below",
    "RETRY_OF_SPAN_ID": "the attempt before",
    "RETRY_OF_TRACE_ID": "its trace, where that is another",
    "WAIT_RESOLVED_BY_SPAN_ID": "the span that sent the answer",
    "WAIT_RESOLVED_BY_TRACE_ID": "its trace, where that is another",
    "RESUMED_FROM_SPAN_ID": "the segment before",
    "RESUMED_FROM_TRACE_ID": "its trace, where that is another",
    "SPAWNED_BY_SPAN_ID": "the span that was current at `run()`, where that is not the parent",
    "SPAWNED_BY_TRACE_ID": "its trace, where that is another",
}
LINKS = {
    "LINK_TRIGGER": "from a step to the one that sent its event, and from a wait of the run to the one that asked",
    "LINK_COLLECT_MEMBER": "from a join to each sender",
    "LINK_RETRY_OF": "from an attempt to the one before",
    "LINK_WAIT_RESOLVED_BY": "from a wait to whoever answered",
    "LINK_EXTERNAL_SENDER": "from a step to the span outside the run that sent its event",
    "LINK_RESUMED_FROM": "from a segment to the one before",
    "LINK_SPAWNED_BY": "from a run to the span that was current at `run()`, where that is not its parent",
}


class Part(Event):
    n: int


class Showcase(Workflow):
    """A version, children, calls of models, a handled failure ... what the flows of the tests lack."""

    __version__ = "1.2"

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        with llm_call(model="m-1", provider="openai") as call:
            call.input("hello").usage(input=10, output=4, model="m-1-mini")
            call.chunk("hi")
        with tool(name="search", description="looks things up") as call:
            call.input({"q": "x"}).output("y")
        with retriever(name="notes") as call:
            call.input("x").output([{"text": "y", "score": 0.5}])
        for streaming in (tool(name="search"), retriever(name="notes")):
            with streaming as call:
                call.chunk("y")
        for failing in (llm_call(model="m-1"), tool(name="search"), retriever(name="notes")):
            with contextlib.suppress(ValueError), failing as call:
                call.input("x" * 100_000).output("y" * 100_000)
                raise ValueError("no answer")
        for late in (llm_call(model="m-1"), tool(name="search"), retriever(name="notes")):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    with late:
                        await asyncio.sleep(2)
        ctx.send_event(Part(n=1))
        await Echo().run(text="x" * 10_000)
        return StopEvent(result="y" * 10_000)


class Handled(Workflow):
    """Its failure is taken by a step for that."""

    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("handled")

    @catch_error
    async def recover(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent()


class AsksInTries(Workflow):
    """A step with a retry policy streams, and waits."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Part(n=1))
        answer = await ctx.wait_for_event(Answer, timeout=None)
        return StopEvent(result=answer.text)


class GivesUp(Workflow):
    """What fails for good, in a step with a retry policy, is taken by a step for that."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
        raise ConnectionError("no route")

    @catch_error
    async def recover(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent()


async def _happen() -> None:
    """Runs that between them do everything that a span can tell of."""
    with workflows_otel.context(session_id="s", user_id="u", tags=["t"], metadata={"plan": "pro"}):
        await Showcase(timeout=60).run()
        await FanOut().run(n=40)
        await Handled().run()
        await GivesUp().run()
        await Flaky(failures=1).run()
        await Streaming().run(n=2)
        for failing in (Failing().run(error=ValueError("broken")), Slow(timeout=1).run(), AskPerson().run(patience=1)):
            with contextlib.suppress(Exception):
                await failing
        one_at_a_time = Slow(num_concurrent_runs=1, timeout=None)
        await asyncio.gather(one_at_a_time.run(), one_at_a_time.run())
        cancelled = Slow().run()
        await asyncio.sleep(1)
        await cancelled.cancel_run()


async def _suspended(tracer: trace.Tracer) -> None:
    """Runs that are suspended in a wait or a backoff and go on, each segment in a trace of its own."""
    with workflows_otel.context(session_id="s", user_id="u"):
        for workflow in (AskPerson(timeout=None), AsksInTries(timeout=None), Form(timeout=None), Flaky(failures=1)):
            with tracer.start_as_current_span("asks"):
                handler = workflow.run(patience=None)
            await asyncio.sleep(1)
            snapshot = json.loads(json.dumps(await handler.suspend()))
            handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
            await asyncio.sleep(1)
            if not isinstance(workflow, Flaky):
                with tracer.start_as_current_span("answers"):
                    handler.ctx.send_event(Answer(text="yes"))
            await handler


def _draw(provider: TracerProvider, settings: Settings) -> None:
    """With everything that any back end needs."""
    workflows_otel.instrument(provider)
    (drawing,) = (told.handler for told in process_dispatcher.handlers if isinstance(told.handler, OtelHandler))
    drawing.configure(settings)


def _spans() -> list[ReadableSpan]:
    log = SpanLog()
    policy = ContentPolicy(mode="full", blob=lambda text, mime_type: "file:///kept")
    settings = Settings(policy, names_traces=True, conversation_id=True)
    tracer = log.provider.get_tracer("application")
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        _draw(log.provider, settings)
        runner.run(_happen())
        _draw(log.provider, replace(settings, run_parent="link", resume_trace="link"))
        runner.run(_suspended(tracer))
    workflows_otel.uninstrument(log.provider)
    return [span for span in log.finished if span.name not in ("asks", "answers")]  # the application's own


def _seen() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """On which kinds of spans (and in which of their events) each attribute is, and of which types it is."""
    where: dict[str, set[str]] = defaultdict(set)
    kinds: dict[str, set[str]] = defaultdict(set)
    for span in _spans():
        kind = span.name.split()[0]
        holders = [(kind, span.attributes), *(("event", event.attributes) for event in span.events)]
        for holder, attributes in [*holders, *(("link", link.attributes) for link in span.links)]:
            for key, value in (attributes or {}).items():
                base = next((name for name in _PREFIXES if key.startswith(f"{name}.")), key)
                where[base].add(_SHOWN.get(holder, holder))
                kinds[base].add(_type(value))
    return where, kinds


_PREFIXES = (at.LLM_INPUT_MESSAGES, at.LLM_OUTPUT_MESSAGES, at.RETRIEVAL_DOCUMENTS)
_SHOWN = {
    "invoke_workflow": "run",
    "workflow.started": "started",
    "run_step": "step",
    "chat": "model",
    "execute_tool": "tool",
    "retrieval": "retriever",
}
_ORDER = ("run", "started", "step", "attempt", "wait", "model", "tool", "retriever", "event", "link")


def _type(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"list of {_type(value[0]) if value else 'text'}"
    return {bool: "yes or no", int: "integer", float: "number", str: "text"}[type(value)]


def _sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The module's headings, each with the constants below it."""
    heading, names = "", list[tuple[str, str]]()
    for line in Path(at.__file__).read_text().splitlines():
        if found := HEADING.match(line):
            if names:
                yield heading, names
            heading, names = found[1], []
        elif found := NAME.match(line):
            names.append((found[1], found[2]))
    yield heading, names


def page() -> str:
    """The page's text."""
    where, kinds = _seen()
    lines = [
        "# Attributes",
        "",
        "Every name that Spanflow writes, made from `workflows.instrumentation.attributes` by `make attributes`.",
        "Import the names from there. Times are in seconds, sizes in characters.",
        "",
        "*On* says which spans have it: `run`, `step`, `attempt` (of steps with a retry policy), `wait`, `started`",
        "(the start marker), calls of a `model`, `tool` or `retriever`, and `event` and `link` for those of spans.",
        "What is empty is written by one back end's preset alone, of calls of llama-index alone (`llama_index=True`),",
        "or where something rare happens.",
    ]
    for heading, names in _sections():
        if heading == "metrics":
            lines += ["", "## Metrics", "", "| metric | is a | in | of |", "| --- | --- | --- | --- |"]
            lines += [f"| `{one.name}` | {one.kind} | {one.unit} | {one.about} |" for one in instruments()]
            assert {one.name for one in instruments()} == {value for _, value in names}, "a metric that nobody makes"
            continue
        if heading.startswith("names of"):
            lines += ["", f"## {heading[0].upper()}{heading[1:]}", ""]
            lines += [f"- `{value}`" for _, value in names]
            continue
        lines += ["", f"## {heading[0].upper()}{heading[1:]}", ""]
        own = any(value.startswith("workflow.") for _, value in names)
        if not own:
            found = {_convention(value): None for _, value in names}
            lines += [f"As published: {', '.join(found)}.", ""]
        lines += ["| attribute | on | is | means |" if own else "| attribute | on | is |", "| --- " * (3 + own) + "|"]
        shown = [(name, value) for name, value in names if name not in LINKS]
        for name, value in shown:
            on = ", ".join(kind for kind in _ORDER if kind in where.get(value, ()))
            line = f"| `{value}` | {on} | {' or '.join(sorted(kinds.get(value, ())))} |"
            lines.append(f"{line} {_meaning(name)} |" if own else line)
        if len(shown) < len(names):
            lines += ["", "| link type | leads |", "| --- | --- |"]
            lines += [f"| `{value}` | {LINKS[name]} |" for name, value in names if name in LINKS]
    return "\n".join(lines) + "\n"


def _meaning(name: str) -> str:
    assert name in MEANINGS, f"{name} is new in the attributes module: write what it means into MEANINGS of this file"
    return MEANINGS[name]


def _convention(value: str) -> str:
    return next((link for start, link in CONVENTIONS.items() if value.startswith(start)), OPENINFERENCE)


if __name__ == "__main__":
    logging.disable()  # the showcase sends an event that no step takes, on purpose
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}\n")
