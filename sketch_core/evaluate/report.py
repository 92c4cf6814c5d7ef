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

from ..metrics import (
    bootstrap_interval,
    centred_interval,
    fid,
    geometry_score,
    half_sample,
    kid,
    neighbourhoods,
    quantile_interval,
)
from ..raster import rasterize
from ..strokes import Sketch
from .classes import FOLDS, fold_of
from .measuring import DENSITY_K, K, Measured, OnProgress, Real, measure, nearest_training

QUANTILES = {"median": 0.5, "p5": 0.05}  # of nearest distances
SETS = ("precision", "recall", "density", "coverage", "fid", "kid")  # figures of two sets
MEANS = ("strokes", "ink", "points")  # figures of a drawing
COSTS = ("calls", "shortcut_calls", "seconds_a_sketch")  # of a sketch; known where somebody counted
GEOMETRY_PICTURE = 28  # pixels a side of the pictures that the Geometry Score takes as rows
LESS_IS_BETTER = {"fid", "kid", "inception_fid", "inception_kid", "geometry"}


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
    top1 = {"fake": _macro(right["fake"], labels), "real": _macro(right["real"], real.test.labels)}
    report["top1"] = top1 | {
        "ratio": _ratio(top1["fake"], top1["real"]),
        "fake_interval": bootstrap_interval(right["fake"], labels),
        "real_interval": bootstrap_interval(right["real"], real.test.labels),
    }
    for name, value in floor.items():
        of_seeds = [found[name] for found in figures]
        report[name] = {"fake": float(np.mean(of_seeds)), "floor": value}
        if name.split("_")[-1] not in ("fid", "kid"):
            report[name]["ratio"] = _ratio(report[name]["fake"], value)
        if seeds > 1:
            report[name]["of_seeds"] = of_seeds
    if geometry:
        report["geometry"] = geometry_figures(real, sides, geometry)
    for name in MEANS:
        means = {side: float(getattr(m, name).mean()) for side, m in (("fake", fake), ("real", real.test))}
        report[name] = means | {"ratio": _ratio(means["fake"], means["real"])}
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
            "nearest_ratio": _ratio(
                float(np.median(nearest["fake"]["features"][labels == c])),
                float(np.median(nearest["real"]["features"][real.test.labels == c])),
            ),
            "empty": int(empty[labels == c].sum()),
        }
        for c, name in enumerate(real.classes)
    ]
    return plain(report)


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

    def rows(side: Measured) -> np.ndarray:
        return rasterize(side.sketches, GEOMETRY_PICTURE).reshape(len(side), -1)

    test = rows(real.test)
    if runs not in (known := real.floor_draws.setdefault("geometry", {})):
        known[runs] = 1000 * geometry_score(test, rows(real.floor), runs=runs)
    of_seeds = [1000 * geometry_score(test, rows(side), runs=runs) for side in sides]
    return {"fake": float(np.mean(of_seeds)), "floor": known[runs], "runs": runs, "of_seeds": of_seeds}


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
                "top1_fake": float(np.mean([_macro(is_right(p, real), p.labels) for p in parts])),
                "top1_real": _macro(is_right(test, real), test.labels),
            }
            | {
                name: {"fake": float(np.mean([found[name] for found in figures])), "floor": value}
                for name, value in set_figures(test, floor).items()
            }
        )
    return found


def intervals(
    report: dict,
    real: Real,
    sides: Sequence[Measured],
    resamples: int,
    on_progress: OnProgress | None = None,
) -> dict:
    """95 % intervals of the figures, and the half-sample figures that they come from.

    Half samples of one number are the same sketches in every report on equal counts and seeds, so that two
    reports can be compared draw by draw (`differences`).
    """
    if sum(real.counts) < 4 * (DENSITY_K + 1) or resamples < 2:
        raise ValueError(
            f"{sum(real.counts)} drawings and {resamples} half samples, wanted {4 * (DENSITY_K + 1)} and 2 "
            f"or more. Give a larger --count, or --resamples 0."
        )
    draws: dict[str, list[float]] = {}
    of_floor = real.floor_draws.setdefault(resamples, {})
    known = bool(of_floor)
    for d in range(resamples):
        rng = np.random.default_rng([1, d])
        test = real.test.rows(half_sample(real.test.labels, rng))
        floor = real.floor.rows(half_sample(real.floor.labels, rng))
        halves = [side.rows(half_sample(side.labels, rng)) for side in sides]
        if not known:
            for name, value in one_look(test, floor, real).items():
                of_floor.setdefault(name, []).append(value)
        looks = [one_look(test, half, real) for half in halves]
        for name in looks[0]:
            draws.setdefault(name, []).append(float(np.mean([look[name] for look in looks])))
        if on_progress is not None:
            on_progress(d + 1, resamples)
    for name, share in (("top1", "top1_share"), ("recall", "recall_share")):
        beside = of_floor["top1_real" if name == "top1" else name]
        draws[share] = [_ratio(a, b) for a, b in zip(draws[name], beside, strict=True)]
    draws.pop("top1_real")
    flat = figures_of(report)
    return {
        "resamples": resamples,
        "intervals": {name: centred_interval(flat[name], np.array(found)) for name, found in draws.items()},
        "floor_intervals": {
            name: centred_interval(flat[f"{name}_floor"], np.array(found))
            for name, found in of_floor.items()
            if f"{name}_floor" in flat
        },
        "draws": {name: [float(f"{value:.6g}") for value in found] for name, found in draws.items()},
    }


def one_look(test: Measured, fake: Measured, real: Real) -> dict[str, float]:
    """The figures that half samples are asked for."""
    found = set_figures(test, fake)
    found["top1"] = _macro(is_right(fake, real), fake.labels)
    found["top1_real"] = _macro(is_right(test, real), test.labels)
    for name in MEANS:
        found[f"{name}_share"] = _ratio(getattr(fake, name).mean(), getattr(test, name).mean())
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
        flat[f"nearest_{space}"] = _ratio(found["fake"]["median"], found["real"]["median"])
    flat |= {"empty": report["empty"], "drawings": report["drawings"], "classes": report["classes"]}
    flat |= {name: report[name] for name in COSTS if report.get(name) is not None}
    return flat


def bars(report: dict) -> list[Bar]:
    """What first light promises of the deep classes, on the figures of a report."""
    nearest = report["nearest"]
    return [
        Bar("top-1, share of real", report["top1"]["ratio"], low=0.60),
        Bar("recall, share of floor", report["recall"]["ratio"], low=0.75),
        *(
            Bar(
                f"nearest {space}, {name} over real",
                _ratio(sides["fake"][name], sides["real"][name]),
                low=1.0,
            )
            for space, sides in nearest.items()
            for name in ("median", "p5")
        ),
        Bar("strokes, share of real", report["strokes"]["ratio"], low=0.85, high=1.15),
        Bar("ink, share of real", report["ink"]["ratio"], low=0.85, high=1.15),
        Bar("empty drawings", report["empty"], high=0),
    ]


def differences(ours: dict, theirs: dict) -> list[dict]:
    """How two reports differ, figure by figure: their values, ours minus theirs, a 95 % interval of that.

    The interval is of paired differences: half sample d holds the same real drawings, and the same seeds and
    indices of drawings, in both. It is None where a report has no half samples of that figure.
    `better` is True or False where the interval leaves out 0, else None; strokes, ink and points are neither.
    """
    check_comparable(ours["protocol"], theirs["protocol"])
    a, b = figures_of(ours), figures_of(theirs)
    rows = []
    for name in [n for n in a if n in b and not n.endswith(("_floor", "_real"))]:
        if a[name] is None or b[name] is None:
            continue
        row = {"figure": name, "ours": a[name], "theirs": b[name], "difference": a[name] - b[name]}
        pairs = [report.get("draws", {}).get(name, []) for report in (ours, theirs)]
        row["interval"] = row["better"] = None
        if pairs[0] and len(pairs[0]) == len(pairs[1]):
            low, high = centred_interval(row["difference"], np.subtract(*pairs))
            row["interval"] = (low, high)
            if name.removesuffix("_share") not in MEANS and (low > 0 or high < 0):
                row["better"] = (low > 0) != (name in LESS_IS_BETTER)
        rows.append(row)
    return rows


def check_comparable(ours: dict, theirs: dict) -> None:
    """ValueError where two protocols differ in more than the versions that ran them."""
    ours, theirs = (p | {"judge": p["judge"]["sha256"]} for p in (ours, theirs))  # a file may change its name
    for name in sorted((set(ours) | set(theirs)) - {"versions"}):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"the two runs do not compare: {name} differs. Measure both by one protocol, "
                f"with the same judge and data."
            )


def plain(value):
    """JSON has no infinity and no tuples: None and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _macro(values: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([values[labels == c].mean() for c in np.unique(labels)]))


def _ratio(a: float, b: float) -> float:
    """a / b; 1 when both are 0, infinite when only b is."""
    return float(a / b) if b else (math.inf if a else 1.0)


def _class_ratio(fake: Measured, real: Measured, name: str, c: int) -> float:
    return _ratio(*(getattr(side, name)[side.labels == c].mean() for side in (fake, real)))


def _spread(distances: np.ndarray) -> dict[str, float]:
    return {name: float(np.quantile(distances, q)) for name, q in QUANTILES.items()}


def _most_common(found: np.ndarray, names: Sequence[str]) -> str | None:
    return names[int(np.bincount(found).argmax())] if len(found) else None
