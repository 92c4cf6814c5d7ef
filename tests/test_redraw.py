"""Redrawing: what is given stays to the coordinate, batches change nothing, and what is refused."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core import given as forms
from sketch_core import lost, redraw
from sketch_core.denoisers import NETWORKS, Prediction
from sketch_core.inbetween import interpolate, invert_ddim, mixing, slerp
from sketch_core.knitter import SketchModel
from sketch_core.models.stroke_transformer import Known, StrokeTransformer
from sketch_core.models.stroke_unet import StrokeUNet, StrokeUNetConfig
from sketch_core.naming import classes_of
from sketch_core.redraw import complete, heal, vary
from sketch_core.samplers import sample_ddim
from sketch_core.schedules import alpha_bar_cosine, uniform
from sketch_core.strokes import PenState, Sketch
from sketch_core.weight_file import Metadata
from tests.test_knitter import METADATA
from tests.tiny import normal, tiny_transformer

FEW = {"steps": 3, "guidance": 1.0}


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


class Recognizer:
    """Everything is likelier a cactus than a cat; of the model's three classes it knows those two."""

    classes = ("dog", "cactus", "cat")

    def scores(self, sketches):
        return np.tile([0.5, 0.4, 0.1], (len(sketches), 1)).astype(np.float32)


def wave(points: int = 30, size: float = 800.0, label: str | None = "cat") -> Sketch:
    """A dense line, a dot and a box on a canvas of 1,000, with coordinates that are no round numbers."""
    x = np.linspace(0.1, size, points)
    line = np.stack([x, size / 2 + 100 * np.sin(x / 60)], 1)
    box = np.array([[100, 700], [300, 705], [310, 900], [90, 880], [100, 700]]) + 1 / 3
    return Sketch((line, [[500.25, 80.5]], box), (1000, 1000), label)


def points_of(sketch: Sketch) -> set[bytes]:
    return {point.tobytes() for stroke in sketch.strokes for point in stroke}


# ---- the model's form and back ---------------------------------------------------------------------


shapes = st.lists(
    st.lists(st.tuples(st.integers(-300, 900), st.integers(-300, 900)), min_size=1, max_size=25),
    min_size=1,
    max_size=5,
).map(lambda strokes: Sketch(tuple(np.array(s, np.float32) / 3 for s in strokes), (640, 480)))


@settings(max_examples=60)
@given(shapes, st.integers(20, 120))
def test_a_drawing_comes_back_from_the_model_s_form_bit_for_bit(sketch, most):
    refused = ""
    try:
        form = forms.bring(sketch, forms.size_of_whole(sketch), most)
    except ValueError as error:  # a zigzag as wide as the drawing has no point to leave out
        refused = str(error)
    if refused:
        assert f"there is room for {most}" in refused
        assert sketch.num_points > most
        return
    assert len(form) <= most
    again = forms.put_back(sketch, form, form.points, form.pen != PenState.DOWN, sketch.label)
    assert again == sketch


@settings(max_examples=40)
@given(shapes, st.integers(0, 60))
def test_a_form_of_any_number_of_rows_keeps_strokes_and_their_ends(sketch, more):
    form = forms.bring(sketch, forms.size_of_whole(sketch), 200)
    wanted = form.with_ends_only + more
    sized = forms.with_rows(form, wanted)
    assert len(sized) == wanted
    for ends in (form, sized):
        assert int((ends.pen != PenState.DOWN).sum()) == len(sketch.strokes)
    assert np.array_equal(sized.points[sized.pen != 0], form.points[form.pen != 0])


def test_too_few_rows_for_the_strokes_are_refused():
    form = forms.bring(wave(), 0.3, 100)
    with pytest.raises(ValueError, match=r"needs 4 points cannot be made of 3"):
        forms.with_rows(form, 3)


def test_a_scribble_of_hundreds_of_points_is_simplified_to_what_there_is_room_for():
    form = forms.bring(wave(points=3000), forms.size_of_whole(wave()), 36)
    assert len(form) <= 36
    assert sum(map(len, form.between)) > 2900
    assert np.abs(np.diff(form.points, axis=0) * form.zoom).max() <= 255


def test_more_strokes_than_points_are_refused():
    dots = Sketch(tuple(np.array([[i, i % 7]]) for i in range(60)), (100, 100))
    with pytest.raises(ValueError, match=r"60 strokes, but there is room for 40 points. Give it fewer"):
        forms.bring(dots, 1.0, 40)
    lines = Sketch(tuple(np.array([[i, 0], [i, 50]]) for i in range(30)), (100, 100))
    with pytest.raises(ValueError, match=r"30 strokes and comes to 59 points .* room for 40. Give it fewer"):
        forms.bring(lines, 1.0, 40)


def test_too_many_strokes_are_refused_before_they_are_simplified(monkeypatch):
    monkeypatch.setattr(forms, "_simplified", None)  # is not reached
    with pytest.raises(ValueError, match="42 strokes, but there is room for 40 points"):
        forms.bring(Sketch(([[0, 0], [9, 9]],) * 42, (100, 100)), 1.0, 40)


def test_gaps_among_thousands_of_lines_take_no_time():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 1000, (1500, 2))
    lines = Sketch(tuple(np.stack([p, p + 5]) for p in starts), (1000, 1000))
    began = time.process_time()
    joined, _ = lost.gaps(lines, 10)
    assert time.process_time() - began < 3
    assert 300 < len(joined.strokes) < 1400


def test_an_empty_sketch_is_refused(model):
    with pytest.raises(ValueError, match="the sketch is empty, wanted at least one stroke"):
        forms.bring(Sketch(()), 1.0, 40)
    with pytest.raises(ValueError, match="there is no sketch"):
        complete(model, [])


def test_the_size_of_a_part():
    part = Sketch(([[0, 0], [100, 40]],), (200, 100))
    assert forms.size_of_whole(part) == 2.55
    assert forms.size_of_part(part, None) == 255 / 200  # the canvas is the sheet
    assert forms.size_of_part(part, 0.8) == pytest.approx(2.04)
    small = Sketch(([[0, 0], [100, 40]],), (2000, 2000))
    assert forms.size_of_part(small, None) == 2.55 / 4
    beyond = Sketch(([[0, 0], [100, 40]],), (10, 10))
    assert forms.size_of_part(beyond, None) == 2.55
    with pytest.raises(ValueError, match="share is 1.5, wanted the part"):
        forms.size_of_part(part, 1.5)


# ---- complete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_given_strokes_stay_and_new_ones_follow(model, sampler):
    source = wave(points=500)
    drawn = complete(model, source, count=3, sampler=sampler, **FEW)
    for one in drawn:
        assert one.canvas == source.canvas
        assert len(one.strokes) > len(source.strokes)
        for ours, theirs in zip(one.strokes, source.strokes, strict=False):
            assert ours.tobytes() == theirs.tobytes()
    assert len({one.num_points for one in drawn}) > 1 or drawn[0] != drawn[1]


def test_a_completion_is_the_same_in_any_batch(model):
    sources = [wave(20), wave(60, 300), wave(9, 990)]
    together = complete(model, sources, count=4, seed=3, **FEW)
    assert complete(model, sources, count=4, seed=3, batch_size=5, **FEW) == together
    for i, source in enumerate(sources):
        assert complete(model, source, count=1, start=2, seed=3, **FEW) == [together[4 * i + 2]]


def test_detail_is_the_points_of_the_whole_and_leaves_the_noise_alone(model):
    source = Sketch(([[0, 0], [200, 0], [200, 200]],), label="cat")
    (one,) = complete(model, source, detail=20, **FEW)
    assert one.num_points == 21  # rows and their origin
    with pytest.raises(ValueError, match="detail is 2, but 2 points are given"):
        complete(model, source, detail=2, **FEW)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0, wanted 1"),
        ({"count": 10**9}, "count is 1000000000, wanted 1"),
        ({"start": -1}, "start is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"detail": 10**9}, "detail is 1000000000, wanted"),
    ],
)
def test_complete_checks_its_settings_before_it_works(model, monkeypatch, options, message):
    monkeypatch.setattr(redraw, "classes_of", None)  # is not reached
    with pytest.raises(ValueError, match=message):
        complete(model, wave(), **options)


def test_lengths_are_drawn_among_those_longer_than_what_is_given(model):
    draw = lambda label, given: {  # noqa: E731
        redraw.longer(model, label, given, torch.Generator().manual_seed(i)) for i in range(40)
    }
    assert draw(1, 5) == {7, 33}
    assert draw(1, 7) == {33}
    assert min(draw(0, 30)) == 34  # a tenth more, at the least
    assert draw(2, 25) <= set(range(28, 41))  # nobody drew so long a cactus: as in all classes
    assert draw(2, 40) == {40}


def test_a_network_that_cannot_be_told_is_held_all_the_same():
    torch.manual_seed(0)
    config = StrokeUNetConfig(points=32, num_res_blocks=1, channel_mult=(1,), features=32)
    network = StrokeUNet(config).eval().requires_grad_(False)
    lengths = ((0,) * 10 + (1,) * 23,)
    metadata = Metadata("1", "stroke_unet", {}, scale=20.0, classes=("cat",), lengths=lengths)
    source = Sketch(([[0, 0], [200, 0], [200, 200]],), label="cat")
    (one,) = complete(SketchModel("unet", network, metadata), source, **FEW)
    assert np.array_equal(one.strokes[0], source.strokes[0])


# ---- heal ------------------------------------------------------------------------------------------


def test_what_is_not_lost_stays_to_the_coordinate(model):
    source = wave(points=200)
    masks = [np.zeros(len(stroke), bool) for stroke in source.strokes]
    masks[0][60:110] = True
    masks[2][:1] = True
    for one in heal(model, source, lost=masks, count=3, **FEW):
        kept = points_of(lost.broken(source, masks))
        assert kept <= points_of(one)
        assert one.strokes[0][:60].tobytes() == source.strokes[0][:60].tobytes()
        new = points_of(one) - kept
        assert 0 < len(new) <= 20
        assert one.canvas == source.canvas


def test_nothing_lost_is_the_drawing_itself(model):
    source = wave()
    assert heal(model, source, lost=lost.nothing(source)[1], **FEW) == [source]
    assert heal(model, source, **FEW) == [source]


def test_healing_is_the_same_in_any_batch(model):
    sources = [wave(12), wave(16, 300)]
    masks = [lost.by_chance(s, 0.4, np.random.default_rng(1))[1] for s in sources]
    options = {"seed": 3, "strength": 0.4, **FEW}
    together = heal(model, sources, lost=masks, count=3, **options)
    for i, (source, mask) in enumerate(zip(sources, masks, strict=True)):
        assert heal(model, source, lost=mask, count=1, start=2, **options) == [together[3 * i + 2]]


def test_strength_moves_what_lies_between_the_ends_of_lines(model):
    source = wave()
    (one,) = heal(model, source, strength=0.5, **FEW)
    assert len(one.strokes) == len(source.strokes)
    for ours, theirs in zip(one.strokes, source.strokes, strict=True):
        assert np.array_equal(ours[[0, -1]], theirs[[0, -1]])
    assert not np.array_equal(one.strokes[0], source.strokes[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.0}, "strength is 1, wanted 0"),
        ({"lost": []}, r"lost has masks of \[\] points, wanted one for each stroke, of \[30, 1, 5\]"),
        ({"lost": [np.ones(30, bool), np.ones(1, bool), np.ones(5, bool)]}, "all points .* are lost"),
        ({"strength": 0.1, "class_name": "caat"}, "unknown class 'caat'. Near: cat"),
        ({"count": 0}, "count is 0"),
        ({"lost": [np.zeros(n, bool) for n in (30, 1, 5)], "steps": 0}, "steps is 0"),
    ],
)
def test_what_heal_refuses(model, options, message):
    with pytest.raises(ValueError, match=message):
        heal(model, wave(), **options)


def test_masks_that_do_not_fit_are_refused_whoever_says_what_it_shows(model):
    for label in ("cat", None):
        for few in ([np.arange(30) == 3], [np.arange(30) == 3, np.zeros(2, bool), np.zeros(5, bool)]):
            with pytest.raises(ValueError, match=r"lost has masks of .* wanted one for each stroke, of \[30"):
                heal(model, wave(label=label), lost=few, recognizer=Recognizer(), **FEW)


def test_masks_are_wanted_for_each_sketch(model):
    with pytest.raises(ValueError, match="masks for 1 sketches, wanted them for 2"):
        heal(model, [wave(), wave()], lost=[lost.nothing(wave())[1]])


# ---- what is lost ----------------------------------------------------------------------------------


def test_an_eraser_cuts_lines_at_its_edge_and_moves_nothing():
    source = Sketch(([[10, 50], [90, 50]], [[50, 90]]), (100, 100))
    mask = np.zeros((200, 200))
    mask[:, 80:120] = 1  # 40 to 60 on the canvas
    marked, masks = lost.eraser(source, mask, padding=None)
    kept = lost.broken(marked, masks)
    assert [len(stroke) for stroke in kept.strokes] == [2, 2]
    assert kept.strokes[0][0].tolist() == [10, 50]
    assert kept.strokes[1][1].tolist() == [90, 50]
    assert kept.strokes[0][1, 0] == pytest.approx(40, abs=0.6)
    assert kept.strokes[1][0, 0] == pytest.approx(60, abs=0.6)
    assert masks[1].all()  # the dot
    fitted, masks = lost.eraser(source, np.zeros((50, 50)))
    assert fitted.strokes[0].tolist() == source.strokes[0].tolist()
    assert not any(mask.any() for mask in masks)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3, 4\), wanted \(height, width\)"):
        lost.eraser(source, np.zeros((2, 3, 4)))


def test_an_eraser_looks_at_lines_only_where_the_mask_is():
    source = Sketch(([[10, 50], [2e6, 50], [10, 60], [-3e38, 60]], [[-50, 2], [-60, 9]]), (100, 100))
    mask = np.zeros((100, 100))
    mask[:, 40:60] = 1
    tracemalloc.start()
    marked, masks = lost.eraser(source, mask, padding=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    kept = lost.broken(marked, masks)
    assert [len(stroke) for stroke in kept.strokes] == [2, 3, 3, 2]
    assert kept.strokes[0][1, 0] == pytest.approx(40, abs=1.01)
    assert kept.strokes[1][:, 0].tolist() == [pytest.approx(60, abs=1.01), 2e6, pytest.approx(60, abs=1.01)]
    assert kept.strokes[3].tolist() == [[-50, 2], [-60, 9]]


def test_gaps_between_ends_that_face_each_other_are_found():
    line = [[0, 0], [40, 0]], [[100, 2], [50, 1]], [[0, 80], [45, 10]]
    joined, masks = lost.gaps(Sketch(line, (100, 100)), 15)
    assert len(joined.strokes) == 2
    assert joined.strokes[0][masks[0] == 0].tolist() == [[0, 0], [40, 0], [50, 1], [100, 2]]
    assert joined.strokes[1].tolist() == [[0, 80], [45, 10]]
    apart, masks = lost.gaps(Sketch(line, (100, 100)), 5)
    assert apart == Sketch(line, (100, 100))
    assert not any(mask.any() for mask in masks)
    with pytest.raises(ValueError, match="reach is -1"):
        lost.gaps(Sketch(line, (100, 100)), -1)


def test_an_open_circle_is_closed_and_hatching_is_not():
    angle = np.linspace(0.2, 6.1, 40)
    circle = Sketch((50 + 40 * np.stack([np.cos(angle), np.sin(angle)], 1),), (100, 100))
    closed, masks = lost.gaps(circle)  # 16 of 80, too wide; then wide enough
    assert closed == circle
    closed, masks = lost.gaps(circle, 20)
    assert np.array_equal(closed.strokes[0][0], closed.strokes[0][-1])
    assert masks[0].sum() == lost.CHORD
    hatching = Sketch([[[i, 0], [i, 50]] for i in range(0, 30, 3)], (100, 100))
    assert lost.gaps(hatching, 10)[0] == hatching


def test_healed_gaps_are_lines_without_a_break(model):
    sketch, masks = lost.gaps(Sketch(([[0, 0], [100, 0]], [[130, 5], [250, 30]]), (255, 255), "cat"), 40)
    (one,) = heal(model, sketch, lost=masks, **FEW)
    assert {(0, 0), (100, 0), (130, 5), (250, 30)} <= {tuple(p) for s in one.strokes for p in s.tolist()}


def test_points_lost_by_chance_leave_one():
    source, masks = lost.by_chance(wave(), 1.0, np.random.default_rng(0))
    assert sum(int((~mask).sum()) for mask in masks) == 1
    with pytest.raises(ValueError, match="share of lost points is 2"):
        lost.by_chance(source, 2, np.random.default_rng(0))


# ---- vary ------------------------------------------------------------------------------------------


def test_amount_0_is_the_drawing_itself_and_more_is_farther(model):
    source = wave()
    assert vary(model, source, amount=0, count=2) == [source, source]
    distances = []
    for amount in (0.02, 0.2, 0.6):
        drawn = vary(model, source, amount=amount, count=4, **FEW)
        assert len({one.strokes[0].tobytes() for one in drawn}) == 4
        middles = [np.concatenate(one.strokes).mean(0) for one in drawn]
        distances.append(np.mean([np.abs(one.strokes[0][0] - source.strokes[0][0]).sum() for one in drawn]))
        assert np.isfinite(middles).all()
    assert distances == sorted(distances)
    with pytest.raises(ValueError, match="amount is 1.5, wanted 0"):
        vary(model, source, amount=1.5)


def test_a_variation_is_the_same_in_any_batch(model):
    sources = [wave(20), wave(60, 300)]
    together = vary(model, sources, count=3, seed=5, **FEW)
    for i, source in enumerate(sources):
        assert vary(model, source, start=1, seed=5, **FEW) == [together[3 * i + 1]]


def test_a_little_variation_keeps_strokes_and_every_point(model):
    """The line of 300 points comes back with 300, moved: not the two dozen that the model sees."""
    source = wave(points=300)
    (one,) = vary(model, source, amount=0.01, **FEW)
    assert [len(stroke) for stroke in one.strokes] == [len(stroke) for stroke in source.strokes]


# ---- classes ---------------------------------------------------------------------------------------


def test_the_class_is_given_or_the_sketch_s_own_or_guessed(model):
    guess = Recognizer()
    assert classes_of(model, [wave()], "the_eiffel tower") == [1]
    assert classes_of(model, [wave()], "any") == [3]
    sketches = [wave(label="Cat"), wave(label=None), wave(label="zebra")]
    assert classes_of(model, sketches, None, guess) == [0, 2, 2]  # of its classes the model knows two
    assert complete(model, wave(label=None), recognizer=guess, **FEW)[0].label == "cactus"
    masks = [np.arange(n) == 1 for n in (30, 1, 5)]
    seen = []
    guess.scores = lambda sketches: seen.append(len(sketches)) or Recognizer.scores(guess, sketches)
    assert heal(model, wave(label=None), lost=masks, recognizer=guess, **FEW)[0].label == "cactus"
    heal(model, wave(label=None), lost=lost.nothing(wave())[1], recognizer=guess, **FEW)
    complete(model, [wave(), wave(label=None)], recognizer=guess, count=2, seed=3, **FEW)
    vary(model, [wave(label=None)] * 2, recognizer=guess, **FEW)
    # Damaged drawings are looked at, mended as each of the two classes that both know, and looked at again.
    assert seen == [1, 2, 1, 1, 2, 2]
    guess.classes = ("x", "y", "z")
    with pytest.raises(ValueError, match="knows none of the classes of tiny"):
        classes_of(model, [wave(label=None)], None, guess)


def test_a_broken_drawing_is_named_by_what_is_there_to_see(model):
    seen, guess = [], Recognizer()
    guess.scores = lambda sketches: seen.append(list(sketches)) or Recognizer.scores(guess, sketches)
    sources = [wave(12, label=None), wave(20), wave(16, label=None), wave(9, label=None)]
    masks = [lost.by_chance(one, 0.3, np.random.default_rng(i))[1] for i, one in enumerate(sources)]
    masks[2] = lost.nothing(sources[2])[1]
    drawn = heal(model, sources, lost=masks, recognizer=guess, **FEW)
    assert [one.label for one in drawn] == ["cactus", "cat", "cactus", "cactus"]
    whole, broken, mended = seen
    assert whole == [sources[2]]
    assert broken == [lost.broken(sources[i], masks[i]) for i in (0, 3)]
    assert [one.label for one in mended] == ["cactus", "cat"] * 2
    for i, one in zip((0, 0, 3, 3), mended, strict=True):
        named = heal(model, sources[i], lost=masks[i], class_name=one.label)  # by the model's own settings
        assert named == [one]


def test_a_beginning_is_named_by_what_it_becomes_as_large_as_it_was_said_to_be(model):
    seen, guess = [], Recognizer()
    guess.scores = lambda sketches: seen.append(list(sketches)) or Recognizer.scores(guess, sketches)
    sources = [wave(12, label=None), wave(20)]
    complete(model, sources, share=0.6, count=2, seed=9, recognizer=guess, **FEW)
    (first,), mended = seen
    assert first == sources[0]
    assert mended == [
        one for name in ("cactus", "cat") for one in complete(model, first, class_name=name, share=0.6)
    ]


# ---- holding ---------------------------------------------------------------------------------------


def test_predictions_are_put_right_where_the_drawing_is_known():
    flag = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])[..., None]
    held = Known(flag, normal(2, 5, 2), torch.eye(3)[torch.tensor([[0, 0, 0, 0, 1], [0] * 5])])
    bridge = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 0, 2, 2]])
    spans = torch.tensor([[[3.0, -1.0], [9, 9]], [[1.0, 1.0], [0.0, 2.0]]])
    said = Prediction(normal(2, 5, 2, seed=1), normal(2, 5, 3, seed=2), torch.ones(2))
    right = redraw.holding(lambda x, t, active: said, held, bridge, spans)
    found = right(torch.zeros(2, 5, 2), torch.ones(2), torch.arange(2))
    assert torch.equal(found.points[0, [0, 4]], held.points[0, [0, 4]])
    torch.testing.assert_close(found.points[0, 1:4].sum(0), spans[0, 0])
    torch.testing.assert_close(found.points[1, :2].sum(0), spans[1, 0])
    torch.testing.assert_close(found.points[1, 3:].sum(0), spans[1, 1])
    assert torch.equal(found.points[1, 2], said.points[1, 2])
    change = found.points[0, 1:4] - said.points[0, 1:4]  # the nearest such offsets: all move alike
    torch.testing.assert_close(change, change[:1].expand_as(change))
    assert found.pen[0, 4].argmax() == PenState.UP
    assert torch.equal(found.pen[1], said.pen[1])
    one = Prediction(said.points[1:], said.pen[1:], said.calls[1:])
    right = redraw.holding(lambda x, t, active: one, held, bridge, spans)  # the first has left the batch
    assert torch.equal(right(one.points, torch.ones(1), torch.tensor([1])).points, found.points[1:])


@pytest.mark.parametrize("verb", [complete, heal])
def test_the_network_is_told_the_pens_of_known_points_alone(model, monkeypatch, verb):
    """And nothing of points that are lost, which have pens and offsets of their own in the source."""
    told, run = [], NETWORKS[StrokeTransformer]
    monkeypatch.setitem(
        NETWORKS, StrokeTransformer, lambda *given: told.append(given[-1].known) or run(*given)
    )
    source = wave(12)
    lost_points = {} if verb is complete else {"lost": [np.arange(n) % 12 == 2 for n in (12, 1, 5)]}
    verb(model, source, **lost_points, **FEW)
    assert len(told) == FEW["steps"]
    for flag, _, pen in told:
        assert 0 < flag[0].sum() < flag.shape[1]
        assert torch.equal(pen.sum(-1, keepdim=True), flag)


def test_half_held_is_half_way():
    held = Known(torch.ones(1, 3, 1), normal(1, 3, 2), torch.eye(3)[None])
    nothing, none = torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 0, 2)
    said = Prediction(normal(1, 3, 2, seed=1), normal(1, 3, 3, seed=2), torch.ones(1))
    half = redraw.holding(lambda x, t, active: said, held, nothing, none, 0.5)
    found = half(said.points, torch.ones(1), torch.arange(1))
    torch.testing.assert_close(found.points, (said.points + held.points) / 2)
    assert torch.equal(found.pen, said.pen)
    bridged = redraw.holding(
        lambda x, t, active: said, Known(*(0 * k for k in held)), nothing + 1, torch.ones(1, 1, 2), 0.5
    )
    found = bridged(said.points, torch.ones(1), torch.arange(1))
    torch.testing.assert_close(found.points.sum(1), (said.points.sum(1) + 1) / 2)


def test_callers_see_what_is_held_on_every_step_and_can_stop(model):
    source = wave()
    seen = []
    complete(model, source, on_step=seen.append, **FEW)
    assert [step.index for step in seen] == [0, 1, 2]
    first = seen[0].prediction.points
    assert all(torch.equal(step.prediction.points[0, :5], first[0, :5]) for step in seen)
    assert seen[0].labels == ("cat",)

    class Cancelled(Exception):
        pass

    def cancel(step):
        raise Cancelled

    for verb in (complete, vary):
        with pytest.raises(Cancelled):
            verb(model, source, on_step=cancel, **FEW)


# ---- interpolate -----------------------------------------------------------------------------------


def test_slerp_keeps_the_length_of_noise_and_its_ends():
    a, b = normal(3, 20, 2), normal(3, 20, 2, seed=1)
    b = b * (a.norm(dim=(1, 2), keepdim=True) / b.norm(dim=(1, 2), keepdim=True))
    torch.testing.assert_close(slerp(a, b, torch.zeros(3)), a)
    torch.testing.assert_close(slerp(a, b, torch.ones(3)), b)
    middle = slerp(a, b, torch.tensor([0.2, 0.5, 0.9]))
    torch.testing.assert_close(middle.norm(dim=(1, 2)), a.norm(dim=(1, 2)))
    torch.testing.assert_close(slerp(a, a, torch.full((3,), 0.3)), a)
    torch.testing.assert_close(slerp(a, 3 * a, torch.full((3,), 0.5)), 2 * a)


def test_inversion_undoes_ddim_where_the_flow_is_known():
    """x_0 ~ N(1.5, 0.4²): E[x_0 | x_t] is linear, and more rounds come nearer to the noise."""

    def denoise(x, t, active):
        a = alpha_bar_cosine(t).to(x.dtype)[:, None, None]
        gain = 0.16 * a.sqrt() / (0.16 * a + 1 - a)
        points = 1.5 + gain * (x - 1.5 * a.sqrt())
        return Prediction(points, x.new_zeros(*x.shape[:2], 3), torch.ones(len(x)))

    noise = normal(4, 8, 2).double()
    clean = sample_ddim(denoise, noise, alpha_bar_cosine, uniform(20)).points
    errors = [
        float((invert_ddim(denoise, clean, alpha_bar_cosine, 20, rounds=n) - noise).abs().max())
        for n in (1, 2, 8)
    ]
    assert errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


def test_mixing_is_a_weighted_mean():
    say = [Prediction(normal(2, 4, 2, seed=i), normal(2, 4, 3, seed=i), torch.ones(2)) for i in (0, 1)]
    mixed = mixing(lambda *_: say[0], lambda *_: say[1], torch.tensor([0.0, 0.25, 1.0]))
    found = mixed(torch.zeros(2, 4, 2), torch.ones(2), torch.tensor([1, 2]))
    torch.testing.assert_close(found.points[0], 0.75 * say[0].points[0] + 0.25 * say[1].points[0])
    torch.testing.assert_close(found.points[1], say[1].points[1])
    assert found.calls.tolist() == [2, 2]


def test_drawings_between_two(model):
    a, b = wave(12), Sketch(([[0, 0], [50, 90]], [[20, 20], [80, 25], [60, 70]]), (100, 100), "cactus")
    made = interpolate(model, a, b, count=5, steps=4)
    assert [one.label for one in made] == ["cat", "cat", "cat", "cactus", "cactus"]
    assert {one.canvas for one in made} == {a.canvas}
    lengths = [one.num_points for one in made]
    assert lengths == sorted(lengths, reverse=True)  # from many points to few
    assert interpolate(model, a, b, count=5, steps=4, batch_size=2) == made
    assert len(interpolate(model, a, b, count=1, class_name="cat", steps=2)) == 1


def test_what_lies_between_comes_from_both_drawings(model):
    """Their shapes, not where they lie or how large they are."""
    source, turned = wave(12), Sketch([stroke[:, ::-1] for stroke in wave(12).strokes], (1000, 1000), "cat")
    (own,) = interpolate(model, source, source, count=1, steps=2)
    for pair in ((source, turned), (turned, source)):
        (middle,) = interpolate(model, *pair, count=1, steps=2)
        assert (
            np.abs(middle.strokes[0][1] - middle.strokes[0][0] - own.strokes[0][1] + own.strokes[0][0]).max()
            > 1
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0, wanted 1 to 1000"),
        ({"class_name": ["cat"]}, "class_name has 1 names, wanted one for both"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1}, "steps is 1, wanted 2 or more: one step cannot carry a drawing to noise"),
    ],
)
def test_what_interpolate_refuses(model, options, message):
    with pytest.raises(ValueError, match=message):
        interpolate(model, wave(), wave(), **options)


def test_only_sketches_with_a_lost_point_are_mended_to_be_named(model):
    from sketch_core.redraw import hard_to_name

    sketches = [wave(12, label=None), wave(12), wave(12, label=None)]
    none = [[np.zeros(len(stroke), bool) for stroke in one.strokes] for one in sketches]
    some = [[~mask for mask in masks] for masks in none]
    assert hard_to_name(model, sketches, None) == [0, 2]
    assert hard_to_name(model, sketches, None, []) == []
    assert hard_to_name(model, sketches, None, none) == []
    assert hard_to_name(model, sketches, None, [none[0], some[1], some[2]]) == [2]
    assert hard_to_name(model, sketches, "cat", some) == []
