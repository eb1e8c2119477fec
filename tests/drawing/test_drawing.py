"""Drawings: the right boxes and arrows, one file that needs nothing else, and a layout that people can read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import Context, Workflow, step
from workflows.drawing import (
    draw_all_possible_flows,
    draw_all_possible_flows_mermaid,
    draw_most_recent_execution,
    draw_most_recent_execution_mermaid,
)
from workflows.drawing.html import svg_of
from workflows.drawing.layout import lay_out
from workflows.drawing.picture import Box, Picture
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.history import HistoryEntry, RunHistory, history_from_records
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop

SVG = "{http://www.w3.org/2000/svg}"


class Half(Event):
    n: int


class Ask(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    response: str


class Halves(Workflow):
    """Cuts <things> & joins them."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Half | None:
        ctx.send_event(Half(n=1))
        ctx.send_event(Half(n=2))
        return None

    @step
    async def join(self, ctx: Context, ev: Half) -> StopEvent | None:
        return StopEvent() if ctx.collect_events(ev, [Half, Half]) else None


class Flaky(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("no route")
        return StopEvent()


class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Ask())
        return StopEvent(result=answer.response)


def arrows(mermaid: str) -> set[str]:
    return {line.strip() for line in mermaid.splitlines() if "-->" in line}


def history_of(records: RecordLog) -> RunHistory:
    found = history_from_records(records.records)
    assert found is not None
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "drawing.html")


def test_a_page_is_well_formed_and_needs_nothing_else(file: str) -> None:
    assert draw_all_possible_flows(Halves, file) is None
    page = Path(file).read_text()
    svg = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert {t.text for t in svg.iter(f"{SVG}text")} == {"split", "join", "StartEvent", "Half", "StopEvent"}
    assert "Cuts &lt;things&gt; &amp; joins them." in page
    assert not any(word in page for word in ("<script", "src=", "href=", "@import"))


def test_mermaid_text_is_returned_and_written(tmp_path: Path) -> None:
    text = draw_all_possible_flows_mermaid(Halves(), str(tmp_path / "flows.mermaid"))
    assert (tmp_path / "flows.mermaid").read_text() == text
    assert arrows(text) == {
        "event_StartEvent --> step_split",
        "step_split --> event_Half",
        "event_Half --> step_join",
        "step_join --> event_StopEvent",
    }


def test_a_notebook_gets_the_drawing_alone(file: str) -> None:
    shown = draw_all_possible_flows(Halves, file, notebook=True)
    assert shown is not None
    assert shown._repr_html_().startswith("<svg")


def test_long_labels_are_cut(tmp_path: Path) -> None:
    text = draw_all_possible_flows_mermaid(Halves, str(tmp_path / "m"), max_label_length=4)
    assert '["spl*"]' in text


def test_labels_cannot_break_out_of_mermaid(tmp_path: Path) -> None:
    picture = Picture("x")
    picture.add(Box("a", 'a"] --> b\n<b>', "step"))
    from workflows.drawing.mermaid import mermaid_of

    assert 'a#quot;] --#gt; b #lt;b#gt;"]' in mermaid_of(picture)


async def test_a_run_shows_every_attempt_and_event(records: RecordLog, tmp_path: Path) -> None:
    await Halves().run()
    text = draw_most_recent_execution_mermaid(history_of(records), str(tmp_path / "run.mermaid"))
    lines = [line.split(":::")[0].strip() for line in text.splitlines() if ":::" in line]
    assert sorted(line.split('"')[1] for line in lines) == sorted(
        ["external_step", "StartEvent", "split#35;1", "Half", "Half", "join#35;1", "join#35;2", "StopEvent"]
    )
    assert len(arrows(text)) == 7


async def test_a_retry_follows_the_attempt_that_failed(
    clock: VirtualClockLoop, records: RecordLog, tmp_path: Path
) -> None:
    await Flaky().run()
    text = draw_most_recent_execution_mermaid(history_of(records), str(tmp_path / "run.mermaid"))
    assert 'step_fetch_1 -->|"attempt 2"| step_fetch_2' in text
    assert '["fetch#35;1"]:::failed' in text


async def test_an_answer_leads_to_the_step_that_waited(records: RecordLog, tmp_path: Path) -> None:
    handler = Asking().run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            handler.ctx.send_event(Answer(response="yes"))
    text = draw_most_recent_execution_mermaid(history_of(records), str(tmp_path / "run.mermaid"))
    assert 'event_x1 -->|"answers"| step_ask_1' in text
    assert "external_step --> event_x1" in text


@pytest.mark.parametrize("of", [lambda w, h: w, lambda w, h: h], ids=["workflow", "handler"])
async def test_the_last_run_of_a_workflow_or_a_handler_is_drawn(
    of: Callable[[Workflow, object], Workflow], file: str
) -> None:
    workflow = Halves()
    await workflow.run()
    handler = workflow.run(run_id="second")
    await handler
    draw_most_recent_execution(of(workflow, handler), file)
    assert "run second, completed: 3 attempts" in Path(file).read_text()  # noqa: ASYNC240


@pytest.mark.parametrize("source", [Halves, Halves()], ids=["class", "never run"])
def test_nothing_to_draw_is_an_error_that_says_so(source: Workflow, file: str) -> None:
    with pytest.raises(WorkflowRuntimeError, match="has no run to draw"):
        draw_most_recent_execution(source, file)


def test_a_history_keeps_the_last_attempts_and_counts_the_others() -> None:
    history = RunHistory("r", "w", kept=2)
    for n in range(5):
        history.note(HistoryEntry(str(n), "s", 1, (), (), 0, 0, "completed"))
    assert [e.exec_id for e in history.entries] == ["3", "4"]
    assert (history.ended, history.lost) == (5, 3)


def test_an_empty_picture_is_drawn() -> None:
    assert svg_of(Picture("nothing")).startswith("<svg")


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
def test_boxes_of_any_graph_never_touch(pairs: list[tuple[int, int]]) -> None:
    picture = Picture("x")
    for n in range(12):
        picture.add(Box(str(n), "label" * (n % 3 + 1), "step"))
    for source, target in pairs:
        picture.link(str(source), str(target))
    layout = lay_out(picture)
    assert len(layout.routes) == len(pairs)
    for a, b in combinations(layout.places.values(), 2):
        assert a.y != b.y or abs(a.x - b.x) >= (a.width + b.width) / 2
    assert all(p.width / 2 <= p.x <= layout.width - p.width / 2 for p in layout.places.values())


def test_a_chain_is_one_straight_line() -> None:
    picture = Picture("x")
    for n in range(4):
        picture.add(Box(str(n), "a", "step"))
    for n in range(3):
        picture.link(str(n), str(n + 1))
    places = [lay_out(picture).places[str(n)] for n in range(4)]
    assert len({p.x for p in places}) == 1
    assert [p.y for p in places] == sorted(p.y for p in places)


def test_a_loop_back_goes_up_and_everything_else_down() -> None:
    picture = Picture("x")
    for name in "abc":
        picture.add(Box(name, name, "start" if name == "a" else "step"))
    for pair in ("ab", "bc", "cb"):
        picture.link(*pair)
    assert [r.upwards for r in lay_out(picture).routes] == [False, False, True]
