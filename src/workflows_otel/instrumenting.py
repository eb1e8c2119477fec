"""`instrument()` and `uninstrument()`: which tracer providers draw runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider

from workflows.instrumentation import add_handler
from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel._ownership import warn_if_mixed
from workflows_otel.handler import OtelHandler
from workflows_otel.instruments import CallInstruments
from workflows_otel.open_spans import Attributes
from workflows_otel.own_scope import SCHEMA_URL, SCOPE, VERSION
from workflows_otel.propagation import HANDLER_NAME
from workflows_otel.runs import current_run
from workflows_otel.settings import ResumeTrace, RunParent, Settings, Streams
from workflows_otel.signals import Signals

__all__ = ["Drawing", "drawing", "drawn_providers", "instrument", "instrumented", "uninstrument"]

_handlers: dict[int, tuple[trace.TracerProvider, OtelHandler, Callable[[], None]]] = {}
_signals = Signals()
_lock = threading.Lock()


def instrument(
    tracer_provider: trace.TracerProvider | None = None,
    *,
    content: Mode | ContentPolicy | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    blob: Callable[[str, str], str | None] | None = None,
    run_parent: RunParent = "auto",
    resume_trace: ResumeTrace = "auto",
    start_marker: bool = True,
    streams: Streams = "summary",
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> None:
    """Draw every run of this process as spans of an application's own tracer provider.

    Nothing else is set up: exporters, processors and sampling are the application's. Calling it again for the same
    provider only changes the options.

    Args:
        tracer_provider: Default: the process's own, also when it is set after this call.
        content: As for `setup()`; default "types".
        redact: As for `setup()`.
        blob: As for `setup()`.
        run_parent: As for `setup()`.
        resume_trace: As for `setup()`.
        start_marker: As for `setup()`.
        streams: As for `setup()`.
        meter_provider: Where metrics of runs go; default: the process's own, also when it is set after this call.
        logger_provider: Where log events of runs go; default as for `meter_provider`.
    """
    warn_if_mixed()
    policy = (
        content
        if isinstance(content, ContentPolicy)
        else ContentPolicy.from_environment(content or "types", redact=redact)
    )
    if blob is not None:
        policy = replace(policy, blob=blob)
    settings = Settings(policy, run_parent, resume_trace, start_marker, streams)
    instrumented(tracer_provider or trace.get_tracer_provider(), settings, meter_provider, logger_provider)


def instrumented(
    provider: trace.TracerProvider,
    settings: Settings,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> OtelHandler:
    """The handler that draws runs on a provider, made when first asked for, with these settings from now on."""
    with _lock:
        _signals.begin(
            settings.content,
            stream_logs=settings.streams == "log",
            meter_provider=meter_provider,
            logger_provider=logger_provider,
        )
        known = _handlers.get(id(provider))
        if known is not None:
            known[1].configure(settings)
            return known[1]
        tracer = trace.get_tracer(SCOPE, VERSION, provider, SCHEMA_URL)
        # Numbered in the order in which they come, so that another process, set up alike, finds their carriers.
        taken = {handler.name for _, handler, _ in _handlers.values()}
        names = chain((HANDLER_NAME,), (f"{HANDLER_NAME}.{number}" for number in count(2)))
        name = next(name for name in names if name not in taken)
        handler = OtelHandler(
            tracer, settings, destination=f"opentelemetry:{id(provider):x}", name=name, signals=_signals
        )
        _handlers[id(provider)] = (provider, handler, add_handler(handler))
        return handler


def uninstrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Stop drawing runs, and close the spans of those that are under way as interrupted.

    Args:
        tracer_provider: Default: all of them.
    """
    with _lock:
        asked = list(_handlers) if tracer_provider is None else [id(tracer_provider)]
        found = [_handlers.pop(key) for key in asked if key in _handlers]
        if not _handlers:
            _signals.end()
    for _, handler, remove in found:
        remove()
        handler.close()


def drawn_providers() -> list[trace.TracerProvider]:
    """The tracer providers on which runs are drawn."""
    return [provider for provider, _, _ in _handlers.copy().values()]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How something that happens here and now is drawn: by what, in which way, and as part of which run."""

    tracer: trace.Tracer
    content: ContentPolicy
    calls: CallInstruments
    identity: Attributes


def drawing() -> Drawing:
    """For the current run, if there is one, else for this process."""
    run = current_run()
    if run is not None:
        return Drawing(run.tracer, run.settings.content, _signals.calls, run.identity)
    for _, handler, _ in _handlers.copy().values():
        return Drawing(handler.tracer, handler.settings.content, _signals.calls, {})
    tracer = trace.get_tracer(SCOPE, VERSION, schema_url=SCHEMA_URL)
    return Drawing(tracer, ContentPolicy.from_environment(), _signals.calls, {})
