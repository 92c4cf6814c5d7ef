"""The pen-state decoder: where the pen lifts, by each of its modes, and that a sketch always comes out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.models.stroke_unet import lift_pen
from sketch_core.pen import MODES, decode_pen, lift_probability
from sketch_core.strokes import Frame, PenState, StrokeLatent, bounds

DOWN, UP, END = PenState.DOWN, PenState.UP, PenState.END


def latent(points, states, *, scale=1.0, certainty=8.0) -> StrokeLatent:
    """One drawing of offsets (n, 2), each with a pen state it is sure of."""
    pen = certainty * torch.eye(3)[torch.tensor(states)]
    return StrokeLatent(
        torch.tensor(points).float()[None], pen[None], torch.tensor([len(states)]), scale, ("cat",)
    )


def random_latent(seed: int, B: int = 3, N: int = 24, *, spread: float = 2.0) -> StrokeLatent:
    rng = np.random.default_rng(seed)
    return StrokeLatent(
        torch.tensor(rng.normal(size=(B, N, 2)), dtype=torch.float32),
        torch.tensor(rng.normal(size=(B, N, 3)) * spread, dtype=torch.float32),
        torch.tensor(rng.integers(1, N + 1, size=B)),
        float(rng.uniform(1, 60)),
        tuple(["cat", None, "The Mona Lisa"][:B]),
        seeds=tuple((7, i) for i in range(B)),
    )


def shapes(sketch) -> list[int]:
    return [len(stroke) for stroke in sketch.strokes]


def ink(stroke: np.ndarray) -> float:
    return float(np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T).sum())


# ---- exact answers --------------------------------------------------------------------------------


def test_points_strokes_and_units_of_a_drawing_by_hand():
    drawn = latent([[3, 0], [0, 4], [-1, 0], [0, -1]], [DOWN, UP, DOWN, DOWN], scale=10)
    (sketch,) = decode_pen(drawn, canvas=None)
    assert [stroke.tolist() for stroke in sketch.strokes] == [
        [[0, 0], [30, 0], [30, 40]],
        [[20, 40], [20, 30]],
    ]
    assert sketch.label == "cat"


def test_a_sure_pen_draws_one_solid_line():
    """The published decoder lifts where *down* is likely, and so draws dashes."""
    (sketch,) = decode_pen(latent(np.ones((20, 2)), [DOWN] * 20))
    assert shapes(sketch) == [21]


def test_an_end_before_the_end_is_a_lift():
    points = [[1, 0], [0, 2], [3, 1], [1, 1]]
    ends, lifts = (decode_pen(latent(points, [DOWN, s, DOWN, s]), canvas=None)[0] for s in (END, UP))
    assert ends == lifts
    assert shapes(ends) == [3, 2]


def test_a_lift_may_be_likelier_than_going_on_though_no_single_state_is():
    logits = torch.tensor([0.4, 0.3, 0.3]).log()
    assert float(lift_probability(logits[None, None])) == pytest.approx(0.6)
    drawn = StrokeLatent(torch.ones(1, 2, 2), logits.expand(1, 2, 3), torch.tensor([2]), 1.0, (None,))
    assert shapes(decode_pen(drawn)[0]) == [2, 1]


def test_a_two_state_head_lifts_by_its_own_two_probabilities():
    two = torch.randn(2, 30, 2, generator=torch.Generator().manual_seed(0))
    lifts = lift_probability(lift_pen(two))
    torch.testing.assert_close(lifts, two.double().softmax(-1)[..., UP], rtol=0, atol=1e-12)


def test_fitting_keeps_the_shape_and_uses_the_canvas():
    drawn = latent([[4, 0], [0, 2]], [DOWN, DOWN])
    (sketch,) = decode_pen(drawn, canvas=(400, 100), padding=0.1)
    assert sketch.canvas == (400, 100)
    assert bounds(sketch) == pytest.approx((120, 10, 280, 90))  # 2 : 1, 10 % of 100 free above and below


def test_without_a_canvas_the_corner_is_the_origin_and_the_size_the_model_s():
    (sketch,) = decode_pen(latent([[-4, -6], [1, 1]], [DOWN, DOWN], scale=5), canvas=None)
    assert bounds(sketch) == pytest.approx((0, 0, 20, 30))


# ---- modes ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_argmax_is_a_threshold_of_one_half(seed):
    drawn = random_latent(seed)
    assert decode_pen(drawn, mode="argmax") == decode_pen(drawn, mode="threshold", threshold=0.5)
    for sketch, pen, n in zip(
        decode_pen(drawn, mode="argmax"), drawn.pen, drawn.length.tolist(), strict=True
    ):
        weight = pen[:n].double().exp()
        lifted = weight[:, UP] + weight[:, END] > weight[:, DOWN]
        assert len(sketch.strokes) == 1 + int(lifted[:-1].sum())  # the last point ends a stroke anyway


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_higher_threshold_lifts_less(seed):
    drawn = random_latent(seed)
    counts = []
    for threshold in (0.0, 0.1, 0.4, 0.8, 1.0):
        counts.append([len(s.strokes) for s in decode_pen(drawn, mode="threshold", threshold=threshold)])
    assert all(b <= a for row in zip(*counts, strict=True) for a, b in zip(row, row[1:], strict=False))
    assert counts[0] == drawn.length.tolist()  # every point ends a stroke
    assert counts[-1] == [1] * len(drawn)  # none does


def test_temperature_is_reproducible_and_goes_by_the_sketch_not_by_its_row():
    drawn = random_latent(5)
    once = decode_pen(drawn, mode="temperature", seed=3)
    assert once == decode_pen(drawn, mode="temperature", seed=3)
    assert once != decode_pen(drawn, mode="temperature", seed=4)
    for i, sketch in enumerate(once):
        row = slice(i, i + 1)
        alone = StrokeLatent(
            drawn.points[row],
            drawn.pen[row],
            drawn.length[row],
            drawn.scale,
            drawn.labels[row],
            drawn.seeds[row],
        )
        assert decode_pen(alone, mode="temperature", seed=3) == [sketch]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_temperature_near_0_is_argmax(seed):
    drawn = random_latent(seed)
    assert decode_pen(drawn, mode="temperature", temperature=1e-6, seed=1) == decode_pen(drawn, mode="argmax")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_lifts_as_often_as_it_says(temperature):
    N, logits = 4000, torch.tensor([1.0, 0.0, -2.0])
    drawn = StrokeLatent(torch.ones(1, N, 2), logits.expand(1, N, 3), torch.tensor([N]), 1.0, (None,))
    odds = (math.exp(0) + math.exp(-2)) / math.exp(1)
    p = odds ** (1 / temperature) / (1 + odds ** (1 / temperature))
    (sketch,) = decode_pen(drawn, mode="temperature", temperature=temperature)
    assert (len(sketch.strokes) - 1) / N == pytest.approx(p, abs=4 * (p * (1 - p) / N) ** 0.5)


# ---- properties -----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    mode=st.sampled_from(MODES),
    canvas=st.sampled_from([(255.0, 255.0), (40.0, 1000.0), None]),
    spread=st.sampled_from([0.0, 1.0, 300.0]),
    min_stroke=st.sampled_from([0.0, 5.0, 1e6]),
)
@settings(max_examples=60)
def test_a_latent_always_gives_sketches(seed, mode, canvas, spread, min_stroke):
    drawn = random_latent(seed, spread=spread)
    whole = decode_pen(drawn, mode=mode, canvas=canvas)
    for sketch, n, label in zip(whole, drawn.length.tolist(), drawn.labels, strict=True):
        assert sketch.num_points == n + 1  # random offsets: no first stroke is a dot
        assert sketch.label == label
        left, top, right, bottom = bounds(sketch)
        assert left > -1e-3
        assert top > -1e-3
        if canvas is not None:
            assert sketch.canvas == canvas
            assert right < canvas[0] + 1e-3
            assert bottom < canvas[1] + 1e-3
    for sketch, full in zip(
        decode_pen(drawn, mode=mode, canvas=canvas, min_stroke=min_stroke), whole, strict=True
    ):
        assert 1 <= len(sketch.strokes) <= len(full.strokes)
        lengths = [ink(stroke) for stroke in sketch.strokes]
        assert len(lengths) == 1 or min(lengths) >= min_stroke * (1 - 1e-4)
        if min_stroke == 0:
            assert sketch == full


def test_the_shortest_stroke_is_measured_on_the_canvas_it_is_drawn_on():
    """A line of 9, then a lift, a step aside, and a line of 1: on 100 units those are 90 and 10."""
    drawn = latent([[9, 0], [0, 1], [1, 0]], [UP, DOWN, DOWN], scale=3)
    options = {"canvas": (100, 100), "padding": 0.0}
    assert shapes(decode_pen(drawn, **options, min_stroke=9)[0]) == [2, 2]
    assert shapes(decode_pen(drawn, **options, min_stroke=11)[0]) == [2]
    assert shapes(decode_pen(drawn, **options, min_stroke=1000)[0]) == [2]  # the longest stays
    assert shapes(decode_pen(drawn, canvas=None, min_stroke=4)[0]) == [2]  # the model's own units: 27 and 3


def test_what_is_left_without_short_strokes_is_fitted_again():
    drawn = latent([[10, 0], [50, 50], [1, 0]], [UP, DOWN, DOWN])
    left, _, right, _ = bounds(decode_pen(drawn, min_stroke=5, padding=0.1, canvas=(200, 200))[0])
    assert (left, right) == pytest.approx((20, 180), abs=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_past_the_length_matters(mode):
    drawn = random_latent(11)
    padding = torch.arange(drawn.points.shape[1]) >= drawn.length[:, None]
    points, pen = drawn.points.clone(), drawn.pen.clone()
    points[padding], pen[padding] = math.nan, 77.0
    other = StrokeLatent(points, pen, drawn.length, drawn.scale, drawn.labels, drawn.seeds)
    assert decode_pen(other, mode=mode) == decode_pen(drawn, mode=mode)


def test_no_points_are_an_empty_sketch():
    drawn = StrokeLatent(torch.ones(1, 4, 2), torch.zeros(1, 4, 3), torch.tensor([0]), 1.0, ("cat",))
    for canvas in (None, (255, 255)):
        assert decode_pen(drawn, canvas=canvas, min_stroke=1)[0].strokes == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mode": "greedy"}, r"unknown pen mode 'greedy'. Known: argmax, threshold, temperature"),
        ({"threshold": 1.1}, r"threshold is 1.1, wanted a probability in 0..1"),
        ({"threshold": math.nan}, r"threshold is nan"),
        ({"temperature": 0.0}, r"temperature is 0.0, wanted a number above 0"),
        ({"temperature": math.nan}, r"temperature is nan"),
        ({"min_stroke": -1}, r"min_stroke is -1, wanted a length of 0 or more"),
        ({"padding": 0.5}, r"padding .* leaves nothing"),
    ],
)
def test_absurd_options_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        decode_pen(random_latent(0), **options)


def test_a_frame_says_where_a_drawing_lies():
    drawn = latent([[1, 0], [0, 2], [3, 0], [0, 0.5]], [UP, DOWN, UP, END], scale=10.0)
    drawn = replace(drawn, frames=(Frame((640.0, 480.0), (100.0, 50.0), 2.0),))
    (sketch,) = decode_pen(drawn)
    assert sketch.canvas == (640, 480)
    assert [stroke.tolist() for stroke in sketch.strokes] == [
        [[100, 50], [120, 50]],
        [[120, 90], [180, 90]],
        [[180, 100]],
    ]
    (long,) = decode_pen(drawn, min_stroke=25)  # units of the model's canvas: 50 of this one
    assert [stroke.tolist() for stroke in long.strokes] == [[[120, 90], [180, 90]]]
