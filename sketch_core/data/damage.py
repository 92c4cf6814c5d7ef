"""Damage to drawings: points off their places, only a beginning, or points lost.

It is what `rectify`, `complete` and `heal` mend, what recognizers learn from beside whole drawings, and what
repairs are measured by.

Limits: points are displaced independently, which is not how a hand shakes; lost points are by chance, not
under an eraser.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..lost import broken, by_chance
from ..strokes import Sketch, bounds


def displaced(sketch: Sketch, far: float, rng: np.random.Generator) -> Sketch:
    """Every point off by a normal deviate of `far` canvas units on each axis."""
    return replace(sketch, strokes=tuple(line + rng.normal(0, far, line.shape) for line in sketch.strokes))


def half(sketch: Sketch) -> Sketch:
    """The first half of its strokes, the odd one with them."""
    return replace(sketch, strokes=sketch.strokes[: (len(sketch.strokes) + 1) // 2])


@dataclass(frozen=True)
class Damage:
    """Damage of a kind and size by chance, for training: a third each is displaced, begun and broken."""

    displaced: float = 0.14  # of the longer side, the most that points are off (standard deviation)
    lost: float = 0.5  # share of points, the most that are lost

    def __call__(self, sketch: Sketch, rng: np.random.Generator) -> Sketch:
        kind = rng.integers(3)
        if kind == 0:
            left, top, right, bottom = bounds(sketch)
            side = max(right - left, bottom - top)
            return displaced(sketch, rng.uniform(0, self.displaced) * side, rng)
        if kind == 1:
            return begun(sketch, rng)
        return broken(*by_chance(sketch, rng.uniform(0, self.lost), rng))


def begun(sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """Some of the first strokes; of a drawing of one stroke, some of its first points."""
    count = len(sketch.strokes)
    if count > 1:
        return replace(sketch, strokes=sketch.strokes[: rng.integers(1, count)])
    (line,) = sketch.strokes
    return replace(sketch, strokes=(line[: max(1, round(rng.uniform(0.3, 1) * len(line)))],))
