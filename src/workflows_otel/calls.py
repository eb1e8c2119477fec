"""One call of a tool, a model or a retriever inside a step, as a span in both vocabularies and as metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

from opentelemetry.trace import Span, SpanKind, StatusCode, use_span
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import Captured, capture_value, redact_text
from workflows_otel.instrumenting import Drawing, drawing
from workflows_otel.statuses import error_type, set_status, write_exception

__all__ = ["Call", "CallKind"]

SHOWN_MESSAGES = 40
SHOWN_DOCUMENTS = 40
MESSAGE_CHARS = 16_384
KEPT_CHUNKS = 1_000


@dataclass(frozen=True, slots=True)
class CallKind:
    """What is called; `operation` is of `gen_ai.operation.name`, `kind` of `openinference.span.kind`."""

    operation: str
    kind: str
    span_kind: SpanKind
    name: str
    about: Mapping[str, AttributeValue]


class Call:
    """A call under way, open from `__enter__` to `__exit__`; use it in one task at a time."""

    def __init__(self, kind: CallKind) -> None:
        self._kind = kind
        self._drawing: Drawing = drawing()
        self._started = 0.0
        self._labels: dict[str, AttributeValue] = {}
        self._chunks: list[Any] = []
        self._chunk_count = 0
        self._written = False
        self._span: Span | None = None

    @property
    def span(self) -> Span:
        """The span of the call, for attributes of your own."""
        assert self._span is not None, "a call has a span from its `with` on"
        return self._span

    def input(self, value: Any) -> Self:
        """What goes in; for a model a text, or messages such as `{"role": "user", "content": "..."}`."""
        content = self._drawing.content.for_inputs()
        if not self.span.is_recording():
            return self
        self._payload(capture_value(value, content), at.INPUT_VALUE, at.INPUT_MIME_TYPE)
        if content.mode == "full":
            if self._kind.kind == "LLM":
                self._messages(value, at.LLM_INPUT_MESSAGES, at.GEN_AI_INPUT_MESSAGES, "user")
            elif self._kind.kind == "TOOL":
                self._arguments(value)
        return self

    def output(self, value: Any) -> Self:
        """What comes out; for a retriever the documents: texts, mappings, or objects with a text and a score."""
        self._written = True
        content = self._drawing.content.for_outputs()
        if not self.span.is_recording():
            return self
        captured = capture_value(value, content)
        self._payload(captured, at.OUTPUT_VALUE, at.OUTPUT_MIME_TYPE)
        if content.mode == "full" and captured is not None:
            if self._kind.kind == "LLM":
                self._messages(value, at.LLM_OUTPUT_MESSAGES, at.GEN_AI_OUTPUT_MESSAGES, "assistant")
            elif self._kind.kind == "TOOL":
                self.span.set_attribute(at.GEN_AI_TOOL_CALL_RESULT, captured.text)
            else:
                self._documents(value)
        return self

    def usage(self, *, input: int | None = None, output: int | None = None, model: str | None = None) -> Self:
        """The tokens that a model counted, and which one answered, where that is not the one asked for."""
        counted = {
            at.GEN_AI_USAGE_INPUT_TOKENS: input,
            at.LLM_TOKEN_COUNT_PROMPT: input,
            at.GEN_AI_USAGE_OUTPUT_TOKENS: output,
            at.LLM_TOKEN_COUNT_COMPLETION: output,
            at.LLM_TOKEN_COUNT_TOTAL: None if input is None or output is None else input + output,
            at.GEN_AI_RESPONSE_MODEL: model,
        }
        self.span.set_attributes({key: value for key, value in counted.items() if value is not None})
        for token_type, count in (("input", input), ("output", output)):
            if count is not None:
                self._drawing.calls.tokens.record(count, {**self._labels, at.GEN_AI_TOKEN_TYPE: token_type})
        return self

    def chunk(self, chunk: Any) -> None:
        """One more chunk of an answer that comes as a stream; what is not a text is shown in a list."""
        self._chunk_count += 1
        if self._chunk_count == 1:
            took = time.perf_counter() - self._started
            self.span.set_attribute(at.GEN_AI_FIRST_CHUNK, took)
            if self._kind.kind == "LLM":
                self._drawing.calls.first_chunk.record(took, self._labels)
        if self._chunk_count <= KEPT_CHUNKS:
            self._chunks.append(chunk)

    @contextmanager
    def current(self) -> Generator[None]:
        """Make the span current for a moment; who consumes a stream is not inside of the call between two chunks."""
        with use_span(self.span, record_exception=False, set_status_on_exception=False):
            yield

    def __enter__(self) -> Self:
        self._drawing = drawing()
        kind, identity = self._kind, self._drawing.identity
        facts = {at.SPAN_KIND: kind.kind, at.GEN_AI_OPERATION_NAME: kind.operation, **kind.about}
        self._labels = {key: value for key, value in facts.items() if key in _LABELS}
        if at.GEN_AI_WORKFLOW_NAME in identity:
            self._labels[at.GEN_AI_WORKFLOW_NAME] = identity[at.GEN_AI_WORKFLOW_NAME]
        self._span = self._drawing.tracer.start_span(kind.name, kind=kind.span_kind, attributes={**identity, **facts})
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span = self.span
        if self._chunks and not self._written:
            texts = all(isinstance(chunk, str) for chunk in self._chunks)
            self.output("".join(self._chunks) if texts else self._chunks)
        if error is None:
            span.set_status(StatusCode.OK)
        elif not isinstance(error, (asyncio.CancelledError, GeneratorExit)):  # which are no errors
            write_exception(span, error, self._drawing.content, time.time_ns())
            set_status(span, "failed", error, self._drawing.content)
            self._labels[at.ERROR_TYPE] = error_type(error)
        calls = self._drawing.calls
        duration = calls.tool if self._kind.kind == "TOOL" else calls.client
        with self.current():  # an exemplar leads to the span
            duration.record(time.perf_counter() - self._started, self._labels)
        span.end()

    def _payload(self, captured: Captured | None, key: str, mime_type: str) -> None:
        if captured is not None:
            self.span.set_attributes({key: captured.text, mime_type: captured.mime_type})
            if captured.truncated:
                self.span.set_attribute(at.TRUNCATED, True)
            if captured.uri is not None:
                self.span.set_attribute(at.INPUT_URI if key == at.INPUT_VALUE else at.OUTPUT_URI, captured.uri)

    def _arguments(self, value: Any) -> None:
        captured = capture_value(value, self._drawing.content)
        if captured is not None:
            self.span.set_attributes({at.TOOL_PARAMETERS: captured.text, at.GEN_AI_TOOL_CALL_ARGUMENTS: captured.text})

    def _messages(self, value: Any, flat: str, structured: str, role: str) -> None:
        """Messages as OpenInference wants them (an attribute each) and as `gen_ai` does (one JSON text)."""
        attributes: dict[str, AttributeValue] = {}
        shown: list[dict[str, Any]] = []
        for said_by, said in _said(value, role)[:SHOWN_MESSAGES]:
            text = redact_text(said, self._drawing.content, path=flat, max_chars=MESSAGE_CHARS)
            start = f"{flat}.{len(shown)}.message"
            attributes |= {f"{start}.role": said_by, f"{start}.content": text}
            shown.append({"role": said_by, "parts": [{"type": "text", "content": text}]})
        if shown:
            attributes[structured] = json.dumps(shown, ensure_ascii=False)
            self.span.set_attributes(attributes)

    def _documents(self, value: Any) -> None:
        found = cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else [value]
        attributes: dict[str, AttributeValue] = {}
        for number, document in enumerate(found[:SHOWN_DOCUMENTS]):
            start = f"{at.RETRIEVAL_DOCUMENTS}.{number}.document"
            text = document if isinstance(document, str) else _field(document, ("content", "text", "page_content"))
            if isinstance(text, str):
                attributes[f"{start}.content"] = redact_text(text, self._drawing.content, path=start, max_chars=4096)
            for name, names in (("score", ("score",)), ("id", ("id", "id_", "doc_id", "node_id"))):
                fact = None if isinstance(document, str) else _field(document, names)
                if isinstance(fact, (str, int, float)):
                    attributes[f"{start}.{name}"] = fact
        self.span.set_attributes(attributes)


_LABELS = frozenset((at.GEN_AI_OPERATION_NAME, at.GEN_AI_PROVIDER_NAME, at.GEN_AI_REQUEST_MODEL, at.GEN_AI_TOOL_NAME))


def _said(value: Any, role: str) -> list[tuple[str, str]]:
    """Who said what; nothing where a value holds no messages."""
    if isinstance(value, str):
        return [(role, value)]
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if isinstance(fields.get("content"), str):
            return [(str(fields.get("role", role)), fields["content"])]
        for name in ("messages", "prompt"):
            if name in fields:
                return _said(fields[name], role)
        return []
    if isinstance(value, (list, tuple)):
        return [one for item in cast("Iterable[Any]", value) for one in _said(item, role)]
    said = getattr(value, "content", None)
    return [(str(getattr(value, "role", role)), said)] if isinstance(said, str) else []


def _field(document: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        if isinstance(document, Mapping):
            value = cast("Mapping[str, Any]", document).get(name)
        else:
            value = getattr(document, name, None)
        if value is not None and not callable(value):
            return value
    return None
