"""Networks small enough for tests, weights from a seed that leave nothing at zero, and a batch for them."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch
from torch import nn

from sketch_core.models.stroke_birnn import StrokeBiRNN, StrokeBiRNNConfig
from sketch_core.models.stroke_transformer import StrokeTransformer, StrokeTransformerConfig

CONFIG = StrokeTransformerConfig(num_classes=3, width=32, depth=2, heads=2, max_points=40)
ON_PLACES = dataclasses.replace(CONFIG, noise="places", spread=5.0)
BIRNN = StrokeBiRNNConfig(num_classes=3, width=24, depth=2, max_points=40)

B, N = 4, 24
LENGTH = torch.tensor([24, 9, 17, 1])

Network = TypeVar("Network", bound=nn.Module)


def seeded(network: Network, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def tiny_transformer(seed: int = 0, config: StrokeTransformerConfig = CONFIG) -> StrokeTransformer:
    return seeded(StrokeTransformer(config), seed)


def tiny_birnn() -> StrokeBiRNN:
    return seeded(StrokeBiRNN(BIRNN))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch() -> dict[str, torch.Tensor]:
    x = normal(B, N, 2) * (torch.arange(N) < LENGTH[:, None])[..., None]
    label = torch.tensor([0, 2, 3, 1])  # 3 is the null class
    return {"x": x, "t": torch.tensor([1.0, 0.5, 0.03, 0.0]), "label": label, "length": LENGTH}


def real(output: torch.Tensor) -> torch.Tensor:
    """What a network says of the real points of `batch()`."""
    return output[torch.arange(output.shape[1]) < LENGTH[:, None]]


def same(a, b) -> bool:
    return all(torch.equal(real(p), real(q)) for p, q in zip(a, b, strict=True))


def check_gradients(network: torch.nn.Module, **known) -> None:
    """Those of what it says of real points arrive at every parameter and at these points, no other."""
    network, told = network.requires_grad_(True), batch()
    told["x"].requires_grad_(True)
    points, pen = network(**told, **known)
    (real(points).square().sum() + real(pen).square().sum()).backward()
    silent = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert silent == []
    inside = torch.arange(N) < LENGTH[:, None]
    assert told["x"].grad[inside].all()
    assert not told["x"].grad[~inside].any()
