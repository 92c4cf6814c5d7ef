"""What is drawn: as many of each class as the real side holds, once a seed; calls and seconds are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..strokes import Sketch
from .measuring import OnProgress, Real

Draw = Callable[
    ..., list[Sketch]
]  # draw(class_name, count=, seed=) -> that many drawings, as SketchModel.draw


@dataclass(frozen=True)
class Drawn:
    """Drawings, seed after seed and class after class, and what a drawing cost.

    calls    network calls a sketch, the guided ones and those of a shortcut's network included; None where
             nobody counted.
    seconds  a sketch, by the clock;  cpu_seconds  by the processor, which a busy machine changes less.
    """

    sketches: list[Sketch]
    calls: float | None
    seconds: float
    cpu_seconds: float


class Counter:
    """An `on_step` that adds up network calls."""

    def __init__(self) -> None:
        self.calls = 0.0

    def __call__(self, step) -> None:
        self.calls += float(step.prediction.calls.sum())


def draw_all(
    draw: Draw,
    real: Real,
    seeds: Sequence[int],
    *,
    counter: Counter | None = None,
    on_progress: OnProgress | None = None,
) -> Drawn:
    """Draws `real.counts` of each class for every seed; ValueError where a model draws another number.

    counter  what the model's `on_step` is; its calls are read here.
    """
    sketches: list[Sketch] = []
    calls, began, cpu = counter.calls if counter else 0.0, time.perf_counter(), time.process_time()
    for s, seed in enumerate(seeds):
        for c, (name, count) in enumerate(zip(real.classes, real.counts, strict=True), 1):
            drawn = list(draw(name, count=count, seed=seed))
            if len(drawn) != count:
                raise ValueError(
                    f"the model drew {len(drawn)} of {name}, wanted {count}. Its draw ignores count."
                )
            sketches += drawn
            if on_progress is not None:
                on_progress(s * len(real.classes) + c, len(seeds) * len(real.classes))
    n = len(sketches)
    return Drawn(
        sketches,
        (counter.calls - calls) / n if counter else None,
        (time.perf_counter() - began) / n,
        (time.process_time() - cpu) / n,
    )
