"""A small residual network that names a rasterised drawing: the embedded recognizer.

It sees ink only (no order, no direction of strokes), scaled to fill the picture: it judges what a person
would see. Its penultimate activations are the features that `metrics.py` compares. Residual blocks after
He et al. (2016, arXiv:1512.03385); widths are chosen so that one CPU core trains it in about half an hour.

Limits: one line width and one picture size, those of its config; `recognizer.py` rasterises accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..strokes import check_shape


def check_stages(classes: int, widths: tuple[int, ...], depths: tuple[int, ...], *others: int) -> None:
    """What holds for every classifier made of stages; `others` are more numbers of 1 or more."""
    if classes < 2:
        raise ValueError(f"classes is {classes}, wanted 2 or more. A classifier has something to choose.")
    if len(widths) != len(depths) or min(*widths, *depths, *others) < 1:
        raise ValueError(
            f"widths {widths} and depths {depths} must be as many numbers of 1 or more each. "
            f"Give one width and one depth a stage."
        )


@dataclass(frozen=True)
class SketchClassifierConfig:
    classes: int = 345
    size: int = 48  # side of the picture, pixels
    line_width: float = 1.5  # pixels of that picture
    padding: float = 0.05  # free at each side, fraction of the picture's side
    stem: int = 32  # channels after the first convolution
    kernel: int = 5  # of the first convolution, which halves the picture
    widths: tuple[int, ...] = (64, 128, 256)  # channels of each stage, which halves the picture again
    depths: tuple[int, ...] = (1, 2, 1)  # residual blocks of each stage
    dropout: float = 0.1  # on the features, in training only

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON knows lists only
        object.__setattr__(self, "depths", tuple(self.depths))
        check_stages(self.classes, self.widths, self.depths, self.stem)
        smallest = 2 ** (len(self.widths) + 1)
        if self.size < smallest:
            raise ValueError(
                f"size is {self.size} pixels, but {len(self.widths)} stages halve the picture to nothing. "
                f"Give {smallest} or more, or fewer stages."
            )
        if (
            self.kernel % 2 == 0
            or not 0 <= self.dropout < 1
            or not 0 <= self.padding < 0.5
            or self.line_width <= 0
        ):
            raise ValueError(
                f"kernel {self.kernel}, dropout {self.dropout}, padding {self.padding} or line_width "
                f"{self.line_width} is out of range. Give an odd kernel, a dropout in [0, 1), a padding in "
                f"[0, 0.5) and a line width above 0."
            )


class SketchClassifier(nn.Module):
    """Ink (B, 1, H, W) in [0, 1], H = W = config.size -> logits (B, classes)."""

    def __init__(self, config: SketchClassifierConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.stem = nn.Conv2d(1, c.stem, c.kernel, stride=2, padding=c.kernel // 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(c.stem)
        blocks, width = [], c.stem
        for out, depth in zip(c.widths, c.depths, strict=True):
            for i in range(depth):
                blocks.append(Block(width, out, halve=i == 0))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, c.classes)

    def features(self, ink: Tensor) -> Tensor:
        """(B, D), D = widths[-1]: what the last layer decides from, averaged over the picture."""
        check_shape("ink", ink, f"B 1 {self.config.size} {self.config.size}")
        return self.feature_maps(ink)[-1].mean((2, 3))

    def feature_maps(self, ink: Tensor) -> list[Tensor]:
        """Activations after the stem and after each block, (B, C, H', W') each, of ink of any size."""
        check_shape("ink", ink, "B 1 H W")
        maps = [F.relu(self.stem_norm(self.stem(ink)))]  # (B, stem, H/2, W/2)
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps

    def forward(self, ink: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(ink), self.config.dropout, self.training))


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))), batch-normalised; the first of a stage halves the picture."""

    def __init__(self, width: int, out: int, *, halve: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride=2 if halve else 1, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        nn.init.zeros_(self.norm2.weight)  # a block starts as its shortcut
        self.halve = halve
        self.shortcut = nn.Conv2d(width, out, 1, bias=False) if halve or width != out else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.halve:
            x = F.avg_pool2d(
                x, 2, ceil_mode=True
            )  # (B, width, ceil(H/2), ceil(W/2)), as the strided convolution
        if self.shortcut is not None:
            x = self.shortcut(x)
        return F.relu(x + y)
