"""Distances of two distributions from samples of them: FID, and KID in its three customary forms."""

from __future__ import annotations

import numpy as np

from .features import pair


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Fréchet distance of the Gaussians that fit real (n, D) and fake (m, D).

    Heusel et al. (2017, arXiv:1706.08500): |m1 - m2|^2 + tr(S1 + S2) - 2 sum sqrt(eig(S1 S2)), covariances
    with n - 1. With S1 = A'A and S2 = B'B, the sum of roots is that of singular values of AB': A and B are
    the centred features over sqrt(n - 1), or, where there are more drawings than features, the root of S1 and
    that of S2, which are smaller.
    """
    real, fake = pair(real, fake, at_least=2)
    gap = real.mean(0) - fake.mean(0)
    a, b = _factor(real), _factor(fake)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float((gap**2).sum() + (a**2).sum() + (b**2).sum() - 2 * shared)


def kid(real: np.ndarray, fake: np.ndarray) -> float:
    """Squared maximum mean discrepancy of real (n, D) and fake (m, D), unbiased, over all pairs.

    The kernel is (x . y / D + 1)^3 (Bińkowski et al., 2018, arXiv:1801.01401). This is the estimate of least
    variance; published figures are often means over subsets, `kid_subsets`, with the same expectation.
    """
    real, fake = pair(real, fake, at_least=2)
    return float(_within(real) + _within(fake) - 2 * _kernel(real, fake).mean())


def kid_subsets(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    subsets: int | None = 100,
    size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and standard deviation of `kid` over subsets of `size` drawings of either set.

    subsets  how many, drawn at random, each without replacement: the published habit is 100 of 1,000. The
             deviation is that of subsets which overlap: no standard error of the mean.
    None     disjoint blocks instead, as many as both sets fill (Zaremba et al., 2013, arXiv:1307.1954):
             independent, so their deviation over the root of their number is a standard error.
    """
    real, fake = pair(real, fake, at_least=2)
    if not 2 <= size <= min(len(real), len(fake)) or (subsets is not None and subsets < 1):
        raise ValueError(
            f"size is {size} and subsets {subsets}, wanted 2 to {min(len(real), len(fake))} drawings, the "
            f"smaller set, and 1 subset or more. Give a smaller size."
        )
    rng = np.random.default_rng(seed)
    if subsets is None:
        orders = rng.permutation(len(real)), rng.permutation(len(fake))
        parts = [slice(i, i + size) for i in range(0, min(map(len, orders)) - size + 1, size)]
        found = [kid(real[orders[0][part]], fake[orders[1][part]]) for part in parts]
    else:
        found = [
            kid(
                real[rng.choice(len(real), size, replace=False)],
                fake[rng.choice(len(fake), size, replace=False)],
            )
            for _ in range(subsets)
        ]
    return float(np.mean(found)), float(np.std(found))


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _within(a: np.ndarray) -> float:
    """The mean of the kernel over pairs of different members."""
    k = _kernel(a, a)
    return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))


def _factor(x: np.ndarray) -> np.ndarray:
    """(min(n, D), D), its transpose times itself the covariance of x (n, D)."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    if len(x) <= x.shape[1]:
        return centred
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return np.sqrt(values.clip(0))[:, None] * vectors.T
