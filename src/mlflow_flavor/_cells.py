"""The code cells of a notebook: their Python without what only a notebook understands."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize

__all__ = ["is_python", "notebook_cells", "plain_python"]

NOTEBOOKS_OWN = re.compile(r"\s*(?:[%!?].*|[\w.*%]+\?{1,2}\s*)")


def notebook_cells() -> dict[str, str] | None:
    """The cells that this notebook has run so far, and their Python; None outside of a notebook.

    A cell that was run again stands for what it was: only its last run counts. One that failed, or is no Python, did
    not run.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return None
    history = shell.history_manager
    failed = getattr(history, "exceptions", {})  # by number; IPython before 9 does not keep them
    ran = [cell for number, cell in enumerate(history.input_hist_raw) if number not in failed]
    latest = {cell: plain for cell in reversed(ran) if is_python(plain := plain_python(cell))}
    return dict(reversed(latest.items()))


def plain_python(cell: str) -> str:
    """The cell without the lines that IPython understands alone: `%pip`, `!ls`, `?help`, `help?`.

    A cell that is Python as it stands is left as it is, and so is what stands inside a string or an expression.
    """
    if is_python(cell):
        return cell
    lines = cell.split("\n")
    kept: list[str] = []
    while len(kept) < len(lines):
        start = len(kept)
        if NOTEBOOKS_OWN.fullmatch(lines[start]):
            indent = lines[start][: -len(lines[start].lstrip())]
            kept.append(f"{indent}pass" if indent else "")  # a block needs a statement
        else:
            kept += lines[start : _end_of_statement(lines, start)]
    return "\n".join(kept)


def is_python(source: str) -> bool:
    """Whether it can be parsed."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _end_of_statement(lines: list[str], start: int) -> int:
    """Number of the first line after the one that begins at `start`, with all the lines that go on with it."""
    for end in range(start + 1, len(lines) + 1):
        if not _goes_on("\n".join(lines[start:end])):
            return end
    return start + 1


def _goes_on(text: str) -> bool:
    """Whether a bracket, a string or a line is still open at the end of it."""
    try:
        for _ in tokenize.generate_tokens(io.StringIO(text.lstrip() + "\n").readline):
            pass
    except tokenize.TokenError as error:
        return "EOF in multi-line" in str(error) or "unterminated triple-quoted" in str(error)
    except SyntaxError:
        return False
    return False
