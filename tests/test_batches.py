"""Training batches: the same for the same (seed, k), balanced, in buckets; augmentation keeps the drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sketch_core.data.augment import Augmentation, drop_points
from sketch_core.data.batches import Balance, Batches
from sketch_core.data.dataset import StrokeDataset
from sketch_core.strokes import PenState

NOTHING = Augmentation(stretch=0, rotation=0, drop=0)


def drawing(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([n, seed])
    rows = np.concatenate([rng.integers(-40, 40, (n, 2)), rng.random((n, 1)) < 0.2], axis=1)
    rows[-1, 2] = 1
    return rows.astype(np.int16)


def dataset(counts: tuple[int, ...] = (40, 20, 5), longest: int = 40) -> StrokeDataset:
    """counts[c] drawings of class c, of 1 to `longest` rows."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    drawings = [drawing(n, i) for i, n in enumerate(rng.integers(1, longest + 1, len(labels)))]
    return StrokeDataset.from_rows(drawings, labels, tuple(f"class {c}" for c in range(len(counts))))


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_a_batch_is_a_function_of_seed_and_number():
    options = {"scale": 10.0, "tokens": 256, "augmentation": Augmentation()}
    one, two = Batches(dataset(), **options), Batches(dataset(), **options)
    asked = [one[k] for k in (0, 7, 3)]
    for k, batch in zip((3, 7, 0), reversed(asked), strict=True):
        assert same(two[k], batch)
    assert not same(one[0], one[1])
    assert not same(Batches(dataset(), **options, seed=1)[0], one[0])


def test_buckets_are_padded_to_sixteen():
    batches, seen = Batches(dataset(), scale=10.0, tokens=200), set()
    for k in range(30):
        batch = batches[k]
        B, N, _ = batch.points.shape
        seen.add(N)
        assert N % 16 == 0
        assert B == 200 // N
        assert ((batch.length > N - 16) & (batch.length <= N)).all()
        past = torch.arange(N) >= batch.length[:, None]
        assert not batch.points[past].any()
        assert (batch.pen[past] == PenState.END).all()
    assert seen == {16, 32, 48}


def test_a_drawing_longer_than_a_batch_comes_alone():
    assert len(Batches(dataset((4,), 100), scale=1.0, tokens=16)[0].length) == 1


def test_rows_become_model_units_and_pen_states():
    data = dataset((6,))
    batches = Batches(data, scale=8.0, tokens=64, augmentation=NOTHING)
    for k in range(8):
        batch = batches[k]
        for row, n in enumerate(batch.length.tolist()):
            points = (batch.points[row, :n] * 8).numpy()
            (i,) = [i for i in range(len(data)) if np.array_equal(data[i][:, :2], points)]
            assert batch.pen[row, : n - 1].tolist() == data[i][:-1, 2].tolist()
            assert batch.pen[row, n - 1] == PenState.END
            assert batch.label[row] == data.labels[i]


@pytest.mark.parametrize(
    ("balance", "wanted"),
    [
        (Balance(cap=10**9, power=0), (1, 1, 1)),
        (Balance(cap=10**9, power=1), (40, 20, 5)),
        (Balance(cap=20, power=1), (20, 20, 5)),
        (Balance(cap=20, power=2), (400, 400, 25)),
    ],
)
def test_classes_come_as_often_as_promised(balance, wanted):
    data = dataset()
    by_class = np.bincount(data.labels, balance.weights(data.labels))
    np.testing.assert_allclose(by_class, np.divide(wanted, sum(wanted)))
    batches = Batches(data, scale=10.0, tokens=480, balance=balance)
    seen = torch.cat([batches[k].label for k in range(300)])
    np.testing.assert_allclose(np.bincount(seen) / len(seen), by_class, atol=0.04)


def test_a_drawing_keeps_its_weight_in_any_bucket():
    """Short drawings come in larger batches, and so less often."""
    data = StrokeDataset.from_rows([drawing(5), drawing(40)], [0, 1], ("short", "long"))
    batches = Batches(data, scale=10.0, tokens=96, balance=Balance(power=1))
    sizes = {N: size for N, size, _, _ in batches.buckets}
    assert sizes == {16: 6, 48: 2}
    seen = torch.cat([batches[k].label for k in range(600)])
    assert float(seen.float().mean()) == pytest.approx(0.5, abs=0.05)


def test_rows_of_a_batch_are_its_part():
    batch = Batches(dataset(), scale=10.0, tokens=256)[0]
    part = batch.rows(slice(1, 3))
    assert torch.equal(part.points, batch.points[1:3])
    assert torch.equal(part.pen, batch.pen[1:3])
    assert torch.equal(part.length, batch.length[1:3])
    assert torch.equal(part.label, batch.label[1:3])


# ---- augmentation

rows = st.lists(
    st.tuples(st.integers(-255, 255), st.integers(-255, 255), st.integers(0, 1)), min_size=1, max_size=40
).map(lambda found: np.array(found, np.float32))


def places(drawn: np.ndarray) -> np.ndarray:
    return np.cumsum(drawn[:, :2], axis=0)


@given(rows, st.floats(0, 1), st.integers(0, 99))
def test_dropping_points_keeps_strokes_and_where_they_end(drawn, share, seed):
    kept = drop_points(drawn, share, np.random.default_rng(seed))
    assert 1 <= len(kept) <= len(drawn)
    assert kept[:, 2].sum() == drawn[:, 2].sum()
    assert np.array_equal(places(kept)[-1], places(drawn)[-1])
    ends = [rows[:, 2] == 1 for rows in (kept, drawn)]
    assert np.array_equal(places(kept)[ends[0]], places(drawn)[ends[1]])
    starts = [np.roll(end, 1) & (np.arange(len(end)) > 0) for end in ends]
    assert np.array_equal(places(kept)[starts[0]], places(drawn)[starts[1]])
    everything = {tuple(point) for point in places(drawn).tolist()}
    assert all(tuple(point) in everything for point in places(kept).tolist())


def test_dropping_all_leaves_the_ends_of_strokes():
    drawn = np.array(
        [[1, 0, 0], [2, 0, 0], [3, 0, 1], [0, 5, 0], [1, 1, 0], [2, 2, 0], [3, 3, 1]], np.float32
    )
    kept = drop_points(drawn, 1.0, np.random.default_rng(0))
    assert kept.tolist() == [[6, 0, 1], [0, 5, 0], [6, 6, 1]]
    assert np.array_equal(drop_points(drawn, 0.0, np.random.default_rng(0)), drawn)


@given(rows, st.integers(0, 99))
def test_an_augmentation_of_nothing_is_the_drawing(drawn, seed):
    found = NOTHING(drawn.astype(np.int16), np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert np.array_equal(found, drawn)


def test_stretch_and_rotation_stay_within_their_bounds():
    square = np.array([[100, 0, 0], [0, 100, 1]], np.int16)
    stretched = [Augmentation(0.1, 0, 0)(square, np.random.default_rng(i)) for i in range(200)]
    widths, heights = np.array([[s[0, 0], s[1, 1]] for s in stretched]).T
    assert not any(s[0, 1] or s[1, 0] for s in stretched)
    for sizes in (widths, heights):
        assert 90 <= sizes.min() < 93
        assert 107 < sizes.max() <= 110
    assert abs(np.corrcoef(widths, heights)[0, 1]) < 0.2  # each axis by itself
    turned = [Augmentation(0, 6, 0)(square, np.random.default_rng(i)) for i in range(200)]
    angles = np.rad2deg([np.arctan2(t[0, 1], t[0, 0]) for t in turned])
    assert -6 <= angles.min() < -5
    assert 5 < angles.max() <= 6
    lengths = [np.linalg.norm(t[:, :2], axis=1) for t in turned]
    np.testing.assert_allclose(lengths, 100, rtol=1e-5)
