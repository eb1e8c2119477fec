"""`setup()`: telemetry in one call. `instrument()`: the same spans into an application's own OpenTelemetry."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel.batching import SHUTDOWN_TIMEOUT, BatchProcessor, DirectProcessor, FlushResult
from workflows_otel.errors import TelemetrySetupError
from workflows_otel.instrumenting import instrumented, uninstrument
from workflows_otel.presets import Preset, console, otlp
from workflows_otel.settings import ResumeTrace, RunParent, Settings, Streams

__all__ = ["BackEnd", "Setup", "setup"]

BackEnd = str | Preset

PRESETS: dict[str, Callable[[], Preset]] = {"console": console, "otlp": otlp}

logger = logging.getLogger("workflows.otel")


class Setup:
    """What `setup()` made: flush it before a process is killed, shut it down to stop sending.

    Attributes:
        provider: The tracer provider in use; the application's own where there was one.
    """

    def __init__(
        self, provider: TracerProvider, processors: Sequence[BatchProcessor | DirectProcessor], names: Sequence[str]
    ) -> None:
        self.provider = provider
        self._processors = tuple(processors)
        self._names = tuple(names)
        self._shut_down = False
        atexit.register(self.shutdown)

    def flush(self, timeout: float = 5.0) -> FlushResult:
        """Send what has ended, in at most `timeout` seconds; the result counts all spans since `setup()`.

        With several back ends, a span counts once for each.
        """
        deadline = time.monotonic() + timeout
        return _sum(processor.flush(max(deadline - time.monotonic(), 0.0)) for processor in self._processors)

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> FlushResult:
        """Close open spans as interrupted, send what there is in at most `timeout` seconds, and stop.

        Called at exit by itself. The application's own provider and processors stay as they are.
        """
        if not self._shut_down:
            self._shut_down = True
            atexit.unregister(self.shutdown)
            _active.discard(self)
            if not any(other.provider is self.provider for other in _active):
                uninstrument(self.provider)
            deadline = time.monotonic() + timeout
            for processor in self._processors:  # all at once: they share the time
                processor.begin_shutdown()
            for processor in self._processors:
                processor.finish_shutdown(max(deadline - time.monotonic(), 0.0))
        return _sum(processor.counts() for processor in self._processors)

    def __repr__(self) -> str:
        return f"Setup({', '.join(self._names)})"


_active: set[Setup] = set()


def setup(
    backend: BackEnd | Iterable[BackEnd] | None = None,
    *,
    content: Mode | ContentPolicy | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    run_parent: RunParent = "auto",
    resume_trace: ResumeTrace = "auto",
    start_marker: bool = True,
    streams: Streams = "summary",
    sampler: Sampler | None = None,
    debug: bool = False,
) -> Setup:
    """Send spans of every run in this process to one or several back ends.

    Where the application has set a tracer provider, the back ends are added to it; else one is made and set. Spans
    leave from a background thread; a back end that is down costs a run nothing. Call it again to add a back end.

    Args:
        backend: "otlp", "console", a preset such as `otlp("http://collector:4318")`, or several of them. None reads
            the environment: `OTEL_TRACES_EXPORTER`, else OTLP.
        content: How much of payloads leaves the process: "off", "types" or "full". Default: what the back ends are
            for, the most of several. Environment variables win (see `ContentPolicy.from_environment`).
        redact: Called with the path and the value of everything that is captured; what it returns is sent instead.
        run_parent: Whether a run's span is a "child" of the span that is current at `run()`, a root with a "link" to
            it, or a "root". "auto": child, unless a back end needs roots and the parent is recorded elsewhere.
        resume_trace: Whether a resumed run continues its trace, or links to it. "auto": continues within a day.
        start_marker: Send a `workflow.started` span when a run starts, so that a killed run is seen.
        streams: Summarise streamed events on spans, or leave them "off".
        sampler: For a provider made here; default: `OTEL_TRACES_SAMPLER`.
        debug: Export each span at once, in the thread that ends it. It slows runs down: not for production.

    Raises:
        TelemetrySetupError: An unknown back end, an option that cannot work, or a package that is not installed.
    """
    presets = _presets(backend)
    policy = _policy(content, redact, presets)
    settings = Settings(
        content=policy,
        run_parent=run_parent,
        resume_trace=resume_trace,
        start_marker=start_marker and (not presets or any(preset.start_marker for preset in presets)),
        streams=streams,
        roots=any(preset.roots for preset in presets),
        conversation_id=any(preset.conversation_id for preset in presets),
    )
    exporters = [preset.make_exporter() for preset in presets]  # before anything is changed: this may raise
    provider = _provider(presets, sampler)
    processors = [DirectProcessor(exporter) if debug else BatchProcessor(exporter) for exporter in exporters]
    for processor in processors:
        provider.add_span_processor(processor)
    instrumented(provider, settings)
    made = Setup(provider, processors, [preset.name for preset in presets])
    _active.add(made)
    shown = ", ".join(f"{preset.name} ({preset.where})" for preset in presets) or "no back end of its own"
    logger.info("workflow telemetry goes to %s; payloads: %s", shown, policy.mode)
    return made


def _presets(backend: BackEnd | Iterable[BackEnd] | None) -> list[Preset]:
    if backend is None:
        asked = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
        return [_preset(name.strip()) for name in asked.split(",") if name.strip() != "none"]
    if isinstance(backend, (str, Preset)):
        return [_preset(backend)]
    return [_preset(one) for one in backend]


def _preset(backend: BackEnd) -> Preset:
    if isinstance(backend, Preset):
        return backend
    make = PRESETS.get(backend)
    if make is None:
        raise TelemetrySetupError(
            f"Back end {backend!r} is unknown. Use one of {', '.join(map(repr, sorted(PRESETS)))}, or a preset such as "
            f"workflows_otel.otlp('http://localhost:4318')."
        )
    return make()


def _policy(
    content: Mode | ContentPolicy | None, redact: Callable[[str, Any], Any] | None, presets: Sequence[Preset]
) -> ContentPolicy:
    if isinstance(content, ContentPolicy):
        return content if redact is None else replace(content, redact=redact)
    default: Mode = content or ("full" if any(preset.content == "full" for preset in presets) else "types")
    return ContentPolicy.from_environment(default, redact=redact)


def _provider(presets: Sequence[Preset], sampler: Sampler | None) -> TracerProvider:
    """The application's tracer provider, or a new one that becomes it."""
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        if sampler is not None:
            raise TelemetrySetupError(
                "sampler= cannot be used: a tracer provider is set already, and its sampler decides. Give the sampler "
                "to that provider, or call setup() before it is set."
            )
        return current
    if not isinstance(current, trace.ProxyTracerProvider):
        raise TelemetrySetupError(
            f"The tracer provider of this process is a {type(current).__name__}, which takes no span processors. Call "
            f"workflows_otel.instrument() to send spans through it, and configure its back ends in its own way."
        )
    resource: dict[str, Any] = {}
    for preset in presets:
        resource.update(preset.resource)
    # Not shut down by the SDK at exit: `Setup` does that, with a cap on the time it takes.
    provider = TracerProvider(sampler=sampler, resource=Resource.create(resource), shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    return provider


def _sum(results: Iterable[FlushResult]) -> FlushResult:
    sent = failed = dropped = pending = 0
    for result in results:
        sent += result.sent
        failed += result.failed
        dropped += result.dropped or 0
        pending += result.pending
    return FlushResult(sent, failed, dropped, pending)
