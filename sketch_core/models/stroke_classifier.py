"""A small one-dimensional convolutional network that names a drawing from its strokes, in drawing order.

It reads where the pen goes and when it lifts, and no pixels: order and direction of strokes count, line width
does not. Residual blocks (He et al., 2016, arXiv:1512.03385) run along the points; between stages two
neighbouring places become one; the last stage is averaged and maximised over the drawing. Every block also
sees the mean of its stage, so that an early convolution knows of the whole.

Limits: at most `max_points` rows a drawing, simplified as Quick, Draw! does; `recognizer.py` prepares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..strokes import check_shape
from .sketch_classifier import check_stages

POINT_FEATURES = 7  # place in the box (2), offset (2), drawn, lift, share of the drawing done


@dataclass(frozen=True)
class StrokeClassifierConfig:
    classes: int = 345
    max_points: int = 128  # rows a drawing, at most
    widths: tuple[int, ...] = (64, 128, 256)  # features of each stage
    depths: tuple[int, ...] = (1, 2, 2)  # residual blocks of each stage
    kernel: int = 5  # points that the first convolution sees
    dropout: float = 0.1  # on the features, in training only

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON knows lists only
        object.__setattr__(self, "depths", tuple(self.depths))
        check_stages(self.classes, self.widths, self.depths)
        if self.max_points < 1 or self.kernel % 2 == 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"max_points {self.max_points}, kernel {self.kernel} or dropout {self.dropout} is out of "
                f"range. Give 1 point or more, an odd kernel and a dropout in [0, 1)."
            )


class StrokeClassifier(nn.Module):
    """Rows (B, N, 3) of (dx, dy, lift) and how many are real, (B,) -> logits (B, classes)."""

    def __init__(self, config: StrokeClassifierConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.embed = nn.Linear(POINT_FEATURES * c.kernel, c.widths[0])
        self.merges = nn.ModuleList(nn.Linear(2 * a, b) for a, b in zip(c.widths, c.widths[1:], strict=False))
        self.blocks = nn.ModuleList(
            nn.ModuleList(Block(width) for _ in range(depth))
            for width, depth in zip(c.widths, c.depths, strict=True)
        )
        self.head = nn.Linear(2 * c.widths[-1], c.classes)

    def features(self, rows: Tensor, length: Tensor) -> Tensor:
        """(B, D), D = 2 * widths[-1]: what the last layer decides from, mean and maximum over the drawing."""
        check_shape("rows", rows, "B N 3")
        rows = F.pad(rows, (0, 0, 0, -rows.shape[1] % 2 ** (len(self.blocks) - 1)))
        real = torch.arange(rows.shape[1], device=rows.device) < length[:, None].clamp(min=1)  # (B, N)
        h = F.relu(self.embed(neighbours(point_features(rows, length), self.config.kernel)))
        h = h * real[..., None]
        for stage, blocks in enumerate(self.blocks):
            if stage:
                B, N, D = h.shape
                h, real = h.view(B, N // 2, 2 * D), real.view(B, N // 2, 2).any(-1)
                h = self.merges[stage - 1](h) * real[..., None]
            for block in blocks:
                h = block(h, real)
        h = norm(h).masked_fill(~real[..., None], 0)
        mean = h.sum(1) / real.sum(1, keepdim=True)
        return torch.cat([mean, h.masked_fill(~real[..., None], -torch.inf).amax(1)], dim=-1)

    def forward(self, rows: Tensor, length: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(rows, length), self.config.dropout, self.training))


class Block(nn.Module):
    """h + out(relu(convolution of three places + the mean over all)); starts as nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Linear(3 * width, width)
        self.far = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        normed = norm(h)  # zero rows stay zero
        mean = normed.sum(1, keepdim=True) / real.sum(1)[:, None, None]
        y = F.relu(self.near(neighbours(normed, 3)) + self.far(mean.to(normed.dtype)))
        return h + self.out(y) * real[..., None]


def point_features(rows: Tensor, length: Tensor) -> Tensor:
    """(B, N, POINT_FEATURES) of rows (B, N, 3); the drawing's box is centred, its longer side 2 long."""
    N = rows.shape[1]
    real = (torch.arange(N, device=rows.device) < length[:, None])[..., None]
    offset = rows[..., :2] * real
    place = offset.cumsum(1)  # past the end it stays where it was, so the box does not change
    low, high = place.amin(1, keepdim=True).clamp(max=0), place.amax(1, keepdim=True).clamp(min=0)
    side = (high - low).amax(-1, keepdim=True).clamp(min=1e-6)
    place = (2 * place - low - high) / side
    lift = rows[..., 2:]
    drawn = 1 - F.pad(lift, (0, 0, 1, 0))[:, :N]  # the row after a lift is a move
    share = (torch.arange(N, device=rows.device) / length[:, None].clamp(min=1)).to(rows)[..., None]
    return torch.cat([place, 8 * offset / side, drawn, lift, share], dim=-1) * real


def neighbours(h: Tensor, kernel: int) -> Tensor:
    """(B, N, D) -> (B, N, kernel * D): each place beside those before and after it, zeros past the ends."""
    N, half = h.shape[1], kernel // 2
    padded = F.pad(h, (0, 0, half, half))
    return torch.cat([padded[:, k : k + N] for k in range(kernel)], dim=-1)


def norm(h: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last axis, no weights (Zhang & Sennrich, 2019)."""
    return F.rms_norm(h, (h.shape[-1],), eps=1e-6)
