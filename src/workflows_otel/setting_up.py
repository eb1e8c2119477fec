"""`setup()`: telemetry in one call. `instrument()`: the same spans into an application's own OpenTelemetry."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from workflows.instrumentation.content import ContentPolicy, Mode, redact_text
from workflows_otel._ownership import warn_if_mixed
from workflows_otel.agreeing import Agreed, Call, agree, policy_for
from workflows_otel.batching import SHUTDOWN_TIMEOUT, BatchProcessor, DirectProcessor, FlushResult
from workflows_otel.choosing import BackEnd, chosen, is_configured_by_file
from workflows_otel.dropped import watch
from workflows_otel.errors import TelemetrySetupError
from workflows_otel.exporting import RedactingExporter
from workflows_otel.instrumenting import (
    agree_by,
    drawn_providers,
    end_open,
    redraw,
    said_to_instrument,
    stand_in,
    uninstrument,
)
from workflows_otel.neighbours import Feeding, same_place, warn_of_strangers
from workflows_otel.presets import Preset
from workflows_otel.providing import provider_for
from workflows_otel.sampling import KeepErrorsAndSlow, TailProcessor
from workflows_otel.settings import ResumeTrace, RunParent, Said, Settings, Streams
from workflows_otel.stamping import add_processor
from workflows_otel.thinning import Thinning
from workflows_otel.traces import forget_pages, show_pages

__all__ = ["BackEnd", "Setup", "active_presets", "setup"]

START_MARKER = "workflow.started"

logger = logging.getLogger("workflows.otel")


@dataclass(frozen=True, slots=True)
class _Feed:
    """One back end, and the way to it."""

    preset: Preset
    processor: Feeding


class Setup:
    """What `setup()` made: flush it before a process is killed, shut it down to stop sending.

    Attributes:
        provider: The tracer provider in use; the application's own where there was one.
        said: What it was told of how runs are to be drawn.
    """

    def __init__(
        self,
        provider: TracerProvider,
        feeds: Sequence[_Feed],
        holding: TailProcessor | None = None,
        said: Said | None = None,
    ) -> None:
        self.provider = provider
        self.said = said or Said()
        self._holding = holding
        self._feeds = tuple(feeds)
        self._shut_down = False
        atexit.register(self._leave)
        # A child of `multiprocessing` leaves without `atexit`; it has finalizers of its own.
        multiprocessing.util.register_after_fork(self, Setup._finish_in_child)
        show_pages(self.pages)

    @property
    def feeds(self) -> tuple[_Feed, ...]:
        """The back ends, and how each is fed."""
        return self._feeds

    def pages(self, trace_id: str) -> dict[str, str]:
        """The URL of a trace in each back end that has one, and gets this trace."""
        made = ((feed.preset.name, feed.preset.trace_url) for feed in self._feeds if _gets(feed, trace_id))
        return {name: trace_url(trace_id) for name, trace_url in made if trace_url is not None}

    def release(self) -> None:
        """Send what `keep_errors_and_slow` has not decided about."""
        if self._holding is not None:
            self._holding.release()

    def _finish_in_child(self) -> None:
        multiprocessing.util.Finalize(None, self._leave, exitpriority=0)

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Send what has ended, in at most `timeout` seconds; the result counts all spans since `setup()`.

        With several back ends, a span counts once for each. What `keep_errors_and_slow` has not decided about is
        pending. Where a later `setup()` sends to the same place, what went that way counts as well.
        """
        deadline = time.monotonic() + timeout
        feeds = [*self._feeds, *_in_place_of(self._feeds)]
        told = _sum(feed.processor.flush(max(deadline - time.monotonic(), 0.0)) for feed in feeds)
        held = self._holding.held * len(self._feeds) if self._holding is not None else 0
        return replace(told, pending=told.pending + held)

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> FlushResult:
        """Close open spans as interrupted, send what there is in at most `timeout` seconds, and stop.

        Called at exit by itself. The application's own provider and processors stay as they are.
        """
        if not self._shut_down:
            self._shut_down = True
            atexit.unregister(self._leave)
            forget_pages(self.pages)
            _active.pop(self, None)
            _feed_each_place_once(self.provider)
            _draw_what_is_sent(self.provider)
            if not _made_for(self.provider) and said_to_instrument(self.provider) is None:
                uninstrument(self.provider)
            self._draw_for_others()
            self.release()
            deadline = time.monotonic() + timeout
            for feed in self._feeds:  # all at once: they share the time
                feed.processor.begin_shutdown()
            for feed in self._feeds:
                feed.processor.finish_shutdown(max(deadline - time.monotonic(), 0.0))
                feed.processor.keep_still(True)  # what ends from now on was not asked for, and is not lost
        return _sum(feed.processor.counts() for feed in self._feeds)

    def _leave(self) -> None:
        """The process ends, and with it what is open: for all back ends, before the first of them is shut down."""
        end_open()
        self.shutdown()

    def _draw_for_others(self) -> None:
        """Draw as those say who are left, where runs are drawn for them."""
        providers = [self.provider, *(feed.processor.elsewhere for feed in self._feeds)]
        _leaving.append(self)
        for provider in dict.fromkeys(providers):
            if provider in drawn_providers():
                redraw(provider)
        _leaving.remove(self)

    def __repr__(self) -> str:
        return f"Setup({', '.join(feed.preset.name for feed in self._feeds)})"


_active: dict[Setup, None] = {}  # in the order in which they came
_leaving: list[Setup] = []  # what they were to hide is on its way to others


def setup(
    backend: BackEnd | Iterable[BackEnd] | None = None,
    *,
    content: Mode | ContentPolicy | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    blob: Callable[[str, str], str | None] | None = None,
    run_parent: RunParent | None = None,
    resume_trace: ResumeTrace | None = None,
    start_marker: bool | None = None,
    streams: Streams | None = None,
    llama_index: bool | None = None,
    sampler: Sampler | KeepErrorsAndSlow | None = None,
    flush_on_sigterm: bool = False,
    debug: bool = False,
) -> Setup:
    """Send spans of every run in this process to one or several back ends.

    Where the application has set a tracer provider, the back ends are added to it; else one is made and set. Spans
    leave from a background thread; a back end that is down costs a run nothing.

    Call it again to add a back end. Runs are drawn once for all of them: what the last call says nothing about, of
    `blob` and `run_parent` to `llama_index`, is as the calls for the others and `instrument()` said, and every
    `redact=` is asked about what goes to any of them; `content=` is each call's own. A back end that is there already
    gets each span once, as the last call for it says, until that is shut down.

    Args:
        backend: "otlp", "jaeger", "phoenix", "langfuse", "console", a preset such as `otlp("http://collector:4318")`,
            or several of them. None reads the environment: `OTEL_CONFIG_FILE`, which then says all,
            `OTEL_TRACES_EXPORTER`, else what Phoenix', Langfuse's and OTLP's own variables set up, else OTLP.
        content: How much of payloads leaves the process on our spans: "off", "types" or "full"; on other libraries'
            spans is what those capture. Default: what each back end is for, "full" for Phoenix and Langfuse.
            Environment variables win (`ContentPolicy.from_environment`).
        redact: Called with the path and the value of everything that is captured, and with the name and the value of
            each text on other libraries' spans (`span.name`, `span.status` and `event.name` are such names); what it
            returns is sent instead.
        blob: Keeps the whole of payloads that are too long for a span, and returns a URI: `kept_in(...)`, or a
            callable as in `ContentPolicy.blob`.
        run_parent: Whether a run's span is a "child" of the span that is current at `run()`, a root with a "link" to
            it, or a "root". "auto", the default: child, unless a back end needs roots and the parent is recorded
            elsewhere.
        resume_trace: Whether a resumed run continues its trace, or links to it. "auto", the default: continues within a
            day.
        start_marker: Send a `workflow.started` span when a run starts, so that a killed run is seen (not to Phoenix and
            Langfuse, where it would be in the way). Default: True.
        streams: Say on spans what was streamed ("summary", the default), also emit a log event for each ("log"), or
            neither ("off").
        llama_index: Draw the calls of llama-index's models, embeddings, retrievers and tools as well, where neither
            OpenInference nor llama-index's own OpenTelemetry integration is there to draw them. Default: False.
        sampler: For a provider made here; default: `OTEL_TRACES_SAMPLER`. `keep_errors_and_slow(...)` decides at the
            end of a trace, also on a provider that was there.
        flush_on_sigterm: Turn SIGTERM, which by default ends a process without a word, into an exit by `sys.exit(143)`:
            runs are cancelled and spans sent. Only in the main thread, and where nobody else handles the signal.
        debug: Export each span at once, in the thread that ends it. It slows runs down: not for production.

    Raises:
        TelemetrySetupError: An unknown back end, an option that cannot work, or a package that is not installed.
    """
    warn_if_mixed()
    presets = [] if backend is None and is_configured_by_file() else chosen(backend)
    said = Said(content, redact, blob, run_parent, resume_trace, start_marker, streams, llama_index)
    said.over(Settings())  # before anything is changed: this may raise
    exporters = [preset.make_exporter() for preset in presets]  # before anything is changed: this may raise
    tail = sampler if isinstance(sampler, KeepErrorsAndSlow) else None
    head = None if isinstance(sampler, KeepErrorsAndSlow) else sampler
    provider = provider_for(presets, head)
    feeds = [_feed(*parts, provider, debug=debug) for parts in zip(presets, exporters, strict=True)]
    holding = TailProcessor(tail, [feed.processor for feed in feeds]) if tail is not None else None
    for processor in [feed.processor for feed in feeds] if holding is None else [holding]:
        add_processor(provider, processor)
    if flush_on_sigterm:
        _exit_on_sigterm()
    for feed in feeds:
        watch(feed.preset.name, feed.processor.counts)
    made = Setup(provider, feeds, holding, said)
    _active[made] = None
    _feed_each_place_once(provider)
    _draw_what_is_sent(provider)
    mode = redraw(provider).settings.content.mode
    shown = ", ".join(map(_shown, presets))
    for feed in feeds:
        feed.processor.look()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        logger.warning("OTEL_SDK_DISABLED is set: OpenTelemetry draws nothing, so nothing goes to %s", shown)
    else:
        logger.info("workflow telemetry goes to %s; payloads: %s", shown or "no back end of its own", mode)
    return made


def _shown(preset: Preset) -> str:
    part = "" if preset.sample_rate is None else f"; {preset.sample_rate:g} of its traces"
    return f"{preset.name} ({redact_text(preset.where)}{part})"


def _feed(
    preset: Preset,
    exporter: SpanExporter,
    provider: TracerProvider,
    *,
    debug: bool,
) -> _Feed:
    shown = RedactingExporter(
        exporter,
        ContentPolicy("off"),  # until it is agreed what it may see
        resource=preset.resource,
        about=preset.about,
        skip=frozenset() if preset.start_marker else frozenset((START_MARKER,)),
        renew=preset.make_exporter,
        rate=preset.sample_rate,
    )
    own = DirectProcessor(shown) if debug else BatchProcessor(shown)
    return _Feed(preset, Feeding(preset, own, shown, provider, drawn_providers, _hand_over, _tell_strangers))


def _hand_over(provider: TracerProvider) -> None:
    """Let another provider's spans be current in steps where all back ends of this one get their runs from there."""
    elsewhere = [feed.processor.elsewhere for feed in _feeding(provider)]
    if elsewhere and elsewhere[0] is not None and None not in elsewhere:
        stand_in(provider, elsewhere[0])
    for other in dict.fromkeys(elsewhere):
        if other is not None:
            redraw(other)  # with what these back ends need


def _feed_each_place_once(provider: TracerProvider) -> None:
    """Let the last one of those that feed the same place do so alone: a cell of a notebook may be run again."""
    feeds = [(made, feed) for made in list(_active) if made.provider is provider for feed in made.feeds]
    for number, (made, feed) in enumerate(feeds, 1):
        same = [later.processor for _, later in feeds[number:] if same_place(feed.preset, later.preset)]
        if same and not feed.processor.is_still:
            made.release()
        feed.processor.keep_still(bool(same), same[-1] if same else None)


def _draw_what_is_sent(provider: TracerProvider) -> None:
    """Draw as many traces as the back end gets that gets most, where no other sampler decides."""
    if isinstance(provider.sampler, Thinning):
        rates = [feed.preset.sample_rate for feed in _feeding(provider)]
        provider.sampler.draw(max((1.0 if rate is None else rate for rate in rates), default=1.0))


def _in_place_of(feeds: Sequence[_Feed]) -> list[_Feed]:
    """Those of other calls of `setup()` that send where these did."""
    still = [feed.preset for feed in feeds if feed.processor.is_still]
    return [feed for feed in _feeding() if feed not in feeds and any(same_place(feed.preset, one) for one in still)]


def _feeding(provider: TracerProvider | None = None) -> list[_Feed]:
    """The ways that are in use; those of one provider, or of all."""
    mine = list(_active) if provider is None else _made_for(provider)
    return [feed for made in mine for feed in made.feeds if not feed.processor.is_still]


def _gets(feed: _Feed, trace_id: str) -> bool:
    """Whether a back end gets a trace that is drawn, this way or by that of a later `setup()`."""
    return feed.processor.takes(int(trace_id, 16))


def active_presets(trace_id: str | None = None) -> list[Preset]:
    """The back ends of every `setup()` that is not shut down, each once; those that get this trace, or all."""
    feeds = [feed for made in list(_active) for feed in made.feeds]
    presets = [feed.preset for feed in feeds if trace_id is None or _gets(feed, trace_id)]
    return list({(preset.name, preset.url or preset.where): preset for preset in presets}.values())


def _exit_on_sigterm() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise TelemetrySetupError("flush_on_sigterm= works in the main thread only. Call setup() there.")
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, frame: FrameType | None) -> None:
    # An exception and no flush right here: the main thread may hold any lock now. It unwinds, and `atexit` flushes.
    sys.exit(128 + number)


def _made_for(provider: TracerProvider) -> list[Setup]:
    return [made for made in list(_active) if made.provider is provider]


def _agree_with_setups(provider: trace.TracerProvider, told: Said | None) -> Agreed | None:
    """What all say of a provider to which a `setup()` has added back ends; each gets no more than is meant for it."""
    feeding = {made: [feed for feed in made.feeds if _is_fed_by(feed, made, provider)] for made in list(_active)}
    feeding = {
        made: feeds for made, feeds in feeding.items() if feeds or (made.provider is provider and not made.feeds)
    }
    if not feeding:
        return None
    calls = [Call(made.said, [feed.preset for feed in feeds]) for made, feeds in feeding.items()]
    agreed = agree(told, calls, [made.said for made in list(_leaving)])
    for made, feeds in feeding.items():
        for feed in feeds:
            policy = policy_for(feed.preset, made.said, told)
            # What one callback hides, no back end gets: of texts that are not ours all are asked as well.
            feed.processor.show(replace(policy, redact=agreed.settings.content.redact))
    return agreed


def _is_fed_by(feed: _Feed, made: Setup, provider: trace.TracerProvider) -> bool:
    """Whether the runs of this provider come to a back end: it is that of its `setup()`, or one that stands in."""
    return not feed.processor.is_still and (feed.processor.elsewhere or made.provider) is provider


agree_by(_agree_with_setups)


def _tell_strangers(provider: TracerProvider) -> None:
    """Tell where an application's own exporters get more of payloads than was meant for them."""
    feeds = [feed.processor for feed in _feeding(provider)]
    for feed in feeds:
        feed.look()  # one of those exporters may feed its back end
    agreed = _agree_with_setups(provider, said_to_instrument(provider))
    if agreed is not None:
        warn_of_strangers(provider, feeds, agreed.settings.content.mode, agreed.expected)


def _sum(results: Iterable[FlushResult]) -> FlushResult:
    sent = failed = pending = 0
    dropped: int | None = 0
    for result in results:
        sent += result.sent
        failed += result.failed
        dropped = None if dropped is None or result.dropped is None else dropped + result.dropped
        pending += result.pending
    return FlushResult(sent, failed, dropped, pending)
