"""Checks of numbers that users give as options: refused where they are given, not where they are first used."""

from __future__ import annotations

import math

from workflows.errors import WorkflowValidationError

__all__ = ["check_count", "check_seconds"]


def check_count(name: str, value: object, *, step: str | None = None) -> None:
    """Refuse what is no whole number of 1 or more.

    Raises:
        WorkflowValidationError: With the name and the value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WorkflowValidationError(f"{name} must be a whole number of 1 or more, got {value!r}.", step=step)


def check_seconds(name: str, value: object, *, zero: bool = False, step: str | None = None) -> None:
    """Refuse what is neither None nor a number of seconds above 0; `zero` allows that, too.

    Raises:
        WorkflowValidationError: With the name and the value.
    """
    if value is None:
        return
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (number > 0 or (zero and number == 0)):
        least = "0 seconds or more" if zero else "more than 0 seconds"
        raise WorkflowValidationError(f"{name} must be {least}, got {value!r}.", step=step)
