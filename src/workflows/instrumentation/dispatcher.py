"""The one way out: records go from the engine through a `Dispatcher` to `RecordHandler`s.

A handler is synchronous and must not block. It can never hurt a run: what it raises is logged and counted, and after
`BREAKER_ERRORS` errors in a row it is left alone for `BREAKER_SECONDS`. In strict mode (under test) it raises.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:  # they are loaded with the engine, or with a handler: for a quick `import workflows`
    from workflows.instrumentation.records import Carriers, Record

__all__ = ["Dispatcher", "RecordHandler", "add_handler", "process_dispatcher"]

BREAKER_ERRORS = 20
BREAKER_SECONDS = 60.0
LOG_SECONDS = 60.0

# Start records go to handlers in this order, end records in reverse, so that the contexts they attach nest.
# Handlers with another name come last.
HANDLER_ORDER = ("mlflow", "llama_index", "opentelemetry")
# Registering a handler with that package is asking to be told our runs. The bridge to it is loaded by name, once the
# package is loaded: nobody else pays for it.
_BRIDGED = "llama_index_instrumentation"
_BRIDGE = "workflows.instrumentation.llama_index"

logger = logging.getLogger("workflows.instrumentation")


class RecordHandler(Protocol):
    """A reader of records.

    `name` is unique among handlers and names its carrier. Of several handlers with one `destination` (where their
    output ends up; None: nowhere shared), only the first added is told anything, so that nothing is drawn twice.
    """

    @property
    def name(self) -> str: ...

    @property
    def destination(self) -> str | None: ...

    def handle(self, record: Record) -> None:
        """Take one record. Unknown records are to be ignored; state is kept by (run_id, exec_id, attempt)."""
        ...

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """What an event sent now, in the current context, should carry for this handler (`traceparent`, say)."""
        ...


class HasDispatcher(Protocol):
    """A workflow instance, as this layer sees it."""

    @property
    def _dispatcher(self) -> Dispatcher: ...


class GuardedHandler:
    """Calls one handler, keeps its errors away from the run, and counts them."""

    def __init__(self, handler: RecordHandler) -> None:
        self.handler = handler
        self.errors = 0
        self._in_a_row = 0
        self._off_until = 0.0
        self._log_after = 0.0

    def tell(self, record: Record, strict: bool) -> None:
        off = self._off_until and time.monotonic() < self._off_until
        if off and not record.ends_run:  # let it close what it has open for a run
            return
        try:
            self.handler.handle(record)
            self._in_a_row = 0
        except Exception as error:
            self._failed(type(record).__name__, error)
            if strict:
                raise

    def carrier(self, run_id: str, strict: bool) -> Mapping[str, str] | None:
        try:
            return self.handler.carrier(run_id)
        except Exception as error:
            self._failed("carrier", error)
            if strict:
                raise
            return None

    def _failed(self, about: str, error: Exception) -> None:
        self.errors += 1
        self._in_a_row += 1
        now = time.monotonic()
        if self._in_a_row >= BREAKER_ERRORS:
            self._in_a_row = 0
            self._off_until = now + BREAKER_SECONDS
            logger.error(
                "handler %r failed %d times in a row; off for %.0f s",
                self.handler.name,
                BREAKER_ERRORS,
                BREAKER_SECONDS,
            )
        elif now >= self._log_after:
            self._log_after = now + LOG_SECONDS
            logger.error("handler %r failed on %s; telemetry is incomplete", self.handler.name, about, exc_info=error)


class Dispatcher:
    """Tells records to its own handlers and to those of its parent (the process).

    Attributes:
        handlers: Everyone who is told, in order. Empty means: do not even build a record.
        strict: Handlers' errors are raised as well (under test).
    """

    def __init__(self, parent: Dispatcher | None = None) -> None:
        self.handlers: tuple[GuardedHandler, ...] = ()
        self.strict = parent.strict if parent else False
        self._reversed: tuple[GuardedHandler, ...] = ()
        self._own: list[GuardedHandler] = []
        self._parent = parent
        self._children: WeakValueDictionary[int, Dispatcher] = WeakValueDictionary()
        if parent is not None:
            parent._children[id(self)] = self
            self._refresh()

    def add(self, handler: RecordHandler) -> Callable[[], None]:
        """Tell `handler` from now on; the returned function stops that (calling it again does nothing)."""
        guarded = GuardedHandler(handler)
        self._own.append(guarded)
        self._refresh()

        def remove() -> None:
            if guarded in self._own:
                self._own.remove(guarded)
                self._refresh()

        return remove

    def awake(self, workflow: object) -> Dispatcher:
        """This dispatcher, of `workflow`, for a run that starts now; whoever is bridged to has been looked for."""
        if _BRIDGED in sys.modules:
            try:
                (sys.modules.get(_BRIDGE) or import_module(_BRIDGE)).look(self, workflow)
            except Exception as error:
                logger.error("the bridge to %s failed; it is told nothing", _BRIDGED, exc_info=error)
                if self.strict:
                    raise
        return self

    def emit(self, record: Record) -> None:
        """Tell one record to every handler."""
        strict = self.strict
        for handler in self._reversed if record.ends else self.handlers:
            handler.tell(record, strict)

    def carriers(self, run_id: str) -> Carriers | None:
        """What an event sent now should carry, by handler name; None where no handler wants anything."""
        found = {h.handler.name: carrier for h in self.handlers if (carrier := h.carrier(run_id, self.strict))}
        return found or None

    def set_strict(self, strict: bool) -> None:
        """Raise handlers' errors (True), or only log and count them (False), here and in every child."""
        self.strict = strict
        for child in self._living():
            child.set_strict(strict)

    def _refresh(self) -> None:
        inherited = self._parent.handlers if self._parent else ()
        told: list[GuardedHandler] = []
        taken: set[str] = set()
        for guarded in (*inherited, *self._own):
            destination = guarded.handler.destination
            if destination is None or destination not in taken:
                told.append(guarded)
                if destination is not None:
                    taken.add(destination)
        told.sort(key=_place)
        self.handlers = tuple(told)
        self._reversed = self.handlers[::-1]
        for child in self._living():
            child._refresh()

    def _living(self) -> list[Dispatcher]:
        """The children that there are now: more may come, in other threads, and go at any time."""
        return [child for ref in self._children.valuerefs() if (child := ref()) is not None]


def _place(guarded: GuardedHandler) -> int:
    kind = guarded.handler.name.rstrip("0123456789").rstrip(".")  # "opentelemetry.2" is one more "opentelemetry"
    return HANDLER_ORDER.index(kind) if kind in HANDLER_ORDER else len(HANDLER_ORDER)


process_dispatcher = Dispatcher()


def add_handler(handler: RecordHandler, *, workflow: HasDispatcher | None = None) -> Callable[[], None]:
    """Tell `handler` every record of this process, or of one workflow instance; returns what ends that."""
    return (workflow._dispatcher if workflow is not None else process_dispatcher).add(handler)  # pyright: ignore[reportPrivateUsage]  # HasDispatcher names it
