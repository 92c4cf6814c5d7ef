"""What every denoiser of strokes must do: hear its conditions, not its padding, and be made again."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from sketch_core.models import architecture_of, create_model
from sketch_core.models.stroke_birnn import StrokeBiRNN
from sketch_core.models.stroke_transformer import StrokeTransformer
from tests.tiny import (
    LENGTH,
    ON_PLACES,
    B,
    N,
    batch,
    check_gradients,
    real,
    same,
    tiny_birnn,
    tiny_transformer,
)

ARCHITECTURES = {StrokeTransformer: "stroke_transformer", StrokeBiRNN: "stroke_birnn"}


@pytest.fixture(params=["transformer", "transformer_on_places", "birnn"])
def network(request) -> StrokeTransformer | StrokeBiRNN:
    if request.param == "birnn":
        return tiny_birnn()
    return tiny_transformer() if request.param == "transformer" else tiny_transformer(config=ON_PLACES)


# ---- gradients ------------------------------------------------------------------------------------


def test_gradients_arrive_at_the_points_and_at_every_parameter(network):
    check_gradients(network)


# ---- what reaches the output, and what does not ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("t", torch.tensor([0.9, 0.4, 0.0, 0.1])), ("label", torch.tensor([1, 3, 0, 2]))],
)
def test_every_drawing_hears_its_own_condition(network, name, value):
    told = batch()
    points, pen = network(**told)
    for i in range(B):
        own = told[name].clone()
        own[i] = value[i]
        changed = network(**told | {name: own})
        assert [j for j in range(B) if not torch.equal(real_row(changed[0], j), real_row(points, j))] == [i]
        assert not torch.equal(real_row(changed[1], i), real_row(pen, i))


def real_row(output: torch.Tensor, i: int) -> torch.Tensor:
    return output[i, : LENGTH[i]]


def test_the_number_of_points_is_a_condition(network):
    """Two real points and padding, told as two or as three with a still third."""
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    t, label = torch.tensor([0.5]), torch.tensor([0])
    two, three = (network(x, t, label, torch.tensor([n]))[0][0, :2] for n in (2, 3))
    assert (two - three).abs().max() > 1e-3


def test_padding_does_not_reach_real_points(network):
    told = batch()
    padding = (torch.arange(N) >= LENGTH[:, None])[..., None]
    loud = torch.where(padding, 1e4, told["x"])
    assert same(network(**told), network(**told | {"x": loud}))


def test_more_padding_changes_nothing_but_rounding(network):
    told = batch()
    short = network(**told)
    wide = network(**told | {"x": F.pad(told["x"], (0, 0, 0, 40))})
    for a, b in zip(short, wide, strict=True):
        torch.testing.assert_close(real(a), real(b[:, :N]), rtol=1e-5, atol=1e-5)


# ---- precision, config, shapes --------------------------------------------------------------------


def test_bfloat16_autocast_is_near_and_comes_back_as_float32(network):
    exact = network(**batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(**batch())
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        assert (real(a) - real(b)).norm() < 0.1 * real(a).norm()
        assert not torch.equal(a, b)


def test_the_config_makes_the_network_again(network):
    architecture = ARCHITECTURES[type(network)]
    again = create_model(architecture, json.loads(json.dumps(dataclasses.asdict(network.config))))
    assert again.config == network.config
    assert architecture_of(again) == architecture
    again.load_state_dict(network.state_dict(), strict=True)
    again.requires_grad_(False)  # as `network`: torch's linear rounds otherwise where gradients are wanted
    assert same(again(**batch()), network(**batch()))


def test_points_of_another_shape_are_refused(network):
    with pytest.raises(ValueError, match=r"x must have shape \(B, N, 2\), got \(4, 24, 3\)"):
        network(**batch() | {"x": torch.zeros(B, N, 3)})
