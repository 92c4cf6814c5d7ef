"""metrics.py against closed forms and slow, independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sketch_core.metrics import (
    bootstrap_interval,
    fid,
    kid,
    nearest_distances,
    precision_recall,
    quantile_interval,
)


def exact_gaussian(n: int, mean, cov, seed: int) -> np.ndarray:
    """n rows whose sample mean and sample covariance are exactly those given."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(np.asarray(cov)).T + mean


def test_fid_of_two_gaussians_is_the_closed_form():
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 2.25])
    x = exact_gaussian(500, [0, 0, 0], np.diag(a), seed=0)
    y = exact_gaussian(400, [1, -2, 3], np.diag(b), seed=1)
    assert fid(x, y) == pytest.approx(14 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-10)


def test_fid_of_covariances_that_do_not_commute():
    x = exact_gaussian(300, [0, 0], [[2, 1], [1, 3]], seed=2)
    y = exact_gaussian(300, [0, 0], [[4, -1], [-1, 1]], seed=3)
    # for 2 x 2 matrices tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
    product = np.array([[2, 1], [1, 3]]) @ np.array([[4, -1], [-1, 1]])
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    assert fid(x, y) == pytest.approx(5 + 5 - 2 * root, rel=1e-10)


def test_fid_is_zero_for_the_same_set_symmetric_and_blind_to_rotation():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((80, 5)) * 2 + 1
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    assert fid(x, x) == pytest.approx(0, abs=1e-6)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-8)
    assert fid(x @ turn, y @ turn) == pytest.approx(fid(x, y), rel=1e-8)


def test_fid_of_fewer_drawings_than_features_is_finite():
    rng = np.random.default_rng(5)
    assert math.isfinite(fid(rng.standard_normal((8, 30)), rng.standard_normal((9, 30))))


def test_kid_is_the_double_sum():
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    xx = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    yy = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    xy = sum(k(a, b) for a in x for b in y) / 35
    assert kid(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kid_is_unbiased_where_fid_is_not():
    rng = np.random.default_rng(7)
    pairs = [(rng.standard_normal((20, 4)), rng.standard_normal((20, 4))) for _ in range(300)]
    kids, fids = [kid(*p) for p in pairs], [fid(*p) for p in pairs]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / math.sqrt(len(kids))
    assert np.mean(fids) > 10 * np.std(fids) / math.sqrt(len(fids))


def slow_precision_recall(real, fake, k):
    def share(queries, members):
        def inside(q):
            for i, m in enumerate(members):
                others = sorted(math.dist(m, o) for j, o in enumerate(members) if j != i)
                if math.dist(q, m) <= others[k - 1]:
                    return True
            return False

        return sum(map(inside, queries)) / len(queries)

    return share(fake, real), share(real, fake)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_follow_the_definition(k):
    rng = np.random.default_rng(8)
    real, fake = rng.standard_normal((40, 2)), rng.standard_normal((33, 2)) * 0.6 + 0.4
    ours = precision_recall(real, fake, k)
    assert ours == pytest.approx(slow_precision_recall(real, fake, k))
    assert 0 < ours[1] < ours[0]


def test_precision_and_recall_at_their_ends():
    rng = np.random.default_rng(9)
    real = rng.standard_normal((50, 3))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    collapsed = real[:1] + 1e-3 * rng.standard_normal((50, 3))
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall <= 0.04
    scattered = rng.standard_normal((50, 3)) * 20
    precision, recall = precision_recall(real, scattered)
    assert precision < 0.1
    assert recall == 1.0


def test_nearest_distances_are_those_of_a_full_table():
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((30, 6)), rng.standard_normal((45, 6))
    x[3] = y[17]
    table = np.linalg.norm(x[:, None] - y[None], axis=2).min(1)
    found = nearest_distances(x, y)
    assert np.allclose(found, table)
    assert found[3] == 0.0


def test_blocks_do_not_change_a_distance(monkeypatch):
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((30, 6)), rng.standard_normal((20, 6))
    whole = nearest_distances(x, y), precision_recall(x, y)
    monkeypatch.setattr("sketch_core.metrics.BLOCK", 41)
    assert np.allclose(nearest_distances(x, y), whole[0])
    assert precision_recall(x, y) == whole[1]


def test_bootstrap_interval_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(12).normal(5, 2, 400)
    low, high = bootstrap_interval(values, draws=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_quantile_interval_holds_the_true_quantile_as_often_as_it_says():
    rng = np.random.default_rng(13)
    for q in (0.05, 0.5):
        intervals = [quantile_interval(rng.random(400), q) for _ in range(400)]
        assert 0.91 < np.mean([low <= q <= high for low, high in intervals]) < 0.985
        assert np.mean([high - low for low, high in intervals]) < 5 * math.sqrt(q * (1 - q) / 400)


def test_bootstrap_interval_draws_within_groups():
    values, groups = np.array([0.0] * 90 + [1.0] * 10), np.array([0] * 90 + [1] * 10)
    assert bootstrap_interval(values, groups) == (0.5, 0.5)  # each group is constant
    low, high = bootstrap_interval(values)
    assert low < 0.1 < high < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fid(np.zeros((3, 2)), np.zeros((3, 4))), r"\(3, 2\) and \(3, 4\), wanted"),
        (lambda: fid(np.zeros((1, 2)), np.zeros((3, 2))), "1 and 3 drawings, wanted 2"),
        (lambda: precision_recall(np.zeros((3, 2)), np.zeros((9, 2))), "wanted 4 or more"),
        (lambda: kid(np.full((3, 2), np.nan), np.zeros((3, 2))), "not finite"),
        (lambda: bootstrap_interval(np.zeros(0)), "one at least"),
        (lambda: bootstrap_interval(np.zeros(3), level=95), "level is 95"),
        (lambda: quantile_interval(np.zeros(3), 5), "Give a median as 0.5"),
    ],
)
def test_errors_say_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
