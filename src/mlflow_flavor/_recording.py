"""Answers of models and tools that are kept with a trace, and found again by what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, is_dataclass
from itertools import count
from operator import itemgetter
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from mlflow_flavor._answer_order import AnswerOrder
from mlflow_flavor._recorded_errors import Raised, error_data, error_of, error_text
from mlflow_flavor._serializer import ModelSerializer
from workflows.context.serializers import JsonSerializer

__all__ = ["RECORDING_SPAN", "ROOT_RUN", "Answer", "ChildRuns", "Playback", "Recording", "Request", "RunPath"]

RECORDING_SPAN = "workflow.recording"

MAX_RECORDING_BYTES = 16 * 1024 * 1024
"""Of one run; what comes later is not kept."""

# What a model's answer says of the call and not of its content: it differs each time.
OF_THE_CALL = frozenset({"id", "created", "created_at", "request_id", "system_fingerprint"})

_to_plain = JsonSerializer()
_any: TypeAdapter[Any] = TypeAdapter(Any)

RunPath = tuple[tuple[str, int], ...]
"""Where a run is below the one that is reproduced: workflow, and number among its parent's runs of that workflow."""

ROOT_RUN: RunPath = ()


class ChildRuns:
    """Finds the paths of runs, told in the order in which they start."""

    def __init__(self, root_run_id: str) -> None:
        self._paths: dict[str, RunPath] = {root_run_id: ROOT_RUN}
        self._started: Counter[tuple[RunPath, str]] = Counter()

    def started(self, run_id: str, workflow: str, parent_run_id: str) -> RunPath | None:
        """The path of a run that starts; None if it is not below the root."""
        above = self._paths.get(parent_run_id)
        if above is None:
            return None
        self._started[above, workflow] += 1
        path = self._paths[run_id] = (*above, (workflow, self._started[above, workflow]))
        return path


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, of whom; the same arguments have the same digest in every process."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Request:
        """The request that a call is; an argument that is no data (`self`, a client) counts by its class.

        Raises:
            ValueError: If an argument cannot be told from others.
            RecursionError: If an argument holds itself.
        """
        return cls(name, hashlib.sha256(_as_text([arguments, keywords]).encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave, as JSON-able data in which classes are named.

    Attributes:
        value: The data; of an error, what `error_data` gives.
        awaited: It had to be awaited.
        raised: It is an error that the call raised.
        seconds: So long the call took.
        place: Which of all answers of the trace it was, in the order in which they came; None where that is not known.
        came: There was one: the call was not given up before.
    """

    value: Any
    awaited: bool
    raised: bool = False
    seconds: float = 0.0
    place: int | None = None
    came: bool = True

    @classmethod
    def of(cls, call: Mapping[str, Any], place: int | None) -> Answer:
        """The answer that a recording has."""
        seconds = (call.get("ended_ns", 0) - call.get("asked_ns", 0)) / 1e9
        came = not call.get("unanswered")
        return cls(call["answer"], bool(call["awaited"]), bool(call.get("raised")), seconds, place, came)


class Recording:
    """The answers of one run (segment), in the order in which they were asked for; safe to use from several threads."""

    def __init__(self) -> None:
        self.dropped = 0
        self._asked = count()
        self._calls: list[tuple[int, dict[str, Any]]] = []
        self._asked_ns: dict[int, int] = {}
        self._open: dict[int, dict[str, Any]] = {}  # calls that are awaited
        self._bytes = 0
        self._lock = threading.RLock()  # what the garbage collector closes under it may make a recorded call

    def ask(self) -> int:
        """The number of a call that is about to be made; `keep` takes it, or `forget`."""
        number = next(self._asked)
        self._asked_ns[number] = time.time_ns()
        return number

    def awaits(self, number: int, request: Request) -> None:
        """The answer of a call has to be awaited: it may be given up before it is there."""
        call = {"name": request.name, "request": request.digest, "awaited": True, "answer": None, "unanswered": True}
        self._open[number] = {**call, "asked_ns": self._asked_ns[number]}

    def gave_up(self, number: int) -> None:
        """Whoever awaited a call was cancelled."""
        if (call := self._open.get(number)) is not None:
            call["ended_ns"] = time.time_ns()

    def forget(self, number: int) -> int:
        """An answer is there, if not one that can be kept; gives when it was asked for."""
        self._open.pop(number, None)
        return self._asked_ns.pop(number, 0)

    def keep(self, number: int, request: Request, answer: object, awaited: bool) -> None:
        """Keep an answer, while there is room; a `Raised` is an error in place of one.

        Raises:
            ValueError: If it holds something that is neither data nor a pydantic model.
        """
        asked_ns, ended_ns = self.forget(number), time.time_ns()
        value = error_data(answer.error) if isinstance(answer, Raised) else _to_plain.serialize_value(answer)
        size = len(to_json(value))
        call = {"name": request.name, "request": request.digest, "awaited": awaited, "answer": value}
        call |= {"asked_ns": asked_ns, "ended_ns": ended_ns}
        if isinstance(answer, Raised):
            call["raised"] = True
        numbered = (number, call)
        with self._lock:
            if self._bytes + size > MAX_RECORDING_BYTES:
                self.dropped += 1
                return
            self._bytes += size
            self._calls.append(numbered)

    def __len__(self) -> int:
        return len(self._calls) + len(self._open)

    def to_json(self) -> str:
        """The recording as text; `Playback` reads it."""
        with self._lock:
            now = {"ended_ns": time.time_ns()}
            unanswered = [(number, now | call) for number, call in list(self._open.items())]
            calls = [call for _, call in sorted([*self._calls, *unanswered], key=itemgetter(0))]
        return json.dumps(calls, separators=(",", ":"))


class Playback:
    """The recorded answers of a trace: the n-th time that a run asks something has the n-th answer it got then.

    Where a child run has none for it, another of its kind has: several were under way, and started in another order.

    Attributes:
        gives: It gives answers; else it compares them.
        given: How many answers were given in place of calls.
        order: The order in which the answers came.
        is_over: The run that it is for has ended; tasks that it left behind get nothing more, and call nobody.
        missing: Names of calls that had to be made, because nothing was recorded for them.
        changed: `(call#n, answer then, answer now)` of calls that were made and answered otherwise.
    """

    def __init__(self, recordings: Iterable[tuple[RunPath, str]], serializer: ModelSerializer, *, gives: bool) -> None:
        self.given = 0
        self.is_over = False
        self.missing: list[str] = []
        self.changed: list[tuple[str, object, object]] = []
        self.gives = gives
        self._serializer = serializer
        self._answers: dict[tuple[RunPath, Request], deque[Answer]] = defaultdict(deque)
        self._asked: Counter[str] = Counter()
        self._lock = threading.RLock()  # as that of a recording
        calls = [(path, call) for path, text in recordings for call in cast("list[dict[str, Any]]", json.loads(text))]
        came = [call for _, call in calls if "ended_ns" in call and not call.get("unanswered")]
        places = {id(call): place for place, call in enumerate(sorted(came, key=itemgetter("ended_ns")))}
        self.order = AnswerOrder(len(places))
        for path, call in calls:
            request = Request(str(call["name"]), str(call["request"]))
            self._answers[path, request].append(Answer.of(call, places.get(id(call))))

    def __len__(self) -> int:
        return sum(len(answers) for answers in self._answers.values())

    def next(self, path: RunPath, request: Request) -> Answer | None:
        """The recorded answer that a call gets in place of being made; None: make it."""
        if not self.gives:
            return None
        with self._lock:
            answer = self._taken(path, request)
            if answer is None:
                self.missing.append(request.name)
            elif answer.came:
                self.given += 1
            return answer

    def note_made(self, name: str) -> None:
        """Note a call that is made, since no answer can be looked up, or none came then."""
        if self.gives:
            with self._lock:
                self.missing.append(name)

    def rebuilt(self, answer: Answer) -> Any:
        """The answer as the call gave it.

        Raises:
            ValueError: If it names a class that is not loaded.
            Exception: The error that the call raised, of the nearest of its classes that is loaded.
        """
        if answer.raised:
            raise error_of(answer.value, self._serializer.loaded, self._serializer.deserialize_value)
        return self._serializer.deserialize_value(answer.value)

    def compare(self, path: RunPath, request: Request, answer: object) -> None:
        """Note a call that was made and gave something else than it did then."""
        if self.gives:
            return
        with self._lock:
            self._asked[request.name] += 1
            where = f"{request.name}#{self._asked[request.name]}"
            then = self._taken(path, request)
        if then is None or not then.came:
            return
        before = _content(error_text(then.value) if then.raised else then.value)
        now = _content(_serialized(answer))
        if before != now:
            self.changed.append((where, before, now))

    def _taken(self, path: RunPath, request: Request) -> Answer | None:
        kind = [workflow for workflow, _ in path]
        alike = (each for each, asked in self._answers if asked == request and [name for name, _ in each] == kind)
        for each in (path, *alike):
            if answers := self._answers.get((each, request)):
                return answers.popleft()
        return None


def _serialized(answer: object) -> object:
    if isinstance(answer, Raised):
        return error_text(error_data(answer.error))
    try:
        return _to_plain.serialize_value(answer)
    except (ValueError, RecursionError):
        return _class_name(answer)


def _content(value: object) -> object:
    """A plain answer without class names and without what is of the call alone; sets in one order."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if fields.get("__is_value") in ("set", "frozenset"):
            return sorted(map(_content, cast("list[object]", fields["value"])), key=_as_text)
        if fields.get("__is_pydantic") is True and isinstance(fields["value"], dict):
            inner = cast("dict[str, object]", fields["value"])
            return {name: _content(item) for name, item in inner.items() if name not in OF_THE_CALL}
        return {name: _content(item) for name, item in fields.items()}
    if isinstance(value, list):
        return [_content(item) for item in cast("list[object]", value)]
    return value


def _as_text(value: object) -> str:
    plain = to_jsonable_python(_in_order(value), fallback=_class_name, bytes_mode="base64")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _in_order(value: object) -> object:
    """The same data with sets in one order and no iterators: writing one would leave nothing to its reader."""
    match value:
        case dict():
            return {key: _in_order(item) for key, item in cast("dict[object, object]", value).items()}
        case list() | tuple():
            return [_in_order(item) for item in cast("list[object]", value)]
        case AbstractSet():
            return sorted(map(_as_text, cast("AbstractSet[object]", value)))
        case Iterator():
            return _class_name(cast("object", value))
        case _ if isinstance(value, BaseModel) or is_dataclass(value):
            fields = _any.dump_python(value, warnings=False)
            return _in_order(fields) if _holds_set(fields) else value  # what holds none has the digest it always had
        case _:
            return value


def _holds_set(value: object) -> bool:
    match value:
        case AbstractSet():
            return True
        case dict():
            return any(map(_holds_set, cast("dict[object, object]", value).values()))
        case list() | tuple():
            return any(map(_holds_set, cast("list[object]", value)))
        case _:
            return False


def _class_name(value: object) -> str:
    kind = type(value)
    return f"<{kind.__qualname__}>" if not isinstance(value, BaseModel) else kind.__qualname__
