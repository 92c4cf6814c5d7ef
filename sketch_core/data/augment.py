"""Augmentation of stroke-3 rows: stretch and dropped points (Ha & Eck, 2017, section 3.1), small rotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    stretch: float = 0.1  # each axis is scaled by 1 +- this, independently
    rotation: float = 6.0  # degrees, at most, either way
    drop: float = 0.1  # share of a stroke's inner points that may go, in half of the drawings

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n, 3) rows -> (m, 3) float32 rows, m <= n; the same drawing, drawn a little differently."""
        out = rows.astype(np.float32)
        if self.drop > 0 and rng.random() < 0.5:
            out = drop_points(out, self.drop, rng)
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = turn * rng.uniform(1 - self.stretch, 1 + self.stretch, 2)
        out[:, :2] = out[:, :2] @ matrix.astype(np.float32)
        return out


def drop_points(rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Leaves out inner points of strokes with probability `share`; the line then runs straight past them."""
    inner = np.ones(len(rows), dtype=bool)
    inner[-1] = False
    inner &= rows[:, 2] == 0
    inner[1:] &= rows[:-1, 2] == 0  # the first point of a stroke stays
    keep = ~(inner & (rng.random(len(rows)) < share))
    owner = np.cumsum(np.concatenate([[0], keep[:-1]]))  # a dropped row's offset goes to the next kept row
    merged = np.zeros((int(keep.sum()), 3), dtype=rows.dtype)
    np.add.at(merged[:, :2], owner, rows[:, :2])
    merged[:, 2] = rows[keep, 2]
    return merged
