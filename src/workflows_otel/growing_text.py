"""A text that comes in pieces."""

from __future__ import annotations

__all__ = ["GrowingText"]

JOINED_AT = 1024  # pieces: a token takes four letters, and sixty bytes as a text of its own


class GrowingText:
    """It is kept for as long as anybody holds it.

    No `StringIO` is: where the garbage collector finds it and a stream in one cycle, it closes the `StringIO` and then
    ends the stream, whose `finally` reads what came.

    Attributes:
        length: In characters.
    """

    __slots__ = ("_joined", "_pieces", "length")

    def __init__(self) -> None:
        self.length = 0
        self._pieces: list[str] = []
        self._joined: list[str] = []

    def add(self, piece: str) -> int:
        """Put this at its end; gives how many characters that are."""
        self._pieces.append(piece)
        self.length += len(piece)
        if len(self._pieces) >= JOINED_AT:
            self._joined.append("".join(self._pieces))
            self._pieces.clear()
        return len(piece)

    def __str__(self) -> str:
        return "".join((*self._joined, *self._pieces))
