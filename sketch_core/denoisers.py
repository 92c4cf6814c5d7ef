"""A network and everything it is told, bound into one function: denoise(x, t) -> Prediction.

Samplers see no class, length, mask, known points or guidance: those are closed over here. It is also the one
place where what a network predicts (v, eps, x0) becomes a clean drawing, where networks run on tiles so that
a drawing does not depend on the batch it is in, and where classifier-free guidance combines two predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models.stroke_birnn import StrokeBiRNN
from .models.stroke_transformer import Known, StrokeTransformer
from .models.stroke_unet import StrokeUNet, lift_pen, model_time
from .schedules import AlphaBar
from .strokes import PenState

ROW_TILE = 4  # batches are padded to a multiple of this ...
POINT_TILE = 16  # ... and points to this: then torch's CPU kernels give bit-equal rows in float32 (measured)


@dataclass(frozen=True)
class Prediction:
    """What the network sees behind the noise.

    points (b, N, 2) the clean offsets;  pen (b, N, 3) logits;  calls (b,) network calls it cost.
    """

    points: Tensor
    pen: Tensor
    calls: Tensor


Denoise = Callable[[Tensor, Tensor, Tensor], Prediction]  # x (b, N, 2), t (b,), which of the B sketches (b,)


@dataclass(frozen=True)
class Condition:
    """What each of B sketches is told.

    label   (B,) long  class index; `num_classes` for none.
    length  (B,) long  points.
    known   points that are given, or None.
    """

    label: Tensor
    length: Tensor
    known: Known | None = None

    def to(self, device: torch.device) -> Condition:
        known = Known(*(part.to(device) for part in self.known)) if self.known is not None else None
        return Condition(self.label.to(device), self.length.to(device), known)

    def rows(self, which: Tensor) -> Condition:
        which = which.to(self.label.device)
        known = Known(*(part[which] for part in self.known)) if self.known is not None else None
        return Condition(self.label[which], self.length[which], known)

    def without_class(self, null: int) -> Condition:
        return replace(self, label=torch.full_like(self.label, null))


def clean(prediction: str, output: Tensor, x: Tensor, alpha_bar: Tensor) -> Tensor:
    """x0_hat (b, N, 2) from what the network said of x (b, N, 2) at alpha_bar (b,)."""
    roots = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()  # before rounding: 1 - ᾱ is 0 in float32 below t = 1e-4
    signal, noise = (root.to(x.device, x.dtype)[:, None, None] for root in roots)
    match prediction:
        case "v":  # Salimans & Ho (2022), appendix D
            return signal * x - noise * output
        case "eps":  # the one that divides by √ᾱ; the linear schedule never reaches 0
            return (x - noise * output) / signal.clamp(min=1e-4)
        case "x0":
            return output
    raise ValueError(f"unknown prediction {prediction!r}. Known: v, eps, x0.")


def bind(
    network: nn.Module,
    condition: Condition,
    alpha_bar: AlphaBar,
    *,
    guidance: float = 1.0,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoise:
    """The denoiser of a class- and length-conditional network.

    guidance  classifier-free guidance scale (Ho & Salimans, 2022, arXiv:2207.12598): 1 is one plain call a
              step. It moves points only; pen logits are the conditional branch's; only the class is dropped.
    interval  guidance acts while low <= t <= high (Kynkäänniemi et al., 2024, arXiv:2404.07724); elsewhere
              one call.
    """
    run = NETWORKS[type(network)]
    null = network.config.num_classes or 0  # an unconditional network has no other class

    def denoise(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        told = condition.rows(active)
        guided = (guidance != 1.0) & (t >= interval[0]) & (t <= interval[1])
        which = guided.nonzero()[:, 0]
        rows = torch.cat([torch.arange(len(t)), which]).to(x.device)
        both = told if not len(which) else _stacked(told, told.rows(which).without_class(null))
        output, pen = _in_tiles(network, run, x[rows], t[rows.to(t.device)], both)
        output, free, pen = output[: len(t)], output[len(t) :], pen[: len(t)]
        if len(which):  # linear in v, eps and x0 alike
            output = output.index_put(
                (which.to(x.device),), free + guidance * (output[which.to(x.device)] - free)
            )
        return Prediction(clean(network.config.prediction, output, x, alpha_bar(t)), pen, 1 + guided.float())

    return denoise


def _stacked(a: Condition, b: Condition) -> Condition:
    known = None if a.known is None else Known(*map(torch.cat, zip(a.known, b.known, strict=True)))
    return Condition(torch.cat([a.label, b.label]), torch.cat([a.length, b.length]), known)


def _in_tiles(
    network: nn.Module, run: Callable, x: Tensor, t: Tensor, told: Condition
) -> tuple[Tensor, Tensor]:
    """The network on groups of sketches of one padded length: a sketch never sees another's padding."""
    output, pen = torch.zeros_like(x), x.new_zeros(*x.shape[:2], len(PenState))
    padded = (-(-told.length // POINT_TILE) * POINT_TILE).tolist()
    for N in sorted(set(padded)):
        where = torch.tensor([i for i, n in enumerate(padded) if n == N], device=x.device)
        rows = torch.cat([where, where[-1:].expand(-len(where) % ROW_TILE)])
        n = min(N, x.shape[1])
        part = torch.zeros(len(rows), N, 2, dtype=x.dtype, device=x.device)
        part[:, :n] = x[rows, :n]
        condition = told.rows(rows)
        if condition.known is not None:
            condition = replace(condition, known=Known(*(to_length(k, N) for k in condition.known)))
        points, logits = run(network, part, t[rows.to(t.device)].to(part), condition)
        output[where, :n], pen[where, :n] = points[: len(where), :n], logits[: len(where), :n]
    real = (torch.arange(x.shape[1], device=x.device) < told.length[:, None])[..., None]
    return output * real, pen * real  # what a network says past the end means nothing


def to_length(value: Tensor, N: int) -> Tensor:
    """(b, M, C) cut or zero-padded to (b, N, C)."""
    return F.pad(value, (0, 0, 0, N - value.shape[1]))


def run_stroke_transformer(
    network: nn.Module, x: Tensor, t: Tensor, told: Condition
) -> tuple[Tensor, Tensor]:
    return network(x, t, told.label, told.length, told.known)


def run_stroke_unet(network: nn.Module, x: Tensor, t: Tensor, told: Condition) -> tuple[Tensor, Tensor]:
    """The paper's network: fixed N, steps instead of time, -1 for no class, no known points."""
    _refuse_known("stroke_unet", told)
    c, N = network.config, x.shape[1]
    label = torch.where(told.label >= (c.num_classes or 0), -1, told.label) if c.num_classes else None
    output, pen = network(to_length(x, c.points), model_time(t, c), label)
    return output[:, :N], lift_pen(pen)[:, :N]


def run_stroke_birnn(network: nn.Module, x: Tensor, t: Tensor, told: Condition) -> tuple[Tensor, Tensor]:
    _refuse_known("stroke_birnn", told)
    return network(x, t, told.label, told.length)


def _refuse_known(architecture: str, told: Condition) -> None:
    if told.known is not None:
        raise ValueError(
            f"{architecture} was not made to take known points. Use a stroke_transformer for that."
        )


NETWORKS = {
    StrokeTransformer: run_stroke_transformer,
    StrokeUNet: run_stroke_unet,
    StrokeBiRNN: run_stroke_birnn,
}


def takes_known(network: nn.Module) -> bool:
    """Whether some points can be given to the network and the others asked for."""
    return isinstance(network, StrokeTransformer)
