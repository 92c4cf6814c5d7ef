"""The recurrent denoiser: against a plain re-statement, what a point hears of, and bound as samplers see it.

What it shares with other networks is tested in `test_stroke_networks.py`.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from sketch_core.denoisers import Condition, bind, takes_known
from sketch_core.models.stroke_birnn import StrokeBiRNN, StrokeBiRNNConfig
from sketch_core.models.stroke_transformer import Known, fourier, norm
from sketch_core.schedules import alpha_bar_cosine
from tests.tiny import BIRNN, LENGTH, B, N, batch, normal, real, tiny_birnn

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
    network, told = tiny_birnn(), batch()
    points, pen = network(**told)
    for i, n in enumerate(LENGTH.tolist()):
        x = told["x"][i, :n]
        along = fourier(torch.arange(n) / n)
        h = network.embed_point(torch.cat([x, x.cumsum(0) / math.sqrt(n), along], -1))
        c = network.embed_time(fourier(told["t"][i])) + network.embed_class(told["label"][i])
        c = F.silu(c + network.embed_length(fourier(torch.tensor(n / BIRNN.max_points))))
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
    points, pen = StrokeBiRNN(BIRNN)(**batch())
    assert points.shape == (B, N, 2)
    assert pen.shape == (B, N, 3)
    assert not points.any()


# ---- what reaches the output, and what does not ---------------------------------------------------


@pytest.mark.parametrize("place", [0, 23])
def test_every_point_hears_of_both_ends(place):
    network, told = tiny_birnn(), batch()
    points, _ = network(**told)
    told["x"][0, place] += 1
    moved = (network(**told)[0] - points).abs().amax(-1)
    assert (moved[0] > 0).all()
    assert not moved[1:].any()


# ---- bound, as samplers see it --------------------------------------------------------------------

LENGTHS = torch.tensor([16, 3, 30, 17, 16, 1, 40, 31])
TIMES = torch.linspace(1, 0.01, 8, dtype=torch.float64)
TOLD = Condition(torch.tensor([0, 1, 2, 3, 1, 0, 2, 0]), LENGTHS)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_sketch_is_the_same_bits_in_any_batch(guidance):
    x = normal(8, 40, 2)
    denoise = bind(tiny_birnn(), TOLD, alpha_bar_cosine, guidance=guidance)
    whole = denoise(x, TIMES, torch.arange(8))
    assert whole.points.std() > 0.1
    subsets = [[i] for i in range(8)] + [[6, 0, 3], [7, 6, 5, 4, 3, 2, 1, 0], [2, 3, 4, 5, 6]]
    for rows in map(torch.tensor, subsets):
        part = denoise(x[rows], TIMES[rows], rows)
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.pen, whole.pen[rows])


def test_it_takes_no_known_points():
    assert not takes_known(tiny_birnn())
    known = Known(torch.ones(1, 16, 1), torch.zeros(1, 16, 2), torch.zeros(1, 16, 3))
    denoise = bind(tiny_birnn(), Condition(torch.tensor([0]), torch.tensor([16]), known), alpha_bar_cosine)
    with pytest.raises(ValueError, match="stroke_birnn was not made to take known points. Use a stroke_tr"):
        denoise(normal(1, 16, 2), torch.ones(1, dtype=torch.float64), torch.tensor([0]))


# ---- what it is made from -------------------------------------------------------------------------


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
        StrokeBiRNNConfig(**dataclasses.asdict(BIRNN) | setting)
