"""Draws a recorded run for the terminal: who caused what, each attempt, its waits, its tokens and its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from demo.chat import Usage, is_a
from workflows.instrumentation.records import (
    EventStreamed,
    Record,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)

WIDE_TERMINAL = 110
MARKS = {"completed": ("✓", "green"), "retrying": ("↻", "yellow"), "failed": ("✗", "red"), "timed_out": ("✗", "red")}
OTHER_MARK = ("–", "dim")


@dataclass(slots=True)
class Row:
    """One attempt, as the table shows it."""

    started: StepStarted
    ended: StepEnded
    prompt_tokens: int = 0
    completion_tokens: int = 0
    caused: list[Row] = field(default_factory=list)


def run_table(records: Sequence[Record], width: int = WIDE_TERMINAL) -> Table:
    """The tree of one run: every attempt under the attempt whose event it ran for.

    Args:
        records: All records of one finished run, in order.
        width: Cells of the terminal.
    """
    run = next(record for record in records if isinstance(record, RunStarted))
    end = next(record for record in records if isinstance(record, RunEnded))
    rows = _rows(records)
    scale = Timescale(run.at_ns, end.at_ns, cells=24 if width >= WIDE_TERMINAL else 8)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", caption=_counts(end), caption_justify="left")
    table.add_column("run", no_wrap=True)
    for name in ("waited", "took", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("when", no_wrap=True, min_width=scale.cells)
    table.add_column("outcome")
    tokens = _tokens(sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows))
    name = Text(run.workflow.rpartition(".")[2], style="bold")
    table.add_row(name, "", _seconds(end.at_ns - run.at_ns), tokens, "", _outcome(end.outcome, ""))
    for guide, row in _tree(_roots(rows)):
        table.add_row(*_cells(guide, row, scale))
    return table


@dataclass(frozen=True, slots=True)
class Timescale:
    """Where a moment of the run lies on its bar."""

    start_ns: int
    end_ns: int
    cells: int

    def bar(self, start_ns: int, end_ns: int) -> str:
        """A line from one moment to another, at least one cell long."""
        cells_per_ns = self.cells / max(1, self.end_ns - self.start_ns)
        left = min(self.cells - 1, int((start_ns - self.start_ns) * cells_per_ns))
        length = max(1, round((end_ns - start_ns) * cells_per_ns))
        return " " * left + "━" * min(length, self.cells - left)


def _rows(records: Sequence[Record]) -> list[Row]:
    starts = {(r.exec_id, r.attempt): r for r in records if isinstance(r, StepStarted)}
    ended = [r for r in records if isinstance(r, StepEnded)]
    rows = {key: Row(starts[key], r) for r in ended if (key := (r.exec_id, r.attempt)) in starts}
    for record in records:
        if isinstance(record, EventStreamed) and is_a(record.event, Usage) and record.exec_id is not None:
            row = rows[record.exec_id, record.attempt or 1]
            row.prompt_tokens += record.event.prompt_tokens
            row.completion_tokens += record.event.completion_tokens
    return sorted(rows.values(), key=lambda row: row.started.at_ns)


def _roots(rows: Sequence[Row]) -> list[Row]:
    """Hangs every attempt below the last attempt of the call that sent its (last) event; returns those of the start."""
    last: dict[str, Row] = {row.started.exec_id: row for row in rows}
    roots: list[Row] = []
    for row in rows:
        sender = row.started.causes[-1].sender if row.started.causes else None
        parent = last.get(sender) if sender else None
        (parent.caused if parent else roots).append(row)
    return roots


def _tree(rows: Sequence[Row], indent: str = "") -> Iterator[tuple[str, Row]]:
    for n, row in enumerate(rows, start=1):
        is_last = n == len(rows)
        yield indent + ("└─ " if is_last else "├─ "), row
        yield from _tree(row.caused, indent + ("   " if is_last else "│  "))


def _cells(guide: str, row: Row, scale: Timescale) -> tuple[Text | str, ...]:
    started, ended = row.started, row.ended
    name = Text(guide, style="dim").append(started.step, style="not dim cyan")
    if started.retry_policy is not None:
        name.append(f" attempt {started.attempt}", style="not dim")
    return (
        name,
        _seconds(max(0, started.at_ns - started.queued_at_ns)),
        _seconds(ended.at_ns - started.at_ns),
        _tokens(row.prompt_tokens, row.completion_tokens),
        Text(scale.bar(started.at_ns, ended.at_ns), style=MARKS.get(ended.outcome, OTHER_MARK)[1]),
        _outcome(ended.outcome, _said(ended)),
    )


def _said(ended: StepEnded) -> str:
    if ended.outcome == "retrying":
        return f"{type(ended.error).__name__}, again in {ended.retry_delay:g} s"
    if ended.buffered:
        return "kept for the join"
    sent = Counter(type(envelope.event).__name__ for envelope in ended.emitted)
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in sent.items())


def _outcome(outcome: str, said: str) -> Text:
    mark, colour = MARKS.get(outcome, OTHER_MARK)
    return Text(f"{mark} ", style=colour).append(said or outcome, style="default")


def _counts(end: RunEnded) -> str:
    counts = end.counts
    retries = f", {counts.retries} retried" if counts.retries else ""
    return f"{counts.steps} attempts{retries}, {counts.streamed} events streamed"


def _tokens(prompt: int, completion: int) -> str:
    return f"{prompt}+{completion}" if completion else ""


def _seconds(ns: int) -> str:
    return f"{ns / 1e9:.2f} s" if ns >= 10_000_000 else f"{ns / 1e6:.1f} ms"
