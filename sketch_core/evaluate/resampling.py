"""How sure the figures are: the same figures again, of random halves of the drawings (see `half_sample`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..metrics import centred_interval, half_sample
from .figures import MEANS, figures_of, is_right, macro, ratio, set_figures
from .measuring import DENSITY_K, Measured, OnProgress, Real


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
    check_enough(real, resamples)
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
        draws[share] = [ratio(a, b) for a, b in zip(draws[name], beside, strict=True)]
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


def check_enough(real: Real, resamples: int) -> None:
    """ValueError where half of the drawings are too few for the figures, or half samples for an interval."""
    if sum(real.counts) < 4 * (DENSITY_K + 1) or resamples < 2:
        raise ValueError(
            f"{sum(real.counts)} drawings and {resamples} half samples, wanted {4 * (DENSITY_K + 1)} and 2 "
            f"or more. Give a larger --count, or --resamples 0."
        )


def one_look(test: Measured, fake: Measured, real: Real) -> dict[str, float]:
    """The figures that half samples are asked for."""
    found = set_figures(test, fake)
    found["top1"] = macro(is_right(fake, real), fake.labels)
    found["top1_real"] = macro(is_right(test, real), test.labels)
    for name in MEANS:
        found[f"{name}_share"] = ratio(getattr(fake, name).mean(), getattr(test, name).mean())
    return found
