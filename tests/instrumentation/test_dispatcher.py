"""Who is told what, in which order, and what happens to a handler that fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import RunRecorder, add_handler, context
from workflows.instrumentation.dispatcher import BREAKER_ERRORS
from workflows.instrumentation.records import Record, RunEnded, RunStarted, StepEnded, StepStarted
from workflows.testing import RecordLog


class Echo(Workflow):
    @step
    async def reply(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="hello")


class Named:
    """Writes its name and the class of each record into a shared list."""

    def __init__(self, name: str, told: list[str], destination: str | None = None, fails: bool = False) -> None:
        self.name, self.destination, self._told, self._fails = name, destination, told, fails

    def handle(self, record: Record) -> None:
        self._told.append(f"{self.name} {type(record).__name__}")
        if self._fails:
            raise RuntimeError("handler bug")

    def carrier(self, run_id: str) -> dict[str, str] | None:
        return None


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def handlers(told: list[str]) -> Iterator[None]:
    remove = [add_handler(Named(name, told)) for name in ("opentelemetry", "other", "mlflow")]
    yield
    for each in remove:
        each()


async def test_starts_go_in_a_fixed_order_and_ends_in_reverse(handlers: None, told: list[str]) -> None:
    await Echo().run()
    for kind, order in (
        (StepStarted, ["mlflow", "opentelemetry", "other"]),
        (StepEnded, ["other", "opentelemetry", "mlflow"]),
    ):
        assert [t.split()[0] for t in told if t.endswith(kind.__name__)] == order


async def test_of_two_handlers_with_one_destination_the_first_is_told(told: list[str]) -> None:
    removes = [add_handler(Named(name, told, destination="store")) for name in ("first", "second")]
    await Echo().run()
    removes[0]()
    assert {t.split()[0] for t in told} == {"first"}
    await Echo().run()
    removes[1]()
    assert {t.split()[0] for t in told} == {"first", "second"}


async def test_a_handler_of_one_workflow_hears_of_no_other() -> None:
    recorder, mine = RunRecorder(), Echo()
    add_handler(recorder, workflow=mine)
    await Echo().run()
    await mine.run(run_id="mine")
    assert {r.run_id for r in recorder.records} == {"mine"}


async def test_nobody_is_told_after_removal(records: RecordLog, told: list[str]) -> None:
    remove = add_handler(Named("gone", told))
    remove()
    remove()
    await Echo().run()
    assert told == []


async def test_a_handler_that_keeps_failing_is_left_alone_but_told_the_end(
    told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    remove = add_handler(Named("broken", told, fails=True))
    with caplog.at_level(logging.ERROR):
        for _ in range(BREAKER_ERRORS):
            assert await Echo().run() == "hello"
    remove()
    assert told[BREAKER_ERRORS:] == ["broken RunEnded"] * (len(told) - BREAKER_ERRORS)
    assert [r.message.split(";")[0] for r in caplog.records] == [
        "handler 'broken' failed on RunStarted",
        f"handler 'broken' failed {BREAKER_ERRORS} times in a row",
    ]


async def test_a_run_carries_the_identity_it_was_started_with(records: RecordLog) -> None:
    with context(session_id="s", tags=["a"], metadata={"k": 1}), context(user_id="u", tags=["b"]):
        await Echo().run()
    (started,) = records.of(RunStarted)
    identity = started.identity
    assert (identity.session_id, identity.user_id, identity.tags, identity.metadata) == ("s", "u", ("a", "b"), {"k": 1})


async def test_the_last_record_is_the_end_and_counts_are_whole(records: RecordLog) -> None:
    await Echo().run()
    assert [r.seq for r in records.records] == list(range(1, len(records.records) + 1))
    last = records.records[-1]
    assert isinstance(last, RunEnded)
    assert (last.outcome, last.counts.steps, last.counts.events) == ("completed", 1, 1)


class Meets:
    """While it is added a workflow is made, as another thread may do at that time."""

    name = "other"

    def __init__(self) -> None:
        self.made: list[Workflow] = []
        self.told: list[Record] = []
        self._asked = 0

    @property
    def destination(self) -> str | None:
        self._asked += 1
        if self._asked == 2:  # for the process, then for each workflow
            self.made.append(Echo())
        return None

    def handle(self, record: Record) -> None:
        self.told.append(record)

    def carrier(self, run_id: str) -> dict[str, str] | None:
        return None


async def test_a_workflow_that_is_made_while_a_handler_is_added_tells_it_too() -> None:
    workflows = [Echo()]
    handler = Meets()
    remove = add_handler(handler)
    try:
        workflows += handler.made
        await workflows[-1].run()
    finally:
        remove()
    assert len(workflows) == 2
    assert handler.told
