"""However the file of a class is written, as long as Python reads it, the class is logged by its source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import mlflow
import pytest

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD
from workflows import Workflow

AGENT = """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ascii({use}))
"""

Written = Callable[..., type[Workflow]]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Imports a file of these bytes, and gives its class."""
    name = f"text_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)

    def load(source: bytes) -> type[Workflow]:
        (tmp_path / f"{name}.py").write_bytes(source)
        return import_module(name).Agent

    yield load
    sys.modules.pop(name, None)


def answer(
    cls: type[Workflow], tmp_path: Path, interpreter: Interpreter, code_paths: Sequence[Path] | None = None
) -> str:
    """What the class's model says in a fresh process."""
    mlflow_flavor.save_model(cls, tmp_path / "model", code_paths=code_paths, pip_requirements=["mlflow"])
    (tmp_path / "elsewhere").mkdir()
    program = f"import mlflow; print(mlflow.pyfunc.load_model({str(tmp_path / 'model')!r}).predict({{}}))"
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = interpreter.run(program, tmp_path / "elsewhere", environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WORDS = "WORD = 'a'\n{between}\ndef word():\n    return WORD\n"


@pytest.mark.parametrize(
    ("between", "word"),
    [
        ("WORD = 'a\u2028b'", "a\u2028b"),
        ('WORD = """a\u2029b\nc\x85d\x1ce"""\nMORE = 1', "a\u2029b\nc\x85d\x1ce"),
        ("\x0c\ndef between(): pass\n\x0c\nWORD = 'b'\n\x0c", "b"),
        ("# a\x0bb\u2028c\nWORD = 'b'", "b"),
    ],
    ids=["u2028", "more", "form feed", "comment"],
)
def test_a_line_ends_where_python_says(
    written: Written, tmp_path: Path, interpreter: Interpreter, between: str, word: str
):
    source = WORDS.format(between=between) + HEAD + AGENT.format(use="word()")
    assert answer(written(source.encode()), tmp_path, interpreter) == ascii(word)


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_lines_end_as_they_do_on_other_systems(
    written: Written, tmp_path: Path, interpreter: Interpreter, newline: str
):
    source = WORDS.format(between='WORD = """a\nb"""') + HEAD + AGENT.format(use="word()")
    assert answer(written(source.replace("\n", newline).encode()), tmp_path, interpreter) == ascii("a\nb")


@pytest.mark.parametrize(
    ("head", "encoding"),
    [("", "utf-8-sig"), ("# -*- coding: latin-1 -*-\n", "latin-1"), ("#!python\n# coding=cp1252\n", "cp1252")],
)
def test_a_file_is_read_in_the_encoding_that_it_says(
    written: Written, tmp_path: Path, interpreter: Interpreter, head: str, encoding: str
):
    source = head + WORDS.format(between="WORD = 'é'") + HEAD + AGENT.format(use="word()")
    assert answer(written(source.encode(encoding)), tmp_path, interpreter) == ascii("é")


def test_a_comment_does_not_become_the_encoding_of_the_model(
    written: Written, tmp_path: Path, interpreter: Interpreter
):
    source = "import json\n\n# Decoding: utf-7 or so\n" + WORDS.format(between="WORD = 'é'") + HEAD
    assert answer(written((source + AGENT.format(use="word()")).encode()), tmp_path, interpreter) == ascii("é")


def test_a_helper_is_read_in_the_encoding_that_it_says(written: Written, tmp_path: Path, interpreter: Interpreter):
    helper = tmp_path / f"helper_{tmp_path.name}.py"
    helper.write_text("# -*- coding: latin-1 -*-\nWORD = 'é'\n", encoding="latin-1")
    agent = written(f"from {helper.stem} import WORD\n{HEAD}{AGENT.format(use='WORD')}".encode())
    assert answer(agent, tmp_path, interpreter, [helper]) == ascii("é")


@pytest.mark.parametrize(
    ("more", "use"),
    [("", "__doc__"), ("PROMPT = __doc__\n", "PROMPT"), ("def said():\n    return __doc__\n", "said()")],
    ids=["step", "variable", "function"],
)
def test_a_module_that_reads_its_docstring_has_it_in_the_model(
    written: Written, tmp_path: Path, interpreter: Interpreter, more: str, use: str
):
    source = f'# A pirate.\n"""You are\na pirate."""\n\nfrom __future__ import annotations\n{HEAD}{more}'
    agent = written((source + AGENT.format(use=use)).encode())
    assert answer(agent, tmp_path, interpreter) == ascii("You are\na pirate.")


def test_a_docstring_that_nothing_reads_is_not_in_the_model(written: Written, tmp_path: Path):
    agent = written(f'"""You are a pirate."""\n{HEAD}{AGENT.format(use="1")}'.encode())
    mlflow_flavor.save_model(agent, tmp_path / "model", pip_requirements=["mlflow"])
    assert "pirate" not in (tmp_path / "model" / "workflow.py").read_text()
