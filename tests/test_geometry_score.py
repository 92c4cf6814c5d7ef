"""Geometry Score: living times by hand, a circle against a blob, and the table cut short."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from sketch_core.metrics import geometry_score, mean_relative_living_times, relative_living_times
from sketch_core.metrics.geometry import holes

needs_gudhi = pytest.mark.skipif(importlib.util.find_spec("gudhi") is None, reason="gudhi is not installed")

QUICK = {"runs": 6, "gamma": 1 / 8, "landmarks": 16}
FROZEN_SCORE = 1.7721  # what gudhi 3.13.0 gave on circle(600) against blob(600), QUICK


def circle(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.02, (n, 2))


def blob(n: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (n, 2))


def test_living_times_by_hand():
    # one hole in 1..4, another in 3..6, a third from 9 on, until 10
    shares = relative_living_times(np.array([[1, 4], [3, 6], [9, np.inf]]), 10.0, most=4)
    assert shares == pytest.approx([0.4, 0.5, 0.1, 0.0])
    assert relative_living_times(np.zeros((0, 2)), 10.0, most=3) == pytest.approx([1, 0, 0])
    assert relative_living_times(np.array([[0, 10]] * 3), 10.0, most=5) == pytest.approx([0, 0, 0, 1, 0])
    assert relative_living_times(np.array([[2, 2]]), 10.0, most=2) == pytest.approx([1, 0])  # lives no time
    assert relative_living_times(np.array([[0, 1]]), 0.0, most=2) == pytest.approx([1, 0])


def test_more_holes_than_are_told_apart_are_left_out():
    shares = relative_living_times(np.array([[0, 4]] * 7), 10.0, most=5)
    assert shares == pytest.approx([0.6, 0, 0, 0, 0])


@needs_gudhi
def test_a_circle_has_one_hole_and_a_blob_none():
    one = mean_relative_living_times(circle(600), **QUICK)
    none = mean_relative_living_times(blob(600), **QUICK)
    assert one[1] > 0.97
    assert none[0] > 0.85
    assert one.sum() == pytest.approx(1, abs=1e-6)


@needs_gudhi
def test_circles_score_near_zero_and_a_blob_far_from_it():
    assert geometry_score(circle(600), circle(600, seed=3), **QUICK) < 0.01
    assert geometry_score(circle(600), blob(600), **QUICK) == pytest.approx(FROZEN_SCORE, abs=1e-3)


@needs_gudhi
def test_a_score_does_not_hang_on_size_or_place():
    there = geometry_score(circle(200), blob(100), **QUICK)
    assert geometry_score(circle(200) * 64 + 5, blob(100) * 64 - 9, **QUICK) == pytest.approx(there, rel=1e-6)


@needs_gudhi
@pytest.mark.parametrize("alpha_max", [0.02, 0.3, 1.0])
def test_rows_cut_short_change_no_hole(alpha_max):
    import gudhi

    rng = np.random.default_rng(4)
    x = rng.standard_normal((200, 6))
    table = np.linalg.norm(x[:, None] - x[rng.integers(200, size=16)][None], axis=2)
    whole = [sorted(enumerate(row), key=lambda at: at[1]) for row in table.tolist()]
    tree = gudhi.WitnessComplex(whole).create_simplex_tree(max_alpha_square=alpha_max, limit_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    theirs = tree.persistence_intervals_in_dimension(1).reshape(-1, 2)
    ours = holes(table, alpha_max)
    assert len(ours) > 0
    assert np.array_equal(sorted(ours.tolist()), sorted(theirs.tolist()))


@needs_gudhi
def test_equal_rows_have_no_hole():
    assert mean_relative_living_times(np.ones((20, 3)), runs=2, landmarks=6)[0] == 1.0


def test_without_gudhi_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs gudhi, which is not installed"):
        geometry_score(circle(20), blob(20), runs=1)


@pytest.mark.parametrize("options", [{"runs": 0}, {"landmarks": 2}, {"gamma": 0.0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="wanted 1 run, 3 landmarks"):
        geometry_score(circle(20), blob(20), **options)
