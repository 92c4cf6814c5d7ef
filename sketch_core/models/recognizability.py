"""`h_phi`: a small recurrent network that tells from the noisy points how recognizable a sketch is by now.

The auxiliary network of the recognizability shortcut (SketchKnitter, ICLR 2023: h_phi(s_t, t)). It reads the
noisy offsets, the place they add up to and the chance of a lift, four points at a time, with one GRU layer;
what it says is the mean over the drawing, under the noise level. A few thousandths of the denoiser's work.

Limits: it is told no class, and knows the trajectories of one denoiser only, that of its weight file.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..strokes import PenState, check_shape
from .stroke_transformer import FOURIER, fourier

POINT_FEATURES = 6  # offset (2), place (2), chance of a lift, real


@dataclass(frozen=True)
class RecognizabilityConfig:
    width: int = 64  # features of the recurrence
    patch: int = 4  # points that the recurrence takes at a time
    dropout: float = 0.3  # on what the recurrence says, in training only

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, wanted a share in [0, 1).")
        for name in ("width", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1.")


class Recognizability(nn.Module):
    def __init__(self, config: RecognizabilityConfig) -> None:
        super().__init__()
        self.config = config
        D = config.width
        self.embed_time = nn.Sequential(nn.Linear(2 * FOURIER, D), nn.SiLU(), nn.Linear(D, D))
        self.embed_patch = nn.Linear(POINT_FEATURES * config.patch, D)
        self.recurrence = nn.GRU(D, D, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * D, D), nn.SiLU(), nn.Linear(D, 1))
        with torch.no_grad():
            self.head[0].weight[:, :D].zero_()  # it begins as a function of time alone

    def forward(self, x: Tensor, pen: Tensor, t: Tensor, length: Tensor) -> Tensor:
        """Logits (B,) of the probability that a classifier gives the right class.

        x       (B, N, 2)  noisy offsets, model units.
        pen     (B, N, 3)  logits of `PenState`.
        t       (B,)       time in [0, 1].
        length  (B,)       real points of each sketch, at most N; what lies behind does not matter.
        """
        check_shape("x", x, "B N 2")
        check_shape("pen", pen, f"{x.shape[0]} {x.shape[1]} 3")
        B, N, _ = x.shape
        patch = self.config.patch
        real = (torch.arange(N, device=x.device) < length[:, None])[..., None]
        x = x * real
        place = x.cumsum(1) / length.to(x.dtype).sqrt().clamp(min=1)[:, None, None]
        lift = 1 - pen.softmax(-1)[..., PenState.DOWN, None]
        points = torch.cat([x, place, lift, real.to(x.dtype)], dim=-1) * real  # (B, N, POINT_FEATURES)
        points = F.pad(points, (0, 0, 0, -N % patch)).view(B, -(-N // patch), -1)
        there = F.pad(real, (0, 0, 0, -N % patch)).view(B, -(-N // patch), patch).any(-1)  # (B, N / patch)
        time = self.embed_time(fourier(t.to(x.dtype)))  # (B, D)
        h, _ = self.recurrence(self.embed_patch(points) + time[:, None])
        h = F.dropout(h, self.config.dropout, self.training)
        mean = (h * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        return self.head(torch.cat([mean, time], dim=-1))[:, 0]
