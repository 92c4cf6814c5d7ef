"""How a drawing is written down for a network to learn, and how what the network draws is read again.

SketchKnitter (ICLR 2023, Table 1) compares offsets in drawing order with absolute coordinates ("Abs") and
with the order of strokes or points shuffled. Its code for that is not public and says nothing of how. Here:

  offsets         rows (dx, dy, lift) in the order of drawing, as everywhere else.
  absolute        rows (x, y, lift), the middle of the drawing's box at 0; exactly the same drawing.
  stroke shuffle  the strokes of a drawing in a random order, each drawn as it was; the same picture.
  point shuffle   the points of every stroke in a random order. No longer the same picture: what the pen
                  does between its points is lost. `rejoined` guesses it, for what is drawn.

Limits: a drawing is shuffled once and stays so, a training set is one fixed copy. Offsets are whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..data.dataset import StrokeDataset
from ..pen import decode_pen
from ..strokes import Sketch, StrokeLatent, sketch_to_stroke3

Encode = Callable[[Sketch, np.random.Generator], np.ndarray]  # a drawing -> rows (n, 3)
Decode = Callable[[StrokeLatent], list[Sketch]]


@dataclass(frozen=True)
class Form:
    """One way to write drawings down.

    encode  a drawing and chance -> rows (n, 3), at most one more than its stroke-3 rows.
    decode  what a model of such rows samples -> drawings.
    """

    encode: Encode
    decode: Decode = decode_pen


def rewritten(data: StrokeDataset, form: Form, *, max_points: int, seed: int = 0) -> StrokeDataset:
    """The drawings in another form, of at most `max_points` rows in any form.

    Longer ones are simplified first, so that all forms hold the same drawings. Drawing i is written by
    (seed, i).
    """
    data = data.at_most(max_points - 1)
    rows = [form.encode(data.sketch(i), np.random.default_rng([seed, i])).round() for i in range(len(data))]
    return StrokeDataset.from_rows(rows, data.labels, data.classes)


def absolute_rows(sketch: Sketch) -> np.ndarray:
    """(n + 1, 3) rows (x, y, lift) of a drawing of n stroke-3 rows; its box's middle is at 0, rounded."""
    rows = sketch_to_stroke3(sketch)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2], axis=0)])
    points -= np.round((points.min(0) + points.max(0)) / 2)
    return np.concatenate([points, np.append(0, rows[:, 2])[:, None]], axis=1)


def offsets_of(latent: StrokeLatent) -> StrokeLatent:
    """The latent of offsets behind one of absolute positions: differences of consecutive points."""
    points, pen = latent.points.diff(dim=1), latent.pen[:, 1:]
    return replace(latent, points=points, pen=pen, length=latent.length - 1)


def shuffled_strokes(sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """The strokes in another order."""
    return replace(sketch, strokes=tuple(sketch.strokes[i] for i in rng.permutation(len(sketch.strokes))))


def shuffled_points(sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """The points of every stroke in another order."""
    return replace(sketch, strokes=tuple(rng.permutation(stroke, axis=0) for stroke in sketch.strokes))


def rejoined(sketch: Sketch) -> Sketch:
    """Every stroke led through the same points by a short way: a guess at the order they once had."""
    return replace(sketch, strokes=tuple(stroke[short_way(stroke)] for stroke in sketch.strokes))


def short_way(points: np.ndarray) -> np.ndarray:
    """(n,) an order of points (n, 2) along a short open way: the nearest next, then 2-opt (Croes, 1958)."""
    n = len(points)
    gaps = np.hypot(*(points[:, None] - points[None]).astype(np.float64).transpose(2, 0, 1))  # (n, n)
    order, left = [0], set(range(1, n))
    while left:
        order.append(min(left, key=lambda i: gaps[order[-1], i]))
        left.remove(order[-1])
    way, first, last = np.array(order), np.arange(n)[:, None], np.arange(n)[None]
    while n > 2:
        between = gaps[way[:-1], way[1:]]
        before, after = np.append(0, between), np.append(between, 0)  # the step into a place, and out of it
        to_last = np.concatenate([np.zeros((1, n)), gaps[way[:-1]][:, way]])  # from before `first` to `last`
        to_next = np.concatenate([gaps[way][:, way[1:]], np.zeros((n, 1))], 1)  # from `first` to after `last`
        change = (
            to_last + to_next - before[:, None] - after[None]
        )  # in length, if first..last is turned round
        change = np.where(first < last, change, 0)
        i, j = np.unravel_index(change.argmin(), change.shape)
        if change[i, j] > -1e-9:
            break
        way[i : j + 1] = way[i : j + 1][::-1]
    return way


FORMS = {
    "offsets": Form(lambda sketch, rng: sketch_to_stroke3(sketch)),
    "absolute": Form(
        lambda sketch, rng: absolute_rows(sketch), lambda latent: decode_pen(offsets_of(latent))
    ),
    "stroke shuffle": Form(lambda sketch, rng: sketch_to_stroke3(shuffled_strokes(sketch, rng))),
    "point shuffle": Form(lambda sketch, rng: sketch_to_stroke3(shuffled_points(sketch, rng))),
}
