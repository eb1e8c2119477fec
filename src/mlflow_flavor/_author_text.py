"""The source of a module as its author wrote it: its file, or the cells that a notebook has run."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

from mlflow_flavor._cells import is_python, plain_python

__all__ = ["notebook_cells", "text_of_module"]


def text_of_module(module: ModuleType) -> str | None:
    """All that the author has written of a module so far, as Python; None if nobody has it."""
    if module.__name__ == "__main__" and (cells := notebook_cells()) is not None:
        return "\n".join(cells.values())
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # of a console, or of C
        return None


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
