"""How much of payloads a span of ours shows: the span says it itself, and nobody is sent it.

What is drawn may change while spans are open, or on their way to back ends that may see different parts of it. So each
says by which content mode its payloads were drawn. Its instrumentation scope says it: of what belongs to a span, the
SDK hands on that very object, and to everybody else it equals the tracer's.
"""

from __future__ import annotations

from dataclasses import dataclass
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

    One that was changed belongs to a single span. Threads write on a span at once, and so does what the garbage
    collector ends in the middle of a write (a generator's `finally`): all that changes here is added by one operation
    that is whole, without a lock. What it comes to is found when it is asked for.

    Args:
        scope: Of the tracer.
        mode: By which the payloads are drawn.
    """

    def __init__(self, scope: InstrumentationScope, mode: Mode) -> None:
        super().__init__(scope.name, scope.version, scope.schema_url, scope.attributes)
        self.first: Mode = mode
        self.changes: list[_Change] = []
        self.noted: set[tuple[Mode, str]] = set()

    @property
    def mode(self) -> Mode:
        """By which the payloads were drawn; the largest, where that changed while the span was open."""
        modes: list[Mode] = [self.first, *(change.mode for change in self.changes)]
        return max(modes, key=MODES.index)

    @property
    def notes(self) -> frozenset[str]:
        """Names of events that hold payloads."""
        return frozenset(name for _, name in self.noted.copy())

    @property
    def shapes(self) -> frozenset[str]:
        """The names of attributes and events that were drawn in mode `types`, where `mode` is `full`."""
        mode, shapes = self.first, frozenset[str]()
        for change in self.changes:
            if mode == "types" and change.mode == "full":
                shapes = change.before - change.names
            elif mode == "full" and change.mode == "types":
                shapes |= change.names
            else:
                shapes -= change.names
            mode = change.mode if shows_more(change.mode, mode) else mode
        noted = self.noted.copy()
        return shapes | {name for by, name in noted if by == "types" and ("full", name) not in noted}


@dataclass(frozen=True, slots=True)
class _Change:
    """Payloads come to a span: by which mode they are drawn, under which names, and what was there `before`."""

    mode: Mode
    names: frozenset[str]
    before: frozenset[str]


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
    if isinstance(scope, ShowingScope):
        if scope.first != mode or scope.changes:
            _own_scope(span, scope).changes.append(_Change(mode, frozenset(names), frozenset(span.attributes or ())))
    elif scope is not None:
        _set_scope(span, scope_showing(scope, mode))


def say_noted(span: Span, mode: Mode, name: str) -> None:
    """Say that an event of this name, whose attributes are payloads, drawn by a mode, is added to a span now."""
    if not isinstance(span, ReadableSpan) or (scope := span.instrumentation_scope) is None:
        return
    own = _own_scope(span, scope if isinstance(scope, ShowingScope) else scope_showing(scope, mode))
    own.noted.add((mode, name))
    if shows_more(mode, own.mode):
        own.changes.append(_Change(mode, frozenset(), frozenset(span.attributes or ())))


def _own_scope(span: ReadableSpan, scope: ShowingScope) -> ShowingScope:
    """The scope that is this span's alone: whoever asks first makes it, and all the others find it."""
    parts = vars(span)
    own: ShowingScope = parts.get(_OWN) or parts.setdefault(_OWN, ShowingScope(scope, scope.first))
    _set_scope(span, own)
    return own


_OWN = "_workflows_showing"


def _set_scope(span: ReadableSpan, scope: ShowingScope) -> None:
    span._instrumentation_scope = scope  # pyright: ignore[reportPrivateUsage]  # there is no public way to say what is not sent
