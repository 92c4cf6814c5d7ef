"""The loops against answers known in closed form, and every sketch at its own pace.

The toy: x_0 ~ N(MEAN, SPREAD²) in every coordinate, so x_t ~ N(√ᾱ MEAN, ᾱ SPREAD² + 1 − ᾱ); its best denoiser
is linear, and the probability-flow ODE carries x_t to the same quantile of every other time.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sketch_core.denoisers import Prediction
from sketch_core.samplers import SAMPLERS, looks, sample_ddim, sample_ddpm, sample_dpmpp_2m, sample_heun
from sketch_core.schedules import alpha_bar_cosine, alpha_bar_linear, placed, quadratic, uniform

MEAN, SPREAD = 1.5, 0.4


def predicted(points: torch.Tensor, calls: float = 1.0) -> Prediction:
    return Prediction(points, points.new_zeros(*points.shape[:2], 3), torch.full((len(points),), calls))


def gaussian(alpha_bar):
    """E[x_0 | x_t] of the toy."""

    def denoise(x, t, active):
        a = alpha_bar(t).to(x.dtype)[:, None, None]
        gain = SPREAD**2 * a.sqrt() / (SPREAD**2 * a + 1 - a)
        return predicted(MEAN + gain * (x - a.sqrt() * MEAN))

    return denoise


def always(points: torch.Tensor):
    """A denoiser that is sure: sketch i is points[i], whatever the noise."""
    return lambda x, t, active: predicted(points[active])


def normal(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fresh(seed: int = 1):
    """Noise for sample_ddpm, a generator a sketch."""
    generators: dict[int, torch.Generator] = {}

    def noise(like, active):
        for i in active.tolist():
            generators.setdefault(i, torch.Generator().manual_seed(seed * 1000 + i))
        rows = [torch.randn(like.shape[1:], generator=generators[i]) for i in active.tolist()]
        return torch.stack(rows).to(like)

    return noise


def paces(*steps: int):
    """A policy by which sketch i takes steps[i] equal steps."""
    return lambda step: 1 / torch.tensor(steps, dtype=torch.float64)[step.active]


def ddim(denoise, x, stride, **options):
    return sample_ddim(denoise, x, alpha_bar_cosine, stride, **options)


def ddpm(denoise, x, stride, **options):
    return sample_ddpm(denoise, x, alpha_bar_cosine, stride, fresh(), **options)


def heun(denoise, x, stride, **options):
    return sample_heun(denoise, x, alpha_bar_cosine, stride, **options)


def dpmpp_2m(denoise, x, stride, **options):
    return sample_dpmpp_2m(denoise, x, alpha_bar_cosine, stride, **options)


def calls(sample, *steps: int) -> list[int]:
    """What sketches of so many steps cost."""
    return [looks(sample.__name__, n) for n in steps]


every = pytest.mark.parametrize("sample", [ddim, ddpm, heun, dpmpp_2m])
one_call_a_step = pytest.mark.parametrize("sample", [ddim, ddpm, dpmpp_2m])

# ---- exact answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_bar", [alpha_bar_cosine, alpha_bar_linear])
def test_ddim_is_a_first_order_solver_of_the_flow(alpha_bar):
    x = normal(2, 5, 2)
    noisy = alpha_bar(torch.ones(1))
    exact = MEAN + SPREAD * (x - noisy.sqrt() * MEAN) / (noisy * SPREAD**2 + 1 - noisy).sqrt()

    def error(steps: int) -> float:
        found = sample_ddim(gaussian(alpha_bar), x, alpha_bar, uniform(steps))
        return float((found.points - exact).abs().max())

    assert math.log2(error(200) / error(400)) == pytest.approx(1.0, abs=0.1)
    assert error(400) < 0.02


def bent(power: float, steps: int, end: float) -> torch.Tensor:
    """Times from 1 down to `end`, then 0, whose strides differ all the way."""
    return torch.cat([1 - (1 - end) * torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** power, END])


END = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("alpha_bar", [alpha_bar_cosine, alpha_bar_linear])
@pytest.mark.parametrize("sample", [sample_heun, sample_dpmpp_2m])
def test_second_order_with_strides_of_each_sketch_s_own(sample, alpha_bar):
    """Against the closed form at t = 1/4: halving strides that vary by sketch and step quarters the error."""
    x = normal(3, 5, 2)
    powers = (1.0, 1.2, 1.5)  # sketch i bends its times by its own power

    def errors(steps: int) -> torch.Tensor:
        grids = [bent(power, steps, 0.25) for power in powers]

        def stride(step):
            return torch.tensor([float(placed(grids[i])(row(step, k))) for k, i in enumerate(step.active)])

        seen = {}

        def hear(step):
            seen.update(
                {
                    i: v
                    for i, t, v in zip(step.active.tolist(), step.t, step.x, strict=True)
                    if abs(t - 0.25) < 1e-9
                }
            )

        sample(gaussian(alpha_bar), x, alpha_bar, stride, callback=hear)
        found = torch.stack([seen[i] for i in range(3)])
        return (found - flow(alpha_bar, x, 0.25)).abs().amax((1, 2))

    rough, fine = errors(60), errors(120)
    assert torch.log2(rough / fine).tolist() == pytest.approx([2.0] * 3, abs=0.25)
    assert fine.max() < 1e-3


def row(step, k: int):
    """Sketch k of a step alone."""
    return dataclasses.replace(step, t=step.t[k : k + 1], active=step.active[k : k + 1], x=step.x[k : k + 1])


def flow(alpha_bar, x: torch.Tensor, t: float) -> torch.Tensor:
    """Where the probability-flow ODE carries x from t = 1: to the same quantile of time t."""
    a, b = (alpha_bar(torch.tensor([v], dtype=torch.float64)) for v in (1.0, t))
    z = (x - a.sqrt() * MEAN) / (a * SPREAD**2 + 1 - a).sqrt()
    return b.sqrt() * MEAN + (b * SPREAD**2 + 1 - b).sqrt() * z


def test_second_order_pays_at_few_calls():
    """At 12 calls (Heun: 11) the better solvers are nearer to the flow's end than DDIM is."""
    x = normal(4, 5, 2)
    exact = flow(alpha_bar_cosine, x, 0.0)

    def error(sample, steps):
        return float((sample(gaussian(alpha_bar_cosine), x, quadratic(steps)).points - exact).abs().max())

    assert error(dpmpp_2m, 12) < 0.5 * error(ddim, 12)
    assert error(heun, 6) < 0.85 * error(ddim, 12)


@pytest.mark.parametrize("sample", [ddim, heun, dpmpp_2m])
def test_a_known_drawing_is_reached_along_its_own_line(sample):
    """With x_0 known the flow is a rotation, which all of them follow exactly, whatever the strides."""
    known, x, seen = normal(3, 4, 2, seed=5), normal(3, 4, 2), []
    sample(always(known), x, paces(3, 5, 9), callback=seen.append)
    for step in seen:
        a = alpha_bar_cosine(step.t)[:, None, None]
        line = a.sqrt() * known[step.active] + (1 - a).sqrt() * x[step.active]
        torch.testing.assert_close(step.x, line, rtol=0, atol=1e-12)


def test_the_first_and_the_last_step_of_dpmpp_2m_are_ddim_s():
    x = normal(2, 4, 2)
    for grid in ([1.0, 0.0], [1.0, 0.5, 0.0]):  # after t = 1 half log-SNR is infinite, so is it at t = 0
        stride = placed(torch.tensor(grid, dtype=torch.float64))
        ours, plain = (s(gaussian(alpha_bar_cosine), x, stride).points for s in (dpmpp_2m, ddim))
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    four = placed(torch.tensor([1.0, 0.8, 0.5, 0.3, 0.0], dtype=torch.float64))
    ours, plain = (s(gaussian(alpha_bar_cosine), x, four).points for s in (dpmpp_2m, ddim))
    assert not torch.allclose(ours, plain, atol=1e-4)


def test_a_long_jump_after_a_short_step_is_not_extrapolated_without_end():
    """As a shortcut may do it: a thousandth, then half of the way."""
    grid = torch.tensor([1.0, 0.9, 0.899, 0.3, 0.0], dtype=torch.float64)
    sure = gaussian(alpha_bar_cosine)

    def trembling(x, t, active):  # a network's predictions differ a little from call to call
        return predicted(sure(x, t, active).points + 0.01 * torch.sin(1e4 * t)[:, None, None])

    x = normal(2, 4, 2)
    shaken, calm = (dpmpp_2m(denoise, x, placed(grid)).points for denoise in (trembling, sure))
    assert (shaken - calm).abs().max() < 0.1


def test_heun_s_callback_hears_of_both_calls_of_a_step():
    seen = []
    found = heun(gaussian(alpha_bar_cosine), normal(2, 3, 2), paces(2, 3), callback=seen.append)
    assert [step.index for step in seen] == [0, 1, 2, 3, 4]
    assert [step.active.tolist() for step in seen] == [[0, 1], [0, 1], [0, 1], [1], [1]]
    assert [step.t.tolist() for step in seen[:2]] == [[1, 1], pytest.approx([1 / 2, 2 / 3])]
    assert torch.equal(seen[2].t, seen[1].t)  # the corrected point, at the time of the predicted one
    assert not torch.equal(seen[2].x, seen[1].x)
    assert found.calls.tolist() == [3, 5]


def test_every_sampler_has_a_name_and_its_calls_are_known():
    assert set(SAMPLERS) == {"ddim", "ddpm", "heun", "dpmpp_2m"}
    assert [looks(name, 9) for name in SAMPLERS] == [9, 9, 17, 9]


def posterior(a_t: float, a_s: float) -> tuple[float, float, float]:
    """Ho et al. (2020), Eq. 7, alpha = ᾱ(t) / ᾱ(s): weights of x_0 and x_t in the mean; the deviation."""
    alpha = a_t / a_s
    variance = (1 - a_s) / (1 - a_t) * (1 - alpha)
    return a_s**0.5 * (1 - alpha) / (1 - a_t), alpha**0.5 * (1 - a_s) / (1 - a_t), variance**0.5


@pytest.mark.parametrize("steps", [5, 40])
def test_ddpm_has_the_mean_and_variance_of_its_chain(steps):
    """Every step of the toy is linear, so the chain's own mean and variance follow by recursion."""
    level = alpha_bar_cosine(torch.linspace(1, 0, steps + 1, dtype=torch.float64)).tolist()
    mean, variance = 0.0, 1.0
    for a_t, a_s in zip(level, level[1:], strict=False):
        of_x0, of_xt, deviation = posterior(a_t, a_s)
        gain = SPREAD**2 * a_t**0.5 / (SPREAD**2 * a_t + 1 - a_t)
        mean = of_x0 * (MEAN + gain * (mean - a_t**0.5 * MEAN)) + of_xt * mean
        variance = (of_x0 * gain + of_xt) ** 2 * variance + deviation**2
    points = ddpm(gaussian(alpha_bar_cosine), normal(20, 1000, 2), uniform(steps)).points
    n = points.numel()
    assert float(points.mean()) == pytest.approx(mean, abs=4 * (variance / n) ** 0.5)
    assert float(points.var()) == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)


def test_ddpm_in_many_steps_draws_from_the_data():
    points = ddpm(gaussian(alpha_bar_cosine), normal(20, 1000, 2), uniform(400)).points
    n = points.numel()
    assert float(points.mean()) == pytest.approx(MEAN, abs=4 * SPREAD / n**0.5)
    # the step size leaves an error of its own, 2 % here: with the posterior's variance a chain is too narrow
    assert float(points.var()) == pytest.approx(SPREAD**2, rel=4 * (2 / n) ** 0.5 + 0.025)


@pytest.mark.parametrize("stride", [uniform(3), uniform(17), quadratic(6)], ids=["3", "17", "quadratic"])
def test_ddpm_walks_through_the_forward_process_of_a_known_drawing(stride):
    """With x_0 known, q(x_s | x_t, x_0) composes exactly: after any strides x_t has the forward marginal."""
    seen = []
    known = torch.full((20, 500, 2), 3.0, dtype=torch.float64)
    ddpm(always(known), normal(20, 500, 2), stride, callback=seen.append)
    for step in seen:
        a = float(alpha_bar_cosine(step.t)[0])
        n = step.x.numel()
        assert float(step.x.mean()) == pytest.approx(a**0.5 * 3, abs=4 * ((1 - a) / n) ** 0.5)
        assert float(step.x.var()) == pytest.approx(1 - a, rel=4 * (2 / n) ** 0.5)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.6), (0.7, 0.69), (0.5, 0.125), (0.02, 0.01)])
def test_a_ddpm_step_is_the_posterior_of_the_paper(t, s):
    x, x0, z = (normal(1, 4, 2, seed=seed) for seed in range(3))
    seen = {}

    def hear(step):
        seen[round(float(step.t), 9)] = step.x

    grid = torch.tensor([1.0, t, s, 0.0] if t < 1 else [t, s, 0.0], dtype=torch.float64)
    sample_ddpm(always(x0), x, alpha_bar_linear, placed(grid), lambda like, active: z, callback=hear)
    of_x0, of_xt, deviation = posterior(*alpha_bar_linear(torch.tensor([t, s], dtype=torch.float64)).tolist())
    torch.testing.assert_close(seen[s], of_x0 * x0 + of_xt * seen[t] + deviation * z, rtol=1e-9, atol=1e-9)


@every
def test_the_clean_end_is_exact(sample):
    """alpha_bar(0) = 1: what comes back is the last prediction, bit for bit, and its pen."""
    seen = []
    found = sample(
        gaussian(alpha_bar_cosine), normal(3, 4, 2, dtype=torch.float32), uniform(7), callback=seen.append
    )
    assert torch.equal(found.points, seen[-1].prediction.points)
    assert torch.equal(found.pen, seen[-1].prediction.pen)


@every
@pytest.mark.parametrize("steps", [100, 300])
def test_the_finest_placements_stay_finite_in_float32(sample, steps):
    """At t = 1e-4, 1 - ᾱ is 0 in float32: factors are made before rounding."""
    x = normal(1, 3, 2, dtype=torch.float32)
    fine = sample(gaussian(alpha_bar_cosine), x, quadratic(steps)).points
    assert fine.isfinite().all()
    precise = sample(gaussian(alpha_bar_cosine), x.double(), quadratic(steps)).points
    torch.testing.assert_close(fine.double(), precise, rtol=0, atol=1e-4)


# ---- every sketch at its own pace -----------------------------------------------------------------


@every
def test_equal_strides_are_the_uniform_placement(sample):
    x = normal(3, 4, 2, dtype=torch.float32)
    placed = sample(gaussian(alpha_bar_cosine), x, uniform(8))
    constant = sample(gaussian(alpha_bar_cosine), x, lambda step: torch.full((len(step.t),), 0.125))
    assert torch.equal(placed.points, constant.points)
    assert torch.equal(placed.calls, constant.calls)


@pytest.mark.parametrize("sample", [ddim, heun])
def test_a_walk_that_starts_on_the_way_is_the_rest_of_the_whole_one(sample):
    whole, seen = normal(2, 3, 2), []
    end = sample(gaussian(alpha_bar_cosine), whole, uniform(10), callback=seen.append)
    middle = [step for step in seen if abs(float(step.t[0]) - 0.6) < 1e-9][-1]  # heun looks ahead as well
    rest = sample(gaussian(alpha_bar_cosine), middle.x, uniform(10), start=float(middle.t[0]))
    torch.testing.assert_close(rest.points, end.points, rtol=0, atol=1e-12)
    assert rest.calls.tolist() == calls(sample, 6, 6)


@every
def test_sketches_that_start_at_times_of_their_own_walk_as_if_alone(sample):
    x = normal(3, 4, 2, dtype=torch.float32)
    starts, seen = torch.tensor([0.3, 1.0, 0.65], dtype=torch.float64), []

    def walked(first: int, x: torch.Tensor, **options) -> Prediction:
        if sample is not ddpm:
            return sample(gaussian(alpha_bar_cosine), x, uniform(10), **options)
        noise = fresh()
        own = lambda like, active: noise(like, active + first)  # noqa: E731
        return sample_ddpm(gaussian(alpha_bar_cosine), x, alpha_bar_cosine, uniform(10), own, **options)

    together = walked(0, x, start=starts, callback=seen.append)
    assert torch.equal(seen[0].t, starts)
    for i, start in enumerate(starts.tolist()):
        alone = walked(i, x[i : i + 1], start=start)
        assert torch.equal(together.points[i], alone.points[0])
        assert together.calls[i] == alone.calls[0]
    assert len(set(together.calls.tolist())) == 3


@every
@pytest.mark.parametrize("start", [0.0, -0.1, 1.5, float("nan"), torch.tensor([0.5, 0.0])])
def test_a_start_outside_the_walk_is_refused(sample, start):
    with pytest.raises(ValueError, match="wanted a time above 0 and at most 1"):
        sample(gaussian(alpha_bar_cosine), normal(2, 3, 2), uniform(3), start=start)


@every
def test_a_sketch_that_finishes_early_changes_no_other(sample):
    x = normal(5, 4, 2, dtype=torch.float32)
    steps = (4, 9, 1, 16, 9)
    together = sample(gaussian(alpha_bar_cosine), x, paces(*steps))
    for i, own in enumerate(steps):
        row = torch.tensor([i])

        def moved(step, row=row):  # the policy and the noise of sketch i, in a batch of its own
            return paces(*steps)(dataclasses.replace(step, active=row))

        if sample is not ddpm:
            alone = sample(gaussian(alpha_bar_cosine), x[row], moved)
        else:
            own_noise = fresh()
            alone = sample_ddpm(
                gaussian(alpha_bar_cosine),
                x[row],
                alpha_bar_cosine,
                moved,
                lambda like, active, row=row, own_noise=own_noise: own_noise(like, row),
            )
        assert torch.equal(alone.points[0], together.points[i])
        assert alone.calls.tolist() == calls(sample, own)
    assert together.calls.tolist() == calls(sample, *steps)


@one_call_a_step
def test_who_is_active_is_told_to_the_denoiser_and_put_back_in_place(sample):
    target = normal(6, 3, 2, seed=3, dtype=torch.float32)
    heard = []

    def denoise(x, t, active):
        heard.append((active.tolist(), t.tolist()))
        assert len(x) == len(t) == len(active)
        return predicted(target[active])

    found = sample(denoise, normal(6, 3, 2, dtype=torch.float32), paces(3, 1, 4, 1, 5, 2))
    assert torch.equal(found.points, target)
    assert [active for active, _ in heard] == [[0, 1, 2, 3, 4, 5], [0, 2, 4, 5], [0, 2, 4], [2, 4], [4]]
    assert heard[1][1] == pytest.approx([2 / 3, 3 / 4, 4 / 5, 1 / 2])


@every
def test_a_stride_past_the_end_ends(sample):
    found = sample(gaussian(alpha_bar_cosine), normal(2, 3, 2), lambda step: torch.full((len(step.t),), 0.7))
    assert found.calls.tolist() == calls(sample, 2, 2)


@every
@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan])
def test_a_stride_that_never_arrives_is_refused(sample, bad):
    with pytest.raises(ValueError, match=r"never reach t = 0. Strides must be above 0"):
        sample(gaussian(alpha_bar_cosine), normal(2, 3, 2), lambda step: torch.tensor([0.5, bad]))


# ---- what callers hear ----------------------------------------------------------------------------


@one_call_a_step
def test_the_callback_hears_of_every_call_once(sample):
    seen = []
    x = normal(2, 3, 2)
    before = x.clone()
    sample(gaussian(alpha_bar_cosine), x, paces(2, 3), callback=seen.append)
    assert [step.index for step in seen] == [0, 1, 2]
    assert [step.active.tolist() for step in seen] == [[0, 1], [0, 1], [1]]
    assert torch.equal(seen[0].x, before)
    assert torch.equal(x, before)  # the caller's noise is left alone
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[0].index = 3


@every
def test_an_error_in_the_callback_stops_the_run(sample):
    class Cancelled(Exception):
        pass

    seen = []

    def callback(step):
        seen.append(step.index)
        if step.index == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample(gaussian(alpha_bar_cosine), normal(2, 3, 2), uniform(10), callback=callback)
    assert seen == [0, 1]


@one_call_a_step
def test_calls_are_counted_per_sketch(sample):
    def denoise(x, t, active):  # two calls while the noise is strong
        return dataclasses.replace(gaussian(alpha_bar_cosine)(x, t, active), calls=1 + (t > 0.5).float())

    seen = []
    found = sample(denoise, normal(2, 3, 2), paces(4, 8), callback=seen.append)
    assert found.calls.tolist() == [4 + 2, 8 + 4]
    assert seen[0].calls == 2.0
    assert seen[2].calls == 1.5  # one at 0.5, the other at 0.75


@every
def test_no_graph_is_built(sample):
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def denoise(x, t, active):
        return predicted(x * weight)

    assert not sample(denoise, normal(1, 3, 2), uniform(2)).points.requires_grad
