"""How two sets of drawings differ, as pure functions over their features.

Features are (n, D) rows, one a drawing, numpy arrays or anything numpy converts; the arithmetic is float64.
Nothing is drawn at random but where a seed is asked for.

Limits: FID is biased upwards at small n, by about as much for any two sets of the same size: compare it only
with a floor (real against real) of the same n. So are, to a lesser degree, precision, recall, density and
coverage. KID is not biased, and a little below 0 when the sets agree.
"""

from __future__ import annotations

from .divergence import fid, kid, kid_subsets
from .geometry import geometry_score, mean_relative_living_times, relative_living_times
from .intervals import bootstrap_interval, centred_interval, half_sample, quantile_interval
from .manifold import density_coverage, nearest_distances, neighbourhoods, precision_recall

__all__ = [
    "bootstrap_interval",
    "centred_interval",
    "density_coverage",
    "fid",
    "geometry_score",
    "half_sample",
    "kid",
    "kid_subsets",
    "mean_relative_living_times",
    "nearest_distances",
    "neighbourhoods",
    "precision_recall",
    "quantile_interval",
    "relative_living_times",
]
