"""One colour for each kind of box, the same in HTML and in Mermaid."""

from __future__ import annotations

from typing import NamedTuple

from workflows.drawing.picture import BoxKind

__all__ = ["COLORS", "MEANINGS"]


class Color(NamedTuple):
    """Fill and line of a box; dark text reads well on every fill."""

    fill: str
    line: str


COLORS: dict[BoxKind, Color] = {
    "step": Color("#cfe3fb", "#3f78bd"),
    "failed": Color("#fbd0ca", "#c0392b"),
    "waited": Color("#e6e8eb", "#6e7781"),
    "event": Color("#d5efd0", "#4c9a52"),
    "start": Color("#ecd7fb", "#8e5bc4"),
    "stop": Color("#fde0c2", "#c98a2f"),
    "human": Color("#fdf3b8", "#b59a1d"),
    "external": Color("#ffffff", "#6e7781"),
    "resource": Color("#cdeeee", "#2f8f8f"),
}

MEANINGS: dict[BoxKind, str] = {
    "step": "step",
    "failed": "attempt that failed or was stopped",
    "waited": "attempt that was let go while it waited",
    "event": "event",
    "start": "start event",
    "stop": "stop event",
    "human": "question to a person, or an answer",
    "external": "outside",
    "resource": "resource",
}
