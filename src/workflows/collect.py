"""How a step that takes a `list[...]` of events gathers them: `Annotated[list[E], Collect(Take(3))]`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["All", "Cardinality", "Collect", "Take"]


@dataclass(frozen=True, slots=True)
class All:
    """Wait until every branch of the list has ended."""


@dataclass(frozen=True, slots=True)
class Take:
    """Go on with the first `n` that arrive; the other branches keep running, their events are dropped.

    Raises:
        ValueError: If `n` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Take(n) needs n of 1 or more, got {self.n}.")


Cardinality = All | Take


@dataclass(frozen=True, slots=True)
class Collect:
    """Annotates a `list[...]` parameter of a step; the default is `Collect(All())`."""

    cardinality: Cardinality = All()  # frozen
