"""Geometry Score: do two sets have holes alike (Khrulkov & Oseledets, 2018, arXiv:1802.02664).

A witness complex over a few random landmarks is grown from 0 to `alpha_max`; the share of that time during
which it has k holes is its relative living time of k. Their mean over many choices of landmarks (MRLT)
describes a set, and the score of two sets is the squared distance of their MRLTs. 0 is best; papers print
it times 1,000.

The witness complex is gudhi's. Limits: a score of few runs is biased upwards, as the noise of either mean
adds to it; compare it only with a score of as many runs, and with the floor. It hangs on what the rows are
(flattened pictures here, raw offsets elsewhere): figures of different kinds of rows do not compare.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from .features import distances, pair

LANDMARKS = 64  # L_0 of the paper
HOLES = 100  # i_max of the paper: as many holes, or more, are not told apart


def geometry_score(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    runs: int = 1000,
    landmarks: int = LANDMARKS,
    gamma: float | None = None,
    seed: int = 0,
) -> float:
    """Squared distance of the MRLTs of real (n, D) and fake (m, D), options as in the function below."""
    real, fake = pair(real, fake, at_least=2)
    options = {"runs": runs, "landmarks": landmarks, "gamma": gamma}
    one, two = (mean_relative_living_times(x, seed=seed + i, **options) for i, x in enumerate((real, fake)))
    return float(((one - two) ** 2).sum())


def mean_relative_living_times(
    x: np.ndarray,
    *,
    runs: int = 1000,
    landmarks: int = LANDMARKS,
    gamma: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """(HOLES,) the mean over `runs` choices of landmarks of how long x (n, D) has 0, 1, 2 ... holes.

    landmarks  rows chosen at random, with replacement as in the authors' code.
    gamma      alpha_max over the largest distance to a landmark; None: n / 5000 / 128, the paper's.
    """
    x, _ = pair(x, x, at_least=2)
    if runs < 1 or landmarks < 3 or (gamma is not None and gamma <= 0):
        raise ValueError(
            f"runs is {runs}, landmarks {landmarks} and gamma {gamma}, wanted 1 run, 3 landmarks and a gamma "
            f"above 0 at least."
        )
    need_gudhi()
    gamma = len(x) / 5000 / 128 if gamma is None else gamma
    rng = np.random.default_rng(seed)
    total = np.zeros(HOLES)
    for _ in range(runs):
        chosen = x[rng.integers(len(x), size=landmarks)]
        table = np.concatenate([block for _, block in distances(x, chosen)])
        alpha_max = float(table.max()) * gamma
        total += relative_living_times(holes(table, alpha_max), alpha_max)
    return total / runs


def relative_living_times(intervals: np.ndarray, alpha_max: float, most: int = HOLES) -> np.ndarray:
    """(most,) shares of [0, alpha_max] during which 0, 1, 2 ... of the intervals (m, 2) are alive.

    Equations 2 and 3 of the paper; an interval without end ends at alpha_max.
    """
    intervals = np.asarray(intervals, dtype=np.float64).reshape(-1, 2).clip(0, alpha_max)
    if alpha_max <= 0:  # all rows are equal: no time, and no hole in it
        return np.eye(1, most)[0]
    cuts = np.unique(np.concatenate([[0.0, alpha_max], intervals.reshape(-1)]))
    middles, spans = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    alive = ((intervals[:, :1] < middles) & (middles < intervals[:, 1:])).sum(0)
    return np.bincount(alive, weights=spans, minlength=most)[:most] / alpha_max


def holes(table: np.ndarray, alpha_max: float) -> np.ndarray:
    """(m, 2) birth and death of the one-dimensional holes of the witness complex of a table of distances.

    table  (n, landmarks): every witness's distance to every landmark. The authors' code hands gudhi plain
           distances where its manual says squared ones; so does this, or no figure would compare.

    A witness matters to a triangle only with landmarks nearer than its fourth nearest plus alpha_max: the
    rest of its row is not handed on, which changes nothing but the time it takes.
    """
    need_gudhi()
    import gudhi

    order = np.argsort(table, axis=1, kind="stable")
    ranked = np.take_along_axis(table, order, axis=1)
    needed = (ranked <= ranked[:, min(3, ranked.shape[1] - 1), None] + alpha_max).sum(1)
    rows = [
        list(zip(where[:n], far[:n], strict=True))
        for where, far, n in zip(order.tolist(), ranked.tolist(), needed.tolist(), strict=True)
    ]
    tree = gudhi.WitnessComplex(rows).create_simplex_tree(max_alpha_square=alpha_max, limit_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    return np.asarray(tree.persistence_intervals_in_dimension(1)).reshape(-1, 2)


def need_gudhi() -> None:
    """ValueError where gudhi is not installed."""
    if importlib.util.find_spec("gudhi") is None:
        raise ValueError(
            "the Geometry Score needs gudhi, which is not installed. Get it with pip install gudhi."
        )
