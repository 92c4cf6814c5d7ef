"""The vocabulary as properties: whatever a sketch holds, dots included, comes back from every form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sketch_core.strokes import (
    Frame,
    PenState,
    Sketch,
    StrokeLatent,
    bounds,
    check_shape,
    distance_to_segment,
    fit,
    from_polylines,
    resample,
    simplify,
    sketch_to_stroke3,
    stroke3_to_sketch,
    stroke3_to_stroke5,
    stroke5_to_stroke3,
    to_polylines,
)

whole = st.integers(-300, 300)
strokes = st.lists(st.tuples(whole, whole), min_size=1, max_size=8).map(
    lambda p: np.array(p, dtype=np.float32)
)
sketches = st.lists(strokes, max_size=5).map(lambda s: Sketch(tuple(s), label="cat"))
drawn = st.lists(strokes, min_size=1, max_size=5).map(lambda s: Sketch(tuple(s), label="cat"))
rows = st.lists(st.tuples(whole, whole, st.integers(0, 1)), max_size=40).map(
    lambda r: np.array(r, dtype=np.float32).reshape(-1, 3)
)
DOT = np.array([[7.0, -3.0]])
LINE = np.array([[0.0, 0.0], [10.0, 0.0]])


def lengths(sketch: Sketch) -> list[int]:
    return [len(stroke) for stroke in sketch.strokes]


def same_points(found: Sketch, wanted: Sketch) -> None:
    assert lengths(found) == lengths(wanted)
    for a, b in zip(found.strokes, wanted.strokes, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- stroke-3


@given(sketches)
@example(Sketch((DOT,)))
@example(Sketch((DOT, LINE)))
@example(Sketch((DOT, DOT + 1)))
@example(Sketch((LINE, DOT, LINE + 5)))
@example(Sketch((DOT, DOT)))
@example(Sketch(()))
def test_stroke3_round_trips(sketch):
    # A first stroke of one point, repeated, is that dot in stroke-3: the same drawing, one point fewer.
    first = sketch.strokes[0] if sketch.strokes else None
    assume(first is None or not (len(first) == 2 and (first[0] == first[1]).all()))
    origin = tuple(first[0]) if first is not None else (0.0, 0.0)
    back = stroke3_to_sketch(sketch_to_stroke3(sketch), origin=origin, label=sketch.label)
    assert back == sketch


def test_two_equal_points_at_the_start_read_back_as_their_dot():
    sketch = Sketch((np.array([[5.0, 5.0], [5.0, 5.0]]), LINE))
    back = stroke3_to_sketch(sketch_to_stroke3(sketch), origin=(5.0, 5.0))
    same_points(back, Sketch((np.array([[5.0, 5.0]]), LINE)))


@given(drawn)
def test_stroke3_has_a_row_a_point_after_the_first_and_a_lift_a_stroke(sketch):
    rows = sketch_to_stroke3(sketch)
    starts_with_a_dot = len(sketch.strokes[0]) == 1
    assert rows.shape == (sketch.num_points - 1 + starts_with_a_dot, 3)
    assert rows.dtype == np.float32
    assert rows[:, 2].sum() == len(sketch.strokes)
    assert rows[-1, 2] == 1


def test_a_published_row_0_draws_a_line():
    """The origin is a drawn point: rows [(10, 0, 1)] are a line, not a move to a dot."""
    same_points(stroke3_to_sketch(np.array([[10, 0, 1]])), Sketch((LINE,)))
    same_points(stroke3_to_sketch(np.array([[10, 0, 0]])), Sketch((LINE,)))  # the last row ends it anyway


@given(rows.filter(len))
def test_any_rows_draw_every_point_once(rows):
    sketch = stroke3_to_sketch(rows)
    starts_with_a_dot = not rows[0, :2].any() and (rows[0, 2] == 1 or len(rows) == 1)
    assert sketch.num_points == len(rows) + 1 - starts_with_a_dot
    assert len(sketch.strokes) == 1 + int(rows[:-1, 2].sum())
    path = np.concatenate(sketch.strokes)[-1]
    np.testing.assert_array_equal(path, rows[:, :2].sum(0))


# ---- stroke-5


@given(rows, st.integers(0, 20))
def test_stroke5_round_trips(rows, padding):
    stroke5 = stroke3_to_stroke5(rows, len(rows) + padding)
    np.testing.assert_array_equal(stroke5_to_stroke3(stroke5), rows)
    np.testing.assert_array_equal(stroke5[:, 2:].sum(1), 1)  # always one-hot
    assert set(np.unique(stroke5[:, 2:])) <= {0, 1}
    np.testing.assert_array_equal(stroke5[len(rows) :, 2 + PenState.END], 1)
    np.testing.assert_array_equal(stroke5[len(rows) :, :2], 0)
    np.testing.assert_array_equal(stroke5[: len(rows), 2 + PenState.UP], rows[:, 2])


def test_stroke5_that_ends_at_row_0_is_empty():
    """Magenta's to_normal_strokes gives all rows here: it takes index 0 for 'not found'."""
    stroke5 = stroke3_to_stroke5(np.zeros((0, 3)), 4)
    assert stroke5_to_stroke3(stroke5).shape == (0, 3)
    stroke5[0] = [1, 2, 1, 0, 0]
    assert len(stroke5_to_stroke3(stroke5)) == 1


def test_stroke5_without_end_is_read_whole():
    rows = np.array([[1, 2, 0], [3, 4, 1]], dtype=np.float32)
    np.testing.assert_array_equal(stroke5_to_stroke3(stroke3_to_stroke5(rows, 2)), rows)


def test_a_drawing_too_long_for_its_stroke5_is_refused():
    with pytest.raises(
        ValueError, match="sketch has 3 rows but stroke-5 length is 2. Raise length, or simplify"
    ):
        stroke3_to_stroke5(np.zeros((3, 3)), 2)


# ---- polylines


@given(sketches)
def test_polylines_round_trip(sketch):
    assert from_polylines(to_polylines(sketch), label="cat") == sketch


def test_polylines_are_whole_where_they_can_be():
    polylines = to_polylines(Sketch((np.array([[1.0, 2.5], [-0.0, 1 / 3]]),)))
    assert polylines == [[[1, 0], [2.5, 0.333]]]
    assert [type(x) for x in polylines[0][0]] == [int, int]


@pytest.mark.parametrize("polyline", [[[], []], [[1, 2], [3]]])
def test_polylines_of_unequal_or_no_length_are_refused(polyline):
    with pytest.raises(ValueError, match=r"stroke 1 has \d x and \d y, wanted as many of each, at least one"):
        from_polylines([[[0], [0]], polyline])


# ---- bounds and fit


@given(drawn)
def test_bounds_hold_every_point_and_touch_one_at_each_side(sketch):
    left, top, right, bottom = bounds(sketch)
    points = np.concatenate(sketch.strokes)
    assert ((points >= (left, top)) & (points <= (right, bottom))).all()
    for axis, value in ((0, left), (1, top), (0, right), (1, bottom)):
        assert (points[:, axis] == value).any()


@given(drawn, st.integers(20, 500), st.integers(20, 500), st.integers(0, 9))
@example(Sketch((DOT,)), 100, 50, 0)
@example(Sketch((np.array([[3.0, 0.0], [3.0, 9.0]]),)), 100, 50, 0)
def test_fit_fills_the_canvas_evenly_and_in_its_middle(sketch, width, height, padding):
    fitted = fit(sketch, (width, height), padding=padding)
    left, top, right, bottom = bounds(fitted)
    tolerance = 1e-3
    assert fitted.canvas == (width, height)
    assert left == pytest.approx(width - right, abs=tolerance)
    assert top == pytest.approx(height - bottom, abs=tolerance)
    before = np.subtract(bounds(sketch)[2:], bounds(sketch)[:2])
    after = np.array([right - left, bottom - top])
    if before.any():
        room = np.array([width, height]) - 2 * padding
        assert (after <= room + tolerance).all()
        assert np.isclose(after, room, atol=tolerance).any()
        np.testing.assert_allclose(after[0] * before[1], after[1] * before[0], atol=1.0)  # one zoom for both
    else:
        np.testing.assert_allclose(after, 0)


@given(drawn, st.integers(-100, 100), st.sampled_from([0.25, 2.0, 8.0]))
def test_fit_does_not_see_where_a_drawing_was_or_how_large(sketch, shift, zoom):
    assume(np.ptp(np.concatenate(sketch.strokes), axis=0).any())
    moved = Sketch(tuple(stroke * zoom + shift for stroke in sketch.strokes))
    for a, b in zip(fit(sketch, (99, 99)).strokes, fit(moved, (99, 99)).strokes, strict=True):
        np.testing.assert_allclose(a, b, atol=0.01)


def test_fit_of_nothing_and_into_nothing():
    assert fit(Sketch(()), (10, 20)) == Sketch((), (10, 20))
    with pytest.raises(ValueError, match="padding 5 leaves nothing of a 10 x 20 canvas"):
        fit(Sketch((LINE,)), (10, 20), padding=5)
    with pytest.raises(ValueError, match="padding -1"):
        fit(Sketch((LINE,)), (10, 20), padding=-1)
    with pytest.raises(ValueError, match="empty sketch has no bounds"):
        bounds(Sketch(()))


# ---- resample


def length(stroke: np.ndarray) -> float:
    return float(np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T).sum())


def distance_to_polyline(point: np.ndarray, stroke: np.ndarray) -> float:
    if len(stroke) == 1:
        return float(np.hypot(*(point - stroke[0])))
    segments = zip(stroke[:-1].astype(float), stroke[1:].astype(float), strict=True)
    return min(distance_to_segment(point[None].astype(float), a, b)[0] for a, b in segments)


@given(drawn, st.floats(1, 100))
@example(Sketch((DOT, np.repeat(DOT, 3, axis=0), LINE)), 3.0)
def test_resample_keeps_ends_and_dots_and_stays_on_the_line(sketch, spacing):
    resampled = resample(sketch, spacing)
    assert (resampled.canvas, resampled.label) == (sketch.canvas, sketch.label)
    for new, old in zip(resampled.strokes, sketch.strokes, strict=True):
        np.testing.assert_array_equal(new[[0, -1]], old[[0, -1]])
        if length(old) == 0:
            assert len(new) == 1
            continue
        assert np.hypot(*np.diff(new, axis=0).T).max() <= spacing + 1e-3
        assert len(new) == int(np.ceil(length(old) / spacing)) + 1
        for point in new[:: max(1, len(new) // 5)]:
            assert distance_to_polyline(point, old) < 1e-3


def test_resample_on_a_straight_line_is_exact():
    (stroke,) = resample(Sketch((LINE,)), 4.0).strokes
    np.testing.assert_allclose(stroke, [[0, 0], [10 / 3, 0], [20 / 3, 0], [10, 0]], rtol=1e-6)


@pytest.mark.parametrize("spacing", [0, -1, float("nan")])
def test_resample_wants_a_length(spacing):
    with pytest.raises(ValueError, match="wanted a length above 0"):
        resample(Sketch((LINE,)), spacing)


# ---- simplify


@given(drawn, st.floats(0, 60))
def test_simplify_keeps_ends_and_stays_within_epsilon(sketch, epsilon):
    simplified = simplify(sketch, epsilon)
    for new, old in zip(simplified.strokes, sketch.strokes, strict=True):
        np.testing.assert_array_equal(new[[0, -1]], old[[0, -1]])
        assert len(new) <= max(len(old), 1)
        for point in old:
            assert distance_to_polyline(point, new) <= epsilon + 1e-3
        remaining = iter(old.tolist())
        assert all(point in remaining for point in new.tolist())  # a subsequence


@given(drawn)
def test_simplify_by_nothing_drops_only_what_lies_on_the_line(sketch):
    for new, old in zip(simplify(sketch, 0.0).strokes, sketch.strokes, strict=True):
        assert length(new) == pytest.approx(length(old), rel=1e-6) or len(new) < len(old)
        assert all(distance_to_polyline(point, new) < 1e-4 for point in old)


def test_simplify_knows_segments_from_lines():
    """A point beyond the end of the segment is far from it, however near to the line through it."""
    hook = Sketch((np.array([[0.0, 0.0], [50.0, 0.0], [10.0, 0.0]]),))
    assert lengths(simplify(hook, 2.0)) == [3]
    corner = Sketch((np.array([[0.0, 0.0], [5.0, 1.0], [10.0, 0.0], [10.0, 10.0]]),))
    assert to_polylines(simplify(corner, 2.0)) == [[[0, 10, 10], [0, 0, 10]]]
    closed = Sketch((np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 0.0]]),))
    assert lengths(simplify(closed, 2.0)) == [4]


def test_simplify_survives_strokes_longer_than_the_recursion_limit():
    zigzag = np.stack([np.arange(20_000.0), np.arange(20_000) % 2 * 100.0], 1)[:3000]
    assert lengths(simplify(Sketch((zigzag,)), 1.0)) == [3000]
    with pytest.raises(ValueError, match="epsilon is -1, wanted a distance of 0 or more"):
        simplify(Sketch((zigzag,)), -1)


# ---- the values themselves


def test_a_sketch_does_not_change():
    points = np.zeros((2, 2), dtype=np.float32)
    sketch = Sketch([points], label="cat")
    points[0] = 7
    np.testing.assert_array_equal(sketch.strokes[0], 0)
    assert isinstance(sketch.strokes, tuple)
    with pytest.raises(ValueError, match="read-only"):
        sketch.strokes[0][0] = 7
    with pytest.raises(AttributeError):
        sketch.label = "dog"


def test_sketches_are_equal_when_all_of_them_is():
    sketch = Sketch((LINE,), (9, 9), "cat")
    assert sketch == Sketch((LINE.copy(),), (9.0, 9.0), "cat")
    others = (
        Sketch((LINE,), (9, 8), "cat"),
        Sketch((LINE,), (9, 9), None),
        Sketch((LINE + 1,), (9, 9), "cat"),
        Sketch((LINE, LINE), (9, 9), "cat"),
        "cat",
    )
    for other in others:
        assert sketch != other


@pytest.mark.parametrize(
    ("strokes", "canvas", "complaint"),
    [
        ([np.zeros((0, 2))], (9, 9), r"stroke 0 has shape \(0, 2\), wanted \(n, 2\) with n >= 1"),
        ([LINE, np.zeros((2, 3))], (9, 9), r"stroke 1 has shape \(2, 3\)"),
        ([np.array([[0, np.nan]])], (9, 9), "stroke 0 holds a coordinate that is not a finite number"),
        ([np.array([[0, np.inf]])], (9, 9), "not a finite number"),
        ([LINE], (0, 9), "wanted two finite sides above 0"),
        ([LINE], (9, float("inf")), "wanted two finite sides above 0"),
    ],
)
def test_what_is_no_sketch_is_refused(strokes, canvas, complaint):
    with pytest.raises(ValueError, match=complaint):
        Sketch(tuple(strokes), canvas)


def test_a_latent_s_shapes_agree():
    torch = pytest.importorskip("torch")

    def latent(points=(2, 5, 2), pen=(2, 5, 3), length=(2,), labels=("cat", None), **more):
        return StrokeLatent(torch.zeros(points), torch.zeros(pen), torch.zeros(length), 40.0, labels, **more)

    assert len(latent()) == 2
    with pytest.raises(ValueError, match=r"pen must have shape \(2, 5, 3\), got \(2, 4, 3\)"):
        latent(pen=(2, 4, 3))
    with pytest.raises(ValueError, match=r"length must have shape \(2\), got \(3,\)"):
        latent(length=(3,))
    with pytest.raises(ValueError, match="latent holds 2 sketches but 1 labels"):
        latent(labels=("cat",))
    with pytest.raises(ValueError, match="latent holds 2 sketches but 1 frames. Give one each"):
        latent(frames=(Frame((9.0, 9.0), (0.0, 0.0), 1.0),))


def test_check_shape_takes_letters_for_any_size():
    check_shape("x", np.zeros((4, 7, 2)), "B N 2")
    for shape in ((4, 7, 3), (4, 2), (4, 7, 2, 1)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, N, 2\), got"):
            check_shape("x", np.zeros(shape), "B N 2")


@given(strokes, st.tuples(whole, whole), st.tuples(whole, whole))
def test_distance_to_segment_is_the_nearest_of_many_points_on_it(points, a, b):
    a, b = np.array(a, dtype=float), np.array(b, dtype=float)
    along = a + np.linspace(0, 1, 2001)[:, None] * (b - a)
    nearest = np.hypot(*(points[:, None].astype(float) - along).transpose(2, 0, 1)).min(1)
    np.testing.assert_allclose(distance_to_segment(points.astype(float), a, b), nearest, atol=0.25)
