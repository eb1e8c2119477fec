"""One call of a tool, a model or a retriever inside a step, as a span in both vocabularies and as metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, set_span_in_context
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import SMALLEST_LIMIT, Captured, ContentPolicy, capture_value
from workflows.instrumentation.marks import HIDDEN
from workflows.instrumentation.redaction import mask_secrets
from workflows.instrumentation.scope import current_attempt
from workflows_otel.chunks import Chunks
from workflows_otel.conversations import model_of
from workflows_otel.detaching import detach
from workflows_otel.documents import document_attributes, text_attributes
from workflows_otel.hiding import hides, hides_parameters
from workflows_otel.instrumenting import Drawing, drawing
from workflows_otel.messages import message_attributes
from workflows_otel.open_spans import OpenAttempt
from workflows_otel.own_spans import reentrant
from workflows_otel.runs import current_run
from workflows_otel.showing import say_shown
from workflows_otel.statuses import error_type, set_completed, set_status, write_exception
from workflows_otel.turns import in_turn, put_off

__all__ = ["Call", "CallKind", "current_call", "harmless"]

# Of the 64 kB that a span may have: bytes of messages, which are written twice, and of these what goes in may take; of
# the copies of what tools are given; and of everything beside an exception's stack.
MESSAGE_BYTES, INPUT_BYTES = 20_480, 14_336
COPY_BYTES = 8_192
BYTES_BESIDE_STACK = 56_000
SHORTEST_STACK = 1_024

_CALL = otel_context.create_key("workflows-call")

logger = logging.getLogger("workflows.otel")


@dataclass(frozen=True, slots=True)
class CallKind:
    """What is called; `operation` is of `gen_ai.operation.name`, `kind` of `openinference.span.kind`.

    Attributes:
        hides_output: What comes out is marked `Redact()`.
    """

    operation: str
    kind: str
    span_kind: SpanKind
    name: str
    about: Mapping[str, AttributeValue]
    hides_output: bool = False


class Call:
    """A call under way, open from `__enter__` to `__exit__`; use it in one task at a time."""

    def __init__(self, kind: CallKind) -> None:
        self._kind = kind
        self._drawing: Drawing = drawing()
        self._started = 0.0
        self._labels: dict[str, AttributeValue] = {}
        self._chunks = Chunks(is_answer=kind.kind == "LLM")
        self._chunk_count = 0
        self._inside: Context | None = None
        self._goes_on = self._ended = False
        self._written = self._has_model = False
        self._room = MESSAGE_BYTES
        self._span: Span | None = None
        self._facts: dict[str, AttributeValue] = {}
        self._attempt: OpenAttempt | None = None
        self._parts_under_way = 0

    @property
    def span(self) -> Span:
        """The span of the call, for attributes of your own."""
        assert self._span is not None, "a call has a span from its `with` on"
        return self._span

    @property
    def is_of_model(self) -> bool:
        """Whether a language model is called."""
        return self._kind.kind == "LLM"

    def input(self, value: Any) -> Self:
        """What goes in; for a model a text, or messages such as `{"role": "user", "content": "..."}`."""
        if self.span.is_recording():
            with harmless("input"):
                self._write_input(value)
        return self

    def _write_input(self, value: Any) -> None:
        content = self._drawing.content.for_inputs()
        if hides(self._kind.kind, self._kind.operation, "INPUT"):
            return
        captured = capture_value(value, content)
        self._payload(captured, at.INPUT_VALUE, at.INPUT_MIME_TYPE)
        if content.mode == "full":
            if self._kind.kind == "LLM":
                self._messages(value, content, captured, at.LLM_INPUT_MESSAGES, at.GEN_AI_INPUT_MESSAGES)
            elif self._kind.kind == "TOOL":
                self._copy(value, captured, content, at.TOOL_PARAMETERS, at.GEN_AI_TOOL_CALL_ARGUMENTS)
            elif self._kind.kind == "EMBEDDING":
                self.span.set_attributes(text_attributes(value, content))

    def output(self, value: Any) -> Self:
        """What comes out; for a retriever the documents: texts, dicts, or objects with a text and a score as fields."""
        self._written = True
        if self.span.is_recording():
            with harmless("output"):
                self._say_model(value)
                self._write_output(value)
        return self

    def _say_model(self, answer: Any) -> None:
        """Say which model answered, where its client tells and nobody else has."""
        if self.is_of_model and not self._has_model and (model := model_of(answer)) is not None:
            self._has_model = True
            self.span.set_attribute(at.GEN_AI_RESPONSE_MODEL, mask_secrets(model))

    def _write_output(self, value: Any) -> None:
        content = self._drawing.content.for_outputs()
        if hides(self._kind.kind, self._kind.operation, "OUTPUT"):
            return
        if self._kind.hides_output:
            value = HIDDEN
        captured = capture_value(value, content)
        self._payload(captured, at.OUTPUT_VALUE, at.OUTPUT_MIME_TYPE)
        if content.mode == "full" and captured is not None:
            if self._kind.kind == "LLM":
                self._messages(value, content, captured, at.LLM_OUTPUT_MESSAGES, at.GEN_AI_OUTPUT_MESSAGES)
            elif self._kind.kind == "TOOL":
                self._copy(value, captured, content, at.GEN_AI_TOOL_CALL_RESULT)
            elif self._kind.kind == "RETRIEVER":
                self.span.set_attributes(document_attributes(value, content))

    def usage(self, *, input: int | None = None, output: int | None = None, model: str | None = None) -> Self:
        """The tokens that a model counted, and which one answered, where that is not the one asked for."""
        with harmless("usage"):
            self._write_usage(input, output, model)
        return self

    def _write_usage(self, input: int | None, output: int | None, model: str | None) -> None:
        counted = {
            at.GEN_AI_USAGE_INPUT_TOKENS: input,
            at.LLM_TOKEN_COUNT_PROMPT: input,
            at.GEN_AI_USAGE_OUTPUT_TOKENS: output,
            at.LLM_TOKEN_COUNT_COMPLETION: output,
            at.LLM_TOKEN_COUNT_TOTAL: None if input is None or output is None else input + output,
            at.GEN_AI_RESPONSE_MODEL: model,
        }
        self._has_model = self._has_model or model is not None
        self.span.set_attributes({key: value for key, value in counted.items() if value is not None})
        for token_type, count in (("input", input), ("output", output)):
            if count is not None:
                in_turn(self._drawing.calls.tokens.record, count, {**self._labels, at.GEN_AI_TOKEN_TYPE: token_type})

    def chunk(self, chunk: Any) -> None:
        """One more chunk of an answer that comes as a stream; what is not a text, and has none, is shown in a list."""
        if self._ended:
            return  # its attempt failed, and somebody reads on
        self._chunk_count += 1
        with harmless("chunk"):
            if self._chunk_count == 1:
                took = time.perf_counter() - self._started
                self.span.set_attribute(at.GEN_AI_FIRST_CHUNK, took)
                if self._kind.kind == "LLM":
                    in_turn(self._drawing.calls.first_chunk.record, took, self._labels)
            if self.span.is_recording():
                self._say_model(chunk)
                self._chunks.add(chunk)

    @contextmanager
    def current(self) -> Generator[None]:
        """Make the span current for a moment; who consumes a stream is not inside of the call between two chunks."""
        token = otel_context.attach(self._around())
        self._parts_under_way += 1
        try:
            yield
        finally:
            self._parts_under_way -= 1
            detach(token)

    @contextmanager
    def resumed(self) -> Generator[None]:
        """As `current`, for the next part of a generator: what that has made current before is so again."""
        token = otel_context.attach(self._inside if self._inside is not None else self._around())
        self._parts_under_way += 1
        try:
            yield
        finally:
            self._parts_under_way -= 1
            self._inside = otel_context.get_current()
            detach(token)

    def _around(self) -> Context:
        return otel_context.set_value(_CALL, self, set_span_in_context(self.span))

    def keep_open(self) -> None:
        """Let the end of the `with` that is open be no end: what was given back is still to be read, or awaited."""
        self._goes_on = True
        attempt = self._attempt
        if attempt is not None and not self._ended:
            if attempt.kept_open is None:
                attempt.kept_open = set()
            attempt.kept_open.add(self._attempt_over)

    def await_end(self) -> None:
        """As `keep_open`, for what goes on by itself and tells its end, whatever becomes of its attempt."""
        self._parts_under_way += 1
        self.keep_open()

    def leave(self, at_ns: int | None = None) -> None:
        """End it, if it has not ended: nobody is going to read the rest, if its answer is not known already."""
        self.end(None if self._written else GeneratorExit(), at_ns)

    def _attempt_over(self, left_at_ns: int | None) -> None:
        """Let go of the attempt, which leads to the frames that hold what is read: they could never be freed.

        One that is left, since its attempt failed, ends now, unless another task or thread is reading it right now.
        """
        if left_at_ns is not None and not self._parts_under_way:
            self.leave(left_at_ns)
        self._attempt = None

    def __enter__(self) -> Self:
        """Begin it, or go on with one that was kept open."""
        self._goes_on = False
        if self._span is None:
            self._begin()
        return self

    def _begin(self) -> None:
        self._drawing = drawing()
        self._attempt = _attempt_here()
        kind, identity = self._kind, self._drawing.identity
        about = {key: mask_secrets(value) if isinstance(value, str) else value for key, value in kind.about.items()}
        if at.LLM_INVOCATION_PARAMETERS in about and hides_parameters():
            del about[at.LLM_INVOCATION_PARAMETERS]
        facts = {at.SPAN_KIND: kind.kind, at.GEN_AI_OPERATION_NAME: kind.operation, **about}
        self._labels = {key: value for key, value in facts.items() if key in _LABELS}
        if at.GEN_AI_WORKFLOW_NAME in identity:
            self._labels[at.GEN_AI_WORKFLOW_NAME] = identity[at.GEN_AI_WORKFLOW_NAME]
        self._facts = {**identity, **facts}
        self._span = INVALID_SPAN
        with harmless("span"):
            self._span = self._drawing.tracer.start_span(
                mask_secrets(kind.name), kind=kind.span_kind, attributes=self._facts
            )
            say_shown(reentrant(self._span), self._drawing.content.mode)
        self._started = time.perf_counter()

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None or not self._goes_on:
            self.end(error)

    def end(self, error: BaseException | None, at_ns: int | None = None) -> None:
        """End it, once, also where it is kept open."""
        if self._ended:
            return
        self._ended, span = True, self.span
        if self._chunks and not self._written:
            with harmless("output"):
                self.output(self._chunks.value())
                if self._chunks.are_cut:
                    span.set_attribute(at.TRUNCATED, True)
        with harmless("end"):
            self._write_end(error)
        with harmless("duration"):
            in_turn(self._measure, time.perf_counter() - self._started)
        with harmless("span"):
            if not put_off(span.end, time.time_ns() if at_ns is None else at_ns):
                span.end(at_ns)
        if self._attempt is not None and self._attempt.kept_open is not None:
            self._attempt.kept_open.discard(self._attempt_over)
        self._attempt = None  # which leads to the frames of its error, and they to what is read

    def _write_end(self, error: BaseException | None) -> None:
        span, content = self.span, self._drawing.content
        match error:
            case None:
                set_completed(span)
            case asyncio.CancelledError():  # which is no error, and the next one neither
                span.set_attribute(at.CALL_OUTCOME, "cancelled")
            case GeneratorExit():
                span.set_attribute(at.CALL_OUTCOME, "closed")
            case _:
                if self._attempt is None or self._attempt.child_error is not error:
                    stack_chars = max(BYTES_BESIDE_STACK - _size_of(span), SHORTEST_STACK)
                    write_exception(span, error, content, time.time_ns(), stack_chars)
                if self._attempt is not None:
                    self._attempt.child_error = error  # recorded where it was raised
                set_status(span, "failed", error, content)
                self._labels[at.ERROR_TYPE] = error_type(error)
        if getattr(span, "dropped_attributes", 0):  # the oldest are lost first, and these say what it is
            span.set_attributes(self._facts)

    def _measure(self, took: float) -> None:
        calls = self._drawing.calls
        duration = calls.tool if self._kind.kind == "TOOL" else calls.client
        with self.current():  # an exemplar leads to the span
            duration.record(took, self._labels)

    def _payload(self, captured: Captured | None, key: str, mime_type: str) -> None:
        if captured is not None:
            self.span.set_attributes({key: captured.text, mime_type: captured.mime_type})
            if captured.truncated:
                self.span.set_attribute(at.TRUNCATED, True)
            if captured.uri is not None:
                self.span.set_attribute(at.INPUT_URI if key == at.INPUT_VALUE else at.OUTPUT_URI, captured.uri)

    def _messages(
        self, value: Any, content: ContentPolicy, captured: Captured | None, flat: str, structured: str
    ) -> None:
        goes_in = flat == at.LLM_INPUT_MESSAGES
        # What the value itself takes for characters of several bytes is missing here.
        more = len(captured.text.encode(errors="surrogatepass")) - len(captured.text) if captured is not None else 0
        room = max((min(self._room, INPUT_BYTES) if goes_in else self._room) - more, 1024)
        said = message_attributes(value, content, flat, structured, "user" if goes_in else "assistant", room)
        self._room -= more + len(str(said.get(structured, "")).encode(errors="surrogatepass"))
        self.span.set_attributes(said)

    def _copy(self, value: Any, captured: Captured | None, content: ContentPolicy, *keys: str) -> None:
        """Write once more what was captured, shorter where it has many bytes."""
        if captured is None:
            return
        size = len(captured.text.encode(errors="surrogatepass"))
        if size > COPY_BYTES:
            shorter = replace(content, max_chars=max(content.max_chars * COPY_BYTES // size, SMALLEST_LIMIT), blob=None)
            captured = capture_value(value, shorter) or captured
        self.span.set_attributes(dict.fromkeys(keys, captured.text))


class _NoCall(Call):
    """What is current where no call is: all that is said of it is heard by nobody."""

    def __init__(self) -> None:
        super().__init__(CallKind("", "", SpanKind.INTERNAL, "", {}))
        self._span = INVALID_SPAN

    def usage(self, *, input: int | None = None, output: int | None = None, model: str | None = None) -> Self:
        return self


def current_call() -> Call:
    """The call of `@tool`, `@llm_call` or `@retriever` in which this code runs, to say more about it.

        @llm_call(model="gpt-4o")
        async def ask(prompt: str) -> str:
            answer = await client.ask(prompt)
            current_call().usage(input=answer.tokens_read, output=answer.tokens_written)
            return answer.text

    Outside of calls it may be used as well, and does nothing.
    """
    found = otel_context.get_value(_CALL)
    return found if isinstance(found, Call) else _NoCall()


def _attempt_here() -> OpenAttempt | None:
    """The attempt, with its span, that is running here."""
    scope, run = current_attempt.get(), current_run()
    return run.attempts.get(scope.exec_id) if scope is not None and run is not None else None


def _size_of(span: Span) -> int:
    """About how many bytes its attributes have."""
    attributes: Mapping[str, AttributeValue] = getattr(span, "attributes", None) or {}
    return sum(len(text.encode(errors="surrogatepass")) for text in attributes.values() if isinstance(text, str))


@contextmanager
def harmless(what: str) -> Generator[None]:
    """Nothing that goes wrong with what a call shows may go wrong in the call: it is missing, and that is logged."""
    try:
        yield
    except Exception:  # the guard around somebody's values
        logger.warning("the %s of a call could not be shown", what, exc_info=True)


_LABELS = frozenset((at.GEN_AI_OPERATION_NAME, at.GEN_AI_PROVIDER_NAME, at.GEN_AI_REQUEST_MODEL, at.GEN_AI_TOOL_NAME))
