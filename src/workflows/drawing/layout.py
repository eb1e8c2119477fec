"""Where the boxes go: layers from top to bottom, few crossings, arrows that bend around boxes.

The usual four stages of layered graph drawing (Sugiyama, Tagawa and Toda, 1981): turn arrows round until there is no
cycle, give every box a layer, order each layer by the neighbours' positions, then move boxes towards their neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from workflows.drawing.picture import Arrow, Picture

__all__ = ["Layout", "Place", "Route", "lay_out"]

CHARACTER = 7.3
BOX_HEIGHT = 34.0
LAYER_GAP = 46.0
BOX_GAP = 26.0
LANE_WIDTH = 12.0
MARGIN = 20.0
SWEEPS = 6


@dataclass(slots=True)
class Place:
    """A box on paper, by its centre; a bend of a long arrow is a place without height or text."""

    width: float
    height: float = BOX_HEIGHT
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Route:
    """An arrow on paper: the centres that it passes, from the box it leaves to the box it meets."""

    arrow: Arrow
    points: tuple[tuple[float, float], ...]
    upwards: bool


@dataclass(slots=True)
class Layout:
    """Places by box id, routes in the picture's order, and the size of the whole."""

    places: dict[str, Place] = field(default_factory=dict[str, Place])
    routes: list[Route] = field(default_factory=list[Route])
    width: float = 0.0
    height: float = 0.0


def lay_out(picture: Picture) -> Layout:
    """Positions for every box and arrow of a picture; the same picture always gives the same."""
    layout = Layout({b.id: Place(max(64.0, len(b.label) * CHARACTER + 24)) for b in picture.boxes.values()})
    if not picture.boxes:
        return layout
    upwards = _backward(picture)
    layers = _layers(picture, upwards)
    chains = _bend(picture, layers, layout.places, upwards)
    rows = _rows(layers)
    links = [pair for chain in chains for pair in pairwise(chain)]
    _order(rows, links)
    _set_positions(rows, links, layout.places)
    _trace(picture, chains, upwards, layout)
    _fit(layout)
    return layout


def _backward(picture: Picture) -> set[int]:
    """Indices of the arrows that close a cycle, so that without them (turned round) all point down."""
    outgoing: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    targets: set[str] = set()
    for number, arrow in enumerate(picture.arrows):
        outgoing[arrow.source].append((number, arrow.target))
        targets.add(arrow.target)
    roots = [b for b in picture.boxes if picture.boxes[b].kind == "start"]
    roots += [b for b in picture.boxes if b not in targets] + list(picture.boxes)
    backward: set[int] = set()
    open_boxes: set[str] = set()
    done: set[str] = set()
    for root in roots:
        stack = [(root, iter(outgoing[root]))] if root not in done else []
        open_boxes.update(box for box, _ in stack)
        while stack:
            box, left = stack[-1]
            number, target = next(left, (-1, ""))
            if number < 0:
                stack.pop()
                open_boxes.discard(box)
                done.add(box)
            elif target in open_boxes:
                backward.add(number)
            elif target not in done:
                open_boxes.add(target)
                stack.append((target, iter(outgoing[target])))
    return backward


def _layers(picture: Picture, upwards: set[int]) -> dict[str, int]:
    """The layer of every box: one below its lowest predecessor; boxes that nothing leads to, just above their first."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    waiting = dict.fromkeys(picture.boxes, 0)
    for source, target in _downward(picture, upwards):
        below[source].append(target)
        waiting[target] += 1
    layers = dict.fromkeys(picture.boxes, 0)
    sources = [box for box, count in waiting.items() if not count]
    ready = list(sources)
    for box in ready:
        for target in below[box]:
            layers[target] = max(layers[target], layers[box] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for box in sources:
        if below[box] and picture.boxes[box].kind != "start":
            layers[box] = max(0, min(layers[target] for target in below[box]) - 1)
    return layers


def _downward(picture: Picture, upwards: set[int]) -> Iterable[tuple[str, str]]:
    for number, arrow in enumerate(picture.arrows):
        if arrow.source != arrow.target:
            yield (arrow.target, arrow.source) if number in upwards else (arrow.source, arrow.target)


def _bend(
    picture: Picture, layers: dict[str, int], places: dict[str, Place], upwards: set[int]
) -> list[tuple[str, ...]]:
    """For every arrow the places it passes from top to bottom, one a layer; those between are made here."""
    chains: list[tuple[str, ...]] = []
    for number, arrow in enumerate(picture.arrows):
        top, bottom = (arrow.target, arrow.source) if number in upwards else (arrow.source, arrow.target)
        bends = [f"bend {number} {layer}" for layer in range(layers[top] + 1, layers[bottom])]
        for layer, bend in enumerate(bends, layers[top] + 1):
            layers[bend] = layer
            places[bend] = Place(LANE_WIDTH, 0.0)
        chains.append((top, *bends, bottom) if top != bottom else (top,))
    return chains


def _rows(layers: dict[str, int]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(max(layers.values()) + 1)]
    for box, layer in layers.items():
        rows[layer].append(box)
    return rows


def _order(rows: list[list[str]], links: Sequence[tuple[str, str]]) -> None:
    """Sort every row by the mean position of the neighbours above, then below, a few times over."""
    above, below = _neighbours(links)
    for sweep in range(SWEEPS):
        neighbours, way = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        position = {box: i / len(row) for row in rows for i, box in enumerate(row)}
        for row in way:
            means = {b: fmean(position[n] for n in neighbours[b]) if neighbours[b] else position[b] for b in row}
            row.sort(key=means.__getitem__)
            position.update((box, i / len(row)) for i, box in enumerate(row))


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[defaultdict[str, list[str]], defaultdict[str, list[str]]]:
    above: defaultdict[str, list[str]] = defaultdict(list)
    below: defaultdict[str, list[str]] = defaultdict(list)
    for top, bottom in links:
        above[bottom].append(top)
        below[top].append(bottom)
    return above, below


def _set_positions(rows: list[list[str]], links: Sequence[tuple[str, str]], places: dict[str, Place]) -> None:
    above, below = _neighbours(links)
    for number, row in enumerate(rows):
        x = 0.0
        for box in row:
            places[box].x = x + places[box].width / 2
            places[box].y = number * (BOX_HEIGHT + LAYER_GAP)
            x += places[box].width + BOX_GAP
    for sweep in range(SWEEPS):
        neighbours, way = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in way:
            wanted = [fmean(places[n].x for n in neighbours[box]) if neighbours[box] else places[box].x for box in row]
            _spread(row, wanted, places)


def _spread(row: list[str], wanted: list[float], places: dict[str, Place]) -> None:
    """Put the boxes of a row as near to where they want to be as their order and the gaps between them allow."""
    groups: list[tuple[float, list[tuple[str, float]]]] = []  # mean of what its boxes want, boxes with their offsets
    for box, x in zip(row, wanted, strict=True):
        group = (x, [(box, 0.0)])
        while groups and _end(groups[-1], places) > group[0] + group[1][0][1] - places[group[1][0][0]].width / 2:
            left, members = groups.pop()
            last, offset = members[-1]
            first = group[1][0]
            shift = offset + (places[last].width + places[first[0]].width) / 2 + BOX_GAP - first[1]
            weight = len(members) + len(group[1])
            start = (left * len(members) + (group[0] - shift) * len(group[1])) / weight
            group = (start, [*members, *((b, o + shift) for b, o in group[1])])
        groups.append(group)
    for start, members in groups:
        for box, offset in members:
            places[box].x = start + offset


def _end(group: tuple[float, list[tuple[str, float]]], places: dict[str, Place]) -> float:
    box, offset = group[1][-1]
    return group[0] + offset + places[box].width / 2 + BOX_GAP


def _trace(picture: Picture, chains: list[tuple[str, ...]], upwards: set[int], layout: Layout) -> None:
    for number, (arrow, chain) in enumerate(zip(picture.arrows, chains, strict=True)):
        points = tuple((layout.places[p].x, layout.places[p].y) for p in chain)
        layout.routes.append(Route(arrow, points[::-1] if number in upwards else points, number in upwards))
    layout.places = {box: layout.places[box] for box in picture.boxes}


def _fit(layout: Layout) -> None:
    """Move everything to the upper left corner, and measure it."""
    places = layout.places.values()
    xs = [x for route in layout.routes for x, _ in route.points]
    left = min([p.x - p.width / 2 for p in places] + xs) - MARGIN
    top = min(p.y - p.height / 2 for p in places) - MARGIN
    for place in places:
        place.x, place.y = place.x - left, place.y - top
    layout.routes = [Route(r.arrow, tuple((x - left, y - top) for x, y in r.points), r.upwards) for r in layout.routes]
    layout.width = max([p.x + p.width / 2 for p in places] + [x - left for x in xs]) + 2 * MARGIN
    layout.height = max(p.y + p.height / 2 for p in places) + MARGIN
