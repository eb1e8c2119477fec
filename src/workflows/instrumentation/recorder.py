"""`RunRecorder`: keeps records in memory, for tests, drawings, checkpoints and replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # see Dispatcher
    from workflows.instrumentation.records import Record

__all__ = ["RunRecorder"]

RecordT = TypeVar("RecordT", bound="Record")


class RunRecorder:
    """A record handler that keeps everything it is told, in order, until `clear()`."""

    name = "recorder"
    destination = None

    def __init__(self) -> None:
        self.records: list[Record] = []

    def handle(self, record: Record) -> None:
        """Keep the record."""
        self.records.append(record)

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None

    def of(self, kind: type[RecordT], *, run_id: str | None = None) -> list[RecordT]:
        """The records of one class (and its subclasses), of one run if asked."""
        return [r for r in self.records if isinstance(r, kind) and run_id in (None, r.run_id)]

    def clear(self) -> None:
        """Forget everything."""
        self.records.clear()
