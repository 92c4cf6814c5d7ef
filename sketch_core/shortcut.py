"""The recognizability shortcut (SketchKnitter, ICLR 2023): steps where a drawing becomes recognizable.

Two policies, for any sampler. `Shortcut` is the paper's: a recurrent network looks at every sketch at every
step, jumps over `m` of a thousand steps while there is nothing to recognize and takes single steps once there
is. `Curve.placed` asks nobody at run time: it puts exactly S steps at equal changes of the mean
recognizability, measured once for a denoiser.

Limits: both belong to one denoiser, whose trajectories they were made from. Single steps are many steps: the
paper's own threshold and `m` are not known, and a threshold that is reached early costs hundreds of calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import POINT_TILE, ROW_TILE
from .models.recognizability import Recognizability
from .samplers import Step
from .schedules import Stride, checked_steps, placed

STEPS = 1000  # of the walk that a shortcut shortens
SMALLEST_CHANGE = 0.01  # of a curve that says something


@dataclass(frozen=True)
class Shortcut:
    """The stride policy of the paper: `m` steps of 1/1000 while not recognizable, then one at a time.

    threshold  recognizability below which a sketch jumps; each sketch by itself.
    m          the jump, in steps of 1/1000; 1 makes the shortcut a plain walk.
    recognize  what is known at a step -> recognizability in [0, 1], (b,). None: the network that belongs to
               the model that draws.
    """

    threshold: float = 0.5
    m: int = 50
    recognize: Callable[[Step], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"threshold is {self.threshold}, wanted a recognizability in 0..1. 0.5 is a good start."
            )
        if not 1 <= self.m <= STEPS or self.m != int(self.m):
            raise ValueError(f"m is {self.m}, wanted a whole number of steps, 1 to {STEPS}.")

    def __call__(self, step: Step) -> Tensor:
        if self.recognize is None:
            raise ValueError("the shortcut has no network to ask. Draw with a model, or give `recognize`.")
        unclear = self.recognize(step).to("cpu") < self.threshold
        return torch.where(unclear, self.m, 1).double() / STEPS

    def __str__(self) -> str:
        return f"shortcut, threshold {self.threshold:g}, jump {self.m}"


class Recognize:
    """The recurrent network as a shortcut asks it: of a step, whatever the batch.

    Like the denoiser it runs on rows and points padded to whole tiles, so that what it says of a sketch does
    not depend on the others (bit for bit, in float32 on a CPU).
    """

    def __init__(self, network: Recognizability) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, step: Step) -> Tensor:
        """(b,) recognizability in [0, 1]."""
        x, pen = step.x, step.prediction.pen
        b, N, _ = x.shape
        if next(self.network.parameters()).device != x.device:
            self.network.to(x.device)
        padding = (0, 0, 0, -N % POINT_TILE, 0, -b % ROW_TILE)
        x, pen = F.pad(x.float(), padding), F.pad(pen.float(), padding)
        t = F.pad(step.t.to(x), (0, -b % ROW_TILE))
        return self.network(x, pen, t, lengths(x)).sigmoid()[:b]


def lengths(x: Tensor) -> Tensor:
    """(b,) points of each sketch in x (b, N, 2): samplers keep the rows behind them at zero."""
    place = torch.arange(1, x.shape[1] + 1, device=x.device)
    return ((x != 0).any(-1) * place).amax(1)


@dataclass(frozen=True)
class Curve:
    """How recognizable the drawings of a denoiser are, on average, on their way: r (K,) at times t (K,).

    t falls from 1 (noise) to 0 (the drawing).
    """

    t: Sequence[float]
    r: Sequence[float]

    def __post_init__(self) -> None:
        numbers = [*self.t, *self.r]
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers) or not (
            len(self.t) == len(self.r) >= 2
            and self.t[0] == 1
            and self.t[-1] == 0
            and all(a > b for a, b in zip(self.t, self.t[1:], strict=False))
        ):
            raise ValueError(
                f"a recognizability curve of {len(self.t)} times and {len(self.r)} values makes no sense: "
                f"times must fall from 1 to 0, with a number at each. Calibrate the model again."
            )

    def times(self, steps: int) -> Tensor:
        """(steps + 1,) float64 from 1 to 0, the mean recognizability changing equally between them."""
        t, r = np.asarray(self.t, dtype=np.float64), np.asarray(self.r, dtype=np.float64)
        change = np.concatenate([[0.0], np.abs(np.diff(r)).cumsum()])  # what falls has changed as well
        if change[-1] < SMALLEST_CHANGE:
            raise ValueError(
                f"recognizability changes by {change[-1]:.3f} only on the way to the drawing: there is "
                f"nothing to place steps by. Use another schedule, or a model that draws recognizable things."
            )
        change = 0.999 * change / change[-1] + 0.001 * (1 - t)  # strictly rising, so it can be inverted
        found = np.interp(np.arange(checked_steps(steps) + 1) / steps, change, t)
        found[0], found[-1] = 1.0, 0.0
        return torch.from_numpy(found)

    def placed(self, steps: int) -> Stride:
        """Exactly `steps` steps, placed where recognizability changes."""
        return placed(self.times(steps))
