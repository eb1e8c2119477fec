"""What MLflow looks for in vain with each request is looked for once, by those who asked for that."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pytest

from mlflow_flavor import _absent

NAME = "dbruntime"


class Counting(MetaPathFinder):
    """The last finder: counts what nobody before it has found."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        self.asked.append(fullname)


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that were looked for everywhere, in vain."""
    counting = Counting()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, counting])
    monkeypatch.setattr(_absent, "_finder", _absent.AbsentModules())
    yield counting.asked
    sys.modules.pop(NAME, None)


def attempt(name: str) -> bool:
    """Whether the module is there."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def test_an_absent_module_is_looked_for_once(missed: list[str]):
    with _absent.absence_remembered():
        assert [attempt(NAME) for _ in range(3)] == [False] * 3
    assert missed == [NAME]


def test_outside_of_the_block_it_is_found_as_soon_as_it_is_there(
    missed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with _absent.absence_remembered():
        assert not attempt(NAME)
    (tmp_path / f"{NAME}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert attempt(NAME)


def test_a_module_that_is_there_is_imported(missed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / f"{NAME}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with _absent.absence_remembered():
        assert attempt(NAME)


def test_other_modules_are_nobodys_business(missed: list[str]):
    with _absent.absence_remembered():
        assert [attempt("no_such_module") for _ in range(2)] == [False] * 2
    assert missed == ["no_such_module"] * 2
