"""A transformer small enough for tests, with weights from a seed that leave nothing at zero."""

from __future__ import annotations

import torch

from sketch_core.models.stroke_transformer import StrokeTransformer, StrokeTransformerConfig

CONFIG = StrokeTransformerConfig(num_classes=3, width=32, depth=2, heads=2, max_points=40)


def tiny_transformer(seed: int = 0, config: StrokeTransformerConfig = CONFIG) -> StrokeTransformer:
    network = StrokeTransformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
