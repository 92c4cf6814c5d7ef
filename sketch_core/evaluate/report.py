"""From measured drawings to the report: figures beside those of real drawings, bars, folds, classes.

A report is plain JSON. Figures of whole sets (FID, KID, precision, recall, density, coverage, Geometry Score)
are taken of each seed's drawings on their own, as large as the floor's, and averaged over seeds; the rest
takes all drawings together. A number without bounds is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..metrics import bootstrap_interval, quantile_interval
from ..strokes import Sketch
from .figures import MEANS, fold_figures, geometry_figures, is_right, macro, ratio, set_figures
from .measuring import Measured, OnProgress, Real, measure, nearest_training
from .resampling import intervals

QUANTILES = {"median": 0.5, "p5": 0.05}  # of nearest distances


@dataclass(frozen=True)
class Bar:
    """One line of the promise: `value` must be at least `low` and at most `high`."""

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def met(self) -> bool:
        return self.low <= self.value <= self.high


def compare(
    sketches: Sequence[Sketch],
    real: Real,
    *,
    seeds: int = 1,
    resamples: int = 0,
    geometry: int = 0,
    on_progress: OnProgress | None = None,
) -> dict:
    """The report on drawings in the order of `real.classes`, `real.counts` of each, seed after seed.

    resamples  half samples that intervals are taken from; 0 leaves out all intervals but that of top-1.
    geometry   runs of the Geometry Score; 0 leaves it out.
    """
    if len(sketches) != seeds * sum(real.counts):
        raise ValueError(
            f"got {len(sketches)} drawings, wanted {seeds * sum(real.counts)}, as many as the real side has"
            f"{f', {seeds} times' if seeds > 1 else ''}."
        )
    labels = np.tile(np.repeat(np.arange(len(real.classes)), real.counts), seeds)
    fake = measure(sketches, labels, real.judge, real.inception)
    each = len(labels) // seeds
    sides = [fake.rows(slice(s * each, (s + 1) * each)) for s in range(seeds)]
    empty = fake.ink == 0  # nothing, or dots only
    right = {"fake": is_right(fake, real), "real": is_right(real.test, real)}
    nearest = {"fake": nearest_training(fake, real.train)} | real.nearest
    figures = [set_figures(real.test, side) for side in sides]
    floor = set_figures(real.test, real.floor)

    report: dict = {
        "classes": len(real.classes),
        "drawings": len(sketches),
        "seeds": seeds,
        "per_class_count": (min(real.counts), max(real.counts)),
    }
    top1 = {"fake": macro(right["fake"], labels), "real": macro(right["real"], real.test.labels)}
    report["top1"] = top1 | {
        "ratio": ratio(top1["fake"], top1["real"]),
        "fake_interval": bootstrap_interval(right["fake"], labels),
        "real_interval": bootstrap_interval(right["real"], real.test.labels),
    }
    for name, value in floor.items():
        of_seeds = [found[name] for found in figures]
        report[name] = {"fake": float(np.mean(of_seeds)), "floor": value}
        if name.split("_")[-1] not in ("fid", "kid"):
            report[name]["ratio"] = ratio(report[name]["fake"], value)
        if seeds > 1:
            report[name]["of_seeds"] = of_seeds
    if geometry:
        report["geometry"] = geometry_figures(real, sides, geometry)
    for name in MEANS:
        means = {side: float(getattr(m, name).mean()) for side, m in (("fake", fake), ("real", real.test))}
        report[name] = means | {"ratio": ratio(means["fake"], means["real"])}
    report["nearest"] = {
        space: {side: _spread(distances[space]) for side, distances in nearest.items()}
        | {"real_interval": {n: quantile_interval(nearest["real"][space], q) for n, q in QUANTILES.items()}}
        for space in ("features", "pictures")
    }
    report["empty"] = int(empty.sum())
    if resamples:
        report |= intervals(report, real, sides, resamples, on_progress)
    report["bars"] = [asdict(bar) | {"met": bar.met} for bar in bars(report)]
    report["all_met"] = all(bar["met"] for bar in report["bars"])
    report["folds"] = fold_figures(real, sides)
    report["by_class"] = [
        {
            "class": name,
            "count": real.counts[c],
            "top1_fake": float(right["fake"][labels == c].mean()),
            "top1_real": float(right["real"][real.test.labels == c].mean()),
            "taken_for": _most_common(fake.found[(labels == c) & ~right["fake"]], real.judge.classes),
            "strokes_ratio": _class_ratio(fake, real.test, "strokes", c),
            "ink_ratio": _class_ratio(fake, real.test, "ink", c),
            "nearest_ratio": ratio(
                float(np.median(nearest["fake"]["features"][labels == c])),
                float(np.median(nearest["real"]["features"][real.test.labels == c])),
            ),
            "empty": int(empty[labels == c].sum()),
        }
        for c, name in enumerate(real.classes)
    ]
    return plain(report)


def bars(report: dict) -> list[Bar]:
    """The bounds that a model's figures are held to, and how the figures of a report stand to them."""
    nearest = report["nearest"]
    return [
        Bar("top-1, share of real", report["top1"]["ratio"], low=0.60),
        Bar("recall, share of floor", report["recall"]["ratio"], low=0.75),
        *(
            Bar(
                f"nearest {space}, {name} over real",
                ratio(sides["fake"][name], sides["real"][name]),
                low=1.0,
            )
            for space, sides in nearest.items()
            for name in ("median", "p5")
        ),
        Bar("strokes, share of real", report["strokes"]["ratio"], low=0.85, high=1.15),
        Bar("ink, share of real", report["ink"]["ratio"], low=0.85, high=1.15),
        Bar("empty drawings", report["empty"], high=0),
    ]


def plain(value):
    """JSON has no infinity and no tuples: None and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _class_ratio(fake: Measured, real: Measured, name: str, c: int) -> float:
    return ratio(*(getattr(side, name)[side.labels == c].mean() for side in (fake, real)))


def _spread(distances: np.ndarray) -> dict[str, float]:
    return {name: float(np.quantile(distances, q)) for name, q in QUANTILES.items()}


def _most_common(found: np.ndarray, names: Sequence[str]) -> str | None:
    return names[int(np.bincount(found).argmax())] if len(found) else None
