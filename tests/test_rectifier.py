"""Rectifying: from the drawing itself to a free one, in any batch, under any name, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sketch_core
from sketch_core import rectifier
from sketch_core.denoisers import NETWORKS, Condition
from sketch_core.given import bring, size_of_whole
from sketch_core.knitter import DEFAULTS, SketchModel, sketch_generator
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.models.stroke_transformer import StrokeTransformer, coloured, spread_of_places
from sketch_core.pen import decode_pen
from sketch_core.perceptual import sketch_perceptual
from sketch_core.rectifier import Guide, rectify, roughness, sample_guided
from sketch_core.samplers import SAMPLERS
from sketch_core.schedules import alpha_bar_cosine, uniform
from sketch_core.strokes import PenState, Sketch, bounds
from tests.test_knitter import METADATA
from tests.test_redraw import FEW, Recognizer, wave
from tests.tiny import ON_PLACES, tiny_transformer


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


@pytest.fixture(scope="module")
def places() -> SketchModel:
    """One whose noise is on places."""
    return SketchModel("places", tiny_transformer(config=ON_PLACES), METADATA)


@pytest.fixture(params=["offsets", "places"])
def either(request, model, places) -> SketchModel:
    return model if request.param == "offsets" else places


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


def test_strength_0_is_the_drawing_itself(either):
    source = wave()
    assert rectify(either, source, strength=0, count=2) == [source, source]
    latent = sample_guided(either, Guide((source, polygon()), 0.0), count=2)
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


def test_strength_1_is_the_model_s_own_drawing(either):
    source = wave(12)
    latent = sample_guided(either, Guide((source,), 1.0), seed=3, start=2, **FEW)
    n = len(bring(source, size_of_whole(source), either.longest))
    told = Condition(torch.tensor([either.label("cat")]), torch.tensor([n]))
    options = {"guidance": 1.0}  # it begins in noise, and the sampler is the model's
    free = either.walk(told, [sketch_generator(3, 2)], uniform(FEW["steps"]), **options)
    assert torch.equal(latent.points, free.points)
    assert torch.equal(latent.pen, free.pen)


def test_the_more_strength_the_farther_points_move(either):
    source = displaced(polygon(), 0.05)
    moved = [moves(either, source, strength=s, count=4) for s in (0.01, 0.1, 0.3, 0.5, 0.8)]
    assert moved == sorted(moved)
    assert moved[0] < 0.01 * moved[-1]


def test_the_rougher_a_drawing_the_farther_its_points_move(either):
    moved = [moves(either, displaced(polygon(), share), count=4) for share in (0.0, 0.02, 0.06)]
    assert moved[0] < 0.5 * moved[1] < 0.5 * moved[2]


def test_canvas_strokes_and_middle_stay(either):
    source = displaced(polygon(label="The_Eiffel_Tower"), 0.04)
    for one in rectify(either, source, count=3, strength=0.3, **FEW):
        assert one.canvas == source.canvas
        assert one.label == "The Eiffel Tower"
        assert len(one.strokes) == len(source.strokes)
        np.testing.assert_allclose(
            np.concatenate(one.strokes).mean(0), np.concatenate(source.strokes).mean(0), atol=10
        )


def test_a_line_of_hundreds_of_points_is_drawn_with_those_there_is_room_for(either):
    dense = wave(points=600)
    (one,) = rectify(either, dense, strength=0.001, **FEW)
    assert one.num_points == len(bring(dense, size_of_whole(dense), either.longest)) + 1 < 42
    assert len(one.strokes) == len(dense.strokes)


@pytest.mark.parametrize("follow", rectifier.FOLLOW)
def test_it_is_the_same_in_any_batch(either, follow):
    sources = [wave(12), polygon(), displaced(polygon(9), 0.1)]
    options = {"follow": follow, "seed": 3, **FEW}
    together = rectify(either, sources, count=4, **options)
    assert rectify(either, sources, count=4, batch_size=5, **options) == together
    for i, source in enumerate(sources):
        assert rectify(either, source, start=2, **options) == [together[4 * i + 2]]
    assert len({one.strokes[0].tobytes() for one in together}) == len(together)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["logsnr", lambda step: 1 / (2 + step.active % 3).double()])
def test_every_sampler_and_schedule_draws_with_it(either, sampler, schedule):
    source = displaced(polygon(), 0.05)
    options = {"sampler": sampler, "schedule": schedule, "steps": 3, "guidance": 2.0, "count": 3}
    assert moves(either, source, strength=0.05, **options) < 10
    pictures = rectify(either, source, follow="picture", **options)
    assert all(np.isfinite(np.concatenate(one.strokes)).all() for one in pictures)


@pytest.mark.parametrize("follow", rectifier.FOLLOW)
def test_it_works_as_a_host_runs_nodes(either, follow):
    wanted = rectify(either, wave(12), follow=follow, **FEW)
    with torch.inference_mode():
        assert rectify(either, wave(12), follow=follow, **FEW) == wanted


def test_it_stops_when_a_listener_raises(either):
    class Cancelled(Exception):
        pass

    def cancel(step):
        raise Cancelled

    for source in (wave(12), displaced(wave(12, label=None), 0.1)):  # while it draws, and while it names
        with pytest.raises(Cancelled):
            rectify(either, source, on_step=cancel, **FEW)


def test_the_class_is_followed_closely_unless_the_model_wants_no_guidance(either):
    source, seen = displaced(wave(12), 0.05), []
    least = DEFAULTS["guidance"] if spread_of_places(either.network.config) else rectifier.GUIDANCE
    for asked, wanted in (({}, least), ({"guidance": 4.0}, 4.0), ({"guidance": 1.0}, 1.0)):
        own = SketchModel("tiny", either.network, replace(METADATA, sampling={"steps": 4, **asked}))
        assert rectifier.sampling_of(own, Guide((source,)))["guidance"] == wanted
        seen.append(rectify(own, source))
        assert seen[-1] == rectify(own, source, guidance=wanted, steps=4)
    assert seen[0] != seen[1] != seen[2]


# ---- with noise on places ----------------------------------------------------------------------------


def begun(model: SketchModel, *sources: Sketch, **options):
    """The first step of a walk from the sources, the frames of what it led to, and the offsets that their
    points have there, in model units."""
    seen: list = []
    options = FEW | options
    latent = sample_guided(
        model, Guide(sources, options.pop("strength", 0.5)), on_step=seen.append, **options
    )
    own = [bring(one, size_of_whole(one), model.longest).points for one in sources]
    frames = latent.frames[:: options.get("count", 1)]
    offsets = [np.diff(at, axis=0) / one.zoom / model.scale for at, one in zip(own, frames, strict=True)]
    return seen[0], frames, [torch.from_numpy(one).float() for one in offsets]


MORE = np.hypot(1, rectifier.FRESH)  # noise that a walk begins with where points are off by 1


@pytest.mark.parametrize("strength", [0.01, 0.2, 0.5, 0.8])
def test_the_walk_begins_when_noise_is_as_large_as_points_are_off(places, monkeypatch, strength):
    rough = {24 + 2: 0.03, 12 + 2: 0.11}  # by the number of points
    monkeypatch.setattr(rectifier, "roughness", lambda sketch: rough[sketch.num_points])
    sources = polygon(), polygon(12)
    first, frames, _ = begun(places, *sources, strength=strength)
    for t, source, frame in zip(first.t, sources, frames, strict=True):
        left, top, right, bottom = bounds(source)
        far = MORE * rough[source.num_points] * max(right - left, bottom - top)  # on the user's canvas
        spread = far / frame.zoom / places.scale * strength / (1 - strength)  # as the network sees it
        level = float(alpha_bar_cosine(t[None]))
        assert level == pytest.approx(1 / (1 + (spread / ON_PLACES.spread) ** 2), rel=1e-9)
    assert first.t[0] < first.t[1]


@pytest.mark.parametrize("strength", [0.05, 0.3, 0.45])
def test_where_it_is_followed_closely_nearly_all_noise_is_the_user_s_own_points(places, strength):
    sources = displaced(polygon(), 0.06), displaced(polygon(9), 0.02)
    first, _, offsets = begun(places, *sources, strength=strength, count=2, seed=3)
    assert len(first.t) == 4
    for i, (x, t) in enumerate(zip(first.x, first.t, strict=True)):
        own = offsets[i // 2]
        white = torch.randn(1, len(own) + 1, 2, generator=sketch_generator(3, i % 2))
        level = alpha_bar_cosine(t[None])
        added = rectifier.FRESH / MORE * (1 - level).sqrt() * coloured(white, ON_PLACES)[0]
        wanted = level.sqrt() * own + added
        torch.testing.assert_close(x[: len(own)].double(), wanted, rtol=1e-4, atol=1e-4)
        assert not x[len(own) :].any()


@pytest.mark.parametrize("strength", [0.5, 0.6, 0.8, 0.95])
def test_looser_there_is_noise_of_each_drawing_s_own_beside_them(places, strength):
    """As much as makes their own, and it, together the noise of the time that the walk begins at."""
    source = displaced(polygon(), 0.06)
    first, (frame,), (own,) = begun(places, source, strength=strength, count=3, seed=3, start=4)
    left, top, right, bottom = bounds(source)
    far = roughness(source) * max(right - left, bottom - top) / frame.zoom / places.scale
    for i, (x, t) in enumerate(zip(first.x, first.t, strict=True)):
        white = torch.randn(1, len(own) + 1, 2, generator=sketch_generator(3, 4 + i))
        level = alpha_bar_cosine(t[None])
        share = (1 - level - level * (far / ON_PLACES.spread) ** 2).sqrt()
        assert 0.2 < float(share / (1 - level).sqrt()) < 1
        wanted = level.sqrt() * own + share * coloured(white, ON_PLACES)[0]
        torch.testing.assert_close(x[: len(own)].double(), wanted, rtol=1e-4, atol=1e-4)


def test_at_strength_1_there_is_nothing_of_the_drawing(places):
    one, other = polygon(), displaced(polygon(), 0.3)
    assert bring(one, 1.0, 40).pen.tolist() == bring(other, 1.0, 40).pen.tolist()
    first, again = (begun(places, source, strength=1.0, seed=2)[0] for source in (one, other))
    assert torch.equal(first.x, again.x)
    assert float(first.t) == 1
    drawn = [sample_guided(places, Guide((source,), 1.0), seed=2, **FEW) for source in (one, other)]
    assert torch.equal(drawn[0].points, drawn[1].points)
    assert torch.equal(drawn[0].pen, drawn[1].pen)


def test_with_noise_on_offsets_it_begins_in_noise(model):
    source = displaced(polygon(), 0.06)
    first, _, _ = begun(model, source, seed=3)
    assert float(first.t) == 1
    white = torch.randn(1, first.x.shape[1], 2, generator=sketch_generator(3, 0))
    assert torch.equal(first.x, white)


@pytest.mark.parametrize("strength", [1e-4, 1e-6, 1e-9])
def test_the_least_strength_is_nearly_the_drawing_itself(either, strength):
    assert moves(either, displaced(polygon(), 0.05), strength=strength) < 0.1


class Copies(StrokeTransformer):
    """Says of the pen what it is told of it, else that it goes up after every point."""

    def forward(self, x, t, label, length, known=None):
        points, _ = super().forward(x, t, label, length, known)
        up = torch.eye(3)[int(PenState.UP)].expand(*x.shape[:2], 3)
        return points, 9 * (up if known is None else known.pen)


def test_the_network_is_told_the_user_s_pens_and_no_point(places, monkeypatch):
    network, told = Copies(ON_PLACES).eval(), []
    network.load_state_dict(places.network.state_dict())
    run = NETWORKS[StrokeTransformer]
    monkeypatch.setitem(NETWORKS, Copies, lambda *given: told.append(given[-1]) or run(*given))
    monkeypatch.setattr(rectifier, "BELIEF", 0.0)  # what comes out is what the network says
    copies = SketchModel("copies", network, METADATA)
    sources = [
        displaced(wave(12), 0.03),
        polygon(),
        Sketch([[[5, 5]], [[0, 0], [9, 90]], [[50, 9]]], label="cat"),
    ]
    for source, drawn in zip(sources, rectify(copies, sources, **FEW), strict=True):
        own = bring(source, size_of_whole(source), copies.longest)
        lifts = np.flatnonzero(own.pen != PenState.DOWN)
        assert np.cumsum([len(stroke) for stroke in drawn.strokes]).tolist() == (lifts + 1).tolist()
    for known in (one.known for one in told):
        assert not known.flag.any()
        assert not known.points.any()
        assert known.pen.sum(-1).max() == 1
    for one in told:
        last = one.known.pen[torch.arange(len(one.length)), one.length - 1]
        assert last.argmax(-1).tolist() == [PenState.END] * len(last)


def test_free_it_is_told_nothing(places, monkeypatch):
    told, run = [], NETWORKS[StrokeTransformer]
    monkeypatch.setitem(NETWORKS, StrokeTransformer, lambda *given: told.append(given[-1]) or run(*given))
    for strength in (1.0, 0.9):
        rectify(places, polygon(), strength=strength, **FEW)
    assert [one.known is None for one in told[:3]] == [True] * 3
    assert told[3:]
    assert not any(one.known is None for one in told[3:])


def test_noise_on_the_way_is_added_only_if_it_is_asked_for(model, places):
    source, options = displaced(polygon(), 0.1), FEW | {"steps": 60, "strength": 0.3}
    guide = Guide((source,))
    assert rectifier.sampling_of(places, guide)["sampler"] == "ddim"
    for free in ({"follow": "picture"}, {"strength": 1.0}):  # these begin in noise
        assert rectifier.sampling_of(places, replace(guide, **free)) == places.sampling
    assert rectifier.sampling_of(model, guide) == model.sampling | {"guidance": rectifier.GUIDANCE}
    plain = rectify(places, source, seed=1, **options)
    assert plain == rectify(places, source, sampler="ddim", seed=1, **options)
    again = rectify(places, source, seed=2, **options)  # however closely it is followed, each is another one
    asked = [rectify(places, source, sampler="ddpm", seed=seed, **options) for seed in (1, 2)]
    apart = [np.abs(a.strokes[0] - b.strokes[0]).mean() for (a,), (b,) in ((plain, again), asked)]
    assert 0 < apart[0] < apart[1]


# ---- how large it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_points_that_are_off_do_not_make_a_drawing_smaller(places, share):
    """Displaced, its box is wider; the model gets it about as large as it was."""
    clean, box, brought = polygon(30, turns=2), [], []
    for seed in range(8):
        rough = displaced(clean, share, seed)
        _, (frame,), _ = begun(places, rough, steps=1)
        box.append(size_of_whole(rough) / size_of_whole(clean))
        brought.append(1 / frame.zoom / size_of_whole(clean))
    assert np.mean(box) < 1 - share
    assert abs(np.mean(brought) - 1) < 0.5 * abs(np.mean(box) - 1)


def test_a_plain_drawing_fills_the_canvas_and_none_is_taken_to_be_much_smaller(either, monkeypatch):
    source = polygon()
    _, (frame,), _ = begun(either, source, steps=1)
    assert 1 <= 1 / frame.zoom / size_of_whole(source) < 1.02
    monkeypatch.setattr(rectifier, "roughness", lambda sketch: 3.0)
    _, (frame,), _ = begun(either, source, steps=1)
    assert 1 / frame.zoom == pytest.approx(size_of_whole(source) / rectifier.SMALLEST)


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


@pytest.mark.parametrize("height", [3.0, 6.0, 12.0, 20.0, 60.0])
def test_roughness_is_the_lesser_of_two_estimates(height):
    """Of a zigzag: every point lies `height` off the line between its neighbours, and turns by twice that."""
    up = height * (np.arange(18) % 2)
    zigzag = Sketch([np.stack([15.0 * np.arange(18), up], 1)])  # 255 wide
    bend = rectifier.PER_BEND * max(0.0, height - rectifier.CLEAN)
    turn = rectifier.PER_TURN * 2 * height
    assert roughness(zigzag) == pytest.approx(min(bend, turn) / 255, rel=1e-4)
    assert (bend < turn) == (height < 8)  # small ones are ruled by the one, large ones by the other


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


def test_a_rough_drawing_is_named_by_redrawings_and_a_plain_one_by_itself(either):
    plain, rough = polygon(label=None), displaced(polygon(label=None), 0.08)
    recognizer = Looking()
    drawn = rectify(either, [plain, polygon(), rough], recognizer=recognizer, **FEW)
    assert [one.label for one in drawn] == ["cactus", "cat", "cactus"]
    assert recognizer.seen[:2] == [[plain], [rough]]
    (redrawn,) = recognizer.seen[2:]
    assert [one.label for one in redrawn] == ["cactus", "cat"]  # those that both know, likeliest first
    assert redrawn == [rectify(either, rough, class_name=name)[0] for name in ("cactus", "cat")]
    named = rectify(either, rough, class_name="cactus", **FEW)
    assert named == drawn[2:]


def test_the_name_hangs_on_the_drawing_alone(model):
    rough, looks = displaced(polygon(label=None), 0.08), []
    for options in ({}, {"seed": 5, "count": 2}, {"start": 3, "strength": 0.9, "sampler": "heun"}):
        recognizer = Looking()
        rectify(model, [polygon(), rough], recognizer=recognizer, **FEW | options)
        looks.append(recognizer.seen)
    assert looks[0] == looks[1] == looks[2]


def test_only_the_rough_are_redrawn_to_be_named(model):
    plain, rough = polygon(label=None), displaced(polygon(label=None), 0.08)
    sketches = (plain, rough, replace(rough, label="cat"), rough)
    assert rectifier.hard_to_name(model, Guide(sketches)) == [1, 3]
    for options in ({"strength": 0.0}, {"follow": "picture"}, {"class_name": "cat"}):
        assert rectifier.hard_to_name(model, Guide(sketches, **options)) == []


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
