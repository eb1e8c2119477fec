"""The journal of a run: where it stood when somebody asked for it, and every tick since, as texts to be stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast, get_args

from workflows._engine.calls import CallPhase
from workflows._engine.going_on import revive
from workflows._engine.loop import Run
from workflows._engine.reduce import reduce
from workflows._engine.snapshot import dump_run, load_run
from workflows._engine.state import RunState
from workflows._engine.ticks import RunTakenUp, Tick, WaitBegan
from workflows._spec import WorkflowSpec
from workflows.context.own_types import own_types
from workflows.context.serializers import JsonSerializer
from workflows.events import Event, rebuild_exception
from workflows.instrumentation.records import Envelope

__all__ = ["JournalRecord", "fold", "follow"]

_SHAPES: dict[str, type[Any]] = {cls.__name__: cls for cls in (*get_args(Tick), Envelope)}
_ATOMS = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One line of a journal: its number, from 0 without gaps, and what happened, as JSON."""

    seq: int
    data: str


async def follow(run: Run) -> AsyncGenerator[JournalRecord]:
    """Where a run stands, then what happens to it, until it is over. Nobody pays for it before this is iterated.

    Raises:
        ValueError: If an event, an error or a requirement of a wait cannot be written.
        WorkflowRuntimeError: If the run, which is not over, lives on another event loop.
    """
    if not run.is_over:
        run.check_loop()
    serializer = _serializer(run.spec)
    lines: asyncio.Queue[str | ValueError | None] = asyncio.Queue()
    earlier = run.journal

    def note(tick: Tick) -> None:
        if earlier is not None:
            earlier(tick)
        try:
            lines.put_nowait(json.dumps(_plain(tick, serializer)))
        except ValueError as error:  # the reader's trouble, not the run's
            lines.put_nowait(error)

    for line in _standing(run, serializer):
        lines.put_nowait(line)
    if run.is_over:
        lines.put_nowait(None)
    else:
        run.journal = note
        run.when_over(lambda _: lines.put_nowait(None))
    try:
        seq = 0
        while (line := await lines.get()) is not None:
            if isinstance(line, ValueError):
                raise line
            yield JournalRecord(seq, line)
            seq += 1
    finally:
        if run.journal is note:
            run.journal = earlier


def fold(
    records: Iterable[JournalRecord], spec: WorkflowSpec, serializer: JsonSerializer | None = None
) -> RunState | None:
    """The state that a run goes on from; None where its journal is empty, or says that it is over.

    Raises:
        ValueError: If a record is missing, or is no record of a journal.
    """
    serializer = serializer or _serializer(spec)
    state: RunState | None = None
    before = -1
    for record in records:
        if record.seq != before + 1:
            raise ValueError(
                f"Journal gap: record {record.seq} follows {before if before >= 0 else 'nothing'}. Give every record "
                f"from 0 on, in order."
            )
        before = record.seq
        line = json.loads(record.data)
        if before == 0:
            state = load_run(line["state"], spec, serializer)
            state.ended = line["ended"]
        elif state is not None:
            reduce(state, _told(line, serializer))
    if state is None or state.ended not in (None, "cancelled", "suspended", "interrupted"):
        return None
    return revive(state)


def _standing(run: Run, serializer: JsonSerializer) -> list[str]:
    state = run.state
    lines: list[Any] = [{"state": dump_run(state, serializer), "ended": state.ended}]
    if state.ended is None and (state.calls or state.undelivered):
        lines.append(_plain(RunTakenUp(state.now_ns), serializer))
        waits = [
            WaitBegan(
                state.now_ns,
                wait.call.exec_id,
                wait.wait_id,
                wait.event_type,
                dict(wait.requirements),
                wait.timeout,
                wait.asked,
                wait.match_subclasses,
                wait.call.phase is not CallPhase.WAITING,
            )
            for wait in state.waits
        ]
        lines += [_plain(wait, serializer) for wait in waits]
    return [json.dumps(line) for line in lines]


def _serializer(spec: WorkflowSpec) -> JsonSerializer:
    return JsonSerializer().with_types(*own_types(spec))


def _plain(value: Any, serializer: JsonSerializer) -> Any:
    kind = value.__class__
    if kind in _ATOMS:
        return value
    if kind in (tuple, list):
        return [_plain(v, serializer) for v in value]
    if isinstance(value, Event):
        return {"event": serializer.serialize(value)}
    if isinstance(value, BaseException):
        return {"error": f"{kind.__module__}.{kind.__qualname__}", "message": str(value)}
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, Mapping):
        return {"value": serializer.serialize(dict(cast("Mapping[str, Any]", value)))}
    assert is_dataclass(value), f"{kind.__name__} is no part of a tick"
    return {"is": kind.__name__, **{f.name: _plain(getattr(value, f.name), serializer) for f in fields(value)}}


def _told(line: Any, serializer: JsonSerializer) -> Any:
    if isinstance(line, list):
        return tuple(_told(v, serializer) for v in cast("list[Any]", line))
    if not isinstance(line, dict):
        return line
    found = cast("dict[str, Any]", line)
    if "event" in found and "is" not in found:
        return serializer.deserialize(found["event"])
    if "error" in found and "is" not in found:
        return rebuild_exception(found["error"], found["message"])
    if "class" in found:
        return serializer.resolve_class(found["class"])
    if "value" in found:
        return serializer.deserialize(found["value"])
    shape = _SHAPES[found.pop("is")]
    return shape(**{name: _told(value, serializer) for name, value in found.items()})
