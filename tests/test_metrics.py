"""metrics/ against closed forms, slow independent implementations, and other people's packages.

FROZEN are the figures that those packages gave on `published_sets`, for machines that lack them: FID, KID,
precision and recall of torch-fidelity 0.4.0, density and coverage of prdc 0.2 (numpy 2.4, scikit-learn 1.9).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import warnings

import numpy as np
import pytest

from sketch_core.metrics import (
    bootstrap_interval,
    centred_interval,
    density_coverage,
    fid,
    half_sample,
    kid,
    kid_subsets,
    nearest_distances,
    neighbourhoods,
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


def test_kid_of_subsets_and_of_blocks_is_kid_on_average():
    rng = np.random.default_rng(21)
    x, y = rng.standard_normal((300, 4)), rng.standard_normal((260, 4)) * 1.3
    whole = kid(x, y)
    assert kid_subsets(x, y, subsets=3, size=260)[0] == pytest.approx(
        np.mean([kid(x[rng.choice(300, 260, replace=False)], y) for _ in range(30)]), rel=0.1
    )  # subsets as large as the set differ by what they leave out of the other alone
    mean, spread = kid_subsets(x, y, subsets=100, size=50)
    assert mean == pytest.approx(whole, abs=4 * spread / math.sqrt(100) + 0.1 * abs(whole))
    mean, spread = kid_subsets(x, y, subsets=None, size=52)
    assert mean == pytest.approx(whole, abs=4 * spread / math.sqrt(5))
    assert kid_subsets(x, y, subsets=None, size=52, seed=1)[0] != mean
    assert kid_subsets(x, y[:50], subsets=None, size=50)[1] == 0.0  # one block


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


def slow_density_coverage(real, fake, k):
    radii = [sorted(math.dist(r, o) for j, o in enumerate(real) if j != i)[k - 1] for i, r in enumerate(real)]
    balls = [[math.dist(r, f) <= radius for f in fake] for r, radius in zip(real, radii, strict=True)]
    return np.sum(balls) / (k * len(fake)), np.mean([any(row) for row in balls])


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_follow_the_definition(k):
    rng = np.random.default_rng(22)
    real, fake = rng.standard_normal((40, 2)), rng.standard_normal((33, 2)) * 0.6 + 0.4
    ours = density_coverage(real, fake, k)
    assert ours == pytest.approx(slow_density_coverage(real, fake, k))
    assert 0 < ours[1] < 1
    assert ours[0] > 0.5


def test_density_and_coverage_of_agreeing_sets_are_what_naeem_derives():
    rng = np.random.default_rng(23)
    density, coverage = density_coverage(rng.standard_normal((1000, 8)), rng.standard_normal((1000, 8)), 5)
    assert density == pytest.approx(1, abs=0.08)  # E[density] = 1
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)  # E[coverage] = 1 - 2^-k as n grows


def test_one_far_off_real_drawing_moves_precision_and_not_density():
    rng = np.random.default_rng(24)
    real, fake = rng.standard_normal((200, 4)), rng.standard_normal((200, 4)) + 6
    before = neighbourhoods(real, fake)
    after = neighbourhoods(np.concatenate([real, np.full((1, 4), 15.0)]), fake)
    assert after.precision > before.precision + 0.9
    assert after.density < before.density + 0.3


def test_all_four_at_once_are_the_four_alone():
    rng = np.random.default_rng(25)
    real, fake = rng.standard_normal((60, 3)), rng.standard_normal((50, 3)) + 0.5
    found = neighbourhoods(real, fake, k=2, density_k=4)
    assert (found.precision, found.recall) == precision_recall(real, fake, 2)
    assert (found.density, found.coverage) == density_coverage(real, fake, 4)


def published_sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(20)
    real = rng.random((240, 12)) ** 2
    return real, rng.random((240, 12)) ** 2 * 0.8 + 0.15 * rng.random((240, 1))


FROZEN = {
    "fid": 0.08382762397793742,
    "kid": 0.0002994540872971463,
    "precision and recall, k = 3": (0.9958333333333333, 0.5708333333333333),
    "precision and recall, k = 5": (1.0, 0.7083333333333334),
    "density and coverage, k = 3": (2.122222222222222, 0.9625),
    "density and coverage, k = 5": (2.1141666666666667, 0.9916666666666667),
}


def test_frozen_figures_of_other_packages():
    real, fake = published_sets()
    ours = {"fid": fid(real, fake), "kid": kid(real, fake)}
    for k in (3, 5):
        ours[f"precision and recall, k = {k}"] = precision_recall(real, fake, k)
        ours[f"density and coverage, k = {k}"] = density_coverage(real, fake, k)
    for name, figure in FROZEN.items():
        assert ours[name] == pytest.approx(figure, abs=1e-9), name


def package(name: str):
    """A package to compare with, or a skip that says why it cannot be had."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
            pytest.skip(f"{name} is not to be had here: {error}")


def test_torch_fidelity_agrees():
    torch = package("torch")
    statistics = package("torch_fidelity.metric_fid")
    real, fake = published_sets()
    tensors = torch.from_numpy(real), torch.from_numpy(fake)
    pair = [statistics.fid_features_to_statistics(x) for x in tensors]
    theirs = statistics.fid_statistics_to_metric(*pair, False)["frechet_inception_distance"]
    assert fid(real, fake) == pytest.approx(theirs, abs=1e-6)
    theirs = package("torch_fidelity.metric_kid").kid_features_to_metric(
        *tensors, kid_subsets=1, kid_subset_size=240, verbose=False
    )
    assert kid(real, fake) == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-9)
    theirs = package("torch_fidelity.metric_prc").prc_features_to_metric(
        *tensors[::-1], prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    assert precision_recall(real, fake) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


@pytest.mark.parametrize("k", [3, 5])
def test_prdc_agrees(k):
    compute_prdc = package("prdc").compute_prdc
    real, fake = published_sets()
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(real, fake, k)
    assert precision_recall(real, fake, k) == pytest.approx((theirs["precision"], theirs["recall"]))
    assert density_coverage(real, fake, k) == pytest.approx((theirs["density"], theirs["coverage"]))


def test_the_root_of_scipy_gives_the_same_fid():
    linalg = package("scipy.linalg")
    real, fake = published_sets()
    a, b = np.cov(real.T), np.cov(fake.T)
    gap = real.mean(0) - fake.mean(0)
    theirs = gap @ gap + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert fid(real, fake) == pytest.approx(theirs, abs=1e-9)


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
    monkeypatch.setattr("sketch_core.metrics.features.BLOCK", 41)
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


def test_a_half_sample_is_half_of_every_group_without_repeats():
    groups = np.array([0] * 10 + [1] * 7 + [2])
    rng = np.random.default_rng(26)
    sizes = []
    for _ in range(50):
        rows = half_sample(groups, rng)
        assert len(np.unique(rows)) == len(rows)
        assert (groups[rows] == 0).sum() == 5
        assert (groups[rows] == 2).sum() == 1
        sizes.append(int((groups[rows] == 1).sum()))
    assert set(sizes) == {3, 4}


def half_sample_deviation(figure, real, fake, draws) -> float:
    rng = np.random.default_rng(27)
    found = []
    for _ in range(draws):
        rows = [half_sample(np.zeros(len(x)), rng) for x in (real, fake)]
        found.append(figure(real[rows[0]], fake[rows[1]]))
    return float(np.std(found))


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("mean", lambda real, fake: float(real[:, 0].mean() - fake[:, 0].mean())),
        ("fid", fid),
        ("kid", kid),
        ("recall", lambda real, fake: precision_recall(real, fake)[1]),
        ("coverage", lambda real, fake: density_coverage(real, fake)[1]),
    ],
)
def test_half_samples_scatter_as_new_samples_would(name, figure):
    rng = np.random.default_rng(28)

    def sets():
        return rng.standard_normal((120, 3)), rng.standard_normal((120, 3)) + 0.7

    fresh = float(np.std([figure(*sets()) for _ in range(200)]))
    guessed = np.mean([half_sample_deviation(figure, *sets(), draws=30) for _ in range(10)])
    assert 0.75 < guessed / fresh < 1.35


def test_a_centred_interval_keeps_the_value_and_drops_the_bias_of_the_draws():
    draws = np.random.default_rng(29).normal(100, 2, 4000)
    low, high = centred_interval(7.0, draws)
    assert low == pytest.approx(7 - 1.96 * 2, abs=0.2)
    assert high == pytest.approx(7 + 1.96 * 2, abs=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kid_subsets(np.zeros((3, 2)), np.zeros((9, 2)), size=4), "wanted 2 to 3 drawings"),
        (lambda: kid_subsets(np.zeros((3, 2)), np.zeros((9, 2)), size=3, subsets=0), "1 subset or more"),
        (lambda: neighbourhoods(np.zeros((9, 2)), np.zeros((9, 2)), k=0), "wanted 1 or more neighbours"),
        (lambda: density_coverage(np.zeros((5, 2)), np.zeros((9, 2))), "wanted 6 or more"),
        (lambda: centred_interval(1.0, np.zeros(1)), "two at least"),
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
