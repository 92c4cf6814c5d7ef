"""A user's drawing in the form that the model was trained on, and back to the coordinate.

Quick, Draw! drawings have their longer side at 255 and their lines simplified (Ramer–Douglas–Peucker, 2
units). A drawing is brought there by its size and by leaving points out, and what was left out goes back in
at the end: points that did not move are the user's own, bit for bit, and those between points that moved move
along with them.

Limits: the order of strokes is taken as it comes; a drawing of more strokes than the model has points for is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .strokes import QUICKDRAW_CANVAS, PenState, Sketch, bounds, distance_to_segment, kept_by_simplifying

SIDE = QUICKDRAW_CANVAS[0]
EPSILON = 2.0  # units of the model's canvas, as Quick, Draw! simplifies
COARSEST = 32.0  # beyond it nothing of a drawing is left
SMALLEST = 1 / 4  # of the finished drawing's side: a smaller part is taken to be that large
SPACING = 24.0  # units from one lost point to the next where nobody says how many there were


@dataclass(frozen=True)
class Given:
    """n + 1 points of a drawing, those the model is to know or to find, in the order of the pen.

    points   (n + 1, 2) float64, canvas units; nan where a point is lost.
    pen      (n + 1,) `PenState` after each point; UP after the last. After a lost one it is a guess.
    between  n + 1 arrays (k, 2): the user's points on the line from each to the next, left out for the model.
    zoom     units of the model's canvas per canvas unit.
    """

    points: np.ndarray
    pen: np.ndarray
    between: tuple[np.ndarray, ...]
    zoom: float

    @property
    def known(self) -> np.ndarray:
        """(n + 1,) bool, which points are not lost."""
        return np.isfinite(self.points).all(1)

    @property
    def with_ends_only(self) -> int:
        """Rows that are left when every stroke is its two ends."""
        starts = np.concatenate([[True], self.pen[:-1] != PenState.DOWN])
        return int((starts | (self.pen != PenState.DOWN)).sum()) - 1

    def offsets(self, scale: float) -> np.ndarray:
        """(n, 2) float64, model units of `scale` units of the model's canvas; 0 next to lost points."""
        return np.nan_to_num(np.diff(self.points, axis=0) * self.zoom / scale)

    def __len__(self) -> int:
        """How many rows (offsets) the model has of it."""
        return len(self.points) - 1


def size_of_whole(sketch: Sketch) -> float:
    """Units of the model's canvas per canvas unit, where the drawing is all there: its longer side is 255."""
    left, top, right, bottom = bounds(sketch)
    extent = max(right - left, bottom - top)
    return SIDE / extent if extent > 0 else SIDE / max(sketch.canvas)


def size_of_part(sketch: Sketch, share: float | None) -> float:
    """The same, where something is missing.

    share  how much of the finished drawing's longer side the given part takes; None: the canvas is the sheet
           that the finished drawing fills, or four times the given part if it is smaller than a quarter.
    """
    if share is not None and not 0 < share <= 1:
        raise ValueError(
            f"share is {share:g}, wanted the part of the finished drawing's longer side that is given, above "
            f"0 and at most 1."
        )
    whole = size_of_whole(sketch)
    if share is not None:
        return whole * share
    return min(max(SIDE / max(sketch.canvas), whole * SMALLEST), whole)


def bring(sketch: Sketch, zoom: float, most: int, *, lost: Sequence[np.ndarray] | None = None) -> Given:
    """The drawing in at most `most` rows of the model.

    lost  for each stroke, a mask (n,) of its points that are lost; None: none are.
    """
    if not sketch.strokes:
        raise ValueError("the sketch is empty, wanted at least one stroke. To draw from nothing, use draw.")
    if lost is None:
        lost = [np.zeros(len(stroke), bool) for stroke in sketch.strokes]
    check_masks(sketch, lost)
    if all(np.all(mask) for mask in lost):
        raise ValueError("all points of the sketch are lost, wanted at least one that stays. Use draw.")
    check_strokes(sketch, most)
    epsilon = EPSILON
    while True:
        given = _simplified(sketch, zoom, epsilon, lost)
        if len(given) <= most:
            return given
        epsilon *= 1.25
        if epsilon > COARSEST:
            raise ValueError(
                f"the drawing has {len(sketch.strokes)} strokes and comes to {len(given)} points when "
                f"simplified, but there is room for {most}. Give it fewer strokes."
            )


def check_masks(sketch: Sketch, lost: Sequence[np.ndarray]) -> None:
    """Refuses masks of lost points that are not one for each point of the drawing."""
    if [len(mask) for mask in lost] != [len(stroke) for stroke in sketch.strokes]:
        raise ValueError(
            f"lost has masks of {[len(mask) for mask in lost]} points, wanted one for each stroke, of "
            f"{[len(stroke) for stroke in sketch.strokes]} points."
        )


def check_strokes(sketch: Sketch, most: int) -> None:
    """Refuses a drawing that no simplifying brings to `most` rows: every stroke keeps a point, or two."""
    if len(sketch.strokes) - 1 > most:
        raise ValueError(
            f"the drawing has {len(sketch.strokes)} strokes, but there is room for {most} points. "
            f"Give it fewer strokes."
        )


def _simplified(sketch: Sketch, zoom: float, epsilon: float, lost: Sequence[np.ndarray]) -> Given:
    points, pen, between = [], [], []
    for stroke, mask in zip(sketch.strokes, lost, strict=True):
        edges = np.flatnonzero(np.diff(mask)) + 1
        for run in np.split(np.arange(len(stroke)), edges):
            if mask[run[0]]:
                count = _lost_points(stroke, run, zoom, epsilon)
                part = np.full((count, 2), np.nan)
                between += [stroke[:0]] * count
            else:
                keep = np.flatnonzero(kept_by_simplifying(stroke[run] * zoom, epsilon))
                part = stroke[run][keep]
                between += [stroke[run][a + 1 : b] for a, b in zip(keep, keep[1:], strict=False)]
                between.append(stroke[:0])
            points.append(part)
            pen += [PenState.DOWN] * len(part)
        pen[-1] = PenState.UP
    if pen[0] == PenState.UP:  # rows cannot lift the pen at their origin: a dot is two points in one place
        points.insert(0, points[0][:1])
        pen.insert(0, PenState.DOWN)
        between.insert(0, between[0][:0])
    return Given(np.concatenate(points).astype(np.float64), np.array(pen), tuple(between), zoom)


def _lost_points(stroke: np.ndarray, run: np.ndarray, zoom: float, epsilon: float) -> int:
    """How many points the model is asked for where those of `run` are lost: as many as simplifying would have
    left, or one every SPACING, but no more than there were."""
    whole = stroke[max(run[0] - 1, 0) : run[-1] + 2].astype(np.float64) * zoom  # with its neighbours
    bends = int(kept_by_simplifying(whole, epsilon).sum()) - (len(whole) - len(run))
    length = float(np.hypot(*np.diff(whole, axis=0).T).sum())
    return int(min(len(run), max(bends, round(length / SPACING) - 1, 1)))


def put_back(sketch: Sketch, given: Given, points: np.ndarray, lift: np.ndarray, label: str | None) -> Sketch:
    """The drawing through `points` (n + 1, 2), canvas units, the pen lifted after those of `lift` (n + 1,).

    Points left out on the way to the model come back, moved as far as their neighbours on the line.
    """
    moved = points - given.points
    strokes, line = [], []
    for i, place in enumerate(points):
        line.append(place[None])
        if lift[i] or i == len(points) - 1:
            strokes.append(np.concatenate(line))
            line = []
        elif len(given.between[i]):
            line.append(_moved_along(given.between[i], given.points[i : i + 2], moved[i : i + 2]))
    first = strokes[0]
    if len(sketch.strokes[0]) == 1 and len(first) == 2 and (first[0] == first[1]).all():
        strokes[0] = first[:1]
    return replace(sketch, strokes=tuple(strokes), label=label)


def _moved_along(inner: np.ndarray, ends: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Points (k, 2) of a line between two `ends` (2, 2) that moved by `moved` (2, 2)."""
    if not moved.any():
        return inner
    whole = np.concatenate([ends[:1], inner, ends[1:]])
    along = np.concatenate([[0.0], np.hypot(*np.diff(whole, axis=0).T).cumsum()])
    share = (along[1:-1] / max(along[-1], 1e-9))[:, None]
    return inner + (1 - share) * moved[0] + share * moved[1]


def without_between(given: Given) -> Given:
    """The drawing as the model sees it: what was left out on the way stays out."""
    return replace(given, between=(np.zeros((0, 2), np.float32),) * len(given.points))


def with_rows(given: Given, rows: int) -> Given:
    """The same drawing in exactly so many rows: longest lines halved, or the points that bend least left out.

    Nothing may be lost in it. What `between` held goes.
    """
    points, pen = list(given.points), list(given.pen)
    if not given.with_ends_only <= rows:
        raise ValueError(f"a drawing that needs {given.with_ends_only} points cannot be made of {rows}.")
    while len(points) - 1 > rows:
        inner = [i for i in range(1, len(points) - 1) if pen[i - 1] == pen[i] == PenState.DOWN]
        bends = [distance_to_segment(points[i][None], points[i - 1], points[i + 1])[0] for i in inner]
        least = inner[int(np.argmin(bends))]
        del points[least], pen[least]
    while len(points) - 1 < rows:
        lengths = [
            np.hypot(*(b - a)) if state == PenState.DOWN else -1.0
            for a, b, state in zip(points, points[1:], pen, strict=False)
        ]
        longest = int(np.argmax(lengths))
        points.insert(longest + 1, (points[longest] + points[longest + 1]) / 2)
        pen.insert(longest + 1, pen[longest])
    return without_between(replace(given, points=np.array(points), pen=np.array(pen)))
