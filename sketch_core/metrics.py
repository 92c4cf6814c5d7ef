"""How two sets of drawings differ, as pure functions over their features: FID, KID, precision and recall.

Everything is float64 and exact: no subsets, no random draws but those of `bootstrap_interval`, which are
seeded. Features are (n, D) rows, one a drawing, numpy arrays or anything numpy converts.

Limits: FID is biased upwards at small n, by about as much for any two sets of the same size; compare it only
with a floor (real against real) of the same n. KID is not biased, and a little below 0 when the sets agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

BLOCK = 2**22  # distances held at a time


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Fréchet distance of the Gaussians that fit the sets (Heusel et al., 2017, arXiv:1706.08500).

    |m1 - m2|^2 + tr(S1 + S2) - 2 sum sqrt(eig(S1 S2)); the eigenvalues of S1 S2 are those of the symmetric
    sqrt(S1) S2 sqrt(S1), so they come out real.
    """
    real, fake = _pair(real, fake, at_least=2)
    (mean1, cov1), (mean2, cov2) = _moments(real), _moments(fake)
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * shared)


def kid(real: np.ndarray, fake: np.ndarray) -> float:
    """Unbiased squared MMD with the kernel (x . y / D + 1)^3 (Bińkowski et al., 2018, arXiv:1801.01401)."""
    real, fake = _pair(real, fake, at_least=2)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: np.ndarray) -> float:
        k = kernel(a, a)
        return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

    return float(within(real) + within(fake) - 2 * kernel(real, fake).mean())


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019, arXiv:1904.06991).

    A set's manifold is the union of balls around its members, each reaching to its k-th nearest other member.
    Precision is the share of fake within the manifold of real, recall the share of real within that of fake.
    """
    real, fake = _pair(real, fake, at_least=k + 1)
    return _share_within(fake, real, k), _share_within(real, fake, k)


def nearest_distances(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(n,) Euclidean distance of every query to its nearest reference."""
    queries, references = _pair(queries, references, at_least=1)
    return np.concatenate([block.min(1) for _, block in _distances(queries, references)])


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


def _share_within(queries: np.ndarray, members: np.ndarray, k: int) -> float:
    """Share of queries in at least one ball around a member that reaches to its k-th nearest other member."""
    radii = np.empty(len(members))
    for part, block in _distances(members, members):
        radii[part] = np.partition(block, k, axis=1)[:, k]  # the nearest, at 0, is the member itself
    inside = [(block <= radii).any(1) for _, block in _distances(queries, members)]
    return float(np.concatenate(inside).mean())


def _distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Euclidean distances of a (n, D) to b (m, D), as blocks of rows of a; equal rows are at exactly 0."""
    b2 = (b**2).sum(1)
    step = max(1, BLOCK // len(b))
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        a2 = (a[part] ** 2).sum(1)[:, None]
        squared = a2 + b2 - 2 * (a[part] @ b.T)
        squared[squared < 1e-12 * (a2 + b2)] = 0.0  # rounding of the three terms
        yield part, np.sqrt(squared)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])


def _pair(a: np.ndarray, b: np.ndarray, *, at_least: int) -> tuple[np.ndarray, np.ndarray]:
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
