"""Ways to write a drawing down: what is exact stays exact, what is shuffled is all there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.data.dataset import StrokeDataset
from sketch_core.pen import decode_pen
from sketch_core.strokes import Sketch, StrokeLatent, sketch_to_stroke3, stroke3_to_sketch
from sketch_core.train.representations import (
    FORMS,
    absolute_rows,
    offsets_of,
    rejoined,
    rewritten,
    short_way,
    shuffled_points,
    shuffled_strokes,
)

points = st.tuples(st.integers(0, 255), st.integers(0, 255))
strokes = st.lists(st.lists(points, min_size=1, max_size=9), min_size=1, max_size=5)
sketches = strokes.filter(lambda s: sum(map(len, s)) > 1).map(
    lambda s: Sketch(tuple(np.array(stroke, np.float32) for stroke in s))
)


def latent(rows: np.ndarray, padding: int = 3) -> StrokeLatent:
    """What a model that is sure of these rows would sample, with noise past the end."""
    n = len(rows)
    x = torch.cat([torch.tensor(rows[:, :2]), torch.full((padding, 2), 7.0)])[None].double()
    pen = torch.nn.functional.one_hot(torch.tensor(rows[:, 2]).long(), 3).double() * 40
    pen = torch.cat([pen, torch.ones(padding, 3)])[None]
    return StrokeLatent(x, pen, torch.tensor([n]), 1.0, (None,))


def as_set(stroke: np.ndarray) -> list:
    return sorted(map(tuple, stroke.tolist()))


# ---- absolute coordinates -------------------------------------------------------------------------


@given(sketches)
@settings(deadline=None)
def test_absolute_rows_are_the_same_drawing(sketch):
    rows, offsets = absolute_rows(sketch), sketch_to_stroke3(sketch)
    assert len(rows) == len(offsets) + 1
    assert rows[0, 2] == 0
    again = offsets_of(latent(rows))
    n = int(again.length[0])
    assert n == len(offsets)
    assert torch.equal(again.points[0, :n], torch.tensor(offsets[:, :2]).double())
    (drawing,) = decode_pen(again, canvas=None)
    (wanted,) = decode_pen(latent(offsets), canvas=None)
    assert drawing == wanted


@given(sketches)
@settings(deadline=None)
def test_absolute_rows_have_the_middle_of_the_box_at_0(sketch):
    low, high = absolute_rows(sketch)[:, :2].min(0), absolute_rows(sketch)[:, :2].max(0)
    assert (np.abs(low + high) <= 1).all()
    assert (np.abs(absolute_rows(sketch)) <= 128).all()


# ---- shuffles -------------------------------------------------------------------------------------


@given(sketches, st.integers(0, 99))
def test_shuffled_strokes_are_the_same_strokes(sketch, seed):
    found = shuffled_strokes(sketch, np.random.default_rng(seed))
    assert sorted(s.tolist() for s in found.strokes) == sorted(s.tolist() for s in sketch.strokes)


@given(sketches, st.integers(0, 99))
def test_shuffled_points_stay_in_their_stroke(sketch, seed):
    found = shuffled_points(sketch, np.random.default_rng(seed))
    assert [as_set(s) for s in found.strokes] == [as_set(s) for s in sketch.strokes]


def test_every_order_comes_up():
    three = Sketch(tuple(np.full((2, 2), i, np.float32) for i in range(3)))
    one = Sketch((np.arange(6, dtype=np.float32).reshape(3, 2),))
    orders = [set(), set()]
    for seed in range(100):
        rng = np.random.default_rng(seed)
        orders[0].add(tuple(int(s[0, 0]) for s in shuffled_strokes(three, rng).strokes))
        orders[1].add(tuple(shuffled_points(one, rng).strokes[0][:, 0].tolist()))
    assert [len(found) for found in orders] == [6, 6]


# ---- a short way through points -------------------------------------------------------------------


def length(way: np.ndarray) -> float:
    return float(np.hypot(*np.diff(way, axis=0).T).sum())


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20, unique=True), st.randoms())
@settings(deadline=None)
def test_points_of_a_line_come_back_in_order(along, random):
    random.shuffle(along)
    line = np.outer(along, [3.0, 4.0])
    found = line[short_way(line)][:, 0]
    assert found.tolist() in (sorted(found), sorted(found, reverse=True))


@given(st.lists(points, min_size=1, max_size=12))
@settings(deadline=None)
def test_no_part_turned_round_makes_the_way_shorter(some):
    some = np.array(some, float)
    way = short_way(some)
    assert sorted(way) == list(range(len(some)))
    for i, j in itertools.combinations(range(len(way)), 2):
        other = np.concatenate([way[:i], way[i : j + 1][::-1], way[j + 1 :]])
        assert length(some[way]) <= length(some[other]) + 1e-6


def test_the_way_is_near_the_shortest():
    rng = np.random.default_rng(0)
    over = []
    for _ in range(20):
        some = rng.uniform(0, 1, (6, 2))
        shortest = min(length(some[list(order)]) for order in itertools.permutations(range(6)))
        over.append(length(some[short_way(some)]) / shortest)
    assert min(over) > 1 - 1e-9
    assert np.mean(over) < 1.03
    assert max(over) < 1.2


def test_a_shuffled_circle_is_a_circle_again_but_for_a_gap():
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = 100 * np.stack([np.cos(angle), np.sin(angle)], 1)
    sketch = Sketch((circle, np.array([[0.0, 0.0]])), label="circle")
    mixed = shuffled_points(sketch, np.random.default_rng(1))
    again = rejoined(mixed)
    assert length(mixed.strokes[0]) > 4 * length(circle)
    assert length(again.strokes[0]) == pytest.approx(length(circle), rel=1e-5)
    assert as_set(again.strokes[0]) == as_set(sketch.strokes[0])
    assert (again.label, len(again.strokes)) == ("circle", 2)


# ---- a training set in another form ---------------------------------------------------------------


def dataset(count: int = 6) -> StrokeDataset:
    """Drawings of three strokes, some of them too long for 24 rows."""
    rng = np.random.default_rng(0)
    drawings = []
    for i in range(count):
        sizes = (3, 4 + i, 5 if i % 2 else 20)
        steps = [np.cumsum(rng.integers(-9, 30, (n, 2)), 0) for n in sizes]
        drawings.append(sketch_to_stroke3(Sketch(tuple(steps))))
    return StrokeDataset.from_rows(drawings, [i % 2 for i in range(count)], ("a", "b"))


@pytest.mark.parametrize("name", FORMS)
def test_a_form_keeps_drawings_classes_and_bounds(name):
    data = dataset()
    assert data.lengths.max() > 23
    found = rewritten(data, FORMS[name], max_points=24, seed=1)
    assert found.lengths.max() <= 24
    assert found.labels.tolist() == data.labels.tolist()
    assert found.classes == data.classes
    short = data.at_most(23)
    for i in range(len(short)):
        (drawing,) = FORMS[name].decode(latent(found[i]))
        wanted = short.sketch(i)
        if name == "point shuffle":
            assert [len(s) for s in drawing.strokes] == [len(s) for s in wanted.strokes]
        else:
            (wanted,) = decode_pen(latent(short[i]))
            ours, theirs = (sorted(np.round(s, 2).tolist() for s in d.strokes) for d in (drawing, wanted))
            assert ours == theirs


@pytest.mark.parametrize("name", FORMS)
def test_a_form_hangs_on_its_seed_where_it_shuffles(name):
    first, again, other = (rewritten(dataset(), FORMS[name], max_points=64, seed=s).rows for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name in ("offsets", "absolute"))


def test_offsets_are_the_files_own_rows():
    data = dataset()
    assert np.array_equal(rewritten(data, FORMS["offsets"], max_points=64).rows[:, :2], data.rows[:, :2])
    assert stroke3_to_sketch(data[0]).num_points == len(data[0]) + 1
