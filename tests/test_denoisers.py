"""Binding a network and what it is told: parameterisations, guidance, and the same drawing in any batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from sketch_core.denoisers import POINT_TILE, ROW_TILE, Condition, bind, clean
from sketch_core.models.stroke_transformer import Known
from sketch_core.models.stroke_unet import StrokeUNet, StrokeUNetConfig, lift_pen, model_time
from sketch_core.schedules import ALPHA_BARS, alpha_bar_cosine
from sketch_core.train.losses import noised, target
from tests.tiny import CONFIG, normal, tiny_transformer

NULL = CONFIG.num_classes
LENGTH = torch.tensor([16, 3, 30, 17, 16, 1, 40, 31])
LABEL = torch.tensor([0, 1, 2, NULL, 1, 0, 2, 0])
B, N = len(LENGTH), 40
T = torch.linspace(1, 0.01, B, dtype=torch.float64)
INSIDE = torch.arange(N) < LENGTH[:, None]


def x_and_condition(*, known: bool = False) -> tuple[torch.Tensor, Condition]:
    given = None
    if known:
        flag = (normal(B, N, 1, seed=4) > 0).float()
        pen = F.one_hot(torch.arange(B * N).reshape(B, N) % 3, 3).float()
        given = Known(flag, normal(B, N, 2, seed=5), pen)
    return normal(B, N, 2), Condition(LABEL, LENGTH, given)


def everyone() -> torch.Tensor:
    return torch.arange(B)


class Calls:
    """What reaches a network, call by call."""

    def __init__(self, network):
        self.heard: list[dict] = []
        network.register_forward_pre_hook(self._hear)

    def _hear(self, network, arguments):
        self.heard.append(dict(zip(("x", "t", "label", "length", "known"), arguments, strict=False)))


# ---- parameterisations ----------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ALPHA_BARS)
@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_all_parameterisations_find_the_same_clean_points(prediction, schedule):
    """The training target of a perfect network, turned back: x_0, at every noise level."""
    x0, eps = normal(B, 5, 2).double(), normal(B, 5, 2, seed=1).double()
    level = ALPHA_BARS[schedule](torch.linspace(0, 0.95, B))
    output = target(prediction, x0, eps, level)
    found = clean(prediction, output, noised(x0, eps, level), level)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_pure_noise_is_no_trouble_for_v_and_x0(prediction):
    x0, eps, level = normal(2, 5, 2), normal(2, 5, 2, seed=1), alpha_bar_cosine(torch.ones(2))
    output = target(prediction, x0, eps, level)
    torch.testing.assert_close(clean(prediction, output, noised(x0, eps, level), level), x0, rtol=0, atol=0)


def test_eps_stays_finite_where_there_is_no_signal():
    x = normal(1, 5, 2)
    assert clean("eps", x + 1, x, torch.zeros(1, dtype=torch.float64)).isfinite().all()


def test_what_a_network_predicts_is_asked_for_by_name():
    with pytest.raises(ValueError, match=r"unknown prediction 'score'. Known: v, eps, x0"):
        clean("score", torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.ones(1))


@pytest.mark.parametrize("prediction", ["v", "eps", "x0"])
def test_a_bound_network_is_its_output_made_clean(prediction):
    network = tiny_transformer(config=dataclasses.replace(CONFIG, prediction=prediction))
    x, condition = x_and_condition()
    found = bind(network, condition, alpha_bar_cosine)(x, T, everyone())
    output, pen = network(x, T.float(), LABEL, LENGTH)
    wanted = clean(prediction, output, x, alpha_bar_cosine(T))
    # rows of other padding: only nearly the same sums; eps divides by √ᾱ, down to 1e-4
    size = 1 / alpha_bar_cosine(T).sqrt().clamp(min=1e-4) if prediction == "eps" else torch.ones(B)
    assert (((found.points - wanted) * INSIDE[..., None]).abs().amax((1, 2)) < 1e-5 * size).all()
    torch.testing.assert_close(found.pen[INSIDE], pen[INSIDE], rtol=1e-4, atol=1e-4)


# ---- guidance -------------------------------------------------------------------------------------


def test_guidance_1_is_one_plain_call():
    network = tiny_transformer()
    condition = Condition(LABEL[:4], torch.full((4,), 16))
    calls = Calls(network)
    plain = bind(network, condition, alpha_bar_cosine)(normal(4, 16, 2), T[:4], torch.arange(4))
    one = bind(network, condition, alpha_bar_cosine, guidance=1.0)(normal(4, 16, 2), T[:4], torch.arange(4))
    assert len(calls.heard) == 2
    assert [len(call["x"]) for call in calls.heard] == [4, 4]
    assert torch.equal(plain.points, one.points)
    assert plain.calls.tolist() == one.calls.tolist() == [1] * 4
    output, pen = network(normal(4, 16, 2), T[:4].float(), LABEL[:4], condition.length)
    assert torch.equal(one.points, clean("v", output, normal(4, 16, 2), alpha_bar_cosine(T[:4])))
    assert torch.equal(one.pen, pen)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("known", [False, True])
def test_guidance_goes_from_the_free_prediction_past_the_conditional_one(guidance, known):
    network = tiny_transformer(config=dataclasses.replace(CONFIG, prediction="x0"))
    x, condition = x_and_condition(known=known)
    told = bind(network, condition, alpha_bar_cosine)(x, T, everyone())
    free = bind(network, condition.without_class(NULL), alpha_bar_cosine)(x, T, everyone())
    found = bind(network, condition, alpha_bar_cosine, guidance=guidance)(x, T, everyone())
    assert torch.equal(found.points, free.points + guidance * (told.points - free.points))
    assert torch.equal(found.pen, told.pen)  # only points are guided
    assert found.calls.tolist() == [2] * B
    moved = (told.points - free.points).abs().amax((1, 2)) > 1e-3
    assert moved.tolist() == (LABEL != NULL).tolist()


@pytest.mark.parametrize("prediction", ["v", "eps"])
def test_guidance_is_the_same_for_clean_points_as_for_what_the_network_says(prediction):
    """Linear in v and eps: guiding before or after they become x_0 differs by rounding alone."""
    network = tiny_transformer(config=dataclasses.replace(CONFIG, prediction=prediction))
    x, condition = x_and_condition()
    t = T.clamp(max=0.9)
    told, free = (
        bind(network, c, alpha_bar_cosine)(x, t, everyone()).points
        for c in (condition, condition.without_class(NULL))
    )
    found = bind(network, condition, alpha_bar_cosine, guidance=3.0)(x, t, everyone()).points
    torch.testing.assert_close(found, free + 3 * (told - free), rtol=1e-4, atol=1e-4)


def test_only_the_class_is_dropped():
    network = tiny_transformer()
    calls = Calls(network)
    x, condition = x_and_condition(known=True)
    same = torch.full((B,), 32)
    condition = dataclasses.replace(condition, length=same)
    bind(network, condition, alpha_bar_cosine, guidance=2.0)(x[:, :32], T, everyone())
    (call,) = calls.heard  # one length, one call
    for name in ("x", "t", "length"):
        assert torch.equal(call[name][:B], call[name][B:]), name
    for part in call["known"]:
        assert torch.equal(part[:B], part[B:])
        assert part.any()
    assert call["label"].tolist() == LABEL.tolist() + [NULL] * B


def test_guidance_acts_inside_its_interval_only():
    network = tiny_transformer()
    x, condition = x_and_condition()
    options = {"guidance": 3.0, "interval": (0.2, 0.7)}
    found = bind(network, condition, alpha_bar_cosine, **options)(x, T, everyone())
    always = bind(network, condition, alpha_bar_cosine, guidance=3.0)(x, T, everyone())
    never = bind(network, condition, alpha_bar_cosine)(x, T, everyone())
    inside = (T >= 0.2) & (T <= 0.7)
    assert 0 < inside.sum() < B
    assert torch.equal(found.points[inside], always.points[inside])
    assert torch.equal(found.points[~inside], never.points[~inside])
    assert found.calls.tolist() == [1 + float(i) for i in inside]


# ---- the same drawing in any batch ----------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("known", [False, True])
def test_a_sketch_is_the_same_bits_in_any_batch(guidance, known):
    x, condition = x_and_condition(known=known)
    denoise = bind(tiny_transformer(), condition, alpha_bar_cosine, guidance=guidance)
    whole = denoise(x, T, everyone())
    subsets = [[i] for i in range(B)] + [[6, 0, 3], [7, 6, 5, 4, 3, 2, 1, 0], [2, 3, 4, 5, 6]]
    for rows in map(torch.tensor, subsets):
        part = denoise(x[rows], T[rows], rows)
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.pen, whole.pen[rows])


def test_neither_the_width_of_the_batch_nor_what_is_past_the_end_changes_a_sketch():
    x, condition = x_and_condition()
    denoise = bind(tiny_transformer(), condition, alpha_bar_cosine, guidance=2.0)
    whole = denoise(x, T, everyone())
    wide = denoise(F.pad(torch.where(INSIDE[..., None], x, 1e4), (0, 0, 0, 30), value=-7.0), T, everyone())
    assert torch.equal(wide.points[:, :N][INSIDE], whole.points[INSIDE])
    assert torch.equal(wide.pen[:, :N], whole.pen)
    row = torch.tensor([1])
    narrow = denoise(x[row, :3], T[row], row)
    assert torch.equal(narrow.points, whole.points[row, :3])


def test_nothing_is_said_past_the_end():
    network = tiny_transformer(config=dataclasses.replace(CONFIG, prediction="x0"))
    x, condition = x_and_condition()
    found = bind(network, condition, alpha_bar_cosine, guidance=2.0)(x, T, everyone())
    assert not found.points[~INSIDE].any()
    assert not found.pen[~INSIDE].any()


def test_networks_run_on_whole_tiles_of_one_length():
    network = tiny_transformer()
    calls = Calls(network)
    x, condition = x_and_condition()
    bind(network, condition, alpha_bar_cosine)(x, T, everyone())
    assert [call["x"].shape[1] for call in calls.heard] == [16, 32, 48]  # lengths 1..16, 17..32, 40
    for call in calls.heard:
        rows, points, _ = call["x"].shape
        assert rows % ROW_TILE == points % POINT_TILE == 0
        assert (call["length"] <= points).all()
        assert (call["length"] > points - POINT_TILE).all()


def test_a_time_per_sketch_and_no_known_points_like_none():
    x, condition = x_and_condition()
    network = tiny_transformer()
    nothing = Known(torch.zeros(B, N, 1), torch.zeros(B, N, 2), torch.zeros(B, N, 3))
    none = bind(network, condition, alpha_bar_cosine)(x, T, everyone())
    empty = bind(network, dataclasses.replace(condition, known=nothing), alpha_bar_cosine)(x, T, everyone())
    assert torch.equal(none.points, empty.points)
    assert torch.equal(none.pen, empty.pen)


# ---- the paper's network --------------------------------------------------------------------------


def tiny_unet(**settings) -> StrokeUNet:
    network = StrokeUNet(StrokeUNetConfig(points=32, num_res_blocks=1, features=16, **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def test_the_paper_s_network_hears_steps_and_its_own_name_for_no_class():
    network = tiny_unet(num_classes=3)
    label, length = torch.tensor([0, 2, 3, 1]), torch.tensor([32, 20, 20, 7])
    t, rows = torch.tensor([1.0, 0.5, 0.25, 0.001], dtype=torch.float64), torch.arange(4)
    real = torch.arange(32) < length[:, None]
    x = normal(4, 32, 2) * real[..., None]
    alpha_bar = ALPHA_BARS["linear"]
    found = bind(network, Condition(label, length), alpha_bar)(x, t, rows)
    output, pen = network(x, model_time(t.float(), network.config), torch.tensor([0, 2, -1, 1]))
    wanted = clean("eps", output, x, alpha_bar(t))
    torch.testing.assert_close(found.points[1:][real[1:]], wanted[1:][real[1:]], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.pen[real], lift_pen(pen)[real], rtol=1e-4, atol=1e-4)


def test_a_network_without_classes_draws_guided_or_not():
    network = tiny_unet()
    condition = Condition(torch.zeros(2, dtype=torch.long), torch.tensor([20, 32]))
    t, x = torch.tensor([0.5, 0.2], dtype=torch.float64), normal(2, 32, 2)
    plain, guided = (
        bind(network, condition, ALPHA_BARS["linear"], guidance=g)(x, t, torch.arange(2)) for g in (1.0, 3.0)
    )
    torch.testing.assert_close(plain.points, guided.points, rtol=1e-4, atol=1e-4)


def test_the_paper_s_network_takes_no_known_points():
    known = Known(torch.ones(1, 32, 1), torch.zeros(1, 32, 2), torch.zeros(1, 32, 3))
    denoise = bind(
        tiny_unet(num_classes=3),
        Condition(torch.tensor([0]), torch.tensor([32]), known),
        ALPHA_BARS["linear"],
    )
    with pytest.raises(ValueError, match=r"stroke_unet was not made to take known points"):
        denoise(normal(1, 32, 2), torch.ones(1, dtype=torch.float64), torch.tensor([0]))
