"""Rectifying: from the drawing itself to a free one, in any batch, under any name, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sketch_core
from sketch_core import naming, rectifier
from sketch_core.denoisers import Condition
from sketch_core.given import bring, size_of_whole
from sketch_core.knitter import SketchModel, sketch_generator
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.pen import decode_pen
from sketch_core.perceptual import sketch_perceptual
from sketch_core.rectifier import Guide, rectify, roughness, sample_guided
from sketch_core.samplers import SAMPLERS
from sketch_core.schedules import uniform
from sketch_core.strokes import Sketch, bounds
from tests.test_knitter import METADATA
from tests.test_redraw import FEW, Recognizer, wave
from tests.tiny import tiny_transformer


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


@pytest.fixture(autouse=True)
def eye(monkeypatch):
    """A recognizer's network small enough for tests."""
    torch.manual_seed(0)
    config = SketchClassifierConfig(classes=3, size=48, stem=4, kernel=3, widths=(6, 8), depths=(1, 1))
    network = SketchClassifier(config).eval().requires_grad_(False)
    monkeypatch.setattr(rectifier, "_embedded_eye", lambda: sketch_perceptual(network))


def displaced(sketch: Sketch, share: float, seed: int = 0) -> Sketch:
    """Every point off by a standard deviation of `share` of the longer side."""
    rng = np.random.default_rng(seed)
    left, top, right, bottom = bounds(sketch)
    far = share * max(right - left, bottom - top)
    return replace(sketch, strokes=tuple(s + rng.normal(0, far, s.shape) for s in sketch.strokes))


def polygon(corners: int = 24, turns: float = 1.0, label: str | None = "cat") -> Sketch:
    """A round line on a canvas of 500, of coordinates that are no round numbers."""
    angle = np.linspace(0, turns * 2 * np.pi, corners)
    shape = np.stack([250.1 + 150 * np.cos(angle), 240.3 + 120 * np.sin(angle)], 1)
    return Sketch((shape, [[60.5, 60], [90, 400.25]]), (500, 480), label)


def moves(model: SketchModel, source: Sketch, **options) -> float:
    """Root mean square distance that a drawing's points were moved, on its own canvas."""
    latent = sample_guided(model, Guide((source,), options.pop("strength", 0.5)), **FEW | options)
    own = bring(source, size_of_whole(source), model.longest).points
    found = []
    for points, frame in zip(latent.points, latent.frames, strict=True):
        rows = points.double().numpy() * model.scale * frame.zoom
        found.append(np.concatenate([[frame.origin], rows]).cumsum(0) - own)
    return float(np.sqrt(np.square(found).sum(2).mean()))


# ---- from the drawing itself to a free one ---------------------------------------------------------


def test_strength_0_is_the_drawing_itself(model):
    source = wave()
    assert rectify(model, source, strength=0, count=2) == [source, source]
    latent = sample_guided(model, Guide((source, polygon()), 0.0), count=2)
    assert latent.calls == (0, 0, 0, 0)
    for drawn, wanted in zip(decode_pen(latent), [source, source, polygon(), polygon()], strict=True):
        assert (drawn.canvas, drawn.label) == (wanted.canvas, wanted.label)
        for ours, theirs in zip(drawn.strokes, wanted.strokes, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_the_shortest_stroke_is_as_long_at_strength_0_as_above(model):
    """In units of the model's canvas: the drawing's longer side, 340.25 of its own, is 255 of them."""
    source = polygon()  # a round line, and one of 341.5
    drawn = sample_guided(model, Guide((source,), 0.0))
    assert drawn.frames[0].zoom == pytest.approx(1 / size_of_whole(source))
    for shortest, left in ((255.0, 2), (258.0, 1)):
        (one,) = decode_pen(drawn, min_stroke=shortest)
        assert len(one.strokes) == left


def test_how_rough_a_drawing_is_is_asked_once(model, monkeypatch):
    asked = []
    monkeypatch.setattr(rectifier, "roughness", lambda sketch: asked.append(sketch) or 0.05)
    rectify(model, [polygon(), wave(12)], count=3, **FEW)
    assert len(asked) == 2


def test_strength_1_is_the_model_s_own_drawing(model):
    source = wave(12)
    latent = sample_guided(model, Guide((source,), 1.0), seed=3, start=2, **FEW)
    n = len(bring(source, size_of_whole(source), model.longest))
    told = Condition(torch.tensor([model.label("cat")]), torch.tensor([n]))
    free = model.walk(told, [sketch_generator(3, 2)], uniform(FEW["steps"]), guidance=1.0)
    assert torch.equal(latent.points, free.points)
    assert torch.equal(latent.pen, free.pen)


def test_the_more_strength_the_farther_points_move(model):
    source = displaced(polygon(), 0.05)
    moved = [moves(model, source, strength=s, count=4) for s in (0.01, 0.1, 0.3, 0.5, 0.8)]
    assert moved == sorted(moved)
    assert moved[0] < 0.01 * moved[-1]


def test_the_rougher_a_drawing_the_farther_its_points_move(model):
    moved = [moves(model, displaced(polygon(), share), count=4) for share in (0.0, 0.02, 0.06)]
    assert moved[0] < 0.5 * moved[1] < 0.5 * moved[2]


def test_canvas_strokes_and_middle_stay(model):
    source = displaced(polygon(label="The_Eiffel_Tower"), 0.04)
    for one in rectify(model, source, count=3, strength=0.3, **FEW):
        assert one.canvas == source.canvas
        assert one.label == "The Eiffel Tower"
        assert len(one.strokes) == len(source.strokes)
        np.testing.assert_allclose(
            np.concatenate(one.strokes).mean(0), np.concatenate(source.strokes).mean(0), atol=10
        )


def test_a_line_of_hundreds_of_points_is_drawn_with_those_there_is_room_for(model):
    dense = wave(points=600)
    (one,) = rectify(model, dense, strength=0.001, **FEW)
    assert one.num_points == len(bring(dense, size_of_whole(dense), model.longest)) + 1 < 42
    assert len(one.strokes) == len(dense.strokes)


@pytest.mark.parametrize("follow", rectifier.FOLLOW)
def test_it_is_the_same_in_any_batch(model, follow):
    sources = [wave(12), polygon(), displaced(polygon(9), 0.1)]
    options = {"follow": follow, "seed": 3, **FEW}
    together = rectify(model, sources, count=4, **options)
    assert rectify(model, sources, count=4, batch_size=5, **options) == together
    for i, source in enumerate(sources):
        assert rectify(model, source, start=2, **options) == [together[4 * i + 2]]
    assert len({one.strokes[0].tobytes() for one in together}) == len(together)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["logsnr", lambda step: 1 / (2 + step.active % 3).double()])
def test_every_sampler_and_schedule_draws_with_it(model, sampler, schedule):
    source = displaced(polygon(), 0.05)
    options = {"sampler": sampler, "schedule": schedule, "steps": 3, "guidance": 2.0, "count": 3}
    assert moves(model, source, strength=0.05, **options) < 10
    pictures = rectify(model, source, follow="picture", **options)
    assert all(np.isfinite(np.concatenate(one.strokes)).all() for one in pictures)


@pytest.mark.parametrize("follow", rectifier.FOLLOW)
def test_it_works_as_a_host_runs_nodes(model, follow):
    wanted = rectify(model, wave(12), follow=follow, **FEW)
    with torch.inference_mode():
        assert rectify(model, wave(12), follow=follow, **FEW) == wanted


def test_it_stops_when_a_listener_raises(model):
    class Cancelled(Exception):
        pass

    def cancel(step):
        raise Cancelled

    for source in (wave(12), displaced(wave(12, label=None), 0.1)):  # while it draws, and while it names
        with pytest.raises(Cancelled):
            rectify(model, source, on_step=cancel, **FEW)


def test_the_class_is_followed_closely_unless_the_model_wants_no_guidance(model):
    source, seen = displaced(wave(12), 0.05), []
    for asked, wanted in (({}, rectifier.GUIDANCE), ({"guidance": 4.0}, 4.0), ({"guidance": 1.0}, 1.0)):
        own = SketchModel("tiny", model.network, replace(METADATA, sampling={"steps": 4, **asked}))
        assert rectifier.sampling_of(own)["guidance"] == wanted
        seen.append(rectify(own, source))
        assert seen[-1] == rectify(own, source, guidance=wanted, steps=4)
    assert seen[0] != seen[1] != seen[2]


# ---- only the picture ------------------------------------------------------------------------------


def test_a_picture_is_followed_with_strokes_of_one_s_own(model):
    source = polygon()
    drawn = rectify(model, source, follow="picture", count=6, seed=1, **FEW)
    free = rectify(model, source, follow="picture", strength=1, count=6, seed=1, **FEW)
    for one in drawn:
        assert one.canvas == source.canvas
        inside, box = bounds(one), bounds(source)
        assert inside[0] >= box[0] - 1e-3
        assert inside[3] <= box[3] + 1e-3
        assert max(inside[2] - inside[0], inside[3] - inside[1]) > 100
    assert len({one.num_points for one in drawn}) > 1  # as people draw cats
    assert [one.num_points for one in drawn] == [one.num_points for one in free]
    assert all(a != b for a, b in zip(drawn, free, strict=True))
    (long,) = rectify(model, source, follow="picture", detail=30, **FEW)
    assert long.num_points == 31


# ---- how rough it is -------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 9), st.floats(0.01, 50), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_roughness_hangs_on_neither_size_nor_place(seed, zoom, shift):
    source = displaced(polygon(40, turns=3), 0.05, seed)
    moved = replace(source, strokes=tuple(s.astype(np.float64) * zoom + shift for s in source.strokes))
    assert roughness(moved) == pytest.approx(roughness(source), rel=0.05, abs=0.001)


def test_roughness_is_about_how_far_points_are_off():
    clean = polygon(40, turns=2)
    assert roughness(clean) < 0.006
    for share in (0.03, 0.06, 0.1):
        found = [roughness(displaced(clean, share, seed)) for seed in range(8)]
        assert np.mean(found) == pytest.approx(share, rel=0.25)


def test_lines_and_dots_are_not_rough():
    for strokes in (([[0, 0], [90, 200]],), ([[5, 5]],), ([[5, 5], [5, 5]], [[9, 9], [9, 9], [9, 9]])):
        assert roughness(Sketch(strokes)) == 0


# ---- what it shows ---------------------------------------------------------------------------------


class Looking(Recognizer):
    """Keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def scores(self, sketches):
        self.seen.append(list(sketches))
        return super().scores(sketches)


def test_a_rough_drawing_is_named_by_redrawings_and_a_plain_one_by_itself(model):
    plain, rough = polygon(label=None), displaced(polygon(label=None), 0.08)
    recognizer = Looking()
    drawn = rectify(model, [plain, polygon(), rough], recognizer=recognizer, **FEW)
    assert [one.label for one in drawn] == ["cactus", "cat", "cactus"]
    ((seen, *redrawn),) = recognizer.seen
    assert seen == plain
    assert len(redrawn) == naming.LOOKS
    assert rough not in redrawn
    named = rectify(model, rough, class_name="cactus", **FEW)
    assert named == drawn[2:]


def test_the_name_hangs_on_the_drawing_alone(model):
    rough, looks = displaced(polygon(label=None), 0.08), []
    for options in ({}, {"seed": 5, "count": 2}, {"start": 3, "strength": 0.9, "sampler": "heun"}):
        recognizer = Looking()
        rectify(model, [polygon(), rough], recognizer=recognizer, **FEW | options)
        looks.append(recognizer.seen)
    assert looks[0] == looks[1] == looks[2]


def test_several_looks_and_recognizers_count_together(model, monkeypatch):
    class Sure:
        def __init__(self, classes, rows):
            self.classes, self.rows = classes, rows

        def scores(self, sketches):
            return np.array(self.rows, np.float32)[: len(sketches)]

    both = (
        Sure(("cat", "cactus"), [[0.9, 0.1], [0.3, 0.7]]),  # 0.27 against 0.07
        Sure(("dog", "cactus", "cat"), [[0, 0.8, 0.2], [0.1, 0.6, 0.3]]),  # 0.06 against 0.48
    )
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: both)
    for module in (naming, rectifier):
        monkeypatch.setattr(module, "LOOKS", 2)
    (drawn,) = rectify(model, displaced(polygon(label=None), 0.08), **FEW)
    assert drawn.label == "cactus"  # 0.0336 against 0.0162
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: both[:1])
    (drawn,) = rectify(model, displaced(polygon(label=None), 0.08), **FEW)
    assert drawn.label == "cat"


def test_any_class_is_no_class(model):
    (one,) = rectify(model, polygon(), class_name="any", **FEW)
    assert one.label is None


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, r"strength is 1.5, wanted 0 \(as it is\) to 1 \(free\)"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"follow": "mood"}, "cannot follow 'mood'. Known: strokes, picture"),
        ({"class_name": "caat"}, "unknown class 'caat'. Near: cat"),
        ({"count": 0}, "count is 0"),
        ({"detail": 1}, "detail is 1, wanted 2"),
        ({"steps": 0}, "steps is 0"),
        ({"sampler": "euler"}, "unknown sampler 'euler'"),
        ({"guidance": -1}, "guidance is -1"),
    ],
)
def test_what_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        rectify(model, wave(), **options)


def test_drawings_are_wanted(model):
    with pytest.raises(ValueError, match="there is no sketch, wanted at least one"):
        rectify(model, [])
    with pytest.raises(ValueError, match="the sketch is empty, wanted at least one stroke. To draw"):
        rectify(model, [wave(), Sketch(())])
    many = Sketch(tuple(np.array([[i, i % 7]]) for i in range(60)))
    with pytest.raises(ValueError, match="60 strokes, but there is room for 40 points"):
        rectify(model, many, class_name="cat")


def test_the_library_s_verb_is_this_one(model):
    assert sketch_core.rectify is rectify
    assert "rectify" in sketch_core.__all__
