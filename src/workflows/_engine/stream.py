"""The stream of a run: what its steps publish, kept bounded, read by any number of cursors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from weakref import ReferenceType, ref

from workflows._engine.awaited_runs import future_of_run
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, InternalDispatchEvent

__all__ = ["EventStream", "OfChild", "StreamCursor"]

# Of the events that are kept, such a part goes at a time: that costs little more than if all went at once, and so few
# come and go between two looks of Python's garbage collector that it has nothing to do.
TRIMMED = 128


class OfChild:
    """An event that a run below this one streamed; it has no place in a snapshot."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event


class EventStream:
    """Keeps the last `limit` events, and whatever an attached cursor has not read yet.

    Attributes:
        internal: Somebody reads internal events; nobody builds them before.
        children: Somebody reads what child runs stream; it is not kept before.
        closed: The terminal event is in; what comes later is dropped.
        only_waits: The run only waits, and so does who reads on.
        when_left: Called, in any thread, when a reader leaves; where somebody wants to know.
    """

    __slots__ = (
        "__weakref__",
        "_cursors",
        "_events",
        "_first",
        "_given",
        "_limit",
        "_loop",
        "_read",
        "_resume_at",
        "_trim_at",
        "_waiters",
        "_writers",
        "children",
        "closed",
        "internal",
        "only_waits",
        "when_left",
    )

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop, unread: Iterable[Event] = ()) -> None:
        """Begin with what readers of an earlier run have left; of that, nothing goes before somebody can read it."""
        self._loop = loop
        self.internal = False
        self.children = False
        self.closed = self.only_waits = False
        self.when_left: Callable[[], None] | None = None
        self._limit = limit
        self._events: list[Event | OfChild] = list(unread)
        self._trim_at = max(len(self._events), limit) + limit // TRIMMED
        self._first = 0
        self._resume_at: int | None = None
        self._read = 0
        self._given: set[int] | None = None  # numbers of what readers of some classes only got
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        self._writers: tuple[asyncio.Future[None], ...] = ()
        self._cursors: tuple[ReferenceType[StreamCursor], ...] = ()

    def put(self, event: Event | OfChild) -> None:
        """Append an event, and wake the readers that wait."""
        if self.closed:
            return
        self._events.append(event)
        if len(self._events) > self._trim_at:
            self._trim()
        if self._waiters:
            self._wake()

    def close(self, last: Event | None) -> None:
        """Append the terminal event and end every reader after it."""
        if not self.closed:
            if last is not None:
                self.put(last)
            self.closed = True
            self.when_left = None
            self._wake()
            self._wake_writers()

    def cursor(
        self,
        *,
        internal: bool = False,
        children: bool = False,
        types: tuple[type[Event], ...] = (Event,),
        start: int | None = None,
    ) -> StreamCursor:
        """A new reader: from `start`, or where the last one was dropped half-way, else from the first that is kept."""
        self.internal = self.internal or internal
        self.children = self.children or children
        if start is None:
            start, self._resume_at = self._resume_at or 0, None
        cursor = StreamCursor(self, start, internal, children, types)
        self._cursors = (*(ref(c) for c in self._attached()), ref(cursor))
        return cursor

    @property
    def waiters(self) -> Sequence[asyncio.Future[None]]:
        """Futures of readers that have read all there is."""
        return self._waiters

    @property
    def has_readers(self) -> bool:
        """Whether a reader is attached that has not ended, and may answer to what it reads."""
        return any(not cursor.reads_later for cursor in self._attached())

    def backlog(self, cursor: StreamCursor) -> int:
        """How many events a cursor has not read."""
        return self._first + len(self._events) - cursor.position

    def behind(self) -> int:
        """How many events the slowest attached reader has not read; 0 if nobody reads."""
        return max((self.backlog(cursor) for cursor in self._attached() if not cursor.reads_later), default=0)

    async def until_read(self, ahead: int) -> None:
        """Wait until no attached reader has more than `ahead` events to read, or the stream has ended."""
        self._check_loop()
        while self.behind() > ahead and not self.closed:
            moved: asyncio.Future[None] = self._loop.create_future()
            self._writers = (*self._writers, moved)
            try:
                await moved
            finally:
                self._writers = tuple(w for w in self._writers if w is not moved)

    def reader_moved(self) -> None:
        """A reader has read something, or left, perhaps in the hands of the garbage collector, so in any thread."""
        if self._writers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_writers)

    def unread(self) -> list[Event]:
        """What no reader has got yet; all that is kept, if nobody ever read."""
        self._read = max([self._read, *(c.position for c in self._attached() if c.takes_all)])
        start = max(0, self._read - self._first)
        given = self._given or ()
        kept = enumerate(self._events[start:], self._first + start)
        return [e for number, e in kept if not isinstance(e, OfChild) and number not in given]

    def note_given(self, number: int) -> None:
        """A reader of some classes only got this event; others may come before it that nobody has got."""
        if self._given is None:
            self._given = set()
        self._given.add(number)

    def _attached(self) -> list[StreamCursor]:
        cursors = [reference() for reference in self._cursors]
        return [cursor for cursor in cursors if cursor is not None and not cursor.ended]

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise WorkflowRuntimeError(
                "A stream can be read and waited for on the event loop that its run lives on. From another thread use "
                "asyncio.run_coroutine_threadsafe(...)."
            )

    async def _changed(self) -> None:
        self._check_loop()
        waiter = future_of_run(self._loop, self.only_waits)
        self._waiters = (*self._waiters, waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters = tuple(w for w in self._waiters if w is not waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _wake_writers(self) -> None:
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)

    def _trim(self) -> None:
        unread = min((c.position for c in self._attached()), default=self._first + len(self._events))
        gone = min(len(self._events) - self._limit, unread - self._first)
        if gone > 0:
            del self._events[:gone]
            self._first += gone
            self._given = {number for number in self._given if number >= self._first} if self._given else None
        self._trim_at = max(len(self._events), self._limit) + self._limit // TRIMMED


class StreamCursor:
    """One reader of a stream: an async iterator that ends after the run's terminal event.

    Attributes:
        position: How many events of the stream it has passed; a reader with this `start` goes on behind them.
        takes_all: It passes over no event that is meant for readers.
        reads_later: It is read when the run is over: no writer waits for it, and no answer is to be hoped for from it.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "_finished",
        "_internal",
        "_stream",
        "_types",
        "_wanted",
        "position",
        "reads_later",
        "takes_all",
    )

    def __init__(
        self, stream: EventStream, position: int, internal: bool, children: bool, types: tuple[type[Event], ...]
    ) -> None:
        self._stream = stream
        self._internal = internal
        self._children = children
        self._types = types
        self._wanted: dict[type[Any], bool] = {}
        self._finished = False
        self.position = position
        self.takes_all = types == (Event,)
        self.reads_later = False

    @property
    def ended(self) -> bool:
        """It has given its last event, or was closed."""
        return self._finished

    def __aiter__(self) -> StreamCursor:
        return self

    async def __anext__(self) -> Event:
        stream = self._stream
        while not self._finished:
            index = self.position - stream._first  # pyright: ignore[reportPrivateUsage]  # one class in two halves
            if index < 0:
                self._finished = True
                raise _lost(self.position, -index)
            if index < len(stream._events):  # pyright: ignore[reportPrivateUsage]
                event = stream._events[index]  # pyright: ignore[reportPrivateUsage]
                known = self.takes_all and self._wanted.get(event.__class__)  # the usual reader knows most classes
                if not (known or self._wanted or stream.closed):
                    stream._check_loop()  # pyright: ignore[reportPrivateUsage]
                self.position += 1
                if stream._writers:  # pyright: ignore[reportPrivateUsage]
                    stream.reader_moved()
                if known:
                    return cast("Event", event)
                if (given := self._given(event)) is not None:
                    return given
            elif stream.closed:
                self._finished = True
                self._note_read()
            else:
                try:
                    await stream._changed()  # pyright: ignore[reportPrivateUsage]
                except asyncio.CancelledError:
                    del self  # else the traceback holds the reader, which counts as reading while it is there
                    raise
        raise StopAsyncIteration

    def _given(self, event: Event | OfChild) -> Event | None:
        if isinstance(event, OfChild):
            return event.event if self._children and self._wants(event.event) else None
        if not self._wants(event):
            return None
        if not self.takes_all:
            self._stream.note_given(self.position - 1)
        return event

    def _wants(self, event: Event) -> bool:
        kind = type(event)
        wanted = self._wanted.get(kind)
        if wanted is None:
            shown = self._internal or not issubclass(kind, InternalDispatchEvent)
            wanted = self._wanted[kind] = shown and issubclass(kind, self._types)
        return wanted

    async def aclose(self) -> None:
        """Stop reading; the next `stream_events()` goes on from here."""
        self._drop()

    def _drop(self) -> None:
        stream = self._stream
        self._note_read()
        if not self._finished:
            self._finished = True
            if self.position > 0:
                stream._resume_at = self.position  # pyright: ignore[reportPrivateUsage]
            stream.reader_moved()
            if stream.when_left is not None:
                stream.when_left()

    def _note_read(self) -> None:
        if self.takes_all:
            self._stream._read = max(self._stream._read, self.position)  # pyright: ignore[reportPrivateUsage]

    def __del__(self) -> None:
        self._drop()


def _lost(position: int, count: int) -> WorkflowRuntimeError:
    return WorkflowRuntimeError(
        f"{count} streamed events are gone: the stream keeps the last ones only. Attach the reader earlier, keep more "
        f"with Workflow(stream_buffer=...), or begin with what is kept: stream_events(start={position + count})."
    )
