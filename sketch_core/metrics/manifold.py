"""Do the sets cover one another: precision and recall, density and coverage, nearest neighbours.

A set's manifold is the union of closed balls around its members, each reaching to its k-th nearest other
member. All are exact: every distance is looked at, in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .features import distances, pair


@dataclass(frozen=True)
class Neighbourhoods:
    """Shares in [0, 1]; density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(real: np.ndarray, fake: np.ndarray, *, k: int = 3, density_k: int = 5) -> Neighbourhoods:
    """All four of real (n, D) and fake (m, D) in one look at the distances.

    Precision and recall are those of Kynkäänniemi et al. (2019, arXiv:1904.06991), k = 3 as there; density
    and coverage those of Naeem et al. (2020, arXiv:2002.09797), `density_k` = 5 as there.
    precision  share of fake inside a ball of real.
    recall     share of real inside a ball of fake.
    density    how many balls of real a fake lies in, over `density_k`: not moved by one far-off real drawing.
    coverage   share of real whose ball holds a fake: not moved by far-off fakes.
    """
    if min(k, density_k) < 1:
        raise ValueError(f"k is {k} and density_k {density_k}, wanted 1 or more neighbours.")
    real, fake = pair(real, fake, at_least=max(k, density_k) + 1)
    near, wide = _radii(real, k, density_k)
    (fake_near,) = _radii(fake, k)
    precise, crowd = np.zeros(len(fake), dtype=bool), np.zeros(len(fake))
    recalled, closest = np.zeros(len(real), dtype=bool), np.full(len(real), np.inf)
    for part, block in distances(fake, real):
        precise[part] = (block <= near).any(1)
        crowd[part] = (block <= wide).sum(1)
        recalled |= (block <= fake_near[part, None]).any(0)
        np.minimum(closest, block.min(0), out=closest)
    return Neighbourhoods(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=float(crowd.mean() / density_k),
        coverage=float((closest <= wide).mean()),
    )


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019, arXiv:1904.06991), see `neighbourhoods`."""
    found = neighbourhoods(real, fake, k=k, density_k=k)
    return found.precision, found.recall


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al., 2020, arXiv:2002.09797), see `neighbourhoods`."""
    found = neighbourhoods(real, fake, k=k, density_k=k)
    return found.density, found.coverage


def nearest_distances(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(n,) Euclidean distance of every query (n, D) to its nearest reference (m, D)."""
    queries, references = pair(queries, references, at_least=1)
    return np.concatenate([block.min(1) for _, block in distances(queries, references)])


def _radii(members: np.ndarray, *ks: int) -> list[np.ndarray]:
    """For each k the distance (n,) of every member to its k-th nearest other member."""
    found = [np.empty(len(members)) for _ in ks]
    for part, block in distances(members, members):
        ranked = np.partition(block, sorted(set(ks)), axis=1)  # the nearest, at 0, is the member itself
        for radii, k in zip(found, ks, strict=True):
            radii[part] = ranked[:, k]
    return found
