"""`recorded`: marks a call of a model or tool whose answers are kept with the trace, for `reproduce`."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

from mlflow_flavor._compat import invalid
from mlflow_flavor._recorded_errors import Raised
from mlflow_flavor._recording import ROOT_RUN, Answer, ChildRuns, Playback, Request, RunPath
from mlflow_flavor.autolog import handler as drawer
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import Record, RunStarted
from workflows.instrumentation.scope import current_attempt

__all__ = ["recorded"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("workflows.mlflow")

_playbacks: dict[str, tuple[Playback, RunPath]] = {}
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
    playback, path = (_playbacks.get(scope.run_id) if scope is not None else None) or (None, ROOT_RUN)
    recording = drawer.recording(scope.run_id) if scope is not None else None
    if playback is None and recording is None:
        return function(*args, **kwargs)
    try:
        request = Request.of(label, args, kwargs)
    except (ValueError, RecursionError):
        _warn(label, "calls of %s cannot be recorded: its arguments are no data", label)
        if playback is not None:
            playback.note_made(label)
        return function(*args, **kwargs)
    if playback is not None and (answer := playback.next(path, request)) is not None:
        return _given(playback, answer)
    number = recording.ask() if recording is not None else 0

    def keep(result: object, awaited: bool) -> None:
        if playback is not None:
            playback.compare(path, request, result)
        if recording is not None:
            _keep(functools.partial(recording.keep, number), request, result, awaited)

    try:
        result = function(*args, **kwargs)
    except Exception as error:
        keep(Raised(error), False)
        raise
    if inspect.isawaitable(result):
        return _kept_when_there(result, keep)
    keep(result, False)
    return result


def _given(playback: Playback, answer: Answer) -> Any:
    return _at_once(playback, answer) if answer.awaited else playback.rebuilt(answer)


async def _at_once(playback: Playback, answer: Answer) -> Any:
    return playback.rebuilt(answer)


async def _kept_when_there(result: Awaitable[Any], keep: Callable[[object, bool], None]) -> Any:
    try:
        value = await result
    except Exception as error:
        keep(Raised(error), True)
        raise
    keep(value, True)
    return value


def _keep(keep: Callable[[Request, object, bool], None], request: Request, result: object, awaited: bool) -> None:
    try:
        keep(request, result, awaited)
    except (ValueError, RecursionError):
        kind = type(result).__qualname__
        _warn(request.name, "answers of %s cannot be recorded: %s is neither data nor a model", request.name, kind)


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
        for known in runs.run_ids:
            _playbacks.pop(known, None)
