"""Who else sends the same spans to the same place: only one of the ways there is used, so that nothing is double.

An application's own processor is used instead of ours, and the last `setup()` for a place instead of those before it.
This is the one module that looks into processors and exporters that are not ours; none of them tells where it sends.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel.batching import BatchProcessor, DirectProcessor, FlushResult
from workflows_otel.exporting import RedactingExporter
from workflows_otel.own_scope import SCOPE
from workflows_otel.presets import Preset
from workflows_otel.showing import shows_more

__all__ = ["Feeding", "same_place", "tell_of_refused_providers", "warn_of_strangers"]

PROJECT_HEADER = "x-project-name"
NOT_ABOUT_THE_PLACE = frozenset(("x-langfuse-ingestion-version", "user-agent", "content-type", "content-encoding"))
NOT_TOLD = frozenset((PROJECT_HEADER, "authorization"))
DEEPEST_WRAPPING = 5
# Whose processors are there to show payloads, or are ours.
SHOWING_PAYLOADS = ("workflows_otel.", "mlflow.", "phoenix.", "langfuse.", "openinference.")

_warned_of_strangers: weakref.WeakSet[TracerProvider] = weakref.WeakSet()

logger = logging.getLogger("workflows.otel")


class Feeding(SpanProcessor):
    """Feeds one back end by `processor`, unless and until another processor of the application does so.

    What the other one sends is then masked, and gets what the back end needs besides (`Preset.about`).

    Args:
        preset: The back end.
        processor: Our way there.
        exporter: What stands at its end.
        provider: The tracer provider whose spans pass here.
        drawn: The tracer providers on which runs are drawn.
        yielded: Called when another provider's processor feeds the back end from now on.
        changed: Called when processors have come to a provider, or the first look found them.
    """

    def __init__(
        self,
        preset: Preset,
        processor: BatchProcessor | DirectProcessor,
        exporter: RedactingExporter,
        provider: TracerProvider,
        drawn: Callable[[], Iterable[trace.TracerProvider]],
        yielded: Callable[[TracerProvider], None] = lambda provider: None,
        changed: Callable[[TracerProvider], None] = lambda provider: None,
    ) -> None:
        self._preset = preset
        self._processor = processor
        self._exporter = exporter
        self._provider = provider
        self._drawn = drawn
        self._yielded = yielded
        self._changed = changed
        self._ended = 0
        self._warned = False
        self._seen: list[object] = []
        self._other: _Other | None = None
        self._in_our_place: Feeding | None = None
        self.elsewhere: TracerProvider | None = None
        self.is_still = False
        self.on_end = self._on_end = processor.on_end  # without a call between: every span passes here

    def keep_still(self, still: bool, by: Feeding | None = None) -> None:
        """Take no spans while another `setup()` feeds the same place; what has ended before is still sent."""
        was_still, self.is_still, self._in_our_place = self.is_still, still, by
        self.on_end = _ignore if still else self._on_end
        if was_still and not still:
            self.look()
            if self._other is not None:
                self._other.stand()
                self._ended = self._other.ours

    def look(self) -> None:
        """See whether somebody else has come, or gone, since the last look."""
        if self.is_still:
            return
        providers = [one for one in self._drawn() if isinstance(one, TracerProvider)]
        seen = [_processors_of(provider) for provider in providers]
        if len(seen) == len(self._seen) and all(map(_is, seen, self._seen)):
            return
        self._seen = list(seen)
        for provider in providers if self._other is None else ():  # it does not go: a provider keeps its processors
            about = cast("Mapping[str, Any]", provider.resource.attributes)
            for processor in _processors_of(provider):
                if self._other is None and _feeds(processor, self._preset, about):
                    self._yield_to(processor, provider)
        self._changed(self._provider)

    def _yield_to(self, processor: SpanProcessor, provider: TracerProvider) -> None:
        self._other = _Other(processor, self._exporter)
        logger.info("%s gets its spans by the application's own %s", self._preset.name, type(processor).__name__)
        if provider is self._provider:
            self.on_end = self._on_end = self._count_end
            return
        self.on_end = self._on_end = self._end_of_others
        self.elsewhere = provider
        if provider.sampler is not ALWAYS_ON and provider.sampler is not DEFAULT_ON:
            logger.warning(
                "%s gets its runs by another tracer provider of the application, whose sampler is %s: what that leaves "
                "out is missing there. Draw runs on one provider alone, or give both the same sampler",
                self._preset.name,
                provider.sampler.get_description(),
            )
        self._yielded(self._provider)

    def show(self, policy: ContentPolicy) -> None:
        """Show the back end this much of payloads from now on, whenever they were drawn."""
        self._exporter.policy = policy
        if self._other is not None:
            self._other.exporter.policy = policy

    def takes(self, trace_id: int) -> bool:
        """Whether the back end gets a trace that is drawn; what another processor leaves out by itself nobody knows."""
        return self._exporter.takes(trace_id) if self._in_our_place is None else self._in_our_place.takes(trace_id)

    def is_by(self, processor: SpanProcessor) -> bool:
        """Whether this processor of the application's feeds the back end in our place."""
        return self._other is not None and self._other.processor is processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Look around when a trace begins."""
        if span.parent is None or span.parent.is_remote:
            try:
                self.look()
            except Exception:  # the guard around what others have put there: the span is somebody's, in their code
                logger.warning("what else feeds %s could not be seen", self._preset.name, exc_info=True)

    def _count_end(self, span: ReadableSpan) -> None:
        """Count a span of a run, which the other processor gets as well, and should send."""
        scope, context = span.instrumentation_scope, span.get_span_context()
        if scope is not None and scope.name == SCOPE and context is not None and context.trace_flags.sampled:
            self._ended += 1

    def _compare(self, other: _Other, ended: int) -> None:
        """Tell, once, if not all of the `ended` spans came to the other's exporter, which has sent what it had."""
        if not self._warned and other.stands and other.ours < ended:
            self._warned = True
            logger.warning(
                "%s gets its spans by the application's own %s, which sent %d of %d spans of runs: it filters or "
                "samples, or its queue was full. What lies below a missing span has no parent there. Let it keep every "
                "span of the scope 'workflows', or take it away: setup() then sends them itself",
                self._preset.name,
                type(other.processor).__name__,
                other.ours,
                ended,
            )

    def _end_of_others(self, span: ReadableSpan) -> None:
        """Pass on a span of another library, which the other provider's processor does not get; runs it does."""
        scope = span.instrumentation_scope
        if scope is None or scope.name != SCOPE:
            self._processor.on_end(span)

    def counts(self) -> FlushResult:
        """What became of the spans so far; what another processor dropped, it does not tell."""
        counted = self._processor.counts()
        return counted if self._other is None else self._other.added_to(counted)

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Send what there is, also what another processor has in our place."""
        deadline = time.monotonic() + timeout
        if self._other is not None:
            self._flush_other(self._other, timeout)
        flushed = self._processor.flush(max(deadline - time.monotonic(), 0.0))
        return flushed if self._other is None else self._other.added_to(flushed)

    def _flush_other(self, other: _Other, timeout: float) -> None:
        # In a thread of its own: the SDK's processors take the timeout, and no notice of it.
        ended, flushed = self._ended, list[bool]()
        millis = int(timeout * 1000)
        flushing = threading.Thread(target=lambda: flushed.append(other.processor.force_flush(millis)), daemon=True)
        flushing.start()
        flushing.join(timeout)
        if flushed == [True]:
            self._compare(other, ended)

    def begin_shutdown(self) -> None:
        """Take no more spans."""
        self._processor.begin_shutdown()

    def finish_shutdown(self, timeout: float) -> None:
        """Send what there is in at most `timeout` seconds; another's processor is as it was before."""
        deadline = time.monotonic() + timeout
        self._processor.finish_shutdown(timeout)
        if self._other is not None:
            self._flush_other(self._other, max(deadline - time.monotonic(), 0.0))
            self._other.leave()

    def shutdown(self) -> None:
        """Shut our way down."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether everything that went our way was exported within the time."""
        return self._processor.force_flush(timeout_millis)


class _Other:
    """A processor of the application's, with an exporter of ours put before its own.

    Only one stands there at a time, so that nothing is counted twice: that of the `setup()` that feeds the place now.
    """

    def __init__(self, processor: SpanProcessor, like: RedactingExporter) -> None:
        self.processor = processor
        self._holder, self._name = _place_of_exporter(processor)
        found: SpanExporter = getattr(self._holder, self._name)
        self._theirs = found.theirs if isinstance(found, _Counting) else found
        self.exporter = like.before(self._theirs)
        self._counting = _Counting(self.exporter, self._theirs)
        self.stand()

    @property
    def ours(self) -> int:
        """How many spans of runs came this far."""
        return self._counting.ours

    @property
    def stands(self) -> bool:
        """Whether what the processor sends passes here."""
        return getattr(self._holder, self._name) is self._counting

    def stand(self) -> None:
        """Be what the processor sends by, in place of that of another `setup()`."""
        found = getattr(self._holder, self._name)
        if found is self._theirs or isinstance(found, _Counting):
            setattr(self._holder, self._name, self._counting)

    def added_to(self, counted: FlushResult) -> FlushResult:
        """Counts, with what went this way."""
        sent, failed = counted.sent + self.exporter.sent, counted.failed + self.exporter.failed
        return replace(counted, sent=sent, failed=failed, dropped=None)

    def leave(self) -> None:
        """Put everything back, unless another `setup()` needs it now."""
        if self.stands:
            setattr(self._holder, self._name, self._theirs)


class _Counting(SpanExporter):
    """Counts the spans of runs that come to an exporter of ours, which stands before `theirs`."""

    def __init__(self, exporter: SpanExporter, theirs: SpanExporter) -> None:
        self.exporter = exporter
        self.theirs = theirs
        self.ours = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Pass them on."""
        scopes = [span.instrumentation_scope for span in spans]
        self.ours += sum(scope is not None and scope.name == SCOPE for scope in scopes)
        return self.exporter.export(spans)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self.exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self.exporter.shutdown()


def _place_of_exporter(processor: SpanProcessor) -> tuple[object, str]:
    """Who holds a processor's exporter, and under which name; the SDK's two processors, of all versions since 1.20."""
    inner: object = getattr(processor, "_batch_processor", None)
    return (inner, "_exporter") if hasattr(inner, "_exporter") else (processor, "span_exporter")


def same_place(one: Preset, other: Preset) -> bool:
    """Whether two presets are one back end, with one key and one project."""
    if not one.url or not other.url:
        return one.make_exporter == other.make_exporter
    return _place(one.url) == _place(other.url) and _about_place(one) == _about_place(other)


def _about_place(preset: Preset) -> dict[str, str]:
    headers = {name: value for name, value in preset.headers.items() if not _is_not_about_the_place(name)}
    return {**headers, **preset.resource}


def _ignore(span: ReadableSpan) -> None:
    """What is done with an ended span that another one sends."""


def _is(one: object, other: object) -> bool:
    return one is other


def _processors_of(provider: TracerProvider) -> tuple[SpanProcessor, ...]:
    """A tuple that the SDK replaces when a processor is added."""
    return getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())


def warn_of_strangers(provider: TracerProvider, feeds: Iterable[Feeding], drawn: Mode, meant: Mode) -> None:
    """Tell, once, that processors of the application's own get more of payloads than was meant for them."""
    ways = list(feeds)
    names = [
        type(processor).__name__
        for processor in _processors_of(provider)
        if getattr(*_place_of_exporter(processor), None) is not None
        and not type(processor).__module__.startswith(SHOWING_PAYLOADS)
        and not any(way.is_by(processor) for way in ways)
    ]
    if names and shows_more(drawn, meant) and provider not in _warned_of_strangers:
        _warned_of_strangers.add(provider)
        logger.warning(
            "runs are drawn with payloads now, since a back end of setup() gets them, and this provider's own %s sends "
            'those too. Say content="types" to setup(), or send to that back end by a provider of its own',
            ", ".join(names),
        )


def _feeds(processor: SpanProcessor, preset: Preset, resource: Mapping[str, Any]) -> bool:
    """Whether a processor that is not ours sends to the place of a preset, under the same key."""
    exporter = _exporter_of(processor)
    endpoint = getattr(exporter, "_endpoint", None)
    if not preset.url or not isinstance(endpoint, str) or _place(endpoint) != _place(preset.url):
        return False
    theirs = _headers_of(exporter)
    if PROJECT_HEADER not in theirs and (project := resource.get(at.OPENINFERENCE_PROJECT)):
        theirs[PROJECT_HEADER] = str(project)
    ours = {name: value for name, value in preset.headers.items() if name not in NOT_ABOUT_THE_PLACE}
    # A header that only they send may name a tenant; a key or a project that we were not told is no other place.
    more = [name for name in theirs if not (name in ours or name in NOT_TOLD or _is_not_about_the_place(name))]
    return not more and all(theirs.get(name) == value for name, value in ours.items())


def _is_not_about_the_place(header: str) -> bool:
    return header in NOT_ABOUT_THE_PLACE or header.startswith("x-langfuse-")


def _exporter_of(processor: SpanProcessor) -> object:
    """What sends in the end, below what stands before it; None for processors of ours and of unknown kinds."""
    if isinstance(processor, (Feeding, BatchProcessor, DirectProcessor)):
        return None  # of two for one place, the later one sends
    holder, name = _place_of_exporter(processor)
    exporter: object = getattr(holder, name, None)
    for _ in range(DEEPEST_WRAPPING):
        if exporter is None or hasattr(exporter, "_endpoint"):
            break
        exporter = getattr(exporter, "exporter", None) or getattr(exporter, "_exporter", None)
    return exporter


def _place(endpoint: str) -> str:
    place = endpoint.lower().partition("://")[2] or endpoint.lower()
    name, _, rest = place.partition(":")
    return f"{'127.0.0.1' if name == 'localhost' else name}:{rest}".rstrip("/")


def _headers_of(exporter: object) -> dict[str, str]:
    headers: object = getattr(getattr(exporter, "_client", None), "_headers", None) or getattr(
        exporter, "_headers", None
    )
    if isinstance(headers, Mapping):
        pairs = list(cast("Mapping[object, object]", headers).items())
    elif isinstance(headers, (tuple, list)):
        pairs = list(cast("Iterable[tuple[object, object]]", headers))
    else:
        pairs = []
    return {str(name).lower(): str(value) for name, value in pairs}


class _Refusals(logging.Filter):
    """Hears of it when OpenTelemetry refuses a second tracer provider, and says what that means."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__()
        self._provider = weakref.ref(provider)
        self._told = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass."""
        provider = self._provider()
        mine = provider is not None and trace.get_tracer_provider() is provider
        if mine and not self._told and record.getMessage().startswith("Overriding of current TracerProvider"):
            self._told = True
            logger.warning(
                "another part of this application tried to set a tracer provider of its own; setup() had set one "
                "already, so the other is not the process's, and what is traced with it is apart from the runs. Let it "
                "set its provider before setup(), which then uses it, or give it `setup(...).provider`"
            )
        return True


def tell_of_refused_providers(provider: TracerProvider) -> None:
    """Warn, once, when somebody tries to set another tracer provider after this one."""
    logging.getLogger("opentelemetry.trace").addFilter(_Refusals(provider))
