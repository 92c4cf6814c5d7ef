"""Length-bucketed, class-balanced, augmented training batches; batch k is a pure function of (seed, k).

So the loader's whole state is one number, a resumed run sees exactly the batches that an uninterrupted one
would have seen, and every process of a data-parallel run builds the same batch and takes its own rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..denoisers import POINT_TILE
from ..strokes import PenState
from .augment import Augmentation
from .dataset import StrokeDataset


@dataclass(frozen=True)
class Balance:
    """How often a class with n drawings is seen: proportional to min(n, cap) ** power.

    power 0 shows every class equally often, 1 every drawing; `cap` keeps a few deep classes from taking over.
    """

    cap: int = 2500
    power: float = 1.5

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """(S,) probability of each drawing."""
        counts = np.bincount(labels)
        of_class = np.minimum(counts, self.cap) ** self.power
        of_drawing = (of_class / np.maximum(counts, 1))[labels]
        return of_drawing / of_drawing.sum()


@dataclass(frozen=True)
class Batch:
    """points (B, N, 2) model units, zero past the end;  pen (B, N) `PenState`;  length (B,);  label (B,)."""

    points: Tensor
    pen: Tensor
    length: Tensor
    label: Tensor

    def rows(self, part: slice) -> Batch:
        return Batch(self.points[part], self.pen[part], self.length[part], self.label[part])


class Batches:
    """Endless batches of at most `tokens` padded points, all drawings of a batch in one length bucket.

    A drawing longer than `tokens` is a batch of its own.
    """

    def __init__(
        self,
        dataset: StrokeDataset,
        *,
        scale: float,
        tokens: int = 6144,
        balance: Balance | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset, self.scale, self.augmentation, self.seed = dataset, scale, augmentation, seed
        weights = (balance or Balance()).weights(dataset.labels)
        padded = -(-dataset.lengths // POINT_TILE) * POINT_TILE
        self.buckets = []  # (N, drawings a batch, indices, cumulative probability)
        shares = []
        for N in np.unique(padded):
            indices = np.flatnonzero(padded == N)
            size = max(int(tokens // N), 1)
            self.buckets.append((int(N), size, indices, weights[indices].cumsum() / weights[indices].sum()))
            shares.append(weights[indices].sum() / size)  # so that each drawing keeps its weight
        self.shares = np.array(shares) / np.sum(shares)

    def __getitem__(self, k: int) -> Batch:
        rng = np.random.default_rng([self.seed, k])
        N, size, indices, cumulative = self.buckets[rng.choice(len(self.buckets), p=self.shares)]
        picked = indices[np.minimum(np.searchsorted(cumulative, rng.random(size), "right"), len(indices) - 1)]
        return self.collate(picked, N, rng)

    def collate(self, picked: np.ndarray, N: int, rng: np.random.Generator) -> Batch:
        """The drawings `picked` (B,), augmented and padded to N rows."""
        B = len(picked)
        points = np.zeros((B, N, 2), np.float32)
        pen = np.full((B, N), int(PenState.END), np.int64)
        length = np.zeros(B, np.int64)
        for row, i in enumerate(picked):
            rows = self.dataset[i]
            rows = self.augmentation(rows, rng) if self.augmentation is not None else rows.astype(np.float32)
            n = length[row] = len(rows)
            points[row, :n] = rows[:, :2] / self.scale
            pen[row, : n - 1] = rows[:-1, 2]  # 0 down, 1 up; the last point ends the drawing
        labels = self.dataset.labels[picked]
        return Batch(*map(torch.from_numpy, (points, pen, length, labels)))
