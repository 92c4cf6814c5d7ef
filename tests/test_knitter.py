"""Drawing with a model: the same drawing in any batch, lengths, what callers hear, and what is refused."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from sketch_core.denoisers import NETWORKS, Condition, Prediction
from sketch_core.hub import find_weights
from sketch_core.knitter import DEFAULTS, GUIDED, SketchModel, load, preview, sketch_generator
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.pen import decode_pen
from sketch_core.samplers import SAMPLERS, looks
from sketch_core.schedules import alpha_bar_cosine, uniform
from sketch_core.strokes import StrokeLatent
from sketch_core.weight_file import Metadata, write_weights
from tests.tiny import CONFIG, normal, tiny_transformer

CLASSES = ("cat", "The Eiffel Tower", "cactus")
LONGEST = CONFIG.max_points


def histograms() -> tuple[tuple[int, ...], ...]:
    """Cats of 1 to 40 points, towers of 7 or 33, cacti of 20."""
    counts = np.zeros((3, LONGEST + 1), dtype=int)
    counts[0, 1:] = 1
    counts[1, [7, 33]] = 3, 1
    counts[2, 20] = 4
    return tuple(map(tuple, counts.tolist()))


METADATA = Metadata("1", "stroke_transformer", {}, scale=20.0, classes=CLASSES, lengths=histograms())


@pytest.fixture(scope="module")
def model() -> SketchModel:
    return SketchModel("tiny", tiny_transformer(), METADATA)


def drawing(latent: StrokeLatent, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    n = int(latent.length[i])
    assert not latent.points[i, n:].any()
    assert not latent.pen[i, n:].any()
    return latent.points[i, :n], latent.pen[i, :n]


def same_drawing(a: StrokeLatent, i: int, b: StrokeLatent, j: int) -> bool:
    return all(map(torch.equal, drawing(a, i), drawing(b, j)))


def uneven(step):
    """A policy by which sketches finish at different steps."""
    return 1 / (2 + step.active % 3).double()


def by_length(step):
    """A policy that looks at the sketch itself, wherever it is in the batch."""
    real = (step.x != 0).any(-1).sum(-1)
    return 1 / (2.0 + real % 3).double()


# ---- the same drawing in any batch ----------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_sketch_is_byte_identical_in_any_batch(model, sampler, guidance):
    options = {"seed": 3, "steps": 3, "sampler": sampler, "guidance": guidance}
    together = model.sample("cat", count=16, **options)
    assert len(set(together.length.tolist())) > 8
    for batch_size in (3, 5):
        other = model.sample("cat", count=16, batch_size=batch_size, **options)
        assert all(same_drawing(together, i, other, i) for i in range(16))
    for i in range(0, 16, 3):
        assert same_drawing(together, i, model.sample("cat", start=i, **options), 0)
    crowd = model.sample(["cactus", "cat", None, "The Eiffel Tower"], count=5, start=4, **options)
    assert all(same_drawing(together, 4 + i, crowd, 5 + i) for i in range(5))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sketches_that_finish_early_change_no_other(model, sampler):
    options = {"seed": 4, "schedule": by_length, "sampler": sampler}
    seen = []
    together = model.sample("cat", count=7, on_step=seen.append, **options)
    assert len({len(step.active) for step in seen}) > 1  # some left before others
    for i in range(7):
        assert same_drawing(together, i, model.sample("cat", start=i, **options), 0)


def test_two_threads_do_not_change_that(model):
    """A thread count may have drawings of its own, but a batch may not."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = model.sample("cat", count=3, steps=1)
        assert all(same_drawing(together, i, model.sample("cat", start=i, steps=1), 0) for i in range(3))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.weights
def test_the_embedded_model_keeps_that():
    try:
        find_weights("default")
    except ValueError:
        pytest.skip("the embedded weights are not there")
    embedded = load("default")
    together = embedded.sample(["cat", "bus"], count=3, steps=2)
    for i in range(6):
        alone = embedded.sample(["cat", "bus"][i // 3], start=i % 3, steps=2)
        assert same_drawing(together, i, alone, 0)


# ---- a walk from points -----


def walked(model: SketchModel, rows: slice = slice(None), **options) -> tuple[list, Prediction]:
    """What is heard of the walks of (a part of) three sketches, and what they lead to."""
    seen, length = [], (9, 16, 5)[rows]
    told = Condition(torch.arange(3)[rows], torch.tensor(length))
    generators = [sketch_generator(0, i) for i in range(3)[rows]]
    points = (
        normal(3, 16, 2)[rows, : max(length)] * (torch.arange(max(length)) < told.length[:, None])[..., None]
    )
    options = {"points": points, "guidance": 1.0} | options
    return seen, model.walk(told, generators, uniform(10), on_step=seen.append, **options)


def test_a_walk_from_points_begins_with_as_much_noise_as_its_time_has(model):
    seen, _ = walked(model, start=0.4)
    level = alpha_bar_cosine(torch.tensor([0.4]))
    points = normal(3, 16, 2)
    for i, n in enumerate((9, 16, 5)):
        noise = torch.randn(1, n, 2, generator=sketch_generator(0, i))[0]
        wanted = level.sqrt() * points[i, :n] + (1 - level).sqrt() * noise
        torch.testing.assert_close(seen[0].x[i, :n].double(), wanted, rtol=1e-5, atol=1e-5)
        assert not seen[0].x[i, n:].any()
    assert seen[0].t.tolist() == pytest.approx([0.4] * 3)


def test_each_sketch_may_begin_at_a_time_of_its_own_with_a_share_of_fresh_noise(model):
    starts, fresh = torch.tensor([0.2, 1.0, 0.55], dtype=torch.float64), torch.tensor([0.0, 1.0, 0.5])
    seen, _ = walked(model, start=starts, fresh=fresh)
    points = normal(3, 16, 2)
    level = alpha_bar_cosine(starts)
    assert torch.equal(seen[0].t, starts)
    for i, n in enumerate((9, 16, 5)):
        noise = torch.randn(1, n, 2, generator=sketch_generator(0, i))[0]
        wanted = level[i].sqrt() * points[i, :n] + (1 - level[i]).sqrt() * fresh[i] * noise
        torch.testing.assert_close(seen[0].x[i, :n], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_walk_from_points_is_the_same_alone_and_in_a_batch(model, sampler):
    starts, fresh = torch.tensor([0.2, 1.0, 0.55], dtype=torch.float64), torch.tensor([0.0, 1.0, 0.5])
    _, together = walked(model, start=starts, fresh=fresh, sampler=sampler)
    for i, n in enumerate((9, 16, 5)):
        options = {"start": float(starts[i]), "fresh": float(fresh[i]), "sampler": sampler}
        _, alone = walked(model, slice(i, i + 1), **options)
        assert torch.equal(together.points[i, :n], alone.points[0])
        assert torch.equal(together.pen[i, :n], alone.pen[0])
        assert together.calls[i] == alone.calls[0]
    _, same = walked(model, start=torch.full((3,), 0.4), sampler=sampler)
    assert torch.equal(same.points, walked(model, start=float(torch.tensor(0.4)), sampler=sampler)[1].points)


# ---- seeds and noise ------------------------------------------------------------------------------


def test_seeds_and_indices_make_different_drawings(model):
    a, b = (model.sample("cactus", count=3, seed=seed, steps=2) for seed in (0, 1))
    drawings = [drawing(latent, i)[0] for latent in (a, b) for i in range(3)]
    assert not any(torch.equal(p, q) for k, p in enumerate(drawings) for q in drawings[:k])
    assert same_drawing(a, 1, model.sample("cactus", count=3, seed=0, steps=2), 1)


def test_the_noise_of_a_seed_is_pinned():
    """Saved seeds draw what they drew, on every machine."""
    first = torch.randn(8, 2, generator=sketch_generator(0, 0))[:2]
    torch.testing.assert_close(
        first, torch.tensor([[0.4445276, -1.1141915], [-0.1954552, -0.4878265]]), rtol=1e-5, atol=1e-6
    )
    states = {sketch_generator(*pair).initial_seed() for pair in [(0, 0), (0, 1), (1, 0), (2**64 - 1, 5)]}
    assert len(states) == 4


def test_drawing_leaves_torch_s_own_generator_alone(model):
    before = torch.get_rng_state()
    model.draw("cat", steps=2, sampler="ddpm", pen="temperature")
    assert torch.equal(torch.get_rng_state(), before)


def test_samplers_schedules_and_guidance_are_heard(model):
    def points(**options):
        return model.sample("cactus", seed=1, **{"steps": 4} | options).points

    plain = points()
    assert torch.equal(plain, points(sampler="ddpm", schedule="uniform", guidance=2.1))
    others = [{"sampler": name} for name in SAMPLERS if name != "ddpm"]
    others += [{"schedule": "quadratic"}, {"schedule": "logsnr"}, {"guidance": 1.0}, {"steps": 5}]
    drawn = [points(**other) for other in others]
    for i, other in enumerate(others):
        assert not any(torch.equal(drawn[i], made) for made in [plain, *drawn[:i]]), other
    eighths = points(schedule=lambda step: torch.full((len(step.t),), 0.125))
    assert torch.equal(eighths, points(steps=8))


# ---- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLASSES, None])
def test_lengths_follow_the_histogram_of_the_class(model, name):
    label, draws = model.label(name), 1500
    counts = np.array(histograms())
    expected = counts[label] if name else counts.sum(0)
    expected = expected / expected.sum()
    lengths = [model.draw_length(label, sketch_generator(9, i)) for i in range(draws)]
    found = np.bincount(lengths, minlength=LONGEST + 1) / draws
    assert not found[expected == 0].any()
    assert (np.abs(found - expected) <= 4.5 * np.sqrt(expected * (1 - expected) / draws)).all()
    assert model.sample(name, start=5, seed=9, steps=1).length.tolist() == [lengths[5]]


def test_detail_sets_the_length(model):
    latent = model.sample(["cat", "cactus"], count=2, steps=1, detail=13)
    assert latent.length.tolist() == [13] * 4
    assert latent.points.shape == (4, 13, 2)
    assert [sketch.num_points for sketch in model.draw("cactus", steps=1, detail=13)] == [14]


def test_the_length_a_sketch_has_anyway_is_no_change(model):
    own = model.sample("cat", seed=2, steps=2)
    assert same_drawing(own, 0, model.sample("cat", seed=2, steps=2, detail=int(own.length[0])), 0)


# ---- what comes back ------------------------------------------------------------------------------


def test_a_latent_says_what_it_holds(model):
    latent = model.sample(["cat", None], count=2, start=5, seed=8, steps=1, batch_size=3)
    assert latent.labels == ("cat", "cat", None, None)
    assert latent.seeds == ((8, 5), (8, 6), (8, 5), (8, 6))
    assert latent.scale == 20.0
    assert latent.calls == (1.0,) * 4
    assert not latent.points.requires_grad
    assert len(latent) == 4


def test_drawing_is_sampling_and_decoding(model):
    options = {"count": 3, "seed": 6, "steps": 2}
    latent = model.sample("cat", **options)
    assert model.draw("cat", **options) == decode_pen(latent)
    told = model.draw("cat", pen="temperature", min_stroke=9.0, **options)
    assert told == decode_pen(latent, mode="temperature", min_stroke=9.0, seed=6)
    assert [sketch.label for sketch in told] == ["cat"] * 3


def test_gradients_and_inference_mode_outside_do_not_matter(model):
    with torch.inference_mode():
        inside = model.sample("cactus", steps=2)
    assert same_drawing(inside, 0, model.sample("cactus", steps=2), 0)


# ---- what callers hear ----------------------------------------------------------------------------


def test_every_step_of_every_batch_is_heard(model):
    seen = []
    model.sample(["cat", "cactus"], count=2, steps=3, guidance=3.0, batch_size=3, on_step=seen.append)
    assert [step.index for step in seen] == [0, 1, 2, 0, 1, 2]
    assert [step.labels for step in seen[::3]] == [("cat", "cat", "cactus"), ("cactus",)]
    assert seen[3].length.tolist() == [20]
    # guidance costs a second call, while it acts: t = 1 lies outside GUIDED
    assert [step.calls for step in seen] == [1.0, 2.0, 2.0] * 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_latent_says_what_each_sketch_cost(model, sampler):
    seen = []
    options = {"count": 5, "schedule": uneven, "sampler": sampler, "guidance": 1.0, "batch_size": 2}
    latent = model.sample("cat", on_step=seen.append, **options)
    # what `uneven` does depends on the place in the batch: 2 and 3 steps, 2 and 3, 2
    assert latent.calls == tuple(float(looks(sampler, n)) for n in (2, 3, 2, 3, 2))
    assert sum(latent.calls) == sum(len(step.active) * step.calls for step in seen)


def test_a_preview_is_one_sketch_for_each_that_is_still_drawn(model):
    seen = []
    model.sample("cat", count=6, schedule=uneven, on_step=seen.append)
    shown = [preview(step, model) for step in seen]
    assert [len(sketches) for sketches in shown] == [len(step.active) for step in seen] == [6, 6, 4, 2]
    for step, sketches in zip(seen, shown, strict=True):
        assert [sketch.label for sketch in sketches] == list(step.labels)
        assert all(sketch.num_points > 1 for sketch in sketches)


def test_the_last_preview_is_the_drawing(model):
    seen = []
    drawn = model.draw("cat", count=4, steps=3, on_step=seen.append)
    assert preview(seen[-1], model) == drawn
    assert preview(seen[0], model) != drawn


def test_an_error_in_on_step_stops_the_run_and_comes_out(model):
    class Cancelled(Exception):
        pass

    seen = []

    def on_step(step):
        seen.append(step.index)
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        model.draw("cat", count=9, steps=5, batch_size=3, on_step=on_step)
    assert seen == [0, 1]
    assert len(model.draw("cat", steps=1)) == 1  # nothing is left behind


# ---- what is refused ------------------------------------------------------------------------------


def test_classes_in_any_case_and_with_underscores(model):
    assert model.label("THE_eiffel tower") == model.label(" The Eiffel Tower ") == 1
    assert model.label(None) == 3
    assert model.classes == list(CLASSES)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("catt", r"^unknown class 'catt'. Near: cat, cactus. See `python -m sketch_core classes`.$"),
        ("cactis", r"Near: cactus."),
        ("eiffel_tower", r"Near: The Eiffel Tower."),
        ("zzzzzz", r"^unknown class 'zzzzzz'. See `python -m sketch_core classes`.$"),
        ("", r"unknown class ''"),
        (["cat", "dgo"], r"unknown class 'dgo'"),
        ([7], r"unknown class 7"),
        ([], r"no class was given"),
    ],
)
def test_unknown_classes(model, name, complaint):
    with pytest.raises(ValueError, match=complaint):
        model.draw(name)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"count": 0}, r"count is 0, wanted 1 to 100000"),
        ({"count": 10**9}, r"count is 1000000000"),
        ({"count": 2.5}, r"count is 2.5, wanted a whole number"),
        ({"count": "3"}, r"count is '3', wanted a whole number"),
        ({"start": -1}, r"start is -1, wanted 0 to"),
        ({"start": 2**31}, r"start is 2147483648"),
        ({"seed": -1}, r"seed is -1, wanted 0 to"),
        ({"seed": 2**64}, r"seed is 18446744073709551616"),
        ({"seed": 0.5}, r"seed is 0.5, wanted a whole number"),
        ({"steps": 0}, r"steps is 0, wanted a whole number, 1 to 10000"),
        ({"steps": 10**6}, r"steps is 1000000"),
        ({"guidance": -0.5}, r"guidance is -0.5, wanted 0 to 100"),
        ({"guidance": float("nan")}, r"guidance is nan"),
        ({"guidance": float("inf")}, r"guidance is inf"),
        ({"detail": 0}, r"detail is 0, wanted 2 to 40 points"),
        ({"detail": 1}, r"detail is 1"),
        ({"detail": 41}, r"detail is 41, wanted 2 to 40 points: the model saw no longer drawings"),
        ({"detail": 9.5}, r"detail is 9.5, wanted a whole number"),
        ({"batch_size": 0}, r"batch_size is 0, wanted at least 1"),
        ({"sampler": "euler"}, r"unknown sampler 'euler'. Known: ddim, ddpm"),
        ({"schedule": "cubic"}, r"unknown schedule 'cubic'. Known: uniform, quadratic"),
        ({"pen": "guess"}, r"unknown pen mode 'guess'"),
    ],
)
def test_absurd_options(model, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        model.draw("cat", **{"steps": 1} | options)


def test_whole_numbers_of_numpy_are_whole_numbers(model):
    drawn = model.draw("cat", count=np.int64(1), seed=np.uint64(5), detail=np.int32(9), steps=np.int64(2))
    assert drawn == model.draw("cat", count=1, seed=5, detail=9, steps=2)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": CLASSES[:2]},
        {"lengths": histograms()[:2]},
        {"lengths": ((0,) * 41,) * 3},
        {"classes": CLASSES[:2], "lengths": histograms()[:2]},
    ],
)
def test_metadata_that_does_not_fit_the_network(change):
    with pytest.raises(ValueError, match=r"tiny has 3 classes, \d class names and \d histograms"):
        SketchModel("tiny", tiny_transformer(), dataclasses.replace(METADATA, **change))


def test_a_model_draws_as_its_file_asks_unless_told_otherwise(model):
    own = {"steps": 3, "sampler": "ddim", "guidance": 1.0, "schedule": "quadratic"}
    asks = SketchModel("tiny", model.network, dataclasses.replace(METADATA, sampling=own))
    assert asks.draw("cat", seed=4) == model.draw("cat", seed=4, **own)
    assert asks.draw("cat", steps=2) == model.draw("cat", **own | {"steps": 2})
    assert model.draw("cat", seed=4) == model.draw("cat", seed=4, **DEFAULTS)
    wrong = {"guided": 0, "steps": "8", "guidance": True, "sampler": ["ddim"], "schedule": "fast"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"tiny asks to be sampled with {name} {re.escape(repr(value))}"):
            SketchModel("tiny", model.network, dataclasses.replace(METADATA, sampling={name: value}))
    with pytest.raises(ValueError, match="tiny asks for churn in sampling, which this release does not"):
        SketchModel("tiny", model.network, dataclasses.replace(METADATA, sampling={"churn": 1}))


def test_guidance_that_is_in_the_network_costs_nothing_and_can_be_taken_out():
    """A network whose conditional branch is another one's, guided by 2.5."""
    plain = tiny_transformer()

    class Guided(type(plain)):
        def forward(self, x, t, label, length, known=None):
            told, pen = super().forward(x, t, label, length, known)
            free, _ = super().forward(x, t, torch.full_like(label, 3), length, known)
            inside = ((t >= GUIDED[0]) & (t <= GUIDED[1]))[:, None, None]
            return torch.where(inside, free + 2.5 * (told - free), told), pen

    network = Guided(plain.config).eval()
    network.load_state_dict(plain.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, Guided, NETWORKS[type(plain)])
        asks = {"guidance": 2.5, "guided": 2.5}
        distilled = SketchModel("d", network, dataclasses.replace(METADATA, sampling=asks))
        teacher = SketchModel("t", plain, METADATA)
        options = {"count": 3, "steps": 6, "sampler": "ddim"}
        for guidance in (1.0, 2.5, 4.0):
            ours = distilled.sample("cat", guidance=guidance, **options)
            theirs = teacher.sample("cat", guidance=guidance, **options)
            assert torch.allclose(ours.points, theirs.points, atol=1e-4)
        assert distilled.sample("cat", **options).calls == (6, 6, 6)
        assert distilled.sample("cat", guidance=1.0, **options).calls == (10, 10, 10)


# ---- loading --------------------------------------------------------------------------------------


def test_a_model_from_a_file_draws_what_it_drew_before(model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    facts = {name: getattr(METADATA, name) for name in ("scale", "classes", "lengths")}
    write_weights(path, model.network, facts)
    loaded = load(path)
    assert (loaded.name, loaded.classes, loaded.scale) == ("tiny", list(CLASSES), 20.0)
    assert loaded.draw("cat", count=2, steps=2) == model.draw("cat", count=2, steps=2)


def test_a_classifier_does_not_draw(tmp_path):
    path = tmp_path / "judge.safetensors"
    network = SketchClassifier(
        SketchClassifierConfig(classes=2, size=16, stem=8, kernel=3, widths=(16,), depths=(1,))
    )
    write_weights(path, network, {"classes": ["a", "b"]})
    with pytest.raises(ValueError, match=r"judge.* is a sketch_classifier, wanted a model that draws"):
        load(path)


def test_weights_that_say_no_classes_do_not_draw(tmp_path):
    path = tmp_path / "bare.safetensors"
    write_weights(path, tiny_transformer(), {"scale": 3.0})
    with pytest.raises(ValueError, match=r"bare is a stroke_transformer, wanted a model that draws"):
        load(path)
