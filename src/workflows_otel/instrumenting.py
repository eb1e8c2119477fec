"""`instrument()` and `uninstrument()`: which tracer providers draw runs."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider

from workflows.instrumentation import add_handler
from workflows.instrumentation.content import ContentPolicy, Mode
from workflows_otel import llama_index_hook
from workflows_otel._ownership import warn_if_mixed
from workflows_otel.agreeing import Agreed, agree, most_of
from workflows_otel.guarding import guard
from workflows_otel.handler import OtelHandler
from workflows_otel.instruments import CallInstruments
from workflows_otel.open_spans import Attributes
from workflows_otel.own_scope import SCHEMA_URL, SCOPE, VERSION
from workflows_otel.own_spans import longest_attribute
from workflows_otel.propagation import HANDLER_NAME
from workflows_otel.runs import current_run
from workflows_otel.settings import ResumeTrace, RunParent, Said, Settings, Streams
from workflows_otel.signals import Signals
from workflows_otel.stamping import stamp_if_set
from workflows_otel.turns import catch_up, watch_collections

__all__ = [
    "Drawing",
    "agree_by",
    "drawing",
    "drawn_providers",
    "end_open",
    "instrument",
    "redraw",
    "said_to_instrument",
    "stand_in",
    "uninstrument",
    "withdraw",
]


@dataclass(slots=True)
class _Drawn:
    """A tracer provider on which runs are drawn; `remove` ends that. `said`: to `instrument()`, if it was called."""

    provider: trace.TracerProvider
    handler: OtelHandler
    remove: Callable[[], None]
    said: Said | None = None
    logs: ContentPolicy = field(default_factory=ContentPolicy)


_drawn: dict[int, _Drawn] = {}  # in the order in which they came
_innermost: _Drawn | None = None
_stand_ins: dict[int, trace.TracerProvider] = {}
_signals = Signals()
_lock = threading.RLock()
_with_setups: Callable[[trace.TracerProvider, Said | None], Agreed | None] | None = None


def _in_child() -> None:
    """In a forked child: what is open is its parent's, which ends it."""
    global _lock
    _lock = threading.RLock()
    for drawn in _drawn.values():
        drawn.handler.forget()
    _signals.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def instrument(
    tracer_provider: trace.TracerProvider | None = None,
    *,
    content: Mode | ContentPolicy | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    blob: Callable[[str, str], str | None] | None = None,
    run_parent: RunParent | None = None,
    resume_trace: ResumeTrace | None = None,
    start_marker: bool | None = None,
    streams: Streams | None = None,
    llama_index: bool | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> None:
    """Draw every run of this process as spans of an application's own tracer provider.

    Nothing else is set up but a processor that says on other libraries' spans below a step whose run they belong to:
    exporters and sampling are the application's. Calling it again for the same provider only changes the options that
    it names.

    Args:
        tracer_provider: Default: the process's own, also when it is set after this call.
        content: As for `setup()`; default "types". A back end that `setup()` adds later gets no more than is said here,
            unless that call says its own.
        redact: As for `setup()`.
        blob: As for `setup()`.
        run_parent: As for `setup()`.
        resume_trace: As for `setup()`.
        start_marker: As for `setup()`.
        streams: As for `setup()`.
        llama_index: As for `setup()`.
        meter_provider: Where metrics of runs go; default: the process's own, also when it is set after this call.
        logger_provider: Where log events of runs go; default as for `meter_provider`.
    """
    warn_if_mixed()
    provider = tracer_provider or trace.get_tracer_provider()
    said = Said(content, redact, blob, run_parent, resume_trace, start_marker, streams, llama_index)
    with _lock:
        _settle()
        known = _found(provider)
        _draw(_real(provider), said.after(known.said if known is not None else None), meter_provider, logger_provider)
    _end_open_at_exit()


def _end_open_at_exit() -> None:
    atexit.unregister(end_open)
    atexit.register(end_open)  # the latest is called first: before the provider's own, which stops sending


def end_open() -> None:
    """The process ends, and with it what is open: its spans are closed as interrupted, wherever they are drawn."""
    catch_up()
    for drawn in list(_drawn.values()):
        drawn.handler.end_open()


def redraw(provider: trace.TracerProvider) -> Agreed:
    """Draw runs on a provider as all who are concerned say now; from now on, if they were not drawn there."""
    with _lock:
        return _draw(provider, said_to_instrument(provider))


def agree_by(with_setups: Callable[[trace.TracerProvider, Said | None], Agreed | None]) -> None:
    """Have this find what calls of `setup()` and `instrument()` say together; None where there is no such `setup()`."""
    global _with_setups
    _with_setups = with_setups


def _draw(
    provider: trace.TracerProvider,
    told: Said | None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> Agreed:
    agreed = (_with_setups(provider, told) if _with_setups is not None else None) or agree(told, ())
    known = _found(provider)
    if known is not None:
        known.handler.configure(agreed.settings)
    else:
        known = _drawn[id(provider)] = _begun(provider, agreed.settings)
    known.said, known.logs = told, agreed.logs
    _begin_signals(meter_provider, logger_provider)
    _arrange()
    return agreed


def _begin_signals(meter_provider: MeterProvider | None = None, logger_provider: LoggerProvider | None = None) -> None:
    """Metrics and logs, which are one for the process: logs show what all that is drawn now says together."""
    streams = any(drawn.handler.settings.streams == "log" for drawn in _drawn.values())
    logs = most_of(drawn.logs for drawn in _drawn.values())
    _signals.begin(logs, stream_logs=streams, meter_provider=meter_provider, logger_provider=logger_provider)


def _begun(provider: trace.TracerProvider, settings: Settings) -> _Drawn:
    tracer = trace.get_tracer(SCOPE, VERSION, provider, SCHEMA_URL)
    # Numbered in the order in which they come, so that another process, set up alike, finds their carriers.
    taken = {drawn.handler.name for drawn in _drawn.values()}
    names = chain((HANDLER_NAME,), (f"{HANDLER_NAME}.{number}" for number in count(2)))
    name = next(name for name in names if name not in taken)
    handler = OtelHandler(tracer, settings, destination=f"opentelemetry:{id(provider):x}", name=name, signals=_signals)
    _meet(provider, tracer)
    return _Drawn(provider, handler, add_handler(handler))


def _meet(provider: trace.TracerProvider, tracer: trace.Tracer) -> None:
    """Arrange what is to be arranged with a provider; without effect on what stands for one that is set later."""
    guard(tracer)
    stamp_if_set(provider)


def _is_set() -> bool:
    """Whether the process has a tracer provider."""
    return not _stands_in(trace.get_tracer_provider())


def _stands_in(provider: trace.TracerProvider) -> bool:
    """Whether it is what there is before the process has a provider."""
    return isinstance(provider, trace.ProxyTracerProvider)


def _look() -> bool:
    """When a run starts: whether the process has its provider by now; all is arranged with it before it is drawn."""
    if not _is_set():
        return False
    with _lock:
        _settle()
    return True


def _settle() -> None:
    """Begin with the process's provider, once it is set, what was asked for before there was one.

    Runs may be drawn on it already, for who named it: they go on being so, once, as both have said, and what was said
    of this provider wins.
    """
    early = next((drawn for drawn in _drawn.values() if _stands_in(drawn.provider)), None)
    if early is None or not _is_set():
        return
    provider = trace.get_tracer_provider()
    named = _drawn.get(id(provider))
    if named is None:
        _meet(provider, early.handler.tracer)
        _end_open_at_exit()
        return
    first = next(drawn for drawn in _drawn.values() if drawn in (early, named))
    del _drawn[id(early.provider)]
    early.remove()
    early.handler.close()
    if not named.handler.open_runs:  # whose carriers have its name
        named.handler.name = first.handler.name
    said = [drawn.said for drawn in (early, named) if drawn.said is not None]
    _draw(provider, said[-1].after(said[0]) if said else None)


def _found(provider: trace.TracerProvider) -> _Drawn | None:
    """What draws runs on a provider, also where that was asked for before the provider was the process's."""
    wanted = _real(provider)
    return next((drawn for drawn in _drawn.copy().values() if _real(drawn.provider) is wanted), None)


def _real(provider: trace.TracerProvider) -> trace.TracerProvider:
    """A provider; for the stand-in that there is before the process has one, the process's own, once it is set."""
    return trace.get_tracer_provider() if _stands_in(provider) else provider


def uninstrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Stop drawing runs, and close the spans of those that are under way as interrupted.

    Args:
        tracer_provider: Default: all of them.
    """
    catch_up()
    with _lock:
        _settle()
        known = list(_drawn.values()) if tracer_provider is None else [_found(tracer_provider)]
        found = [drawn for drawn in known if drawn is not None]
        for drawn in found:
            del _drawn[id(drawn.provider)]
        for provider in [drawn.provider for drawn in found] if tracer_provider is None else [tracer_provider]:
            _stand_ins.pop(id(_real(provider)), None)
        if _drawn:
            _begin_signals()
        else:
            _signals.end()
        _arrange()
    for drawn in found:
        drawn.remove()
        drawn.handler.close()


def withdraw(provider: trace.TracerProvider) -> None:
    """Draw runs as if `instrument()` had not been called for a provider: as each `setup()` says, else not at all."""
    with _lock:
        _settle()
        real = _real(provider)
        if _found(real) is not None and _with_setups is not None and _with_setups(real, None) is not None:
            _draw(real, None)
        else:
            uninstrument(provider)


def stand_in(provider: trace.TracerProvider, other: trace.TracerProvider) -> None:
    """Let the spans of `other` be current in steps where those of `provider` would be: it sends them in its place."""
    with _lock:
        _stand_ins[id(provider)] = other
        _arrange()


def _arrange() -> None:
    """After a change: let the right spans be current in steps, and llama-index be read where that is asked for.

    Spans of other libraries are made by the process's provider, as a rule, and hang below what is current: that must
    be a span which the same provider sends. Who is told last makes its span the current one.
    """
    global _innermost
    found = _main()
    if found is not None and (found is not _innermost or found is not next(reversed(_drawn.values()))):
        before, found.remove = found.remove, add_handler(found.handler)  # told by the first of the two, until it goes
        before()
    _innermost = found
    if any(drawn.handler.settings.llama_index for drawn in _drawn.values()):
        llama_index_hook.begin()
    else:
        llama_index_hook.end()
    if not _is_set() and any(_stands_in(drawn.provider) for drawn in _drawn.values()):
        for drawn in _drawn.values():
            drawn.handler.at_next_run(_look)


def _main() -> _Drawn | None:
    """The provider whose spans are current in steps: the process's own, or what stands in for it, else the first."""
    provider = trace.get_tracer_provider()
    return _found(_stand_ins.get(id(provider), provider)) or next(iter(_drawn.values()), None)


def said_to_instrument(provider: trace.TracerProvider) -> Said | None:
    """What the application said to `instrument()` of this provider; None if it did not call that."""
    with _lock:
        _settle()
        known = _found(provider)
        return None if known is None else known.said


def drawn_providers() -> list[trace.TracerProvider]:
    """The tracer providers on which runs are drawn."""
    return list({_real(drawn.provider): None for drawn in _drawn.copy().values()})


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
        by = next((drawn.handler for drawn in _drawn.copy().values() if drawn.handler.tracer is run.tracer), run)
        return Drawing(run.tracer, by.settings.content, _signals.calls, run.identity)  # as it is drawn by now
    main = _innermost
    if main is not None:
        return Drawing(main.handler.tracer, main.handler.settings.content, _signals.calls, {})
    watch_collections()
    tracer = trace.get_tracer(SCOPE, VERSION, schema_url=SCHEMA_URL)
    settings = Settings(ContentPolicy.from_environment())
    if not isinstance(tracer, trace.ProxyTracer):  # which makes no spans yet
        settings = settings.within(longest_attribute(tracer))
    return Drawing(tracer, settings.content, _signals.calls, {})
