"""Training losses of the denoisers: masked to real points, divided by a given number of them.

With `v` prediction (Salimans & Ho, 2022, arXiv:2202.00512) the network predicts v = √ᾱ ε − √(1−ᾱ) x_0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.stroke_transformer import centred


@dataclass(frozen=True)
class Losses:
    """What training lowers, as `masked_losses` computes it."""

    points: Tensor  # squared error of the network's prediction, of what its noise is white on
    pen: Tensor  # cross-entropy of the pen state
    place: Tensor  # squared error of the other: of where offsets lead, or of the offsets behind places


def noised(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ x_0 + √(1−ᾱ) ε, (B, N, 2); alpha_bar (B,). Ho et al. (2020), Eq. 4."""
    signal, noise = _roots(alpha_bar, x0)
    return signal * x0 + noise * eps


def target(prediction: str, x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """What a network of that `prediction` (v, eps, x0) should say, (B, N, 2)."""
    signal, noise = _roots(alpha_bar, x0)
    match prediction:
        case "v":
            return signal * eps - noise * x0
        case "eps":
            return eps
        case "x0":
            return x0
    raise ValueError(f"unknown prediction {prediction!r}. Known: v, eps, x0.")


def _roots(alpha_bar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1−ᾱ) for (B, N, 2), taken before rounding: 1 - ᾱ is 0 in float32 below t = 1e-4."""
    roots = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return tuple(root.to(like.dtype)[:, None, None] for root in roots)


def masked_losses(
    points: Tensor,
    pen_logits: Tensor,
    wanted: Tensor,
    pen: Tensor,
    free: Tensor,
    real: Tensor,
    count: float,
    spread: float | None = None,
) -> Losses:
    """Sums over this process's rows divided by `count`, the real points of the whole (global) batch.

    points, wanted  (B, N, 2) the network's prediction and its target.
    pen_logits      (B, N, 3);  pen (B, N) the true `PenState`, or (B, N, 3) probabilities of the three.
    free            (B, N) 1 where the point is real and not given: what counts.
    real            (B, N) 1 where the point is real.
    spread          of places, model units, where noise is white on them; None where it is on offsets.

    `place` is the squared error of the position the offsets add up to, over the drawing's length. The best
    prediction is the same conditional mean for it and for `points`; it weighs the slow errors that bend a
    whole drawing, which per-offset errors hardly see. With noise on places it is the error of offsets.
    """
    error = (points - wanted) * free[..., None]
    length = real.sum(1).clamp(min=1)[:, None, None]
    if spread is None:
        drift = error.cumsum(1) / length.sqrt() * free[..., None]
    else:
        error, drift = centred(error, real.sum(1)) / spread, error / spread
    pen = pen if pen.ndim == 2 else pen.transpose(1, 2)
    cross_entropy = F.cross_entropy(pen_logits.transpose(1, 2), pen, reduction="none")
    return Losses(
        points=error.square().sum() / (2 * count),
        pen=(cross_entropy * free).sum() / count,
        place=drift.square().sum() / (2 * count),
    )


def random_known(length: Tensor, N: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What is given in a training drawing: of which points (B, N) bool the offset, and of which the pen.

    A prefix, everything but a run, or scattered points, as completing and healing ask for; a share uniform
    in 0 to 0.9. Or the pen of all points and no offset, as rectifying asks for.
    """
    B = len(length)
    share = 0.9 * torch.rand(B, 1, generator=generator)
    kind = torch.randint(0, 4, (B, 1), generator=generator)
    n = length[:, None]
    place = torch.arange(N).expand(B, N)
    begin = (share * torch.rand(B, 1, generator=generator) * n).floor()
    scattered = torch.rand(B, N, generator=generator) < share
    prefix = place < share * n
    run = (place < begin) | (place >= begin + (1 - share) * n)  # everything but one gap
    known = torch.where(kind == 0, prefix, torch.where(kind == 1, run, scattered)) & (kind < 3)
    real = place < n
    return known & real, (known | (kind == 3)) & real
