"""A picture as one HTML page: inline SVG, no script, nothing from the network."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from workflows.drawing.colors import COLORS, MEANINGS
from workflows.drawing.layout import BOX_HEIGHT, Layout, Place, Route, lay_out
from workflows.drawing.mermaid import mermaid_of
from workflows.drawing.picture import Box, BoxKind, Picture

__all__ = ["html_of", "svg_of"]

_FONT = 'font-family="system-ui, sans-serif" font-size="13" fill="#1f2328"'
_ARROW_HEAD = (
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
    'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="#6e7781"/></marker></defs>'
)
_ROUND = 17
_CORNER = 4
_STYLE = """\
body { font: 14px system-ui, sans-serif; margin: 24px; color: #1f2328; background: #fff; }
h1 { font-size: 20px; margin: 0 0 4px; }
p { margin: 0 0 12px; color: #59636e; }
.drawing { overflow: auto; }
.key span { display: inline-block; margin: 0 14px 6px 0; white-space: nowrap; }
.key i { display: inline-block; width: 12px; height: 12px; border: 1px solid; margin-right: 5px; vertical-align: -1px; }
details { margin-top: 16px; }
pre { background: #f6f8fa; padding: 12px; overflow: auto; }"""


def html_of(picture: Picture) -> str:
    """A whole page: title, caption, key, drawing, and the same drawing as Mermaid text to copy."""
    caption = f"<p>{escape(picture.caption)}</p>\n" if picture.caption else ""
    title = escape(picture.title)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
{_STYLE}
</style>
</head>
<body>
<h1>{title}</h1>
{caption}<p class="key">{_key(picture)}</p>
<div class="drawing">
{svg_of(picture)}</div>
<details><summary>Mermaid</summary><pre>{escape(mermaid_of(picture))}</pre></details>
</body>
</html>
"""


def svg_of(picture: Picture) -> str:
    """The drawing alone."""
    layout = lay_out(picture)
    size = f'width="{layout.width:.0f}" height="{layout.height:.0f}"'
    view = f'viewBox="0 0 {layout.width:.0f} {layout.height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" {_FONT}>',
        f"<title>{escape(picture.title)}</title>",
        _ARROW_HEAD,
        *(_arrow(route, layout) for route in layout.routes),
        *(_box(box, layout.places[box.id]) for box in picture.boxes.values()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _key(picture: Picture) -> str:
    kinds: dict[BoxKind, None] = {box.kind: None for box in picture.boxes.values()}
    return "".join(
        f'<span><i style="background:{COLORS[kind].fill};border-color:{COLORS[kind].line}"></i>{MEANINGS[kind]}</span>'
        for kind in kinds
    )


def _box(box: Box, place: Place) -> str:
    color = COLORS[box.kind]
    round_ends = box.kind in ("event", "start", "stop", "human")
    dashes = ' stroke-dasharray="5 3"' if box.kind == "external" else ""
    note = f"<title>{escape(box.note)}</title>" if box.note else ""
    return (
        f'<g data-id="{escape(box.id)}">{note}<rect x="{place.x - place.width / 2:.1f}" '
        f'y="{place.y - place.height / 2:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" '
        f'rx="{_ROUND if round_ends else _CORNER}" fill="{color.fill}" stroke="{color.line}"{dashes}/>'
        f'<text x="{place.x:.1f}" y="{place.y:.1f}" dy="0.35em" text-anchor="middle">{escape(box.label)}</text></g>'
    )


def _arrow(route: Route, layout: Layout) -> str:
    points = list(route.points)
    if len(points) == 1:
        return _loop(route, layout.places[route.arrow.source])
    half = BOX_HEIGHT / 2
    down = -1 if route.upwards else 1
    # An arrow up keeps to the right of the one down that it may run beside.
    aside = min(16.0, layout.places[route.arrow.source].width / 4) if route.upwards else 0.0
    (x0, y0), (x1, y1) = points[0], points[-1]
    points[0], points[-1] = (x0 + aside, y0 + down * half), (x1 + aside, y1 - down * half)
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (ax, ay), (bx, by) in pairwise(points):
        middle = (ay + by) / 2
        path.append(f"C{ax:.1f} {middle:.1f} {bx:.1f} {middle:.1f} {bx:.1f} {by:.1f}")
    middle_x, middle_y = _middle(points)
    return _line(" ".join(path), route, middle_x, middle_y)


def _middle(points: list[tuple[float, float]]) -> tuple[float, float]:
    if len(points) % 2:
        return points[len(points) // 2]
    (ax, ay), (bx, by) = points[len(points) // 2 - 1 : len(points) // 2 + 1]
    return (ax + bx) / 2, (ay + by) / 2


def _loop(route: Route, place: Place) -> str:
    x, y = place.x + place.width / 2, place.y
    return _line(f"M{x:.1f} {y - 8:.1f} c26 -10 26 26 0 16", route, x + 30, y)


def _line(path: str, route: Route, x: float, y: float) -> str:
    label = ""
    if route.arrow.label:
        label = (
            f'<text x="{x:.1f}" y="{y:.1f}" dy="0.35em" text-anchor="middle" font-size="11" fill="#59636e" '
            f'stroke="#fff" stroke-width="4" paint-order="stroke">{escape(route.arrow.label)}</text>'
        )
    return f'<path d="{path}" fill="none" stroke="#6e7781" marker-end="url(#head)"/>{label}'
