"""`recorded`: marks a call of a model or tool whose answers are kept with the trace, for `reproduce`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

from mlflow_flavor._compat import invalid
from mlflow_flavor._recorded_errors import Raised
from mlflow_flavor._recording import ROOT_RUN, Answer, ChildRuns, Playback, Recording, Request, RunPath
from mlflow_flavor.autolog import handler as drawer
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import Record, RunStarted
from workflows.instrumentation.scope import current_attempt

__all__ = ["recorded"]

P = ParamSpec("P")
R = TypeVar("R")

GIVEN_UP = 5.0
"""So many seconds later than when it was recorded, a call may be given up again."""

logger = logging.getLogger("workflows.mlflow")

REMEMBERED = 1000
"""Of so many runs that are over, tasks that they have left behind are known."""

_playbacks: dict[str, tuple[Playback, RunPath]] = {}
_over: deque[str] = deque()
_warned: set[str] = set()


@overload
def recorded(function: Callable[P, R], *, name: str | None = None) -> Callable[P, R]: ...


@overload
def recorded(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def recorded(function: Any = None, *, name: str | None = None) -> Any:
    """The function, whose answers inside of steps are kept with the trace where `autolog(record_calls=True)` asks.

    `reproduce(trace_id, recorded=True)` then gives those answers again and calls nobody; without `recorded=True` it
    says which answers are others now. Outside of a run, and where nothing is recorded, the function is as it was. Of a
    call that raises, the error is the answer: its class, text and arguments, and its attributes where they are data.

    Args:
        function: A function, or a method of a client, plain or to be awaited: `recorded(client.responses.create)`. It
            gives data or pydantic models; a stream cannot be recorded.
        name: What the recording calls it; by default its qualified name. The same in every version of the code, or
            its answers are not found.

    Raises:
        MlflowException: If it is a generator function.
    """
    if function is None:
        return functools.partial(recorded, name=name)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise invalid(
            f"{_name_of(function)} is a generator, and a stream cannot be recorded: record what it is made of."
        )
    label = name or _name_of(function)
    if not inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return _answered(label, function, args, kwargs)

        return call

    @functools.wraps(function)
    async def call_and_wait(*args: Any, **kwargs: Any) -> Any:
        return await _answered(label, function, args, kwargs)

    return call_and_wait


def _answered(label: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    scope = current_attempt.get()
    if scope is None:
        _note_made_by_somebody(label)
        return function(*args, **kwargs)
    playback, path = _playbacks.get(scope.run_id) or (None, ROOT_RUN)
    if playback is not None and playback.gives and playback.is_over and inspect.iscoroutinefunction(function):
        return _nothing_more()
    recording = drawer.recording(scope.run_id)
    if playback is None and recording is None:
        return function(*args, **kwargs)
    try:
        request = Request.of(label, args, kwargs)
    except (ValueError, RecursionError):
        _warn(label, "calls of %s cannot be recorded: its arguments are no data", label)
        if playback is not None:
            playback.note_made(label)
        return function(*args, **kwargs)
    call = functools.partial(function, *args, **kwargs)
    if playback is not None and (answer := playback.next(path, request)) is not None:
        return _given(playback, answer) if answer.came else _open(playback, answer, label, call)
    return _made(call, Call(request, playback, path, recording))


def _made(function: Callable[[], Any], call: Call) -> Any:
    try:
        result = function()
    except Exception as error:
        call.keep(Raised(error), awaited=False)
        raise
    if inspect.isawaitable(result):
        return _kept_when_there(result, call)
    call.keep(result, awaited=False)
    return result


async def _kept_when_there(result: Awaitable[Any], call: Call) -> Any:
    call.awaits()
    try:
        value = await result
    except asyncio.CancelledError:
        call.gave_up()
        raise
    except Exception as error:
        call.keep(Raised(error), awaited=True)
        raise
    call.keep(value, awaited=True)
    return value


class Call:
    """A call that is made, whose answer is compared with an earlier one, or kept."""

    def __init__(self, request: Request, playback: Playback | None, path: RunPath, recording: Recording | None) -> None:
        self._request = request
        self._playback = playback
        self._path = path
        self._recording = recording
        self._number = recording.ask() if recording is not None else 0

    def awaits(self) -> None:
        """The answer has to be awaited."""
        if self._recording is not None:
            self._recording.awaits(self._number, self._request)

    def gave_up(self) -> None:
        """Whoever awaited it was cancelled."""
        if self._recording is not None:
            self._recording.gave_up(self._number)

    def keep(self, answer: object, *, awaited: bool) -> None:
        """The answer is there."""
        if self._playback is not None:
            self._playback.compare(self._path, self._request, answer)
        if self._recording is None:
            return
        try:
            self._recording.keep(self._number, self._request, answer, awaited)
        except (ValueError, RecursionError):
            name, kind = self._request.name, type(answer).__qualname__
            _warn(name, "answers of %s cannot be recorded: %s is neither data nor a model", name, kind)


def _note_made_by_somebody(label: str) -> None:
    """A thread of the caller's own has no context: its call may be one of a run that is played back."""
    for playback in {id(playback): playback for playback, _ in list(_playbacks.values())}.values():
        if not playback.is_over:
            playback.note_made(label)


def _given(playback: Playback, answer: Answer) -> Any:
    if answer.awaited:
        return _when_it_came(playback, answer)
    if answer.place is not None:
        if _in_loop():
            playback.order.is_given(answer.place)
        else:
            playback.order.come_in_thread(answer.place, answer.seconds)
    return playback.rebuilt(answer)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _when_it_came(playback: Playback, answer: Answer) -> Any:
    if answer.place is not None:
        await playback.order.come(answer.place, answer.seconds)
    return playback.rebuilt(answer)


async def _open(playback: Playback, answer: Answer, label: str, call: Callable[[], Awaitable[Any]]) -> Any:
    """A call that was given up before it had an answer, and may be again; if not, it is made."""
    await asyncio.sleep(answer.seconds + GIVEN_UP)
    if playback.is_over:
        await _nothing_more()
    playback.note_made(label)
    return await call()


async def _nothing_more() -> None:
    """A task that a run has left behind ends here, when that is over: it must call nobody."""
    raise asyncio.CancelledError


def _warn(name: str, message: str, *about: object) -> None:
    """Warn once of a function that is not recorded."""
    if name not in _warned:
        _warned.add(name)
        logger.warning(message, *about)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class PlaybackRuns:
    """A record handler that gives the child runs of a run the playback of their root.

    Attributes:
        run_ids: The runs that have it.
    """

    name = "mlflow_playback"
    destination = None

    def __init__(self, root_run_id: str, playback: Playback) -> None:
        self.run_ids = {root_run_id}
        self._children = ChildRuns(root_run_id)
        self._playback = playback

    def handle(self, record: Record) -> None:
        """Take the start of a run; nothing else matters."""
        if not isinstance(record, RunStarted) or record.parent is None or record.run_id in self.run_ids:
            return
        path = self._children.started(record.run_id, record.workflow, record.parent[0])
        if path is not None:
            _playbacks[record.run_id] = self._playback, path
            self.run_ids.add(record.run_id)

    def carrier(self, run_id: str) -> None:
        """Nothing to carry."""


@contextmanager
def played_back(run_id: str, playback: Playback) -> Generator[None]:
    """Inside the block, calls of a run and of its child runs meet this playback."""
    runs = PlaybackRuns(run_id, playback)
    _playbacks[run_id] = playback, ROOT_RUN
    remove = add_handler(runs)
    try:
        yield
    finally:
        remove()
        playback.is_over = True
        _over.extend(runs.run_ids)
        while len(_over) > REMEMBERED:
            _playbacks.pop(_over.popleft(), None)
