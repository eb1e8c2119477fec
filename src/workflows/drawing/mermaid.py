"""A picture as Mermaid text, which Markdown viewers draw."""

from __future__ import annotations

import re

from workflows.drawing.colors import COLORS
from workflows.drawing.picture import Box, BoxKind, Picture

__all__ = ["mermaid_of"]

_EVENT = ('(["', '"])')
_SHAPES: dict[BoxKind, tuple[str, str]] = {
    "step": ('["', '"]'),
    "failed": ('["', '"]'),
    "waited": ('["', '"]'),
    "external": ('["', '"]'),
    "resource": ('{{"', '"}}'),
}


def mermaid_of(picture: Picture) -> str:
    """A flowchart, top to bottom, whose ids say what they are: `step_fetch`, `event_StartEvent`."""
    ids = _ids(picture)
    lines = ["flowchart TD"]
    for box in picture.boxes.values():
        left, right = _SHAPES.get(box.kind, _EVENT)
        lines.append(f"    {ids[box.id]}{left}{_escaped(box.label)}{right}:::{box.kind}")
    for arrow in picture.arrows:
        label = f'|"{_escaped(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    {ids[arrow.source]} -->{label} {ids[arrow.target]}")
    used: dict[BoxKind, None] = {box.kind: None for box in picture.boxes.values()}
    lines += [f"    classDef {kind} fill:{COLORS[kind].fill},stroke:{COLORS[kind].line},color:#1f2328" for kind in used]
    return "\n".join(lines) + "\n"


def _ids(picture: Picture) -> dict[str, str]:
    """Mermaid ids by box id. They begin with a word, because Mermaid chokes on ids such as `end`."""
    ids: dict[str, str] = {}
    for box in picture.boxes.values():
        family = _family(box)
        name = re.sub(r"\W", "_", box.id, flags=re.ASCII)
        wanted = name if name.startswith(f"{family}_") else f"{family}_{name}"
        number = 1
        while (free := wanted if number == 1 else f"{wanted}_{number}") in ids.values():
            number += 1
        ids[box.id] = free
    return ids


def _family(box: Box) -> str:
    if box.kind in ("step", "failed", "waited"):
        return "step"
    return box.kind if box.kind in ("external", "resource") else "event"


def _escaped(text: str) -> str:
    """Mermaid takes HTML character references without the ampersand; so the quote cannot end the label."""
    safe = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return " ".join(safe.split())
