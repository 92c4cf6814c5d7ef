"""What all metrics share: features that are checked, and their distances a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 2**22  # distances held at a time


def pair(a: np.ndarray, b: np.ndarray, *, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features (n, D) and (m, D) as float64; ValueError where they cannot be compared."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features are {a.shape} and {b.shape}, wanted (n, D) and (m, D). Give rows of one width."
        )
    if min(len(a), len(b)) < at_least:
        raise ValueError(
            f"sets hold {len(a)} and {len(b)} drawings, wanted {at_least} or more each. Draw more."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features hold a number that is not finite. Leave those drawings out.")
    return a, b


def distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Euclidean distances of a (n, D) to b (m, D), as blocks of rows of a; equal rows are at exactly 0."""
    b2 = (b**2).sum(1)
    step = max(1, BLOCK // len(b))
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        a2 = (a[part] ** 2).sum(1)[:, None]
        squared = a2 + b2 - 2 * (a[part] @ b.T)
        squared[squared < 1e-12 * (a2 + b2)] = 0.0  # rounding of the three terms
        yield part, np.sqrt(squared)
