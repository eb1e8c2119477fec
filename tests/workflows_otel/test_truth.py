"""The truth test: spans tell over the wire what the reducer's ticks say happened, and what is lost is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.truth_reader import Reading, read
from tests.workflows_otel.truth_runs import Seen, workload
from tests.workflows_otel.truth_ticks import RunTruth, TickLog, as_data, streams_of
from workflows.instrumentation.records import StepEnded
from workflows.testing import RecordLog, VirtualClockLoop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_provider")]

ROOT = Path(__file__).parents[2]
RUNS = 200
SEED = 5
RETRIED = "grow"  # the only step with a policy: it has spans of its own for its attempts

Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Writes a line of figures into the output of the test run."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}")

    return write


async def test_spans_tell_what_the_ticks_say(
    clock: VirtualClockLoop, records: RecordLog, sink: OtlpSink, show: Show
) -> None:
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint))
    runtime = TickLog()
    clock.set_debug(False)  # which keeps a traceback for each of some 20,000 tasks and callbacks
    seen = await workload(RUNS, SEED, runtime)
    flushed = telemetry.flush(timeout=60)
    telemetry.shutdown()
    truth = runtime.truth()
    streams_of(truth, seen.streamed)
    reading = read(sink.spans)
    show(f"{len(sink.spans)} spans, {runtime.ticks} ticks, {len(truth)} runs: {_counted(seen.endings)}")
    show(f"{_counted(reading.by_kind)}; {reading.hops} hops found, {len(reading.unfound)} not")
    show(f"{len(reading.orphans)} orphans, {len(reading.wrong_parents)} wrong parents")
    assert (flushed.sent, flushed.failed, flushed.dropped) == (len(sink.spans), 0, 0)
    assert _spans_of(truth, seen, records) == len(sink.spans)
    assert (reading.orphans, reading.wrong_parents, reading.unfound, reading.lost) == ([], [], [], set())
    assert _differences(reading, truth) == {}


async def test_what_a_full_queue_loses_is_counted(
    clock: VirtualClockLoop, records: RecordLog, sink: OtlpSink, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "300")
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint, timeout=60))
    runtime = TickLog()
    sink.hold.clear()
    clock.set_debug(False)
    seen = await workload(60, SEED, runtime)
    sink.hold.set()
    flushed = telemetry.flush(timeout=60)
    telemetry.shutdown()
    made = _spans_of(runtime.truth(), seen, records)
    show(f"{made} spans by the ticks, {len(sink.spans)} came, {flushed.dropped} were counted as dropped")
    assert (flushed.sent, flushed.failed) == (len(sink.spans), 0)
    assert flushed.dropped is not None
    assert flushed.dropped > 0
    assert made - len(sink.spans) == flushed.dropped


def test_a_kill_loses_the_open_spans_and_nothing_else(sink: OtlpSink, show: Show) -> None:
    command = [sys.executable, "-m", "tests.workflows_otel.truth_killed", sink.endpoint]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.kill()
    reading = read(sink.spans)
    found, expected = as_data(reading.runs), told["runs"]
    still_open = _open_calls(expected)
    missing = sum(_close_what_is_left(run) for run in expected.values())
    show(f"{told['begun']} spans begun, {told['ended']} ended before the kill, {len(sink.spans)} came; open: {missing}")
    assert len(sink.spans) == told["sent"] == told["ended"]
    assert told["begun"] - told["ended"] == missing
    assert _changed(found, expected, reading) == {}
    assert (reading.wrong_parents, reading.unfound) == ([], [])
    assert reading.lost <= still_open


def _counted(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _differences(reading: Reading, truth: dict[str, RunTruth]) -> dict[str, Any]:
    return _changed(as_data(reading.runs), as_data(truth), reading)


def _changed(told: dict[str, Any], true: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """Runs that are told otherwise than they were, and the two versions of each part."""
    for run_id, exec_id in reading.never_started:  # ticks cannot know; such a call is told as cancelled
        call = true[run_id]["calls"][exec_id]
        call["outcome"] = call["attempts"][-1] = "cancelled"
    return {
        run_id: {part: (told[run_id][part], true[run_id][part]) for part in true[run_id]}
        if run_id in told and run_id in true
        else "is missing"
        for run_id in told.keys() | true.keys()
        if told.get(run_id) != true.get(run_id)
    }


def _spans_of(truth: dict[str, RunTruth], seen: Seen, records: RecordLog) -> int:
    """How many spans runs must come to: each has one and its marker, each call, attempt of a retried step, and wait."""
    never_tried = [r for r in records.of(StepEnded) if not r.started and r.step == RETRIED and r.attempt == 1]
    return (
        seen.requests
        - len(never_tried)
        + sum(
            2
            + len(run.calls)
            + sum(len(call.attempts) for call in run.calls.values() if call.step == RETRIED)
            + sum(len(waits) for waits in run.waits.values())
            for run in truth.values()
        )
    )


def _open_calls(runs: dict[str, Any]) -> set[tuple[str, str]]:
    calls = ((run_id, exec_id, call) for run_id, run in runs.items() for exec_id, call in run["calls"].items())
    return {(run_id, exec_id) for run_id, exec_id, call in calls if call["outcome"] in ("", "retrying")}


def _close_what_is_left(run: dict[str, Any]) -> int:
    """Take from a run what only its open spans could have told; how many are open."""
    if run["outcome"]:
        return 0
    run.update(parent=None, unhandled=0, streamed=0)
    missing = 1
    for exec_id, call in list(run["calls"].items()):
        if call["outcome"] in ("", "retrying"):
            missing += 1
            ended = [attempt for attempt in call["attempts"] if attempt] if call["step"] == RETRIED else []
            missing += (len(call["attempts"]) - len(ended)) if call["step"] == RETRIED else 0
            if ended:
                run["calls"][exec_id] = {**call, "attempts": ended, "causes": [], "emitted": [], "streamed": 0}
                run["calls"][exec_id]["outcome"] = ""
            else:
                del run["calls"][exec_id]
    return missing
