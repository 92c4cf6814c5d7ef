"""Many settings of one model, measured alike: the grid of them, and quality against what it costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .figures import figures_of
from .plot import Canvas, Panel, Series, chart
from .printing import run_labels

KINDS = {"sampler": str, "schedule": str, "steps": int, "guidance": float}
QUALITY = (("fid", "FID"), ("top1_share", "top-1, share of real"), ("recall", "recall"))


def settings_grid(texts: Sequence[str]) -> list[dict]:
    """`["sampler=ddim,ddpm", "steps=6,12"]` -> every combination, the last name varying fastest."""
    grid: dict[str, list] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in KINDS or not values:
            raise ValueError(
                f"cannot sweep {text!r}. Give NAME=VALUE,VALUE with {', '.join(KINDS)} as names."
            )
        if name in grid:
            raise ValueError(f"{name} is swept twice. Put all of its values behind one {name}=.")
        try:
            grid[name] = [KINDS[name](value) for value in values.split(",")]
        except ValueError:
            raise ValueError(f"{text!r} holds no {KINDS[name].__name__}. Correct the value.") from None
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def quality_plot(runs: Sequence[dict]) -> Canvas:
    """Quality against network calls above, and against seconds below; a line for every way of stepping.

    Runs that differ in steps only make one line. Bars are 95 % intervals, where the runs have them.
    """
    lines: dict[str, list[dict]] = {}
    for label, run in zip(_line_names(runs), runs, strict=True):
        lines.setdefault(label, []).append(run)
    panels = []
    on_cpu = all(run.get("protocol", {}).get("versions", {}).get("on") == "cpu" for run in runs)
    seconds = ("seconds_a_sketch", "seconds a sketch")
    if on_cpu:  # which a busy machine changes less
        seconds = ("cpu_seconds_a_sketch", "seconds of processor a sketch")
    for cost, words in (("calls", "denoiser calls a sketch"), seconds):
        for name, title in QUALITY:
            series = []
            for label, members in lines.items():
                points = []
                for run in members:
                    flat, interval = figures_of(run), run.get("intervals", {}).get(name)
                    if flat.get(cost) is not None and flat[name] is not None:
                        half = None if interval is None else (interval[1] - interval[0]) / 2
                        points.append((flat[cost], flat[name], half))
                if points:
                    series.append(Series(label, points))
            floor = figures_of(runs[0]).get(f"{name}_floor", 1.0 if name.endswith("share") else None)
            level = None if floor is None else (floor, "real")
            if series:
                costs = [x for s in series for x, _, _ in s.points]
                log = min(costs) > 0 and max(costs) > 8 * min(costs)
                panels.append(Panel(words, title, series, level, log))
    if not panels:
        raise ValueError(
            "no run counted its network calls. Measure with the command, not with drawings alone."
        )
    return chart(panels)


def _line_names(runs: Sequence[dict]) -> list[str]:
    """The labels of runs with their steps left out."""
    without = [run | {"settings": {k: v for k, v in run["settings"].items() if k != "steps"}} for run in runs]
    return run_labels(without)
