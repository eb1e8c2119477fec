"""How much of payloads a span of ours shows: the span says it itself, and nobody is sent it.

What is drawn may change while spans are open, or on their way to back ends that may see different parts of it. So each
says by which content mode its payloads were drawn. Its instrumentation scope says it: of what belongs to a span, the
SDK hands on that very object, and to everybody else it equals the tracer's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Set
from functools import lru_cache

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span

from workflows.instrumentation.content import Mode

__all__ = ["MODES", "ShowingScope", "say_noted", "say_shown", "scope_showing", "shown_by", "shows_more"]

MODES = ("off", "types", "full")
"""How much of payloads is shown, from the least to the most."""


def shows_more(mode: Mode, other: Mode) -> bool:
    """Whether one mode shows more of payloads than another one."""
    return MODES.index(mode) > MODES.index(other)


class ShowingScope(InstrumentationScope):
    """The scope of a span, which also says how much of payloads that shows; it equals the scope that it is made of.

    Attributes:
        mode: By which the payloads were drawn; the larger of two, where that changed while the span was open.
        shapes: Then, the names of attributes and events that were drawn in mode `types`, where `mode` is `full`.
        notes: Names of events that hold payloads.
    """

    def __init__(
        self,
        scope: InstrumentationScope,
        mode: Mode,
        shapes: frozenset[str] = frozenset(),
        notes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(scope.name, scope.version, scope.schema_url, scope.attributes)
        self.mode: Mode = mode
        self.shapes = shapes
        self.notes = notes


@lru_cache(maxsize=64)  # a process has few tracers
def scope_showing(scope: InstrumentationScope, mode: Mode) -> ShowingScope:
    """The scope of spans of a tracer whose payloads are all drawn by one mode."""
    return ShowingScope(scope, mode)


def shown_by(span: ReadableSpan) -> ShowingScope:
    """What a span of ours says of how much of payloads it shows: all, where it says nothing."""
    scope = span.instrumentation_scope
    return scope if isinstance(scope, ShowingScope) else _SAYS_NOTHING


_SAYS_NOTHING = ShowingScope(InstrumentationScope(""), "full")


def say_shown(span: Span, mode: Mode, *names: str) -> None:
    """Say that payloads, drawn by a mode, are written on a span now, as attributes of these names."""
    if not isinstance(span, ReadableSpan):
        return  # it is sent nowhere, or has no way to say it and is taken for one that shows all
    scope = span.instrumentation_scope
    if not isinstance(scope, ShowingScope) or scope.mode != mode or scope.shapes:
        _say(span, mode, frozenset(names))


def say_noted(span: Span, mode: Mode, name: str) -> None:
    """Say that an event of this name, whose attributes are payloads, drawn by a mode, is added to a span now."""
    if isinstance(span, ReadableSpan):
        names = frozenset((name,))
        _say(span, mode, names, names)


_lock = threading.Lock()  # threads may write on one span


def _in_child() -> None:
    global _lock  # a thread of the parent may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _say(span: ReadableSpan, mode: Mode, names: frozenset[str], notes: frozenset[str] = frozenset()) -> None:
    with _lock:
        scope = span.instrumentation_scope
        if scope is None:
            return
        if isinstance(scope, ShowingScope):
            most = mode if shows_more(mode, scope.mode) else scope.mode
            said = ShowingScope(scope, most, _shapes_on(span, scope, mode, names), scope.notes | notes)
        else:
            said = ShowingScope(scope, mode, notes=notes) if notes else scope_showing(scope, mode)
        span._instrumentation_scope = said  # pyright: ignore[reportPrivateUsage]  # there is no public way to say what is not sent


def _shapes_on(span: ReadableSpan, scope: ShowingScope, mode: Mode, names: Set[str]) -> frozenset[str]:
    """What is drawn in mode `types` on a span, where payloads of these names come to it, if `full` is there as well."""
    if scope.mode == "types" and mode == "full":
        return (frozenset(span.attributes or ()) | scope.notes) - names
    if scope.mode == "full" and mode == "types":
        return scope.shapes | (names - scope.notes)  # an event of that name that is there stays as it is
    return scope.shapes - names
