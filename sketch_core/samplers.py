"""The sampling loops, each a function over one denoiser contract; every sketch walks at its own pace.

`denoise(x, t, active)` tells which of the B sketches its b rows are (they leave the batch as they finish); a
stride policy is asked once a step how far each goes. Noise comes from outside, drawn per sketch, so that
batches do not change drawings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoisers import Denoise, Prediction
from .schedules import AlphaBar, Stride, half_log_snr

SMALLEST = 1e-12  # noise level 1 - ᾱ below which there is no noise to find
FARTHEST = 2.0  # DPM-Solver++ extrapolates at most so many differences of two predictions


@dataclass(frozen=True)
class Step:
    """One denoiser call: what is known just after it.

    index       how many calls came before.
    active      (b,) which of the B sketches are still being drawn.
    t           (b,) float64, CPU: time in [0, 1] of each.
    x           (b, N, 2) noisy offsets.
    prediction  the clean drawing the denoiser sees behind x.
    """

    index: int
    active: Tensor
    t: Tensor
    x: Tensor
    prediction: Prediction

    @property
    def calls(self) -> float:
        """Network calls that this step cost, the mean over the sketches: 2 with guidance."""
        return float(self.prediction.calls.float().mean())


Noise = Callable[[Tensor, Tensor], Tensor]  # (like (b, N, 2), active (b,)) -> fresh standard normal (b, N, 2)
OnStep = Callable[[Step], None]


@torch.no_grad()
def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: AlphaBar,
    stride: Stride,
    *,
    start: float | Tensor = 1.0,
    callback: OnStep | None = None,
) -> Prediction:
    """DDIM (Song et al., 2021, arXiv:2010.02502), deterministic.

    x        (B, N, 2)  standard normal noise, or a drawing noised to t = `start`: one time, or (B,).
    returns  points (B, N, 2) and pen logits (B, N, 3) at t = 0.
    """
    walk = _Walk(x, start)
    while len(walk.active):
        step = walk.look(denoise, callback)
        s = walk.ahead(stride(step))
        a, b = alpha_bar(walk.t), alpha_bar(s)
        eps = noise_part(walk.x, step.prediction.points, a)
        x0_part, eps_part = _like(x, b.sqrt()), _like(x, (1 - b).sqrt())
        walk.move(s, x0_part * step.prediction.points + eps_part * eps)  # Eq. 12, sigma = 0
    return walk.finished()


@torch.no_grad()
def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: AlphaBar,
    stride: Stride,
    noise: Noise,
    *,
    start: float | Tensor = 1.0,
    callback: OnStep | None = None,
) -> Prediction:
    """DDPM (Ho et al., 2020, arXiv:2006.11239), ancestral, for strides of any length.

    Between t and s the posterior q(x_s | x_t, x_0) is Eq. 7 with alpha = ᾱ(t) / ᾱ(s); its variance is β̃.
    """
    walk = _Walk(x, start)
    while len(walk.active):
        step = walk.look(denoise, callback)
        s = walk.ahead(stride(step))
        a, b = alpha_bar(walk.t), alpha_bar(s)
        variance = (1 - b) / (1 - a).clamp(min=SMALLEST) * (1 - a / b)
        eps = noise_part(walk.x, step.prediction.points, a)
        x0_part, eps_part = _like(x, b.sqrt()), _like(x, (1 - b - variance).clamp(min=0).sqrt())
        mean = x0_part * step.prediction.points + eps_part * eps
        walk.move(s, mean + _like(x, variance.sqrt()) * noise(walk.x, walk.active))
    return walk.finished()


@torch.no_grad()
def sample_heun(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: AlphaBar,
    stride: Stride,
    *,
    start: float | Tensor = 1.0,
    callback: OnStep | None = None,
) -> Prediction:
    """Heun's method on the probability-flow ODE, deterministic; two calls a step, one for the last.

    Karras et al. (2022, arXiv:2206.00364, Algorithm 1) integrate dx/dσ, and σ is infinite where ᾱ = 0. Here
    it is the same flow as du/dw = x_0(x, t) with u = x / √(1−ᾱ) and w = √ᾱ / √(1−ᾱ) (Lu et al., 2022,
    arXiv:2211.01095, Proposition 4.1), finite at t = 1; Euler's method on it is DDIM. At t = 0 it is w that
    is infinite, so the last step is Euler's.
    """
    walk = _Walk(x, start)
    while len(walk.active):
        step = walk.look(denoise, callback)
        s = walk.ahead(stride(step))
        gain, moved = towards(step.x, step.prediction.points, alpha_bar(walk.t), alpha_bar(s))
        more = (s > 0).nonzero()[:, 0]
        if len(more):
            rows = more.to(x.device)
            second = walk.ask(denoise, callback, walk.active[more], s[more], moved[rows])
            change = second.prediction.points - step.prediction.points[rows]
            moved = moved.index_put((rows,), moved[rows] + gain[rows] / 2 * change)
        walk.move(s, moved)
    return walk.finished()


@torch.no_grad()
def sample_dpmpp_2m(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: AlphaBar,
    stride: Stride,
    *,
    start: float | Tensor = 1.0,
    callback: OnStep | None = None,
) -> Prediction:
    """DPM-Solver++(2M) (Lu et al., 2022, arXiv:2211.01095, Algorithm 2), deterministic; one call a step.

    Every sketch has a history of its own, the prediction before. Its first step, the one after t = 1 (where
    half log-SNR is infinite) and the last are first order, which is DDIM. Strides may differ as they like;
    one of more than four times the one before is extrapolated no farther than that.
    """
    walk = _Walk(x, start)
    before, at = torch.zeros_like(x), torch.full((len(x),), -torch.inf, dtype=torch.float64)
    while len(walk.active):
        step = walk.look(denoise, callback)
        s = walk.ahead(stride(step))
        a, b = alpha_bar(walk.t), alpha_bar(s)
        here = half_log_snr(a)
        h, h_before = half_log_snr(b) - here, here - at  # Algorithm 2: 1 / (2r) = h / (2 h_before)
        known = h.isfinite() & h_before.isfinite()
        share = torch.where(known, h / (2 * h_before), 0.0).clamp(max=FARTHEST)
        points = step.prediction.points
        gain, moved = towards(step.x, points, a, b)
        stay = walk.move(s, moved + gain * _like(x, share) * (points - before))
        before, at = points[stay.to(x.device)], here[stay]
    return walk.finished()


def towards(x: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """How much of DDIM's step from x (b, N, 2) at ᾱ = a (b,) to b is the prediction x0 (b, N, 2), as
    (b, 1, 1), and where it leads, (b, N, 2). Song et al. (2021), Eq. 12."""
    kept = ((1 - b) / (1 - a).clamp(min=SMALLEST)).sqrt()
    gain = _like(x, b.sqrt() - a.sqrt() * kept)
    return gain, _like(x, kept) * x + gain * x0


def _like(x: Tensor, factor: Tensor) -> Tensor:
    """Factors (b,) for x (b, N, 2); made of ᾱ in float64, as 1 - ᾱ is 0 in float32 below t = 1e-4."""
    return factor.to(x.device, x.dtype)[:, None, None]


def noise_part(x: Tensor, x0: Tensor, a: Tensor) -> Tensor:
    """eps behind x = √ᾱ x_0 + √(1−ᾱ) ε, (b, N, 2); a is ᾱ (b,). Never divides by √ᾱ."""
    return (x - _like(x, a.sqrt()) * x0) / _like(x, (1 - a).clamp(min=SMALLEST).sqrt())


class _Walk:
    """Where every sketch is; finished ones leave the batch and are put back in their place at the end."""

    def __init__(self, x: Tensor, start: float | Tensor) -> None:
        self.t = torch.as_tensor(start, dtype=torch.float64).cpu().expand(len(x)).clone()
        if wrong := [t for t in self.t.tolist() if not 0 < t <= 1]:
            raise ValueError(f"start is {wrong[0]}, wanted a time above 0 and at most 1 (pure noise).")
        self.x, self.index = x, 0
        self.active = torch.arange(len(x))
        self.points = torch.zeros_like(x)
        self.pen = x.new_zeros(*x.shape[:2], 3)
        self.calls = torch.zeros(len(x))
        self.latest: Step | None = None

    def look(self, denoise: Denoise, callback: OnStep | None) -> Step:
        self.latest = self.ask(denoise, callback, self.active, self.t, self.x)
        return self.latest

    def ask(self, denoise: Denoise, callback: OnStep | None, active: Tensor, t: Tensor, x: Tensor) -> Step:
        """One denoiser call, anywhere: counted and told."""
        step = Step(self.index, active, t, x, denoise(x, t, active))
        self.index += 1
        self.calls[active] += step.prediction.calls
        if callback is not None:
            callback(step)
        return step

    def ahead(self, stride: Tensor) -> Tensor:
        stride = stride.to("cpu", torch.float64)
        if not (stride > 0).all():
            raise ValueError("a stride of 0 or less would never reach t = 0. Strides must be above 0.")
        s = self.t - stride
        return torch.where(s < 1e-9, 0.0, s)

    def move(self, s: Tensor, x: Tensor) -> Tensor:
        """Puts the sketches at x (b, N, 2) and s (b,); returns which of them go on, (b,) bool."""
        done = s == 0
        if done.any():
            where = self.active[done].to(x.device)
            self.points[where] = x[done.to(x.device)]
            self.pen[where] = self.latest.prediction.pen[done.to(x.device)]
        stay = ~done
        self.t, self.active, self.x = s[stay], self.active[stay], x[stay.to(x.device)]
        return stay

    def finished(self) -> Prediction:
        return Prediction(self.points, self.pen, self.calls)


SAMPLERS = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,  # takes noise as well
    "heun": sample_heun,
    "dpmpp_2m": sample_dpmpp_2m,
}


def looks(sampler: str, steps: int) -> int:
    """How often a sampler asks its denoiser in `steps` steps."""
    return 2 * steps - 1 if sampler == "heun" else steps
