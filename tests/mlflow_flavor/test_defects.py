"""The page about the faults of MLflow's own flavor names tests that exist, for each of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "mlflow" / "defects.md"
ROW = re.compile(r"^\| (\d+) \|.*\|(?P<tests>[^|]*)\|$", re.MULTILINE)
NAMED = re.compile(r"`(\w+\.py)::(\w+)`")


def test_each_of_the_sixteen_defects_names_tests_that_exist():
    rows = [(int(row[1]), NAMED.findall(row["tests"])) for row in ROW.finditer(PAGE.read_text())]
    assert [number for number, _ in rows] == list(range(1, 17))
    assert [number for number, tests in rows if not tests] == []
    assert [name for _, tests in rows for name in tests if name[1] not in _tests_of(name[0])] == []


def _tests_of(file: str) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse((HERE / file).read_text()).body if isinstance(node, functions)}
