"""Every case gives what it says, here and at the peer; every difference has its row in docs/compatibility.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.compat import peer
from tests.compat.case import TOPICS, Case, cases_of
from tests.compat.engine import result_of
from workflows.testing import VirtualClockLoop

CASES = [(topic, name, case) for topic in TOPICS for name, case in cases_of(topic).items()]
DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
ROWS = re.findall(r"^\| `([a-z0-9-]+)`(\*?) \|", DOCUMENT.read_text(), re.MULTILINE)
REASONS = {case.because for _, _, case in CASES if case.because}

# The peer's side takes real time, so it runs on request; `make compat` compares both sides and prints a table.
PEER_TOPICS = TOPICS if os.environ.get("SPANFLOW_PEER") == "required" else ()


def _parameter(topic: str, name: str, case: Case) -> object:
    marks = [pytest.mark.xfail(reason=case.not_yet)] if case.not_yet else []
    return pytest.param(case, id=f"{topic}-{name}", marks=marks)


@pytest.mark.parametrize("case", [_parameter(*one) for one in CASES])
def test_a_case_gives_here_what_it_says(case: Case) -> None:
    assert result_of(case, VirtualClockLoop) == case.gives


@pytest.mark.parametrize("topic", PEER_TOPICS)
def test_the_cases_of_a_topic_give_at_the_peer_what_they_say(topic: str) -> None:
    assert peer.results_of(topic) == {name: case.peer_gives for name, case in cases_of(topic).items()}


def test_every_difference_has_its_row_and_every_row_its_difference() -> None:
    assert {name for name, star in ROWS if not star} == REASONS


def test_every_row_has_a_name_of_its_own() -> None:
    names = [name for name, _ in ROWS]
    assert len(names) == len(set(names))


def test_a_difference_differs() -> None:
    assert [name for _, name, case in CASES if case.because and case.gives == case.peer_gives] == []
