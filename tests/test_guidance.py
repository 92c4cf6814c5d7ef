"""Guidance: exact posteriors, gradients that arrive, the same drawing in any batch, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sketch_core import samplers
from sketch_core.data.ndjson import read_ndjson
from sketch_core.denoisers import ROW_TILE, Condition, Prediction, bind, to_length
from sketch_core.guidance import Anchors, Likeness, anchored, guided, ink_box, into_box, places
from sketch_core.hub import find_weights, load_weights
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.perceptual import Perceptual, sketch_perceptual
from sketch_core.raster import rasterize
from sketch_core.schedules import ALPHA_BARS, alpha_bar_cosine, uniform
from sketch_core.soft_raster import soft_raster
from tests.tiny import normal, tiny_transformer

DATA = Path(__file__).parent / "data"
LENGTH = torch.tensor([12, 3, 20, 17, 1, 20, 9])
LABEL = torch.tensor([0, 1, 2, 3, 1, 0, 2])
B, N = len(LENGTH), 20
REAL = torch.arange(N) < LENGTH[:, None]
T = torch.linspace(1, 0.05, B, dtype=torch.float64)
EVERYONE = torch.arange(B)
LEVEL = (1 - alpha_bar_cosine(T)).sqrt()


def offsets(seed: int = 0) -> Tensor:
    return normal(B, N, 2, seed=seed) * REAL[..., None]


def sees(points: Tensor):
    """A denoiser that sees these points (B, N, 2) whatever it is shown, the pen down."""
    pen = torch.tensor([9.0, 0.0, 0.0]).expand(B, N, 3) * REAL[..., None]

    def denoise(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        return Prediction(points[active], pen[active], torch.ones(len(active)))

    return denoise


def ask(denoise, rows: Tensor = EVERYONE) -> Tensor:
    return denoise(torch.zeros(len(rows), N, 2), T[rows], rows).points


def centred(at: Tensor, length: Tensor) -> Tensor:
    """Places (b, N + 1, 2) around their middle, 0 past the end."""
    inside = (torch.arange(at.shape[1]) <= length[:, None])[..., None]
    return (at - (at * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True)) * inside


def towards(target: Tensor, weight: float = 1.0):
    """An energy: squared distance of the places from those of other offsets (B, N, 2), middles aside."""
    wanted = centred(places(target), LENGTH)

    def energy(seen: Prediction, t: Tensor, active: Tensor) -> Tensor:
        at = places(seen.points)
        apart = centred(at, LENGTH[active]) - to_length(wanted[active], at.shape[1])
        return weight * apart.square().sum((1, 2))

    return energy


def rms(moved: Tensor) -> Tensor:
    """(B,) root mean square move of the places of each sketch, its middle held."""
    return (centred(places(moved), LENGTH).square().sum((1, 2)) / (LENGTH + 1)).sqrt()


def pictures() -> Tensor:
    """Ink (B, 24, 24): some other drawings of as many points."""
    real = torch.arange(N + 1) <= LENGTH[:, None]
    at = into_box(places(offsets(seed=8)), real, torch.tensor([[3.0, 3, 21, 21]]).expand(B, 4))
    return soft_raster(at, torch.ones(B, N + 1), 24, line_width=1.5, mask=real)


@functools.cache
def eye() -> Perceptual:
    torch.manual_seed(0)
    config = SketchClassifierConfig(classes=3, size=24, stem=4, kernel=3, widths=(6, 8), depths=(1, 1))
    return sketch_perceptual(SketchClassifier(config).eval().requires_grad_(False))


def likeness(**options) -> Likeness:
    return Likeness(eye(), pictures(), LENGTH, line_width=1.5, **options)


# ---- anchors --------------------------------------------------------------------------------------


def test_anchors_give_the_exact_posterior_of_a_gaussian():
    """For offsets N(0, 1), x0 given x_t is N(√ᾱ x, 1 - ᾱ); with y = places + noise it is Gaussian again."""
    level = alpha_bar_cosine(T)
    x, wanted = offsets(), places(offsets(seed=1)) + 3
    spread = normal(B, N + 1, seed=2).abs() + 0.1

    def denoise(x, t, active):
        points = alpha_bar_cosine(t).sqrt().float()[:, None, None] * x
        return Prediction(points, torch.zeros(len(t), N, 3), torch.ones(len(t)))

    found = anchored(denoise, Anchors(wanted, spread), LENGTH, alpha_bar_cosine)(x, T, EVERYONE).points
    for i, n in enumerate(LENGTH.tolist()):
        sums = torch.cat([torch.zeros(1, n), torch.ones(n, n).tril()]).double()  # offsets -> places
        sums = torch.cat([sums, torch.ones(n + 1, 1)], 1)  # and one unknown more: where the drawing lies
        precision = torch.diag(torch.cat([1 / (1 - level[i]).expand(n), torch.zeros(1)]))
        mean = torch.cat([level[i].sqrt() * x[i, :n].double(), torch.zeros(1, 2)])
        weight = torch.diag(1 / spread[i, : n + 1].double().square())
        left = precision + sums.T @ weight @ sums
        right = precision @ mean + sums.T @ weight @ wanted[i, : n + 1].double()
        exact = torch.linalg.solve(left, right)[:n]
        torch.testing.assert_close(found[i, :n].double(), exact, rtol=0, atol=1e-5)
    assert not found[~REAL].any()


def test_a_spread_of_0_is_exact_and_of_infinity_nothing():
    wanted, seen = places(offsets(seed=1)), offsets()
    exact = ask(anchored(sees(seen), Anchors(wanted, torch.zeros(B, N + 1)), LENGTH, alpha_bar_cosine))
    torch.testing.assert_close(exact, offsets(seed=1), rtol=0, atol=1e-5)
    nowhere = torch.full_like(wanted, torch.nan)
    free = Anchors(nowhere, torch.full((B, N + 1), torch.inf))
    assert torch.equal(ask(anchored(sees(seen), free, LENGTH, alpha_bar_cosine)), seen)


def test_points_without_an_anchor_go_along():
    """Between two exact anchors the free points keep their offsets but for an even share of the change."""
    seen = offsets()
    wanted, spread = places(seen), torch.full((B, N + 1), torch.inf)
    wanted[:, 0], spread[:, 0] = 0, 0
    last = LENGTH[:, None, None].expand(-1, 1, 2)
    goal = torch.tensor([5.0, -2.0])
    change = goal - wanted.gather(1, last)
    wanted.scatter_(1, last, goal.expand(B, 1, 2))
    spread.scatter_(1, LENGTH[:, None], 0.0)
    found = ask(anchored(sees(seen), Anchors(wanted, spread), LENGTH, alpha_bar_cosine))
    even = (seen + change / LENGTH[:, None, None]) * REAL[..., None]
    torch.testing.assert_close(found, even, rtol=0, atol=1e-5)


def test_where_the_anchors_lie_as_a_whole_means_nothing():
    spread = torch.full((B, N + 1), 0.3)
    a, b = (
        ask(anchored(sees(offsets()), Anchors(places(offsets(1)) + by, spread), LENGTH, alpha_bar_cosine))
        for by in (0.0, 40.0)
    )
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_anchors_are_refused():
    with pytest.raises(ValueError, match="a spread is below 0 or not a number"):
        Anchors(torch.zeros(1, 3, 2), torch.tensor([[0.0, -1.0, 2.0]]))
    with pytest.raises(ValueError, match="an anchor lies at no finite place"):
        Anchors(torch.full((1, 3, 2), torch.inf), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"spread must have shape \(1, 3\), got \(1, 2\)"):
        Anchors(torch.zeros(1, 3, 2), torch.ones(1, 2))


# ---- gradients ------------------------------------------------------------------------------------


def test_scale_0_is_the_denoiser_itself():
    denoise = sees(offsets())
    assert guided(denoise, towards(offsets(1)), 0.0, alpha_bar_cosine, length=LENGTH) is denoise


@pytest.mark.parametrize("weight", [1.0, 1e4])
@pytest.mark.parametrize("reach", [0.0, 3.0])
def test_a_move_is_scale_times_the_noise_level_whatever_the_energy(weight, reach):
    seen = offsets()
    energy = towards(offsets(1), weight)
    found = ask(guided(sees(seen), energy, 0.2, alpha_bar_cosine, length=LENGTH, reach=reach))
    torch.testing.assert_close(rms(found - seen), (0.2 * LEVEL).float(), rtol=1e-3, atol=1e-5)
    assert not found[~REAL].any()


def test_without_reach_places_move_straight_down_the_gradient():
    seen, wanted = offsets(), offsets(seed=1)
    found = ask(guided(sees(seen), towards(wanted), 0.1, alpha_bar_cosine, length=LENGTH, reach=0.0))
    for i, n in enumerate(LENGTH.tolist()):
        down = (places(wanted) - places(seen))[i, : n + 1]
        moved = (places(found) - places(seen))[i, : n + 1]
        down, moved = down - down.mean(0), moved - moved.mean(0)
        torch.testing.assert_close(moved / moved.norm(), down / down.norm(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_energy_falls_and_more_steps_find_more(steps):
    seen, energy = offsets(), towards(offsets(1))
    denoise = sees(seen)
    options = {"length": LENGTH, "steps": steps}

    def value(denoise):
        return energy(Prediction(ask(denoise), normal(B, N, 3), T), T, EVERYONE)

    before, after = value(denoise), value(guided(denoise, energy, 0.1, alpha_bar_cosine, **options))
    assert (after < before).all()


def test_likeness_falls_for_nearly_every_sketch():
    denoise, energy = sees(offsets()), likeness()
    moved = guided(denoise, energy, 0.05, alpha_bar_cosine, length=LENGTH)
    with torch.no_grad():
        before, after = (energy(d(offsets(), T, EVERYONE), T, EVERYONE) for d in (denoise, moved))
    assert (after < before).sum() >= B - 1
    assert after.mean() < before.mean()


def test_guidance_acts_in_its_interval_only():
    seen = offsets()
    options = {"length": LENGTH, "interval": (0.3, 0.8)}
    found = ask(guided(sees(seen), towards(offsets(1)), 0.5, alpha_bar_cosine, **options))
    changed = (found != seen).any(2).any(1)
    assert changed.tolist() == ((T >= 0.3) & (T <= 0.8)).tolist()
    assert 0 < changed.sum() < B


def test_an_energy_without_slope_moves_nothing():
    def flat(seen, t, active):
        return (seen.points * 0).sum((1, 2))

    seen = offsets()
    assert torch.equal(ask(guided(sees(seen), flat, 1.0, alpha_bar_cosine, length=LENGTH)), seen)


def test_no_gradient_passes_the_network_and_none_is_kept():
    network = tiny_transformer().requires_grad_(True)
    denoise = bind(network, Condition(LABEL, LENGTH), alpha_bar_cosine)
    found = guided(denoise, likeness(), 0.3, alpha_bar_cosine, length=LENGTH)
    x = offsets()
    with torch.no_grad():
        assert not found(x, T, EVERYONE).points.requires_grad
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_it_works_as_a_host_runs_nodes(mode):
    """ComfyUI runs nodes under inference mode, whose tensors cannot be kept for backward."""
    network = tiny_transformer()
    eye()  # weights are made outside it, as the loader does
    denoise = bind(network, Condition(LABEL, LENGTH), alpha_bar_cosine)
    plain = guided(denoise, likeness(), 0.3, alpha_bar_cosine, length=LENGTH)
    wanted = plain(offsets(), T, EVERYONE).points
    with mode():
        denoise = bind(network, Condition(LABEL.clone(), LENGTH.clone()), alpha_bar_cosine)
        found = guided(denoise, likeness(), 0.3, alpha_bar_cosine, length=LENGTH.clone())
        inside = found(offsets(), T.clone(), EVERYONE.clone()).points
    assert torch.equal(inside, wanted)


def test_guidance_is_refused():
    for options, message in [
        ({"scale": -1.0}, "guidance scale is -1.0, wanted a number of 0 or more"),
        ({"scale": float("nan")}, "guidance scale is nan"),
        ({"scale": 1.0, "steps": 0}, "takes 0 steps a call, wanted a whole number"),
        ({"scale": 1.0, "reach": -2.0}, "reach is -2.0 points"),
    ]:
        with pytest.raises(ValueError, match=message):
            guided(sees(offsets()), towards(offsets()), alpha_bar=alpha_bar_cosine, length=LENGTH, **options)


# ---- the same drawing in any batch ----------------------------------------------------------------


def wished(kind: str, guidance_scale: float = 1.7):
    """The tiny network with classifier-free guidance and a wish for each of the B sketches."""
    condition, options = Condition(LABEL, LENGTH), {"guidance": guidance_scale, "interval": (0.2, 0.7)}
    denoise = bind(tiny_transformer(), condition, alpha_bar_cosine, **options)
    if kind != "likeness":
        spread = normal(B, N + 1, seed=3).abs()
        denoise = anchored(denoise, Anchors(places(offsets(2)), spread), LENGTH, alpha_bar_cosine)
    if kind != "anchored":
        denoise = guided(denoise, likeness(), 0.3, alpha_bar_cosine, length=LENGTH, interval=(0.1, 0.9))
    return denoise


@pytest.mark.parametrize("kind", ["likeness", "anchored", "both"])
def test_a_prediction_is_the_same_bits_in_any_batch(kind):
    denoise, x = wished(kind), offsets(seed=5)
    whole = denoise(x, T, EVERYONE)
    for rows in map(torch.tensor, [[2], [6, 1], [6, 5, 4, 3, 2, 1, 0]]):
        part = denoise(x[rows], T[rows], rows)
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.pen, whole.pen[rows])
        short = int(LENGTH[rows].max())  # a batch is as wide as its longest sketch
        alone = denoise(x[rows, :short], T[rows], rows)
        assert torch.equal(alone.points, whole.points[rows, :short])


@pytest.mark.parametrize("width", [N, 40])
def test_an_energy_s_gradient_is_taken_on_the_same_points_in_any_batch(width):
    """Sums round as there are points to sum: each sketch is shown cut or padded to its own tile of points."""
    asked = {}

    def energy(seen: Prediction, t: Tensor, active: Tensor) -> Tensor:
        asked.update((i, (seen.points.shape[1], seen.pen.shape[1])) for i in active.tolist())
        return seen.points.square().sum((1, 2))

    wide = functools.partial(to_length, N=width)

    def denoise(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        seen = sees(offsets())(x, t, active)
        return Prediction(wide(seen.points), wide(seen.pen), seen.calls)

    assert ask(guided(denoise, energy, 0.1, alpha_bar_cosine, length=LENGTH)).shape == (B, width, 2)
    assert asked == {i: (16, 16) if n <= 16 else (32, 32) for i, n in enumerate(LENGTH.tolist())}


def own_pace(step):
    """Sketches finish at different steps."""
    return 1 / (2 + step.active % 3).double()


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_every_sampler_draws_with_it_at_every_sketch_s_own_pace(sampler):
    def noise(like: Tensor, active: Tensor) -> Tensor:
        return offsets(seed=6)[active]

    run = getattr(samplers, f"sample_{sampler}")
    extra = [noise] if sampler == "ddpm" else []
    plain = bind(tiny_transformer(), Condition(LABEL, LENGTH), alpha_bar_cosine, guidance=1.7)
    x, unmoved = offsets(seed=5), run(plain, offsets(seed=5), alpha_bar_cosine, own_pace, *extra).points
    drawn = run(wished("both"), x, alpha_bar_cosine, own_pace, *extra).points
    assert drawn.isfinite().all()
    assert ((drawn != unmoved).any(2).any(1) | (LENGTH == 1)).all()


# ---- pictures -------------------------------------------------------------------------------------


def test_a_drawing_looks_like_its_own_picture_wherever_and_however_large_it_is():
    energy, own, other = likeness(), offsets(seed=8), offsets(seed=9)
    pen = torch.tensor([30.0, 0.0, 0.0]).expand(B, N, 3)
    with torch.no_grad():
        same, large, away = (
            energy(Prediction(points, pen, T), T, EVERYONE) for points in (own, own * 7, other)
        )
    lines = LENGTH > 1  # one straight line is much like another
    assert (same[lines] < 0.5 * away[lines]).all()  # its box is known to half a pixel
    assert same[lines].mean() < 0.15 * away[lines].mean()
    torch.testing.assert_close(same, large, rtol=0, atol=1e-4)


def test_a_drawing_from_another_device_is_compared_where_the_pictures_are(monkeypatch):
    """As from a GPU; here the meta device is the pictures', and the drawing comes from the CPU."""
    energy = Likeness(Perceptual(lambda ink: [ink[:, None]]), pictures(), LENGTH, line_width=1.5)
    energy.pictures, energy.wanted = energy.pictures.to("meta"), [maps.to("meta") for maps in energy.wanted]
    shown = []

    def picture(seen: Prediction, active: Tensor) -> Tensor:
        shown.append({part.device.type for part in (seen.points, seen.pen, active)})
        return seen.points.sum((1, 2))[:, None, None].expand(-1, 24, 24)

    monkeypatch.setattr(energy, "picture", picture)
    value = energy(Prediction(offsets().requires_grad_(), normal(B, N, 3), torch.ones(B)), T, EVERYONE)
    assert shown == [{"meta"}]
    assert value.requires_grad  # the way back to the drawing's own device is autograd's
    assert (value.device.type, value.shape) == ("meta", (B,))


def test_the_pen_is_the_denoiser_s_unless_it_is_given():
    points, pen = offsets(seed=8), normal(B, N, 3, seed=4)
    seen = Prediction(points, pen, T)
    by_word = likeness().picture(seen, EVERYONE)
    down = torch.cat([torch.ones(B, 1), pen.softmax(-1)[..., 0]], 1)
    given = likeness(down=down).picture(seen, EVERYONE)
    torch.testing.assert_close(by_word, given, rtol=0, atol=1e-5)
    nothing = likeness(down=torch.ones(B, N + 1)).picture(seen, EVERYONE)
    assert (nothing.sum((1, 2)) > given.sum((1, 2)))[LENGTH > 3].all()


def test_gradients_of_the_likeness_are_those_of_finite_differences():
    """In float64, through the box, the raster and the distance."""

    def maps(ink):
        return [torch.stack([ink[:, ::2, ::2], ink[:, 1::2, 1::2], 0.3 + 0 * ink[:, ::2, ::2]], 1)]

    energy = Likeness(Perceptual(maps), pictures().double(), LENGTH, line_width=1.5, blur=3.0)
    pen = normal(B, N, 3).double()
    rows = torch.tensor([1, 6])

    def value(points):
        return energy(Prediction(points, pen[rows], T), T[rows], rows)

    x = offsets(seed=3)[rows].double().requires_grad_()
    assert torch.autograd.gradcheck(value, (x,), fast_mode=True)


def test_the_box_is_that_of_the_lines_middles():
    line = torch.tensor([[[6.0, 9.0], [30.0, 9.0], [30.0, 22.0]]])
    ink = soft_raster(line, torch.ones(1, 3), (40, 32), line_width=2.0)
    torch.testing.assert_close(ink_box(ink, 2.0), torch.tensor([[6.0, 9.0, 30.0, 22.0]]))
    with pytest.raises(ValueError, match="picture 1 holds no ink"):
        ink_box(torch.stack([ink[0], 0 * ink[0]]), 2.0)


def test_one_tile_of_sketches_is_asked_at_a_time():
    asked = []

    def energy(seen: Prediction, t: Tensor, active: Tensor) -> Tensor:
        asked.append(active.tolist())
        return seen.points.square().sum((1, 2))

    ask(guided(sees(offsets()), energy, 0.1, alpha_bar_cosine, length=LENGTH))
    assert asked == [[0, 1, 4, 6], [2, 3, 5, 5]]  # of up to 16 points, and of up to 32
    assert ROW_TILE == 4

    def wrong(seen, t, active):
        return seen.points.square().sum()

    with pytest.raises(ValueError, match=r"energy must have shape \(4\), got \(\)"):
        ask(guided(sees(offsets()), wrong, 0.1, alpha_bar_cosine, length=LENGTH))


@pytest.mark.weights
def test_the_embedded_model_draws_what_the_picture_shows():
    """From noise alone: over seeds, drawings look more like the picture the more they are asked to."""
    try:
        find_weights("base")
        find_weights("recognizer")
    except ValueError:
        pytest.skip("the embedded weights are not there")
    weights, eye = load_weights("base"), sketch_perceptual(load_weights("recognizer").model)
    sketch = next(s for s in read_ndjson(DATA / "drawings.ndjson") if s.label == "apple")
    picture = torch.from_numpy(rasterize([sketch], 48, line_width=1.5))
    many, n = 16, sketch.num_points - 1
    length = torch.full((many,), n)
    label = torch.full((many,), weights.metadata.classes.index("apple"))
    energy = Likeness(eye, picture.expand(many, 48, 48), length, line_width=1.5)
    alpha_bar = ALPHA_BARS[weights.model.config.schedule]
    denoise, means = bind(weights.model, Condition(label, length), alpha_bar), []
    for scale in (0.0, 0.5, 1.0):
        wish = guided(denoise, energy, scale, alpha_bar, length=length)
        found = samplers.sample_ddim(wish, normal(many, n, 2, seed=3), alpha_bar, uniform(6))
        with torch.no_grad():
            means.append(float(energy(found, None, torch.arange(many)).mean()))
    assert means[2] < means[1] < means[0]
    assert means[2] < 0.85 * means[0]
