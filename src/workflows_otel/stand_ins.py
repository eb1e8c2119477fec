"""What stands for the streams of models' clients, and for what opens them: it reads as they do, and tells its call.

A stand-in is made only for what can be read, or entered, and is of no other use: a page of results, an answer, or a
mock is given as it is. All that Python looks up on the class of a thing is handed on to it (`==`, `bool()`, a copy, a
pickle), and so is every attribute; nothing but `type()` and `is` sees a difference.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import lru_cache, wraps
from io import IOBase
from typing import Any

from workflows_otel.calls import Call, harmless

__all__ = ["stand_in_for"]

# What has one of these is more than a stream: it is an answer, or whoever calls it asks for something else.
_OTHER_USES = frozenset(("__len__", "__getitem__", "__await__"))

# What makes and ends a thing, what is asked of its class, and what the stand-in does itself.
_MAKING = frozenset(("__new__", "__init__", "__del__", "__setstate__", "__init_subclass__", "__set_name__"))
_OF_CLASSES = frozenset(("__class__", "__subclasshook__", "__class_getitem__"))
_NOT_HANDED_ON = _MAKING | _OF_CLASSES | {"__getattr__", "__getattribute__"}


def stand_in_for(call: Call, result: object) -> Any:
    """What to give for a stream, or for what opens one, of a client of a model; None for anything else."""
    kind = result.__class__  # which a wrapper of the stream has from the stream
    names = _names(kind)
    is_of_use = _is_stream(result, names) or _opens_something(names)
    return _class_for(kind)(call, result) if is_of_use and not names & _OTHER_USES else None


def _is_stream(result: object, names: frozenset[str]) -> bool:
    is_iterator = isinstance(result, (Iterator, AsyncIterator)) and not isinstance(result, IOBase)
    return is_iterator and "__call__" not in names


def _opens_something(names: frozenset[str]) -> bool:
    """Whether things of a class can be entered, by `with` or `async with`, and nothing else can be done with them."""
    can_be_entered = {"__enter__", "__exit__"} <= names or {"__aenter__", "__aexit__"} <= names
    return can_be_entered and all(name.startswith("_") for name in names)


@lru_cache(maxsize=64)
def _names(kind: type[Any]) -> frozenset[str]:
    """What things of a class have from it and its bases, but not what its metaclass has."""
    return frozenset(name for base in kind.__mro__ for name in vars(base))


class _StandIn:
    """Stands for a thing that is read during a call.

    Args:
        call: What is told of each item.
        stream: For what it stands.
        source: For an iterator of a stream: the stand-in of the stream, whose end as an object is the end of the call.
    """

    __slots__ = ("__weakref__", "_workflows_call", "_workflows_source", "_workflows_stream")

    def __init__(self, call: Call, stream: Any, source: Any = None) -> None:
        object.__setattr__(self, "_workflows_call", call)
        object.__setattr__(self, "_workflows_stream", stream)
        object.__setattr__(self, "_workflows_source", source)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody sets it
        return getattr(self._workflows_stream, "__class__")  # noqa: B009  # whose type nobody knows

    def __getattr__(self, name: str) -> Any:
        stream = self._workflows_stream
        value = getattr(stream, name)
        if name.startswith("_"):
            return value
        if inspect.isgenerator(value) or inspect.isasyncgen(value):  # Anthropic's `text_stream`
            return _part(self, value)
        if name in ("close", "aclose") and callable(value):
            return _closing(self._workflows_call, value)
        if _reads_to_the_end(name) and callable(value) and hasattr(stream, "until_done"):
            return _reading_first(self, value)
        return value


@lru_cache(maxsize=64)
def _class_for(kind: type[Any]) -> Callable[..., Any]:
    """What stands for things of that class; it is an iterator, or good for `with`, only where they are."""
    handed_on = {
        name: _handed_on(name)
        for name in _names(kind) - _NOT_HANDED_ON
        if name.startswith("__") and name.endswith("__") and callable(getattr(kind, name, None))
    }
    drawn = {name: method for name, method in _DRAWN.items() if name in handed_on}
    about = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (_StandIn,), {**about, **handed_on, **drawn})


@lru_cache(maxsize=256)
def _handed_on(name: str) -> Callable[..., Any]:
    def hand_on(self: Any, *args: Any, **options: Any) -> Any:
        return getattr(self._workflows_stream, name)(*args, **options)

    return hand_on


def _part(source: Any, items: Any) -> Any:
    """What stands for an iterator that a stream has given."""
    return _class_for(items.__class__)(source._workflows_call, items, source)


def _closing(call: Call, close: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(close)
    def close_it(*args: Any, **options: Any) -> Any:
        result = close(*args, **options)
        if inspect.iscoroutine(result):
            return _closed(call, result)
        call.leave()
        return result

    return close_it


async def _closed(call: Call, closing: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await closing
    finally:
        call.leave()


def _reads_to_the_end(name: str) -> bool:
    """Whether a method of OpenAI's and Anthropic's streams reads what is left of them: `get_final_message()`, say."""
    return name == "until_done" or name.startswith("get_final_")


def _reading_first(source: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """That method, for which everything is read here, where the call is told of it."""
    if not inspect.iscoroutinefunction(method):

        @wraps(method)
        def read(*args: Any, **options: Any) -> Any:
            for _ in source:
                pass
            return method(*args, **options)

        return read

    @wraps(method)
    async def read_async(*args: Any, **options: Any) -> Any:
        async for _ in source:
            pass
        return await method(*args, **options)

    return read_async


def _next(self: Any) -> Any:
    call, chunk, end = self._workflows_call, None, None
    with call:
        with call.resumed():
            try:
                chunk = next(self._workflows_stream)
            except StopIteration as stop:
                end = stop
        _note(call, chunk, is_last=end is not None)
    if end is not None:
        raise end
    return chunk


async def _anext(self: Any) -> Any:
    call, chunk, end = self._workflows_call, None, None
    with call:
        with call.resumed():
            try:
                chunk = await anext(self._workflows_stream)
            except StopAsyncIteration as stop:
                end = stop
        _note(call, chunk, is_last=end is not None)
    if end is not None:
        raise end
    return chunk


def _note(call: Call, chunk: Any, *, is_last: bool) -> None:
    if not is_last:
        call.chunk(chunk)
        call.keep_open()


def _iter(self: Any) -> Any:
    items = iter(self._workflows_stream)
    return self if items is self._workflows_stream else _part(self, items)


def _aiter(self: Any) -> Any:
    items = aiter(self._workflows_stream)
    return self if items is self._workflows_stream else _part(self, items)


def _enter(self: Any) -> Any:
    call = self._workflows_call
    with call:
        with call.resumed():
            entered = self._workflows_stream.__enter__()
        return _entered(self, entered)


async def _aenter(self: Any) -> Any:
    call = self._workflows_call
    with call:
        with call.resumed():
            entered = await self._workflows_stream.__aenter__()
        return _entered(self, entered)


def _entered(self: Any, entered: Any) -> Any:
    """What a `with` gives: the stream itself, one that was opened by it, or an answer."""
    call = self._workflows_call
    call.keep_open()
    if entered is self._workflows_stream:
        return self
    if inspect.isgenerator(entered) or inspect.isasyncgen(entered):
        return _part(self, entered)
    drawn: Any = None
    with harmless("stream"):
        drawn = stand_in_for(call, entered)
    if drawn is None:
        call.output(entered)
        return entered
    return drawn


def _exit(self: Any, *error: Any) -> Any:
    try:
        with self._workflows_call.resumed():
            return self._workflows_stream.__exit__(*error)
    finally:
        self._workflows_call.leave()


async def _aexit(self: Any, *error: Any) -> Any:
    try:
        with self._workflows_call.resumed():
            return await self._workflows_stream.__aexit__(*error)
    finally:
        self._workflows_call.leave()


_DRAWN: dict[str, Callable[..., Any]] = {
    "__iter__": _iter,
    "__next__": _next,
    "__aiter__": _aiter,
    "__anext__": _anext,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
}
