"""Noise levels against their closed forms, and where the placements put the steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.denoisers import Prediction
from sketch_core.samplers import Step
from sketch_core.schedules import (
    ALPHA_BARS,
    SCHEDULES,
    alpha_bar_cosine,
    alpha_bar_linear,
    half_log_snr,
    half_log_snr_level,
    logsnr,
    placed,
    quadratic,
    time_of,
    uniform,
)


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def step_at(t: torch.Tensor) -> Step:
    x = torch.zeros(len(t), 1, 2)
    return Step(0, torch.arange(len(t)), t, x, Prediction(x, torch.zeros(len(t), 1, 3), torch.ones(len(t))))


def walk(stride, limit: int) -> list[float]:
    """The times at which one sketch is looked at, and the one it ends at."""
    visited = [1.0]
    while visited[-1] > 1e-9 and len(visited) <= limit + 1:
        visited.append(visited[-1] - float(stride(step_at(times(visited[-1])))))
    return visited


@pytest.mark.parametrize("name", ALPHA_BARS)
def test_every_schedule_is_exactly_clean_at_0_and_only_falls(name):
    alpha_bar = ALPHA_BARS[name]
    t = torch.linspace(0, 1, 4001, dtype=torch.float64)
    level = alpha_bar(t)
    assert level[0] == 1.0
    assert level.dtype == torch.float64
    assert (level.diff() < 0).all()
    assert 0 <= level[-1] < 1e-4


@pytest.mark.parametrize("name", ALPHA_BARS)
def test_a_float32_time_is_enough_and_no_gradient_comes_along(name):
    t = torch.linspace(0, 1, 101, requires_grad=True)
    level = ALPHA_BARS[name](t)
    assert not level.requires_grad
    torch.testing.assert_close(level, ALPHA_BARS[name](t.detach().double()), rtol=0, atol=1e-9)


def test_cosine_is_its_closed_form():
    level = alpha_bar_cosine(times(0, 1 / 3, 0.5, 2 / 3, 1))
    torch.testing.assert_close(level, times(1, 0.75, 0.5, 0.25, 0), rtol=0, atol=1e-15)
    assert level[-1] == 0.0  # pure noise, exactly
    t = torch.linspace(0, 1, 57, dtype=torch.float64)
    torch.testing.assert_close(alpha_bar_cosine(t) + alpha_bar_cosine(1 - t), torch.ones_like(t))


def test_linear_is_the_discrete_product_at_every_step():
    beta = np.linspace(1e-4, 0.02, 1000)
    product = np.concatenate([[1.0], np.cumprod(1 - beta)])
    level = alpha_bar_linear(torch.arange(1001, dtype=torch.float64) / 1000)
    np.testing.assert_allclose(level.numpy(), product, rtol=1e-9, atol=0)
    assert level[-1] == pytest.approx(4.04e-5, rel=1e-2)  # Ho et al. (2020): "approximately 0"


def test_linear_is_geometric_between_two_steps():
    i = torch.arange(1000, dtype=torch.float64)
    middle, below, above = (alpha_bar_linear((i + part) / 1000) for part in (0.5, 0, 1))
    torch.testing.assert_close(middle**2, below * above, rtol=1e-9, atol=0)


def test_the_placements_are_where_they_say():
    assert walk(uniform(4), 4) == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-12)
    assert walk(quadratic(4), 4) == pytest.approx([1, 9 / 16, 4 / 16, 1 / 16, 0], abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 30, 100, 333])
def test_a_placement_takes_as_many_steps_as_asked(name, steps):
    visited = walk(SCHEDULES[name](steps, alpha_bar_cosine), steps)
    assert len(visited) == steps + 1
    assert all(np.diff(visited) < 0)
    assert visited[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ALPHA_BARS)
def test_logsnr_is_uniform_in_half_log_snr_between_its_ends(name):
    visited = walk(logsnr(9, ALPHA_BARS[name]), 9)
    level = ALPHA_BARS[name](times(*visited[1:-1]))
    assert half_log_snr(level).tolist() == pytest.approx(np.linspace(-4, 4, 10)[1:-1].tolist(), abs=1e-9)
    assert (visited[0], visited[-1]) == (1, pytest.approx(0, abs=1e-12))


def test_half_log_snr_and_its_level_and_the_time_of_it_are_inverses():
    t = times(0.001, 0.2, 0.5, 0.9, 0.999)
    for alpha_bar in ALPHA_BARS.values():
        level = alpha_bar(t)
        torch.testing.assert_close(half_log_snr_level(half_log_snr(level)), level)
        torch.testing.assert_close(time_of(level, alpha_bar), t, rtol=0, atol=1e-12)
    assert half_log_snr(times(0, 1)).tolist() == [-math.inf, math.inf]
    assert half_log_snr(times(0.5)).tolist() == [0]
    assert float(time_of(times(0.5), alpha_bar_cosine)) == pytest.approx(0.5)


@settings(max_examples=40)
@given(
    inner=st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=20, unique=True),
    t=st.lists(st.floats(1e-5, 1), min_size=1, max_size=8),
)
def test_a_sketch_anywhere_goes_on_to_the_next_placed_time(inner, t):
    grid = times(1, *sorted(inner, reverse=True), 0)
    landed = times(*t) - placed(grid)(step_at(times(*t)))
    wanted = [max(float(g) for g in grid if g < at - 1e-9) for at in t]
    assert landed.tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("steps", [0, -3, 10_001, 2.5, math.nan])
@pytest.mark.parametrize("name", SCHEDULES)
def test_absurd_numbers_of_steps_are_refused(name, steps):
    with pytest.raises(ValueError, match=r"steps is .*, wanted a whole number, 1 to 10000"):
        SCHEDULES[name](steps, alpha_bar_cosine)
