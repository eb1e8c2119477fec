"""Pages that are made of the code, or name parts of it, are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflows_otel.attribute_reference import PAGE, page

HERE = Path(__file__).parent
NAMED = re.findall(r"\| `(test_\w+\.py)(?:::(\w+))?` \|", (PAGE.parent / "back-ends.md").read_text())


def test_the_attribute_reference_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make attributes`"


@pytest.mark.parametrize(("file", "name"), NAMED, ids="::".join)
def test_what_is_said_of_back_ends_is_shown_by_a_test_that_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (HERE / file).read_text() if name else (HERE / file).exists()


def test_every_back_end_has_its_list() -> None:
    parts = (PAGE.parent / "back-ends.md").read_text().split("\n## ")[1:]
    lists = {part.partition("\n")[0]: part.count("\n| ") - 2 for part in parts}
    assert list(lists) == [
        "Phoenix",
        "Jaeger",
        "Langfuse",
        "MLflow's endpoint for OTLP",
        "OpenTelemetry's SDK and OTLP",
        "The whole: is the trace what happened?",
    ]
    *back_ends, whole = lists.values()
    assert (all(count >= 5 for count in back_ends), whole) == (True, 3)
