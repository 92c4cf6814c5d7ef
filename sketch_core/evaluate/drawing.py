"""What is drawn: as many of each class as the real side holds, once a seed; calls and seconds are counted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..shortcut import Shortcut
from ..strokes import Sketch
from .measuring import OnProgress, Real

Draw = Callable[
    ..., list[Sketch]
]  # draw(class_name, count=, seed=) -> that many drawings, as SketchModel.draw


@dataclass(frozen=True)
class Drawn:
    """Drawings, seed after seed and class after class, and what a drawing cost.

    calls           of the denoiser a sketch, 2 a step where it is guided; None where nobody counted.
    shortcut_calls  of the network that a shortcut asks.
    seconds         a sketch, by the clock;  cpu_seconds  by the processor, which a busy machine changes less.
    """

    sketches: list[Sketch]
    calls: float | None
    shortcut_calls: float | None
    seconds: float
    cpu_seconds: float


class Counter:
    """An `on_step` that adds up network calls, and those of a shortcut's network."""

    def __init__(self) -> None:
        self.calls = self.shortcut_calls = 0.0

    def __call__(self, step) -> None:
        self.calls += float(step.prediction.calls.sum())

    def asked(self, recognize: Callable) -> Callable:
        """The same network of a shortcut, its calls counted."""

        def counted(step):
            found = recognize(step)
            self.shortcut_calls += len(found)
            return found

        return counted


ASKING = "threshold"  # how the schedule of the shortcut that asks begins: threshold:T:M


def drawer(model, settings: Mapping, counter: Counter) -> Draw:
    """A model's `draw` at fixed settings, counted.

    A schedule `threshold:T:M` is the shortcut that asks: recognizability T, jumps of M thousandths.
    """
    settings, schedule = dict(settings), str(settings.get("schedule", ""))
    if schedule.startswith(ASKING):
        try:
            _, threshold, m = schedule.split(":")
            asking = Shortcut(float(threshold), int(m))
        except ValueError as error:
            raise ValueError(
                f"cannot read the schedule {schedule!r} ({error}). "
                f"Write threshold:T:M, such as threshold:0.5:50."
            ) from None
        stride = model.placement(asking, 1)
        settings["schedule"] = replace(stride, recognize=counter.asked(stride.recognize))

    def draw(name: str, *, count: int, seed: int) -> list[Sketch]:
        return model.draw(name, count=count, seed=seed, on_step=counter, **settings)

    return draw


class _Enough(Exception):
    """Raised at the first step of a drawing that is only tried."""


def try_settings(model, name: str, settings: Mapping) -> None:
    """Begins a drawing and leaves it after one step, so that settings that cannot work are said at once."""

    class Stop(Counter):
        def __call__(self, step) -> None:
            raise _Enough

    with contextlib.suppress(_Enough):
        drawer(model, settings, Stop())(name, count=1, seed=0)


def class_seed(seed: int, number: int) -> int:
    """The seed of a run's class `number` (from 1).

    Sketch i of one seed has the same first noise and a length of the same rank in every class: figures over
    classes that share them would vary more than their count says.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def draw_all(
    draw: Draw,
    real: Real,
    seeds: Sequence[int],
    *,
    counter: Counter | None = None,
    on_progress: OnProgress | None = None,
) -> Drawn:
    """Draws `real.counts` of each class for every seed; ValueError where a model draws another number.

    counter  a new one that hears of the model's steps; its calls are read here.
    """
    sketches: list[Sketch] = []
    began, cpu = time.perf_counter(), time.process_time()
    for s, seed in enumerate(seeds):
        for c, (name, count) in enumerate(zip(real.classes, real.counts, strict=True), 1):
            drawn = list(draw(name, count=count, seed=class_seed(seed, c)))
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
        counter.calls / n if counter else None,
        counter.shortcut_calls / n if counter else None,
        (time.perf_counter() - began) / n,
        (time.process_time() - cpu) / n,
    )
