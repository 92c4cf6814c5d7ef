"""How sure a figure is: bootstrap intervals of means, rank intervals of quantiles, half samples of the rest.

Drawing again with replacement puts equal drawings into a set, and equal drawings have no distance: balls
shrink, covariances lose rank, and FID and recall move for that reason alone. So whatever looks at distances
is measured again on random halves, drawn without replacement within each class. The variance of a mean over
half of n things, given the n, is s²/(n/2) (1 - 1/2) = s²/n: that of the whole (McCarthy, 1969; Politis and
Romano, 1994), no factor needed. A half set has its own bias, which is why its figures say how wide an
interval is and never where it lies (`centred_interval`).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np


def half_sample(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sorted indices of half of the members of every group; groups (n,) say where each belongs.

    Of an odd number the larger or the smaller half, by chance; of one member, the member.
    """
    groups, chosen = np.asarray(groups), []
    for name in np.unique(groups):
        members = np.flatnonzero(groups == name)
        half = max(1, (len(members) + int(rng.integers(2))) // 2)
        chosen.append(rng.permutation(members)[:half])
    return np.sort(np.concatenate(chosen))


def centred_interval(value: float, draws: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Interval around `value` as wide as its `draws` (d,) on half samples scatter around their own mean."""
    draws = np.asarray(draws, dtype=np.float64)
    if draws.ndim != 1 or len(draws) < 2 or not 0 < level < 1:
        raise ValueError(
            f"draws are {draws.shape} and level {level}, wanted (d,) figures, two at least, and a level in "
            f"(0, 1). Draw more half samples."
        )
    low, high = np.quantile(draws - draws.mean(), [(1 - level) / 2, (1 + level) / 2])
    return float(value + low), float(value + high)


def bootstrap_interval(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (n,), or of the mean over groups of their means.

    groups  (n,) which group each value belongs to; values are drawn again within their group (Efron, 1979).
    """
    values = np.asarray(values, dtype=np.float64)
    groups = np.zeros(len(values), dtype=np.int64) if groups is None else np.asarray(groups)
    if values.ndim != 1 or len(values) == 0 or groups.shape != values.shape:
        raise ValueError(
            f"values {values.shape} and groups {groups.shape} must be as many, one at least. "
            f"Give a group each."
        )
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level is {level} and draws {draws}, wanted a level in (0, 1) and 1 draw or more.")
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    means = np.zeros(draws)
    for name in names:
        members = values[groups == name]
        means += members[rng.integers(len(members), size=(draws, len(members)))].mean(1)
    low, high = np.quantile(means / len(names), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def quantile_interval(values: np.ndarray, q: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the q-quantile of `values` (n,), from the ranks that a binomial count leaves open."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not (0 < q < 1 and 0 < level < 1):
        raise ValueError(
            f"values are {values.shape}, q {q} and level {level}, wanted (n,) values and both in (0, 1). "
            f"Give a median as 0.5."
        )
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(q * (1 - q) / len(values))
    low, high = np.quantile(values, np.clip([q - half, q + half], 0, 1))
    return float(low), float(high)
