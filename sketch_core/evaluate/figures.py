"""Figures of sets of drawings: of two sets, of the paper's folds, and of a whole report by flat names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..metrics import fid, kid, mean_relative_living_times, neighbourhoods
from ..raster import rasterize
from .classes import FOLDS, fold_of
from .measuring import DENSITY_K, K, Measured, Real

SETS = ("precision", "recall", "density", "coverage", "fid", "kid")  # figures of two sets
MEANS = ("strokes", "ink", "points")  # figures of a drawing
COSTS = ("calls", "shortcut_calls", "seconds_a_sketch", "cpu_seconds_a_sketch")  # known where counted
GEOMETRY_PICTURE = 28  # pixels a side of the pictures that the Geometry Score takes as rows


def is_right(side: Measured, real: Real) -> np.ndarray:
    """(B,) whether the judge gives each drawing its class; nothing drawn is never right."""
    return (side.found == real.targets[side.labels]) & (side.ink > 0)


def set_figures(real: Measured, fake: Measured) -> dict[str, float]:
    """The figures SETS of two sets of drawings, on the judge's features and on Inception's where they are."""
    found = {}
    for prefix, a, b in (("", real.features, fake.features), ("inception_", real.inception, fake.inception)):
        if a is not None and b is not None:
            near = asdict(neighbourhoods(a, b, k=K, density_k=DENSITY_K)) | {
                "fid": fid(a, b),
                "kid": kid(a, b),
            }
            found |= {prefix + name: near[name] for name in SETS}
    return found


def geometry_figures(real: Real, sides: Sequence[Measured], runs: int) -> dict:
    """Geometry Score of each seed's drawings, the mean of them, and that of the floor, times 1,000."""

    def living_times(side: Measured, seed: int) -> np.ndarray:
        rows = rasterize(side.sketches, GEOMETRY_PICTURE).reshape(len(side), -1)
        return mean_relative_living_times(rows, runs=runs, seed=seed)

    known = real.floor_draws.setdefault("geometry", {})
    if runs not in known:
        test, floor = living_times(real.test, 0), living_times(real.floor, 1)
        known[runs] = test, 1000 * float(((test - floor) ** 2).sum())
    test, floor = known[runs]
    of_seeds = [1000 * float(((test - living_times(side, 1)) ** 2).sum()) for side in sides]
    return {"fake": float(np.mean(of_seeds)), "floor": floor, "runs": runs, "of_seeds": of_seeds}


def fold_figures(real: Real, sides: Sequence[Measured]) -> list[dict]:
    """The paper's folds: the same figures over the classes that are simple, moderate and complex."""
    folds = np.array([FOLDS.index(fold_of(points)) for points in real.mean_points])
    found = []
    for f in np.unique(folds):
        inside = [np.flatnonzero(folds[side.labels] == f) for side in (real.test, real.floor)]
        test, floor = real.test.rows(inside[0]), real.floor.rows(inside[1])
        parts = [side.rows(np.flatnonzero(folds[side.labels] == f)) for side in sides]
        figures = [set_figures(test, part) for part in parts]
        found.append(
            {
                "fold": FOLDS[f],
                "classes": int((folds == f).sum()),
                "mean_points": float(real.mean_points[folds == f].mean()),
                "top1_fake": float(np.mean([macro(is_right(p, real), p.labels) for p in parts])),
                "top1_real": macro(is_right(test, real), test.labels),
            }
            | {
                name: {"fake": float(np.mean([found[name] for found in figures])), "floor": value}
                for name, value in set_figures(test, floor).items()
            }
        )
    return found


def figures_of(report: dict) -> dict[str, float]:
    """The report's figures by flat names, for a table, a plot, or the metadata of weights."""
    flat = {
        "top1": report["top1"]["fake"],
        "top1_real": report["top1"]["real"],
        "top1_share": report["top1"]["ratio"],
    }
    names = [name for name in report if name.removeprefix("inception_") in SETS] + ["geometry"]
    for name in names:
        if name in report:
            flat |= {name: report[name]["fake"], f"{name}_floor": report[name]["floor"]}
    flat["recall_share"] = report["recall"]["ratio"]
    flat |= {f"{name}_share": report[name]["ratio"] for name in MEANS}
    for space, found in report["nearest"].items():
        flat[f"nearest_{space}"] = ratio(found["fake"]["median"], found["real"]["median"])
    flat |= {"empty": report["empty"], "drawings": report["drawings"], "classes": report["classes"]}
    flat |= {name: report[name] for name in COSTS if report.get(name) is not None}
    return flat


def macro(values: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([values[labels == c].mean() for c in np.unique(labels)]))


def ratio(a: float, b: float) -> float:
    """a / b; 1 when both are 0, infinite when only b is."""
    return float(a / b) if b else (math.inf if a else 1.0)
