"""Noise levels and timestep placement: `alpha_bar(t)` for t in [0, 1], and stride policies.

t = 0 is clean, t = 1 is pure noise; the paper's 1,000 steps are t = i / 1000. alpha_bar is computed in
float64 on the CPU whatever the device of the drawing, and alpha_bar(0) = 1 exactly, so samplers need no
special last step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .samplers import Step

AlphaBar = Callable[[Tensor], Tensor]  # t (B,) -> signal level in [0, 1], (B,), float64
Stride = Callable[["Step"], Tensor]  # what is known of each sketch -> how far each jumps, (b,)


def alpha_bar_cosine(t: Tensor) -> Tensor:
    """cos²(πt / 2): Nichol & Dhariwal (2021, arXiv:2102.09672, Eq. 17), no offset; alpha_bar(1) = 0."""
    t = t.detach().to("cpu", torch.float64)
    return torch.where(t >= 1, 0.0, (t * math.pi / 2).cos() ** 2)


def alpha_bar_linear(t: Tensor) -> Tensor:
    """The paper's: beta from 1e-4 to 0.02 over 1,000 steps (Ho et al., 2020), made continuous in t.

    At t = i / 1000 it is the product of the first i factors 1 - beta; between them log alpha_bar is linear.
    """
    t = t.detach().to("cpu", torch.float64).clamp(0, 1) * 1000
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log_product = torch.cat([torch.zeros(1, dtype=torch.float64), (1 - beta).log().cumsum(0)])
    below = t.floor().long().clamp(max=999)
    return torch.lerp(log_product[below], log_product[below + 1], t - below).exp()


ALPHA_BARS: dict[str, AlphaBar] = {"cosine": alpha_bar_cosine, "linear": alpha_bar_linear}


def uniform(steps: int) -> Stride:
    """`steps` jumps of 1 / steps each."""
    return placed(torch.linspace(1, 0, checked_steps(steps) + 1, dtype=torch.float64))


def quadratic(steps: int) -> Stride:
    """`steps` jumps to t = (i / steps)², finer near the clean end.

    Song et al. (2021, arXiv:2010.02502, appendix D).
    """
    return placed(torch.linspace(1, 0, checked_steps(steps) + 1, dtype=torch.float64) ** 2)


def logsnr(steps: int, alpha_bar: AlphaBar) -> Stride:
    """`steps` jumps, the times between their ends uniform in half log-SNR, ½ ln(ᾱ / (1 − ᾱ)).

    Lu et al. (2022, arXiv:2211.01095, section 5). Half log-SNR is infinite at both ends: the walk begins at
    t = 1 and ends at t = 0 all the same, and what lies between is laid out from -LOG_SNR to LOG_SNR.
    """
    inner = torch.linspace(-LOG_SNR, LOG_SNR, checked_steps(steps) + 1, dtype=torch.float64)[1:-1]
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return placed(torch.cat([ends[:1], time_of(half_log_snr_level(inner), alpha_bar), ends[1:]]))


LOG_SNR = 4.0  # beyond it noise is 2 % of the signal or the signal 2 % of the noise: nothing left to place


def half_log_snr(alpha_bar: Tensor) -> Tensor:
    """½ ln(ᾱ / (1 − ᾱ)) of levels (b,): the λ of Lu et al. (2022); infinite at the ends."""
    return torch.logit(alpha_bar) / 2


def half_log_snr_level(value: Tensor) -> Tensor:
    """The signal level ᾱ at which half log-SNR has that value."""
    return (2 * value).sigmoid()


def time_of(level: Tensor, alpha_bar: AlphaBar) -> Tensor:
    """t in [0, 1] at which alpha_bar(t) = level (b,), by bisection: alpha_bar only falls."""
    low, high = torch.zeros_like(level), torch.ones_like(level)
    for _ in range(60):
        middle = (low + high) / 2
        above = alpha_bar(middle) > level
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2


def placed(times: Tensor) -> Stride:
    """Walks down the given times (S + 1,), which fall from 1 to 0."""

    def stride(step: Step) -> Tensor:
        t = step.t.to("cpu", torch.float64)
        # the first placed time that lies clearly below where each sketch is
        ahead = (times[None, :] < t[:, None] - 1e-9).to(torch.int8).argmax(1)
        return t - times[ahead]

    return stride


SCHEDULES: dict[str, Callable[[int, AlphaBar], Stride]] = {
    "uniform": lambda steps, alpha_bar: uniform(steps),
    "quadratic": lambda steps, alpha_bar: quadratic(steps),
    "logsnr": logsnr,
}


def checked_steps(steps: int) -> int:
    """A number of steps, or a ValueError."""
    if not 1 <= steps <= 10_000 or steps != int(steps):
        raise ValueError(f"steps is {steps}, wanted a whole number, 1 to 10000. 20 is a good start.")
    return int(steps)
