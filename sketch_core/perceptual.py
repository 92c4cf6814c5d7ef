"""How different two pictures look: a distance of LPIPS's form over the feature maps of any network.

Zhang et al. (2018, arXiv:1801.03924, Eq. 1): features of unit length at every position, squared differences
weighed a channel, averaged over positions, added over layers. `sketch_perceptual` takes the maps of the
embedded sketch network, `photo_perceptual` VGG-16's with the weights people's judgements gave it.

For sketch features the weights are all 1, LPIPS's own form before it is calibrated: a layer's distance is
then 2 - 2 cos of the angle between the features, and no judgement of drawings is made up.

Limits: pictures of one size are compared position by position, so a shifted drawing is a different one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .models.sketch_classifier import SketchClassifier
from .models.vgg import VGG16
from .strokes import check_shape

Features = Callable[
    [Tensor], Sequence[Tensor]
]  # pictures (B, ...) -> maps (B, C_l, H_l, W_l), layer by layer
TINY = 1e-20  # squared length of features that count as nothing; lpips adds 1e-10 to the length


class Perceptual:
    """d(a, b) = sum over layers of the mean over positions of sum_c w_c (a_c / |a| - b_c / |b|)².

    features  pictures -> feature maps.
    weights   (C_l,) a layer, 0 or more; None for 1 everywhere.
    """

    def __init__(self, features: Features, weights: Sequence[Tensor] | None = None) -> None:
        if weights is not None and any(bool((w < 0).any()) for w in weights):
            raise ValueError("a weight is below 0, wanted 0 or more: no distance may fall as features part.")
        self.features, self.weights = features, weights

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,) distances of pictures a and b; differentiable in both."""
        return self.between(self.describe(a), self.describe(b))

    def describe(self, pictures: Tensor) -> list[Tensor]:
        """What `between` compares: maps of unit length at every position. Keep it of a fixed picture."""
        maps = self.features(pictures)
        if self.weights is not None and len(self.weights) != len(maps):
            raise ValueError(f"got weights for {len(self.weights)} layers, the features have {len(maps)}.")
        # sqrt(0) has no derivative; features of no length stay 0 and pull at nothing
        return [m / (m.square().sum(1, keepdim=True) + TINY).sqrt() for m in maps]

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """(B,) from two descriptions."""
        layers = []
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            apart = (x - y).square()
            if self.weights is not None:
                apart = apart * self.weights[i].to(apart)[:, None, None]
            layers.append(apart.sum(1).mean((1, 2)))
        return sum(layers[1:], layers[0])


def sketch_perceptual(network: SketchClassifier) -> Perceptual:
    """Over the embedded sketch network: pictures are ink (B, H, W), best drawn as its config says.

    Its features know lines of `line_width` pixels in pictures of `size`; other sizes of 16 pixels and more
    are taken too.
    """

    def features(ink: Tensor) -> list[Tensor]:
        check_shape("ink", ink, "B H W")
        return network.feature_maps(ink[:, None])

    return Perceptual(features)


def photo_perceptual(network: VGG16) -> Perceptual:
    """LPIPS over VGG-16: pictures are ink (B, H, W), shown as black on white; 64 pixels a side or more."""

    def features(ink: Tensor) -> list[Tensor]:
        check_shape("ink", ink, "B H W")
        return network((1 - 2 * ink)[:, None].expand(-1, 3, -1, -1))

    return Perceptual(features, network.linear_weights())
