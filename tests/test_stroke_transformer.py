"""The transformer: against a plain re-statement, what is known, and noise on places.

What it shares with other networks is tested in `test_stroke_networks.py`.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sketch_core.models import MODELS, architecture_of, create_model
from sketch_core.models.stroke_transformer import (
    FOURIER,
    Known,
    StrokeTransformer,
    StrokeTransformerConfig,
    centred,
    coloured,
    fourier,
    noise_points,
    norm,
    rotary,
    rotate,
)
from tests.tiny import (
    CONFIG,
    LENGTH,
    ON_PLACES,
    B,
    N,
    batch,
    check_gradients,
    normal,
    real,
    same,
    tiny_transformer,
)


def nothing_known() -> Known:
    return Known(torch.zeros(B, N, 1), torch.zeros(B, N, 2), torch.zeros(B, N, 3))


def some_known(seed: int = 5) -> Known:
    flag = (normal(B, N, 1, seed=seed) > 0).float()
    pen = F.one_hot(torch.arange(B * N).reshape(B, N) % 3, 3).float()
    return Known(flag, normal(B, N, 2, seed=seed + 1), pen)


# ---- the arithmetic -------------------------------------------------------------------------------


def plain_block(block, h, c, length):
    """One drawing h (n, D) without padding, its block as the papers write it, heads in a loop."""
    D = h.shape[-1]
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulate(c).split(D)

    def rms(v):
        return v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    q, k, v = block.qkv(rms(h) * (1 + scale1) + shift1).split(D, dim=-1)
    d = D // block.heads
    half = d // 2
    turn = torch.arange(length)[:, None] * 100.0 ** -(torch.arange(half) / half)
    heads = []
    for i in range(block.heads):
        of_head = slice(i * d, (i + 1) * d)
        turned = []
        for y in (rms(q[:, of_head]), rms(k[:, of_head])):
            z = torch.complex(y[:, :half], y[:, half:]) * torch.polar(torch.ones_like(turn), turn)
            turned.append(torch.cat([z.real, z.imag], -1))
        heads.append(F.scaled_dot_product_attention(turned[0], turned[1], v[:, of_head]))
    h = h + gate1 * block.out(torch.cat(heads, -1))
    return h + gate2 * block.down(block.up(rms(h) * (1 + scale2) + shift2).clamp(min=0) ** 2)


def test_the_network_is_its_plain_re_statement():
    network = tiny_transformer()
    told, known = batch(), some_known()
    points, pen = network(*told.values(), known)
    for i, n in enumerate(LENGTH.tolist()):
        x, t, label = told["x"][i, :n], told["t"][i], told["label"][i]
        position = x.cumsum(0) / math.sqrt(n)
        given = torch.cat([known.flag, known.points * known.flag, known.pen], -1)[i, :n]
        h = network.embed_point(torch.cat([x, position, given, fourier(torch.arange(n) / n)], -1))
        c = network.embed_time(fourier(t)) + network.embed_class(label)
        c = F.silu(c + network.embed_length(fourier(torch.tensor(n / CONFIG.max_points))))
        for block in network.blocks:
            h = plain_block(block, h, c, n)
        shift, scale = network.modulate_out(c).chunk(2)
        h = norm(h) * (1 + scale) + shift
        torch.testing.assert_close(points[i, :n], network.to_points(h), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pen[i, :n], network.to_pen(h), rtol=1e-4, atol=1e-4)
    assert real(points).std() > 0.1  # the comparison says something


def test_fourier_features_run_from_half_a_turn_to_64():
    features = fourier(torch.tensor([0.0, 1.0, 1 / 128], dtype=torch.float64))
    assert features.shape == (3, 2 * FOURIER)
    assert features[0].tolist() == [1.0] * FOURIER + [0.0] * FOURIER
    assert features[1, 0] == pytest.approx(-1)  # half a turn
    assert features[1, FOURIER - 1] == pytest.approx(1)  # 64 whole ones
    assert features[2, FOURIER - 1] == pytest.approx(-1)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = normal(2, 8)
    rotation = rotary(30, 8, torch.device("cpu"))
    at = rotate(torch.stack([q, k])[:, None].expand(2, 30, 8), rotation)
    torch.testing.assert_close(at.norm(dim=-1), torch.stack([q, k]).norm(dim=-1)[:, None].expand(2, 30))
    products = at[0] @ at[1].T
    for distance in (-20, -3, 0, 1, 12):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-5, atol=1e-5)
    assert abs(products[0, 0] - products[0, 5]) > 1e-3


def test_a_fresh_network_predicts_no_offsets_and_its_blocks_pass_everything_on():
    network = StrokeTransformer(CONFIG)
    points, _ = network(**batch())
    assert not points.any()
    h, c = normal(B, N, CONFIG.width), normal(B, CONFIG.width)
    mask, rotation = torch.zeros(B, 1, 1, N), rotary(N, CONFIG.width // CONFIG.heads, h.device)
    assert torch.equal(network.blocks[0](h, c, mask, rotation), h)


# ---- gradients ------------------------------------------------------------------------------------


def test_gradients_arrive_at_the_points_and_at_every_parameter():
    check_gradients(tiny_transformer(), known=some_known())


def test_gradients_arrive_at_what_is_known():
    network, known = tiny_transformer(), some_known()
    known.points.requires_grad_(True)
    points, _ = network(**batch(), known=known)
    real(points).square().sum().backward()
    inside = (torch.arange(N) < LENGTH[:, None]) & (known.flag[..., 0] == 1)
    assert known.points.grad[inside].all()
    assert not known.points.grad[~inside].any()


# ---- what reaches the output, and what does not ---------------------------------------------------


def test_no_known_points_are_all_zero_known_points():
    network = tiny_transformer()
    assert same(network(**batch()), network(**batch(), known=nothing_known()))


def test_an_offset_that_is_not_flagged_as_known_is_not_looked_at():
    network, known = tiny_transformer(), some_known()
    other = Known(known.flag, known.points + 9 * (1 - known.flag), known.pen)
    assert same(network(**batch(), known=known), network(**batch(), known=other))
    assert not same(network(**batch(), known=known), network(**batch()))


def test_a_pen_may_be_known_alone():
    network, nothing, known = tiny_transformer(), nothing_known(), some_known()
    pens = nothing._replace(pen=known.pen)
    told = network(**batch(), known=pens)
    assert not same(told, network(**batch(), known=nothing))
    assert same(told, network(**batch(), known=pens._replace(points=known.points)))
    features = pens.features()
    assert not features[..., :3].any()
    assert torch.equal(features[..., 3:], known.pen)
    assert torch.equal(known.features()[..., 1:3], known.points * known.flag)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_every_part_of_what_is_known_is_looked_at(part):
    network, known = tiny_transformer(), some_known()
    changed = list(known)
    changed[part] = changed[part].roll(1, 1)
    assert not same(network(**batch(), known=known), network(**batch(), known=Known(*changed)))


def test_padding_does_not_reach_real_points():
    network, told, known = tiny_transformer(), batch(), some_known()
    before = network(**told, known=known)
    padding = (torch.arange(N) >= LENGTH[:, None])[..., None]
    loud = torch.where(padding, 1e4, told["x"])
    other = Known(
        torch.where(padding, 1.0, known.flag),
        known.points + 50 * padding,
        torch.where(padding, 1.0, known.pen),
    )
    assert same(before, network(**told | {"x": loud}, known=other))


def test_the_order_of_points_matters():
    network, told = tiny_transformer(), batch()
    points, _ = network(**told)
    turned, _ = network(**told | {"x": told["x"].flip(1)})
    assert (points[0] - turned[0].flip(0)).abs().max() > 1e-2  # drawing 0 has no padding


# ---- what it is made from -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"width": 0}, "width is 0, wanted at least 1"),
        ({"depth": -1}, "depth is -1, wanted at least 1"),
        ({"num_classes": 0}, "num_classes is 0, wanted at least 1"),
        ({"max_points": 0}, "max_points is 0"),
        ({"prediction": "noise"}, "prediction is 'noise', wanted v, eps or x0"),
        ({"schedule": "sigmoid"}, "schedule is 'sigmoid', wanted cosine or linear"),
        ({"heads": 5}, "width 32 does not split into 5 heads"),
        ({"width": 34, "heads": 2}, "width 34 does not split into 2 heads of even size"),
    ],
)
def test_impossible_configs_are_refused(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        StrokeTransformerConfig(**dataclasses.asdict(CONFIG) | setting)


def test_architectures_and_settings_are_asked_for_by_name():
    with pytest.raises(
        ValueError, match=r"unknown architecture 'gpt'. Known: .*sketch_classifier, .*stroke_tr"
    ):
        create_model("gpt", {})
    with pytest.raises(ValueError, match=r"stroke_transformer has no setting colour, speed. Known: depth, "):
        create_model("stroke_transformer", {"speed": 1, "num_classes": 2, "colour": 3})
    with pytest.raises(ValueError, match=r"Linear is not a registered architecture"):
        architecture_of(torch.nn.Linear(1, 1))
    assert all(issubclass(Model, torch.nn.Module) for Model, _ in MODELS.values())


# ---- noise on places ------------------------------------------------------------------------------


def on_places() -> StrokeTransformer:
    torch.manual_seed(0)
    network = StrokeTransformer(ON_PLACES).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


def test_noise_on_places_is_white_there():
    config = on_places().config
    white = torch.randn(2000, noise_points(config, 12), 2, generator=torch.Generator().manual_seed(0))
    offsets = coloured(white, config)
    assert offsets.shape == (2000, 12, 2)
    places = centred(offsets, torch.full((2000,), 12)) / 5.0
    assert torch.allclose(places, white - white.mean(1, keepdim=True), atol=1e-5)
    assert noise_points(CONFIG, 12) == noise_points(object(), 12) == 12  # object: networks that know no other
    assert torch.equal(coloured(white, CONFIG), white)
    assert torch.equal(coloured(white, object()), white)


def test_the_middle_of_the_real_places_is_at_0():
    offsets = torch.tensor([[[1.0, 0.0], [2.0, 3.0], [50.0, 50.0]]])
    found = centred(offsets, torch.tensor([2]))  # places 0, 1 and 3: the third offset is none
    assert found[0, :, 0].tolist() == pytest.approx([-4 / 3, -1 / 3, 5 / 3, 0.0])
    assert found[0, :, 1].tolist() == pytest.approx([-1.0, -1.0, 2.0, 0.0])


def test_noise_on_places_says_offsets_between_the_places_it_thinks_of():
    network, length = on_places(), torch.tensor([9, 4])
    x = torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(1)) * 5
    first, rest = [], []
    network.to_first.register_forward_hook(lambda module, inputs, output: first.append(output))
    network.to_points.register_forward_hook(lambda module, inputs, output: rest.append(output))
    points, _ = network(x, torch.tensor([0.3, 0.8]), torch.tensor([0, 1]), length)
    assert torch.allclose(points, torch.cat([first[0], rest[0]], 1).diff(dim=1) * 5.0, atol=1e-5)


def test_noise_on_places_does_not_see_where_the_drawing_lies():
    """Only offsets come in; the first place is as free as the others."""
    network, length = on_places(), torch.tensor([6])
    x = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(3))
    seen = []
    network.embed_point.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(x, torch.tensor([0.5]), torch.tensor([1]), length)
    assert torch.allclose(seen[0][0, :, 2:4], centred(x, length)[0, 1:] / 5.0)


def test_noise_on_places_sees_no_padding():
    network = on_places()
    x, t = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    label, length = torch.tensor([1]), torch.tensor([6])
    alone, _ = network(x, t, label, length)
    padded = torch.cat([x, torch.full((1, 5, 2), 77.0)], 1)
    among, _ = network(padded, t, label, length)
    assert torch.allclose(alone, among[:, :6], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"noise": "pink"}, "noise is 'pink', wanted offsets or places"), ({"spread": 0.0}, "spread is 0.0")],
)
def test_a_noise_that_makes_no_sense(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(CONFIG, **change)
