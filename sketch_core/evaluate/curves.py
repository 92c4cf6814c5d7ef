"""What happens on the way: recognizability and estimated noise against t (SketchKnitter, Figure 1c).

While drawings are made in many uniform steps, both the noisy drawing and the clean one that the network sees
behind it are shown to the judge, with the pen states that the network gives at that moment.

Limits: what a judge makes of noise is not what it was trained on; low scores say that it sees no such class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from ..knitter import Emerging, SketchModel
from ..pen import decode_pen
from ..schedules import ALPHA_BARS
from ..strokes import StrokeLatent
from .measuring import Judge, OnProgress
from .plot import Canvas, Panel, Series, chart

LOOKS = 20  # times at which the judge looks


def curves(
    model: SketchModel,
    judge: Judge,
    classes: Sequence[str],
    *,
    count: int,
    seed: int = 0,
    steps: int = 100,
    on_progress: OnProgress | None = None,
    **settings,
) -> dict[str, list[float]]:
    """Curves over t, falling from 1, as lists of equal length; means over `count` drawings of each class.

    noisy, clean            probability that the judge gives the right class to x_t, to the prediction of x_0.
    noisy_top1, clean_top1  share that it takes for the right class.
    noise                   mean absolute value of the estimated eps, 0.80 for standard normal noise.
    settings                sampler and guidance, as `SketchModel.draw` takes them.
    """
    place = {name: i for i, name in enumerate(judge.classes)}
    if strangers := [name for name in classes if name not in place]:
        raise ValueError(
            f"the recognizer does not know {', '.join(strangers[:5])}. Leave such classes out, or "
            f"give another recognizer."
        )
    alpha_bar = ALPHA_BARS[model.network.config.schedule]
    every = max(1, steps // LOOKS)
    sums: dict[float, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def look(step: Emerging) -> None:
        if step.index % every:
            return
        found = sums[round(float(step.t[0]), 9)]
        targets = np.array([place[label] for label in step.labels])
        found["n"] += len(targets)
        for name, points in (("noisy", step.x), ("clean", step.prediction.points)):
            latent = StrokeLatent(
                points.cpu(), step.prediction.pen.cpu(), step.length, model.scale, step.labels
            )
            _, scores = judge.read(decode_pen(latent))
            found[name] += float(scores[np.arange(len(targets)), targets].sum())
            found[f"{name}_top1"] += float((scores.argmax(1) == targets).sum())
        a = alpha_bar(step.t)[:, None, None]
        x, x0 = step.x.cpu().double(), step.prediction.points.cpu().double()
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        real = torch.arange(x.shape[1]) < step.length[:, None]
        found["noise"] += float((eps.abs().mean(2) * real).sum(1).div(step.length).sum())

    for done, name in enumerate(classes, 1):
        model.draw(name, count=count, seed=seed, steps=steps, schedule="uniform", on_step=look, **settings)
        if on_progress is not None:
            on_progress(done, len(classes))
    times = sorted(sums, reverse=True)
    names = ("noisy", "noisy_top1", "clean", "clean_top1", "noise")
    return {"t": times} | {name: [sums[t][name] / sums[t]["n"] for t in times] for name in names}


def curves_table(found: dict[str, list[float]]) -> str:
    """The curves for people, a line a time."""
    heads = ("t", "noisy: p(class)", "top-1", "clean: p(class)", "top-1", "noise")
    lines = ["".join(f"{head:>17}" for head in heads)]
    for row in zip(*found.values(), strict=True):
        lines.append("".join(f"{value:17.3f}" for value in row))
    return "\n".join(lines) + "\n"


def curves_plot(found: dict[str, list[float]]) -> Canvas:
    """Recognizability, and estimated noise, against t."""

    def series(name: str, words: str) -> Series:
        return Series(words, [(t, y, None) for t, y in zip(found["t"], found[name], strict=True)])

    seen = [series("clean_top1", "the drawing behind the noise"), series("noisy_top1", "the noisy drawing")]
    noise = [series("noise", "estimated noise")]
    return chart([Panel("t", "recognized (top-1)", seen), Panel("t", "estimated noise, mean |eps|", noise)])
