"""The vocabulary of the library: pen states, sketches, stroke-3, stroke-5, and what a sampler returns.

Letters used for shapes everywhere: B sketches, N points, K pen states, T timesteps, D width, H W image.
Canvas units are whatever the drawing was made in, y grows downwards. Model units are offsets divided by one
standard deviation (`StrokeLatent.scale`), saved with the weights. Nowhere else says this.

Limits: a sketch is polylines. Curves are flattened on the way in (`svg.py`) and smoothed on the way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

QUICKDRAW_CANVAS = (255.0, 255.0)  # simplified Quick, Draw! drawings live in 0..255


class PenState(IntEnum):
    """What the pen does *after* a point (Ha & Eck, 2017, arXiv:1704.03477): columns 2, 3, 4 of stroke-5."""

    DOWN = 0  # the line goes on to the next point
    UP = 1  # the pen lifts; the next point starts a stroke
    END = 2  # the drawing is finished


@dataclass(frozen=True, eq=False)
class Sketch:
    """A drawing: polylines on a canvas.

    strokes  tuple of float32 arrays (n, 2), n >= 1, canvas units, y down; one point is a dot.
    canvas   (width, height) in canvas units.
    label    class name, or None.
    """

    strokes: tuple[np.ndarray, ...]
    canvas: tuple[float, float] = QUICKDRAW_CANVAS
    label: str | None = None

    def __post_init__(self) -> None:
        strokes = tuple(np.array(stroke, dtype=np.float32) for stroke in self.strokes)
        for i, stroke in enumerate(strokes):
            if stroke.ndim != 2 or stroke.shape[1] != 2 or len(stroke) == 0:
                raise ValueError(
                    f"stroke {i} has shape {stroke.shape}, wanted (n, 2) with n >= 1. "
                    f"Leave empty strokes out."
                )
            if not np.isfinite(stroke).all():
                raise ValueError(
                    f"stroke {i} holds a coordinate that is not a finite number. Remove that point."
                )
            stroke.flags.writeable = False
        width, height = (float(side) for side in self.canvas)
        if not (0 < width < float("inf") and 0 < height < float("inf")):
            raise ValueError(f"canvas is {self.canvas}, wanted two finite sides above 0.")
        object.__setattr__(self, "strokes", strokes)
        object.__setattr__(self, "canvas", (width, height))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sketch)
            and (self.canvas, self.label) == (other.canvas, other.label)
            and len(self.strokes) == len(other.strokes)
            and all(np.array_equal(a, b) for a, b in zip(self.strokes, other.strokes, strict=True))
        )

    @property
    def num_points(self) -> int:
        return sum(map(len, self.strokes))

    def to_svg(self, **options) -> str:
        """SVG text; options are those of `svg.sketch_to_svg`."""
        from .svg import (
            sketch_to_svg,  # the one forward reference, with to_image: conveniences of the public API
        )

        return sketch_to_svg(self, **options)

    def to_image(self, size: int | tuple[int, int] = 512, **options):
        """PIL image of the drawing; options are those of `raster.sketch_to_image`."""
        from .raster import sketch_to_image

        return sketch_to_image(self, size, **options)


@dataclass(frozen=True)
class Frame:
    """Where a drawing lies that has a place of its own.

    canvas  (width, height) in canvas units.
    origin  (x, y) of its first point, canvas units.
    zoom    canvas units per unit of the model's own canvas of 255.
    """

    canvas: tuple[float, float]
    origin: tuple[float, float]
    zoom: float


@dataclass(frozen=True, eq=False)
class StrokeLatent:
    """What a sampler returns and the pen-state decoder reads.

    points  (B, N, 2)  offsets in model units; row i leads to the point it names, the first is the origin.
    pen     (B, N, 3)  logits of `PenState`.
    length  (B,)       how many of the N rows are real.
    scale              canvas units per model unit.
    labels  B class names or None.
    seeds   B pairs (seed, index) that made each drawing, for the record; may be empty.
    settings  what else made them (model, sampler, steps ...), for the record; may be empty.
    calls   network calls that each drawing took; may be empty.
    frames  B places on the user's canvas, for drawings that have one; empty: the decoder places them.
    """

    points: Tensor
    pen: Tensor
    length: Tensor
    scale: float
    labels: tuple[str | None, ...]
    seeds: tuple[tuple[int, int], ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    calls: tuple[float, ...] = ()
    frames: tuple[Frame, ...] = ()

    def __post_init__(self) -> None:
        B, N = self.points.shape[:2]
        check_shape("points", self.points, f"{B} {N} 2")
        check_shape("pen", self.pen, f"{B} {N} 3")
        check_shape("length", self.length, f"{B}")
        if len(self.labels) != B:
            raise ValueError(
                f"latent holds {B} sketches but {len(self.labels)} labels. Give one (or None) each."
            )
        if self.frames and len(self.frames) != B:
            raise ValueError(f"latent holds {B} sketches but {len(self.frames)} frames. Give one each.")

    def __len__(self) -> int:
        return len(self.length)


def check_shape(name: str, x, spec: str) -> None:
    """check_shape("x", x, "B N 2") accepts any sizes for letters and exactly 2 for the 2."""
    wanted = spec.split()
    fits = x.ndim == len(wanted) and all(
        w.isalpha() or int(w) == n for w, n in zip(wanted, x.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape ({', '.join(wanted)}), got {tuple(x.shape)}.")


def bounds(sketch: Sketch) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the drawn points, canvas units; an empty sketch is a ValueError."""
    if not sketch.strokes:
        raise ValueError("an empty sketch has no bounds. Give it at least one stroke.")
    points = np.concatenate(sketch.strokes)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def fit(sketch: Sketch, canvas: tuple[float, float], *, padding: float = 0.0) -> Sketch:
    """The drawing scaled evenly and centred on `canvas`, `padding` canvas units kept free at each side.

    A drawing without extent (a single dot) is centred and keeps its size. Empty sketches only change canvas.
    """
    width, height = float(canvas[0]), float(canvas[1])
    if not (padding >= 0 and 2 * padding < min(width, height)):
        raise ValueError(
            f"padding {padding:g} leaves nothing of a {width:g} x {height:g} canvas. Make it smaller."
        )
    if not sketch.strokes:
        return replace(sketch, canvas=(width, height))
    left, top, right, bottom = bounds(sketch)
    room = np.array([width - 2 * padding, height - 2 * padding])
    extent = np.array([right - left, bottom - top])
    zoom = float(np.min(room / np.maximum(extent, 1e-9))) if extent.max() > 0 else 1.0
    centre = np.array([left + right, top + bottom]) / 2
    middle = np.array([width, height]) / 2
    strokes = tuple((stroke.astype(np.float64) - centre) * zoom + middle for stroke in sketch.strokes)
    return replace(sketch, strokes=strokes, canvas=(width, height))


def resample(sketch: Sketch, spacing: float) -> Sketch:
    """Every stroke at even arc-length steps of at most `spacing` canvas units; ends stay, dots stay."""
    if not spacing > 0:
        raise ValueError(f"spacing is {spacing:g}, wanted a length above 0 in canvas units.")
    return replace(sketch, strokes=tuple(_resample(stroke, spacing) for stroke in sketch.strokes))


def _resample(stroke: np.ndarray, spacing: float) -> np.ndarray:
    steps = np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if along[-1] == 0:
        return stroke[:1]
    at = np.linspace(0.0, along[-1], int(np.ceil(along[-1] / spacing)) + 1)
    return np.stack([np.interp(at, along, stroke[:, axis]) for axis in (0, 1)], 1)


def simplify(sketch: Sketch, epsilon: float = 2.0) -> Sketch:
    """Ramer–Douglas–Peucker (1972, 1973): drops points nearer than `epsilon` canvas units to the line kept.

    Quick, Draw! uses 2.0 on a 255 canvas. Ends of strokes and dots stay.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon:g}, wanted a distance of 0 or more in canvas units.")
    strokes = (stroke[kept_by_simplifying(stroke, epsilon)] for stroke in sketch.strokes)
    return replace(sketch, strokes=tuple(strokes))


def kept_by_simplifying(stroke: np.ndarray, epsilon: float) -> np.ndarray:
    """(n,) bool, the points that Ramer–Douglas–Peucker keeps; iterative, so long strokes do not recurse."""
    points = stroke.astype(np.float64)
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    open_spans = [(0, len(points) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        if last - first < 2:
            continue
        distances = distance_to_segment(points[first + 1 : last], points[first], points[last])
        farthest = int(distances.argmax())
        if distances[farthest] > epsilon:
            middle = first + 1 + farthest
            keep[middle] = True
            open_spans += [(first, middle), (middle, last)]
    return keep


def distance_to_segment(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of each of `points` (n, 2) to the segment from a to b, (n,)."""
    ab = b - a
    length2 = float(ab @ ab)
    t = np.clip((points - a) @ ab / length2, 0.0, 1.0) if length2 > 0 else np.zeros(len(points))
    return np.hypot(*(points - a - t[:, None] * ab).T)


def sketch_to_stroke3(sketch: Sketch) -> np.ndarray:
    """(n - 1, 3) float32 rows (dx, dy, lift) of a sketch of n drawn points; lift is 1 after a stroke's last.

    The origin is the first drawn point, as in the published Quick, Draw! files, so no row can lift the pen
    right after it: a first stroke that is a dot is written as one row (0, 0, 1), and `stroke3_to_sketch`
    reads it back as a dot. A first stroke of two identical points reads back as that dot too: it is the same
    drawing.
    """
    strokes = [stroke.astype(np.float64) for stroke in sketch.strokes]
    if not strokes:
        return np.zeros((0, 3), dtype=np.float32)
    if len(strokes[0]) == 1:
        strokes[0] = np.repeat(strokes[0], 2, axis=0)
    lift = np.concatenate([np.eye(1, len(s), len(s) - 1)[0] for s in strokes])
    offsets = np.diff(np.concatenate(strokes), axis=0)
    return np.concatenate([offsets, lift[1:, None]], axis=1).astype(np.float32)


def stroke3_to_sketch(
    rows: np.ndarray,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
    canvas: tuple[float, float] = QUICKDRAW_CANVAS,
    label: str | None = None,
) -> Sketch:
    """The sketch that starts at `origin` and follows `rows` (n, 3) = (dx, dy, lift).

    The inverse of `sketch_to_stroke3`.

    The last row ends the last stroke whether or not it lifts. No rows: an empty sketch.
    """
    rows = np.asarray(rows, dtype=np.float64)
    check_shape("rows", rows, "n 3")
    if len(rows) == 0:
        return Sketch((), canvas, label)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2], axis=0)]) + origin
    ends = np.flatnonzero(rows[:-1, 2] > 0.5) + 2  # row i leads to point i + 1
    strokes = np.split(points, ends)
    if rows[0, 2] > 0.5 and not rows[0, :2].any():
        strokes[0] = strokes[0][:1]
    elif len(rows) == 1 and not rows[0, :2].any():
        strokes[0] = strokes[0][:1]
    return Sketch(tuple(strokes), canvas, label)


def stroke3_to_stroke5(rows: np.ndarray, length: int) -> np.ndarray:
    """(length, 5) rows (dx, dy, down, up, end): one-hot `PenState`, padded with END rows (0, 0, 0, 0, 1)."""
    rows = np.asarray(rows, dtype=np.float32)
    check_shape("rows", rows, "n 3")
    if len(rows) > length:
        raise ValueError(
            f"sketch has {len(rows)} rows but stroke-5 length is {length}. "
            f"Raise length, or simplify the sketch first with strokes.simplify."
        )
    stroke5 = np.zeros((length, 5), dtype=np.float32)
    stroke5[:, 2 + PenState.END] = 1
    n = len(rows)
    stroke5[:n, :2] = rows[:, :2]
    stroke5[:n, 2 + PenState.DOWN] = 1 - rows[:, 2]
    stroke5[:n, 2 + PenState.UP] = rows[:, 2]
    stroke5[:n, 2 + PenState.END] = 0
    return stroke5


def stroke5_to_stroke3(stroke5: np.ndarray) -> np.ndarray:
    """(n, 3) rows before the first END row; without one, all rows (magenta reads an END at row 0 as none)."""
    stroke5 = np.asarray(stroke5, dtype=np.float32)
    check_shape("stroke5", stroke5, "n 5")
    ended = np.flatnonzero(stroke5[:, 2 + PenState.END] > 0.5)
    n = int(ended[0]) if len(ended) else len(stroke5)
    return np.concatenate([stroke5[:n, :2], stroke5[:n, 2 + PenState.UP, None]], axis=1)


def from_polylines(
    polylines: Iterable[Sequence], *, canvas: tuple[float, float] = QUICKDRAW_CANVAS, label: str | None = None
) -> Sketch:
    """A sketch of Quick, Draw! `drawing` lists [[x...], [y...]], one a stroke."""
    strokes = []
    for i, polyline in enumerate(polylines):
        x, y = polyline[0], polyline[1]
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(
                f"stroke {i} has {len(x)} x and {len(y)} y, wanted as many of each, at least one."
            )
        strokes.append(np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], 1))
    return Sketch(tuple(strokes), canvas, label)


def to_polylines(sketch: Sketch) -> list[list[list[float]]]:
    """Quick, Draw! `drawing` lists [[x...], [y...]], one a stroke; whole numbers as int."""

    def number(value: float) -> float:
        return int(value) if float(value).is_integer() else round(float(value), 3)

    return [[[number(v) for v in stroke[:, axis]] for axis in (0, 1)] for stroke in sketch.strokes]
