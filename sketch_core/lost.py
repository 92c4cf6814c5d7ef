"""Which points of a drawing are lost: under an eraser, in gaps of a line, or by chance.

Each function gives the drawing and, for each of its strokes, a mask (n,) of the points that are lost: what
`redraw.heal` draws anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .raster import _clip, placement
from .strokes import Sketch, bounds

Marked = tuple[Sketch, list[np.ndarray]]

GAP = 0.1  # of a drawing's longer side: the widest gap that is closed unless told otherwise
CHORD = 32  # points laid over a gap; how many of them the model is asked for, its length decides
FACING = 0.3  # cosine of the widest angle between the end of a line and the way over the gap


def nothing(sketch: Sketch) -> Marked:
    return sketch, [np.zeros(len(stroke), bool) for stroke in sketch.strokes]


def eraser(sketch: Sketch, mask: np.ndarray, *, padding: float | None = 0.05) -> Marked:
    """What lies under a mask.

    mask     (H, W), lost where it is above 0.5.
    padding  how the drawing lies on it: as `raster.sketch_to_array` would draw it there.

    The drawing has new points on its lines, where they run into the mask.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"the mask has shape {mask.shape}, wanted (height, width).")
    height, width = mask.shape
    zoom, shift = placement(sketch, (width, height), padding=padding)

    def covered(points: np.ndarray) -> np.ndarray:
        pixels = (points.astype(np.float64) * zoom + shift).clip(-1, (width, height))
        column, row = np.floor(pixels).astype(int).T
        inside = (0 <= column) & (column < width) & (0 <= row) & (row < height)
        return inside & (mask[row.clip(0, height - 1), column.clip(0, width - 1)] > 0.5)

    strokes, lost = [], []
    for stroke in sketch.strokes:
        exact = stroke.astype(np.float64)
        near = _over(exact * zoom + shift, width, height)
        parts = []
        for i, (a, b) in enumerate(zip(exact, exact[1:], strict=False)):
            line = a + near.get(i, np.zeros((1, 1))) * (b - a)
            under = covered(np.concatenate([line, b[None]]))
            keep = under[:-1] != under[1:]  # the last before the mask begins or ends ...
            keep[1:] |= keep[:-1].copy()  # ... and the first after it
            keep[0] = True
            parts.append(line[keep])
        strokes.append(np.concatenate([*parts, stroke[-1:]]).astype(np.float32))
        lost.append(covered(strokes[-1]))
    return replace(sketch, strokes=tuple(strokes)), lost


def _over(pixels: np.ndarray, width: int, height: int) -> dict[int, np.ndarray]:
    """For each piece of a line (n, 2), pixels, that passes over the mask: the shares (k, 1) of its way, 0 and
    then less than a pixel apart where it does, at which to look."""
    a, b = pixels[:-1], pixels[1:]
    starts, stops, pieces = _clip(a, b, np.arange(len(a)), width, height, 1.0)
    found = {}
    for start, stop, i in zip(starts, stops, pieces.tolist(), strict=True):
        way = b[i] - a[i]
        axis = int(np.abs(way).argmax())
        if way[axis] != 0:
            enter, leave = (float((end - a[i])[axis] / way[axis]) for end in (start, stop))
            shares = np.linspace(enter, leave, int(np.ceil(np.hypot(*(stop - start)))) + 2)
            found[i] = np.concatenate([[0.0], shares[(0 < shares) & (shares < 1)]])[:, None]
    return found


def gaps(sketch: Sketch, reach: float | None = None) -> Marked:
    """Gaps in lines: ends of strokes that face each other, at most `reach` canvas units apart.

    reach  None: a tenth of the drawing's longer side.

    The nearest ends are joined first, each once; a stroke may close on itself. The drawing has the joined
    strokes as one, turned round where need be, in the place of the first of them.
    """
    if reach is None:
        left, top, right, bottom = bounds(sketch)
        reach = GAP * max(right - left, bottom - top)
    if not reach >= 0:
        raise ValueError(f"reach is {reach:g}, wanted a distance of 0 or more in canvas units.")
    links = _links([stroke.astype(np.float64) for stroke in sketch.strokes], reach)
    ends = [(i, side) for i in range(len(sketch.strokes)) for side in (0, 1)]
    strokes, lost, done = [], [], set()
    for first in sorted(ends, key=lambda end: end in links):  # open lines from their ends, then closed ones
        if first[0] in done:
            continue
        line, mask, order, end = [], [], first[0], first
        while True:
            i, side = end
            done.add(i)
            stroke = sketch.strokes[i] if side == 0 else sketch.strokes[i][::-1]
            line.append(stroke)
            mask.append(np.zeros(len(stroke), bool))
            order = min(order, i)
            end = links.get((i, 1 - side))
            if end is None:
                break
            a, b = stroke[-1], sketch.strokes[end[0]][-end[1]]
            line.append(a + np.linspace(0, 1, CHORD + 2)[1:-1, None] * (b - a))
            mask.append(np.ones(CHORD, bool))
            if end[0] in done:  # round, back to where it began
                line.append(b[None])
                mask.append(np.zeros(1, bool))
                break
        strokes.append((order, np.concatenate(line)))
        lost.append((order, np.concatenate(mask)))
    by_order = np.argsort([order for order, _ in strokes])
    return replace(sketch, strokes=tuple(strokes[k][1] for k in by_order)), [lost[k][1] for k in by_order]


def _links(strokes: list[np.ndarray], reach: float) -> dict[tuple[int, int], tuple[int, int]]:
    """Which end (stroke, 0 for its start or 1) is joined to which, both ways."""
    ends = [(i, side) for i, stroke in enumerate(strokes) if len(stroke) > 1 for side in (0, 1)]
    places = np.array([strokes[i][-side] for i, side in ends]).reshape(-1, 2)
    outward = np.array([_outward(strokes[i] if side else strokes[i][::-1]) for i, side in ends]).reshape(
        -1, 2
    )
    found = []
    for k in range(len(ends)):
        way = places[k] - places[:k]
        distance = np.hypot(*way.T)
        facing = np.minimum((outward[:k] * way).sum(1), way @ -outward[k])
        near = (0 < distance) & (distance <= reach) & (facing >= FACING * distance)
        found += [(float(distance[other]), ends[k], ends[other]) for other in np.flatnonzero(near)]
    links: dict[tuple[int, int], tuple[int, int]] = {}
    for _, a, b in sorted(found):
        if a not in links and b not in links:
            links[a], links[b] = b, a
    return links


def _outward(stroke: np.ndarray) -> np.ndarray:
    """The direction in which a stroke ends, (2,), of length 1, over its last few points: hooks count less."""
    ahead = stroke[-1] - stroke[max(len(stroke) - 4, 0)]
    length = np.hypot(*ahead)
    return ahead / length if length > 0 else ahead


def by_chance(sketch: Sketch, share: float, rng: np.random.Generator) -> Marked:
    """Each point lost with probability `share`, for experiments; at least one stays."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share of lost points is {share:g}, wanted 0 to 1.")
    lost = [rng.random(len(stroke)) < share for stroke in sketch.strokes]
    if all(mask.all() for mask in lost):
        lost[0][0] = False
    return sketch, lost


def broken(sketch: Sketch, lost: Sequence[np.ndarray]) -> Sketch:
    """What is left to see: lines end before lost points and begin again after them."""
    strokes = []
    for stroke, mask in zip(sketch.strokes, lost, strict=True):
        for run in np.split(np.arange(len(stroke)), np.flatnonzero(np.diff(mask)) + 1):
            if not mask[run[0]]:
                strokes.append(stroke[run])
    return replace(sketch, strokes=tuple(strokes))
