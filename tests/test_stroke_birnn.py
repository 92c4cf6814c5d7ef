"""The recurrent denoiser: against a plain re-statement, what reaches a drawing, and what must not."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F

from sketch_core.denoisers import Condition, bind, takes_known
from sketch_core.models import architecture_of, create_model
from sketch_core.models.stroke_birnn import StrokeBiRNN, StrokeBiRNNConfig
from sketch_core.models.stroke_transformer import Known, fourier, norm
from sketch_core.schedules import alpha_bar_cosine
from tests.tiny import normal

CONFIG = StrokeBiRNNConfig(num_classes=3, width=24, depth=2, max_points=40)
B, N = 4, 24
LENGTH = torch.tensor([24, 9, 17, 1])


def tiny() -> StrokeBiRNN:
    """Weights from a seed that leave nothing at zero."""
    network, generator = StrokeBiRNN(CONFIG), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def batch() -> dict[str, torch.Tensor]:
    x = normal(B, N, 2) * (torch.arange(N) < LENGTH[:, None])[..., None]
    label = torch.tensor([0, 2, 3, 1])  # 3 is the null class
    return {"x": x, "t": torch.tensor([1.0, 0.5, 0.03, 0.0]), "label": label, "length": LENGTH}


def real(output: torch.Tensor) -> torch.Tensor:
    return output[torch.arange(output.shape[1]) < LENGTH[:, None]]


def same(a, b) -> bool:
    return all(torch.equal(real(p), real(q)) for p, q in zip(a, b, strict=True))


# ---- the arithmetic -------------------------------------------------------------------------------


def plain_lstm(lstm: torch.nn.LSTM, h: torch.Tensor) -> torch.Tensor:
    """One drawing h (n, D), point after point, as Hochreiter & Schmidhuber's gates are written today."""
    state = memory = torch.zeros(h.shape[-1])
    said = []
    for row in h:
        gates = lstm.weight_ih_l0 @ row + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ state + lstm.bias_hh_l0
        take, keep, new, show = gates.chunk(4)
        memory = keep.sigmoid() * memory + take.sigmoid() * new.tanh()
        state = show.sigmoid() * memory.tanh()
        said.append(state)
    return torch.stack(said)


def test_the_network_is_its_plain_re_statement():
    network, told = tiny(), batch()
    points, pen = network(**told)
    for i, n in enumerate(LENGTH.tolist()):
        x = told["x"][i, :n]
        along = fourier(torch.arange(n) / n)
        h = network.embed_point(torch.cat([x, x.cumsum(0) / math.sqrt(n), along], -1))
        c = network.embed_time(fourier(told["t"][i])) + network.embed_class(told["label"][i])
        c = F.silu(c + network.embed_length(fourier(torch.tensor(n / CONFIG.max_points))))
        for layer in network.layers:
            shift, scale = layer.modulate(c).chunk(2)
            h_in = norm(h) * (1 + scale) + shift
            back = plain_lstm(layer.backwards, h_in.flip(0)).flip(0)
            h = h + layer.out(torch.cat([plain_lstm(layer.forwards, h_in), back], -1))
        shift, scale = network.modulate_out(c).chunk(2)
        h = norm(h) * (1 + scale) + shift
        torch.testing.assert_close(points[i, :n], network.to_points(h), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pen[i, :n], network.to_pen(h), rtol=1e-4, atol=1e-4)
    assert real(points).std() > 0.1  # the comparison says something


def test_a_fresh_network_predicts_no_offsets():
    points, pen = StrokeBiRNN(CONFIG)(**batch())
    assert points.shape == (B, N, 2)
    assert pen.shape == (B, N, 3)
    assert not points.any()


def test_gradients_arrive_at_the_points_and_at_every_parameter():
    network, told = tiny().requires_grad_(True), batch()
    told["x"].requires_grad_(True)
    points, pen = network(**told)
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


# ---- what reaches the output, and what does not ---------------------------------------------------


@pytest.mark.parametrize("place", [0, 23])
def test_every_point_hears_of_both_ends(place):
    network, told = tiny(), batch()
    points, _ = network(**told)
    told["x"][0, place] += 1
    moved = (network(**told)[0] - points).abs().amax(-1)
    assert (moved[0] > 0).all()
    assert not moved[1:].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("t", torch.tensor([0.9, 0.4, 0.0, 0.1])), ("label", torch.tensor([1, 3, 0, 2]))],
)
def test_every_drawing_hears_its_own_condition(name, value):
    network, told = tiny(), batch()
    points, pen = network(**told)
    for i in range(B):
        own = told[name].clone()
        own[i] = value[i]
        changed = network(**told | {name: own})
        assert [j for j in range(B) if not torch.equal(real_row(changed[0], j), real_row(points, j))] == [i]
        assert not torch.equal(real_row(changed[1], i), real_row(pen, i))


def real_row(output: torch.Tensor, i: int) -> torch.Tensor:
    return output[i, : LENGTH[i]]


def test_the_number_of_points_is_a_condition():
    """Two real points and padding, told as two or as three with a still third."""
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    t, label = torch.tensor([0.5]), torch.tensor([0])
    two, three = (tiny()(x, t, label, torch.tensor([n]))[0][0, :2] for n in (2, 3))
    assert (two - three).abs().max() > 1e-3


def test_padding_does_not_reach_real_points():
    network, told = tiny(), batch()
    padding = (torch.arange(N) >= LENGTH[:, None])[..., None]
    loud = torch.where(padding, 1e4, told["x"])
    assert same(network(**told), network(**told | {"x": loud}))


def test_more_padding_changes_nothing_but_rounding():
    network, told = tiny(), batch()
    short = network(**told)
    wide = network(**told | {"x": F.pad(told["x"], (0, 0, 0, 40))})
    for a, b in zip(short, wide, strict=True):
        torch.testing.assert_close(real(a), real(b[:, :N]), rtol=1e-5, atol=1e-5)


def test_bfloat16_autocast_is_near_and_comes_back_as_float32():
    network = tiny()
    exact = network(**batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(**batch())
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.float32
        assert (real(a) - real(b)).norm() < 0.1 * real(a).norm()
        assert not torch.equal(a, b)


# ---- bound, as samplers see it --------------------------------------------------------------------

LENGTHS = torch.tensor([16, 3, 30, 17, 16, 1, 40, 31])
TIMES = torch.linspace(1, 0.01, 8, dtype=torch.float64)
TOLD = Condition(torch.tensor([0, 1, 2, 3, 1, 0, 2, 0]), LENGTHS)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_sketch_is_the_same_bits_in_any_batch(guidance):
    x = normal(8, 40, 2)
    denoise = bind(tiny(), TOLD, alpha_bar_cosine, guidance=guidance)
    whole = denoise(x, TIMES, torch.arange(8))
    assert whole.points.std() > 0.1
    subsets = [[i] for i in range(8)] + [[6, 0, 3], [7, 6, 5, 4, 3, 2, 1, 0], [2, 3, 4, 5, 6]]
    for rows in map(torch.tensor, subsets):
        part = denoise(x[rows], TIMES[rows], rows)
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.pen, whole.pen[rows])


def test_it_takes_no_known_points():
    assert not takes_known(tiny())
    known = Known(torch.ones(1, 16, 1), torch.zeros(1, 16, 2), torch.zeros(1, 16, 3))
    denoise = bind(tiny(), Condition(torch.tensor([0]), torch.tensor([16]), known), alpha_bar_cosine)
    with pytest.raises(ValueError, match="stroke_birnn was not made to take known points. Use a stroke_tr"):
        denoise(normal(1, 16, 2), torch.ones(1, dtype=torch.float64), torch.tensor([0]))


# ---- what it is made from -------------------------------------------------------------------------


def test_the_config_makes_the_network_again():
    again = create_model("stroke_birnn", json.loads(json.dumps(dataclasses.asdict(CONFIG))))
    assert again.config == CONFIG
    assert architecture_of(again) == "stroke_birnn"
    again.load_state_dict(tiny().state_dict(), strict=True)
    assert same(again(**batch()), tiny()(**batch()))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"width": 0}, "width is 0, wanted at least 1"),
        ({"depth": -1}, "depth is -1, wanted at least 1"),
        ({"num_classes": 0}, "num_classes is 0, wanted at least 1"),
        ({"max_points": 0}, "max_points is 0, wanted at least 1"),
        ({"prediction": "noise"}, "prediction is 'noise', wanted v, eps or x0"),
        ({"schedule": "sigmoid"}, "schedule is 'sigmoid', wanted cosine or linear"),
    ],
)
def test_impossible_configs_are_refused(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        StrokeBiRNNConfig(**dataclasses.asdict(CONFIG) | setting)


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(B, N, 2\), got \(4, 24, 3\)"):
        tiny()(**batch() | {"x": torch.zeros(B, N, 3)})
