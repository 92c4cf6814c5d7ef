"""Damage: each kind is what it says, as often as it says, and something is always left."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sketch_core.data.damage import Damage, begun, displaced, half
from sketch_core.strokes import Sketch

BOX = ([[0, 0], [200, 0], [200, 100], [0, 100], [0, 0]], [[40, 30], [60, 30]], [[140, 30], [160, 30.5]])


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_displacement_is_normal_of_the_size_it_says_on_each_axis():
    sketch = Sketch([np.zeros((4000, 2)) + 100, [[5, 5]]], (300, 200), "cat")
    rough = displaced(sketch, 30.0, seeded(0))
    moved = rough.strokes[0] - 100
    np.testing.assert_allclose(moved.std(0), 30, rtol=0.05)
    np.testing.assert_allclose(moved.mean(0), 0, atol=2)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.06  # axes, and points, on their own
    assert abs(np.corrcoef(moved[1:, 0], moved[:-1, 0])[0, 1]) < 0.06
    assert (rough.canvas, rough.label) == (sketch.canvas, "cat")
    assert [len(stroke) for stroke in rough.strokes] == [4000, 1]
    assert displaced(sketch, 0.0, seeded(0)) == sketch


def test_the_first_half_of_the_strokes():
    strokes = tuple(np.array([[i, 0], [i, 9]]) for i in range(5))
    assert half(Sketch(strokes, label="cat")) == Sketch(strokes[:3], label="cat")
    assert half(Sketch(strokes[:2])) == Sketch(strokes[:1])
    assert half(Sketch(strokes[:1])) == Sketch(strokes[:1])


def test_a_beginning_is_some_of_the_first_strokes_and_never_all():
    sketch = Sketch(BOX, label="cat")
    found = [begun(sketch, seeded(i)) for i in range(60)]
    assert Counter(len(one.strokes) for one in found).keys() == {1, 2}
    assert all(one == replace(sketch, strokes=sketch.strokes[: len(one.strokes)]) for one in found)


def test_a_beginning_of_one_stroke_is_some_of_its_first_points():
    line = Sketch([np.arange(80).reshape(40, 2)])
    counts = []
    for i in range(60):
        (stroke,) = begun(line, seeded(i)).strokes
        assert np.array_equal(stroke, line.strokes[0][: len(stroke)])
        counts.append(len(stroke))
    assert 12 <= min(counts) < 18
    assert 34 < max(counts) <= 40
    dot = Sketch([[[3, 4]]])
    assert begun(dot, seeded(0)) == dot


def test_a_third_each_is_displaced_begun_and_broken(monkeypatch):
    from sketch_core.data import damage

    called = Counter()
    for name in ("displaced", "begun", "broken"):
        real = getattr(damage, name)

        def counted(*args, name=name, real=real):
            called[name] += 1
            return real(*args)

        monkeypatch.setattr(damage, name, counted)
    sketch, rng = Sketch(BOX, (300, 300), "cat"), seeded(0)
    for _ in range(900):
        hurt = Damage()(sketch, rng)
        assert (hurt.canvas, hurt.label) == ((300, 300), "cat")
        assert 1 <= hurt.num_points <= sketch.num_points
        assert all(np.isfinite(stroke).all() and len(stroke) for stroke in hurt.strokes)
    assert all(260 < count < 340 for count in called.values())
    assert sum(called.values()) == 900


def test_points_are_off_by_a_share_of_the_longer_side_up_to_the_most(monkeypatch):
    from sketch_core.data import damage

    asked = []
    monkeypatch.setattr(damage, "displaced", lambda sketch, far, rng: asked.append(far) or sketch)
    rng = seeded(1)
    for zoom, turn in ((1.0, 1), (7.0, -1)):  # lying and upright, 200 zoom the one way, 100 zoom the other
        large = Sketch([zoom * np.array(stroke, float)[:, ::turn] for stroke in BOX])
        asked.clear()
        for _ in range(600):
            Damage(displaced=0.1)(large, rng)
        assert 0 <= min(asked) < 0.02 * 20 * zoom
        assert 0.98 * 20 * zoom < max(asked) <= 20 * zoom
        assert np.mean(asked) == pytest.approx(10 * zoom, rel=0.15)


def test_points_are_lost_by_a_share_up_to_the_most(monkeypatch):
    from sketch_core.data import damage

    asked, by_chance = [], damage.by_chance
    monkeypatch.setattr(
        damage, "by_chance", lambda sketch, share, rng: asked.append(share) or by_chance(sketch, share, rng)
    )
    rng = seeded(2)
    for _ in range(600):
        Damage(lost=0.4)(Sketch(BOX), rng)
    assert 0 <= min(asked) < 0.02
    assert 0.38 < max(asked) <= 0.4
    assert np.mean(asked) == pytest.approx(0.2, rel=0.15)


def test_damage_of_no_size_leaves_all_but_beginnings():
    sketch, rng = Sketch(BOX), seeded(3)
    found = [Damage(displaced=0, lost=0)(sketch, rng) for _ in range(60)]
    assert all(one == replace(sketch, strokes=sketch.strokes[: len(one.strokes)]) for one in found)
    assert sum(one == sketch for one in found) > 25


def test_the_same_generator_does_the_same_damage():
    sketch = Sketch(BOX)
    first, second = ([Damage()(sketch, rng) for _ in range(20)] for rng in (seeded(4), seeded(4)))
    assert first == second
    assert first != [Damage()(sketch, rng) for rng in [seeded(5)] for _ in range(20)]


@pytest.mark.parametrize("strokes", [([[3, 4]],), ([[3, 4], [3, 4]],), ([[3, 4]], [[9, 9]])])
def test_of_dots_something_is_left(strokes):
    rng = seeded(6)
    for _ in range(60):
        hurt = Damage()(Sketch(strokes), rng)
        assert hurt.num_points >= 1
        assert np.isfinite(np.concatenate(hurt.strokes)).all()
