"""A bidirectional recurrent denoiser, the baseline that SketchKnitter's U-Net was held against; for research.

Every layer reads the drawing forwards and backwards with an LSTM (Hochreiter & Schmidhuber, 1997) each, after
a modulation by time, class and number of points as in `stroke_transformer` (whose features of a point it has,
too), and adds what both say to what it was given. An LSTM, because torch runs it twice as fast as a GRU on a
CPU; what the paper's baseline was made of is not known.

Limits: one point after another, so slow on any machine for the numbers that it multiplies; no known points.
A drawing is turned round within its own length, so its padding always comes last and never reaches a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schedules import ALPHA_BARS
from ..strokes import PenState, check_shape
from .stroke_transformer import FOURIER, fourier, norm


@dataclass(frozen=True)
class StrokeBiRNNConfig:
    num_classes: int  # class `num_classes` is the null class of classifier-free guidance
    width: int = 128  # features a point
    depth: int = 2  # layers
    max_points: int = 128  # longest drawing seen in training
    prediction: str = "v"  # what the network's two numbers a point are: v, eps or x0
    schedule: str = "cosine"  # alpha_bar it was trained with; see schedules.ALPHA_BARS

    def __post_init__(self) -> None:
        for name in ("num_classes", "width", "depth", "max_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1.")
        if self.prediction not in ("v", "eps", "x0"):
            raise ValueError(f"prediction is {self.prediction!r}, wanted v, eps or x0.")
        if self.schedule not in list(ALPHA_BARS):
            raise ValueError(f"schedule is {self.schedule!r}, wanted {' or '.join(ALPHA_BARS)}.")


class StrokeBiRNN(nn.Module):
    def __init__(self, config: StrokeBiRNNConfig) -> None:
        super().__init__()
        self.config = config
        D = config.width
        self.embed_point = nn.Linear(2 + 2 + 2 * FOURIER, D)
        self.embed_time = nn.Sequential(nn.Linear(2 * FOURIER, D), nn.SiLU(), nn.Linear(D, D))
        self.embed_length = nn.Sequential(nn.Linear(2 * FOURIER, D), nn.SiLU(), nn.Linear(D, D))
        self.embed_class = nn.Embedding(config.num_classes + 1, D)
        self.layers = nn.ModuleList(Layer(D) for _ in range(config.depth))
        self.modulate_out = nn.Linear(D, 2 * D)
        self.to_points = nn.Linear(D, 2)
        self.to_pen = nn.Linear(D, len(PenState))
        nn.init.normal_(self.embed_class.weight, std=0.02)
        for layer in (self.modulate_out, self.to_points, *(layer.modulate for layer in self.layers)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The network's prediction for the points, (B, N, 2), and pen logits, (B, N, 3).

        x       (B, N, 2)  noisy offsets, model units.
        t       (B,)       time in [0, 1].
        label   (B,)       class index; `num_classes` for none.
        length  (B,)       real points of each sketch, at most N.
        """
        check_shape("x", x, "B N 2")
        N = x.shape[1]
        place = torch.arange(N, device=x.device)
        real = place < length[:, None]  # (B, N)
        # each drawing's own points from its last to its first, padding where it was; its own inverse
        turned = torch.where(real, length[:, None] - 1 - place, place)
        x = x * real[..., None]
        position = x.cumsum(1) / length.to(x.dtype).sqrt().clamp(min=1)[:, None, None]
        along = fourier((place / length[:, None].clamp(min=1)).to(x.dtype))
        h = self.embed_point(torch.cat([x, position, along], dim=-1))  # (B, N, D)
        c = self.embed_time(fourier(t.to(x.dtype))) + self.embed_class(label)
        c = F.silu(c + self.embed_length(fourier(length.to(x.dtype) / self.config.max_points)))  # (B, D)
        for layer in self.layers:
            h = layer(h, c, turned[..., None])
        shift, scale = self.modulate_out(c)[:, None].chunk(2, dim=-1)
        h = norm(h) * (1 + scale) + shift
        return self.to_points(h).to(x.dtype), self.to_pen(h).to(x.dtype)


class Layer(nn.Module):
    """h + what an LSTM each way says of h under its condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 2 * width)
        self.forwards = nn.LSTM(width, width, batch_first=True)
        self.backwards = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(2 * width, width)

    def forward(self, h: Tensor, c: Tensor, turned: Tensor) -> Tensor:
        """h (B, N, D), c (B, D), turned (B, N, 1) where each point stands when a drawing is turned round."""
        shift, scale = self.modulate(c)[:, None].chunk(2, dim=-1)
        h_in = norm(h) * (1 + scale) + shift
        turned = turned.expand_as(h)
        there, _ = self.forwards(h_in)
        back, _ = self.backwards(h_in.gather(1, turned))
        return h + self.out(torch.cat([there, back.gather(1, turned)], dim=-1))
