"""VGG-16's feature maps (Simonyan & Zisserman, 2015, arXiv:1409.1556) and LPIPS's linear weights over them.

Keys are those of the public files, `features.N.*` of torchvision's vgg16 and `linN.model.1.weight` of the
lpips package, so that `from_public` needs no renaming; the classifier is left out.

Limits: a judge of photos; for line drawings `sketch_classifier` is the smaller and the nearer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..strokes import check_shape


@dataclass(frozen=True)
class VGG16Config:
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels of each stage
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)  # convolutions of each stage; a pooling lies between stages

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON knows lists only
        object.__setattr__(self, "depths", tuple(self.depths))
        if not self.widths or len(self.widths) != len(self.depths) or min(*self.widths, *self.depths) < 1:
            raise ValueError(
                f"widths {self.widths} and depths {self.depths} must be as many numbers of 1 or more each. "
                f"Give one width and one depth a stage."
            )


class VGG16(nn.Module):
    """RGB (B, 3, H, W) in [-1, 1] -> the last activations of each stage, (B, widths[i], H / 2^i, W / 2^i)."""

    def __init__(self, config: VGG16Config) -> None:
        super().__init__()
        self.config = config
        layers, width = [], 3
        for i, (out, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            layers += [nn.MaxPool2d(2)] if i else []
            for _ in range(depth):
                layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
                width = out
        self.features = nn.Sequential(*layers)
        for i, width in enumerate(config.widths):
            self.add_module(f"lin{i}", _Linear(width))
        # lpips's scaling layer: ImageNet's mean and std, for values in [-1, 1]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        check_shape("rgb", rgb, "B 3 H W")
        smallest = 2 ** (len(self.config.widths) - 1)
        if min(rgb.shape[2:]) < smallest:
            raise ValueError(f"a picture is {tuple(rgb.shape[2:])} pixels, wanted {smallest} or more a side.")
        x, maps = (rgb - self.shift) / self.scale, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        return [*maps, x]

    def linear_weights(self) -> list[Tensor]:
        """LPIPS's weight of each channel, (widths[i],) a stage."""
        return [getattr(self, f"lin{i}").model[1].weight.flatten() for i in range(len(self.config.widths))]


class _Linear(nn.Module):
    """A weight a channel, under the name it has in the lpips package."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))


def from_public(
    vgg: Mapping[str, Tensor], linear: Mapping[str, Tensor], config: VGG16Config | None = None
) -> VGG16:
    """The network of the public weights, ready to use; what does not fit is a ValueError.

    vgg     state dict of torchvision's vgg16, with or without its classifier.
    linear  state dict of lpips's vgg weights, `lin0.model.1.weight` to `lin4.model.1.weight`.
    """
    with torch.inference_mode(False):
        network = VGG16(config or VGG16Config())
        wanted, given = network.state_dict(), {**vgg, **linear}
        for key, ours in wanted.items():
            theirs = given.get(key)
            if theirs is None or theirs.shape != ours.shape:
                there = "is missing" if theirs is None else f"has shape {tuple(theirs.shape)}"
                raise ValueError(
                    f"these are not the weights of VGG-16 with LPIPS: {key} {there}, wanted "
                    f"{tuple(ours.shape)}. Give the vgg16 of torchvision and the vgg weights of lpips 0.1."
                )
        network.load_state_dict({key: given[key] for key in wanted})
    return network.eval().requires_grad_(False)
