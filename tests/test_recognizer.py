"""The classifier, the recognizer around it, and its training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketch_core.data import read_sketches, write_npz
from sketch_core.hub import read_metadata
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.models.stroke_unet import StrokeUNet, StrokeUNetConfig
from sketch_core.recognizer import Recognizer, load_recognizer
from sketch_core.strokes import Sketch, sketch_to_stroke3
from sketch_core.train import classifying
from sketch_core.train.classifying import validation_figures
from sketch_core.train.recognizer import (
    RecognizerTraining,
    jitter_pictures,
    main,
    raster_run,
    train_recognizer,
    vary_sketch,
)
from sketch_core.weight_file import write_weights

TINY = SketchClassifierConfig(
    classes=3, size=16, line_width=1.0, stem=8, kernel=3, widths=(16, 24), depths=(1, 1)
)
NAMES = ["bar", "ring", "cross"]


def toy_sketch(name: str, rng: np.random.Generator) -> Sketch:
    angles = np.linspace(0, 2 * np.pi, 12)
    strokes = {
        "bar": [[[0, 0], [100, 5]]],
        "ring": [np.stack([np.cos(angles), np.sin(angles)], 1) * 60],
        "cross": [[[0, 0], [100, 100]], [[100, 0], [0, 100]]],
    }[name]
    return Sketch(tuple(np.rint(np.array(s) + rng.normal(0, 4, np.shape(s))) for s in strokes), label=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train and valid splits only: a trainer that reads the test split finds none."""
    path, rng = tmp_path_factory.mktemp("toys"), np.random.default_rng(0)
    for name, n in zip(NAMES, (80, 40, 20), strict=True):
        splits = {"train": n, "valid": 10}
        write_npz(
            path / f"{name}.npz",
            {s: [sketch_to_stroke3(toy_sketch(name, rng)) for _ in range(k)] for s, k in splits.items()},
        )
    return path


@pytest.fixture
def recognizer():
    torch.manual_seed(0)
    network = SketchClassifier(TINY)
    torch.nn.init.normal_(network.head.weight, std=1.0)
    return Recognizer(network, NAMES)


def sketches(n: int) -> list[Sketch]:
    rng = np.random.default_rng(1)
    return [toy_sketch(NAMES[i % 3], rng) for i in range(n)]


def test_shapes_and_gradients():
    network = SketchClassifier(replace(TINY, depths=(2, 1)))
    logits = network(torch.rand(4, 1, 16, 16))
    assert logits.shape == (4, 3)
    assert network.features(torch.rand(4, 1, 16, 16)).shape == (4, 24)
    logits.square().sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


def test_the_default_is_small_and_its_features_are_wide_enough():
    network = SketchClassifier(SketchClassifierConfig())
    assert sum(p.numel() for p in network.parameters()) < 3e6
    assert network.head.in_features >= 128


def test_odd_sizes_fit():
    for size in (17, 21, 26):
        assert SketchClassifier(replace(TINY, size=size))(torch.rand(2, 1, size, size)).shape == (2, 3)


def test_a_config_is_json_and_back():
    assert SketchClassifierConfig(**json.loads(json.dumps(asdict(TINY)))) == TINY


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 1}, "classes is 1, wanted 2"),
        ({"size": 4}, "size is 4 pixels"),
        ({"depths": (1,)}, r"depths \(1,\) must be as many"),
        ({"widths": (0, 3)}, "of 1 or more"),
        ({"kernel": 4}, "odd kernel"),
        ({"dropout": 1.0}, "out of range"),
        ({"line_width": 0.0}, "line width above 0"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **fields)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"ink must have shape \(B, 1, 16, 16\), got \(1, 1, 20, 20\)"):
        SketchClassifier(TINY)(torch.zeros(1, 1, 20, 20))


def test_scores_are_probabilities_and_batches_do_not_matter(recognizer, monkeypatch):
    some = sketches(7)
    scores, features = recognizer.scores(some), recognizer.features(some)
    assert scores.dtype == features.dtype == np.float32
    assert scores.shape == (7, 3)
    assert features.shape == (7, 24)
    assert np.allclose(scores.sum(1), 1, atol=1e-6)
    assert not np.allclose(scores, scores[0])
    monkeypatch.setattr("sketch_core.recognizer.BATCH", 3)
    assert np.allclose(recognizer.scores(some), scores, atol=1e-6)
    assert np.allclose(recognizer.features(some), features, atol=1e-6)


def test_scores_follow_from_features(recognizer):
    some = sketches(5)
    logits = recognizer.network.head(torch.from_numpy(recognizer.features(some)))
    assert np.allclose(logits.softmax(1).detach().numpy(), recognizer.scores(some), atol=1e-6)


def test_one_look_gives_features_and_scores(recognizer):
    some = sketches(5)
    features, scores = recognizer.read(some)
    assert np.array_equal(features, recognizer.features(some))
    assert np.allclose(scores, recognizer.scores(some), atol=1e-6)
    assert [part.shape for part in recognizer.read([])] == [(0, 24), (0, len(recognizer.classes))]


def test_place_and_size_on_the_canvas_do_not_matter(recognizer):
    some = sketches(5)
    moved = [Sketch(tuple(3 * stroke + 40 for stroke in s.strokes), canvas=(900, 700)) for s in some]
    assert np.allclose(recognizer.scores(moved), recognizer.scores(some), atol=1e-4)


def test_recognize_sorts_names_by_probability(recognizer):
    some = sketches(4)
    scores = recognizer.scores(some)
    for row, guesses in zip(scores, recognizer.recognize(some, top_k=3), strict=True):
        assert [name for name, _ in guesses] == [NAMES[i] for i in np.argsort(-row)]
        assert [p for _, p in guesses] == sorted((float(p) for p in row), reverse=True)
    assert [len(guesses) for guesses in recognizer.recognize(some)] == [1] * 4


def test_nothing_to_recognize(recognizer):
    assert recognizer.recognize([]) == []
    assert recognizer.features([]).shape == (0, 24)
    assert np.isfinite(recognizer.scores([Sketch(())])).all()


def test_bad_questions(recognizer):
    with pytest.raises(ValueError, match="top_k is 4, wanted 1 to 3"):
        recognizer.recognize(sketches(1), top_k=4)
    with pytest.raises(ValueError, match="got 2 class names for a network of 3"):
        Recognizer(SketchClassifier(TINY), NAMES[:2])


def test_half_precision_networks_are_brought_to_full():
    network = SketchClassifier(TINY).half()
    assert Recognizer(network, NAMES).scores(sketches(2)).shape == (2, 3)


def test_training_learns_without_a_test_split(folder):
    training = RecognizerTraining(steps=60, batch=32, versions=2, validate_every=60, lr=5e-3, ema=0.9)
    network, figures, classes = train_recognizer(folder, TINY, training)
    assert classes == sorted(NAMES)
    assert figures["macro_top1"] > 0.9
    rng = np.random.default_rng(5)
    fresh = [toy_sketch(name, rng) for name in NAMES for _ in range(10)]
    guesses = [g[0][0] for g in Recognizer(network, classes).recognize(fresh)]
    assert np.mean([g == s.label for g, s in zip(guesses, fresh, strict=True)]) > 0.9


def test_a_run_of_steps_is_checked_at_steps_whatever_the_clock_says(monkeypatch):
    clock = iter(range(0, 10**9, 1000))  # between two looks at it the time of several validations passes
    monkeypatch.setattr(classifying.time, "monotonic", lambda: next(clock))
    training = RecognizerTraining(steps=7, batch=8, validate_steps=3)
    run, checked = raster_run(replace(TINY, dropout=0.0), training), []
    generator = torch.Generator().manual_seed(0)
    batches = [
        ((torch.rand(8, 1, 16, 16, generator=generator),), torch.arange(8) % 3) for _ in range(training.steps)
    ]

    def check(network):
        checked.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"top1": [0.2, 0.5, 0.3][len(checked) - 1]}

    figures = classifying.fit(run, lambda step: batches[step], check, None)
    assert [figures["step"] for figures in run.history] == [3, 6, 7]
    assert figures["step"] == 6
    for name, value in run.average.state_dict().items():
        assert torch.equal(value, checked[1][name])


@pytest.mark.parametrize("options", [{"validate_steps": 0}, {"validate_every": -1.0}])
def test_validations_that_never_come_are_refused(options):
    with pytest.raises(ValueError, match="wanted seconds of 0 or more, and steps of 1 or more"):
        RecognizerTraining(steps=1, **options)


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path):
    training = RecognizerTraining(seconds=100, batch=8)
    rng = np.random.default_rng(2)
    batches = [(torch.rand(8, 1, 16, 16), torch.from_numpy(rng.integers(3, size=8))) for _ in range(4)]
    whole, first, second = (raster_run(replace(TINY, dropout=0.0), training) for _ in range(3))
    for run in (whole, first):
        for i in range(2):
            run.elapsed = 10.0 * i
            run.learn(batches[i][:1], batches[i][1])
    torch.save(first.state(), tmp_path / "run.pt")
    second.resume(tmp_path / "run.pt")
    for run in (whole, second):
        for i in range(2, 4):
            run.elapsed = 10.0 * i
            run.learn(batches[i][:1], batches[i][1])
    assert second.step == whole.step == 4
    for a, b in zip(whole.average.state_dict().values(), second.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="checkpoint of another network"):
        raster_run(replace(TINY, stem=9), training).resume(tmp_path / "run.pt")


def test_the_command_writes_weights_that_say_where_they_come_from(folder, tmp_path):
    out, checkpoint = tmp_path / "r.safetensors", tmp_path / "run.pt"
    config = {k: v for k, v in asdict(TINY).items() if k != "classes"}
    command = ["--data", str(folder), "--out", str(out), "--checkpoint", str(checkpoint), "--steps", "3"]
    command += ["--config", json.dumps(config), "--training", '{"batch": 16, "versions": 1}']
    assert main(command) == 0
    assert checkpoint.exists()
    recognizer = load_recognizer(out)
    assert recognizer.classes == sorted(NAMES)
    assert recognizer.network.config == TINY
    assert recognizer.scores(sketches(3)).shape == (3, 3)
    with pytest.raises(ValueError, match="exists already. Add --force"):
        main(command)
    says = read_metadata(out)
    assert says.attribution == "Quick, Draw! drawings, Google, CC BY 4.0"
    assert says.command.endswith(f"""--training '{command[-1]}' --out FILE""")
    assert 0 < says.figures["top1"] <= 1
    assert says.training["drawings_seen"] == 16 * says.training["step"]


def test_weights_of_another_architecture_are_refused(tmp_path):
    config = StrokeUNetConfig(points=32, num_res_blocks=1, channel_mult=(1,), features=32)
    write_weights(
        tmp_path / "unet.safetensors", StrokeUNet(config), {"classes": ["cat"]}, dtype=torch.bfloat16
    )
    with pytest.raises(
        ValueError, match="holds a stroke_unet, wanted a sketch_classifier or a stroke_classifier"
    ):
        load_recognizer(tmp_path / "unet.safetensors")


def test_variation_keeps_the_drawing_and_can_drop_a_stroke():
    rng = np.random.default_rng(3)
    strokes = tuple(rng.uniform(0, 255, (n, 2)) for n in (5, 2, 2, 2, 2))
    varied = [vary_sketch(Sketch(strokes), rng) for _ in range(60)]
    assert {len(s.strokes[0]) for s in varied} == {5}  # the longest stays
    assert {len(s.strokes) for s in varied} >= {4, 5}
    assert all(len(vary_sketch(Sketch(strokes[:2]), rng).strokes) == 2 for _ in range(60))
    centred = strokes[0] - strokes[0].mean(0)
    zoom = [np.linalg.norm(s.strokes[0] - s.strokes[0].mean(0)) / np.linalg.norm(centred) for s in varied]
    assert 0.75 < min(zoom) < max(zoom) < 1.3
    assert varied[0] != varied[1]


def test_jitter_moves_pictures_and_loses_little_ink():
    ink = torch.zeros(64, 1, 32, 32)
    ink[:, :, 8:24, 10:14] = 1  # left of the middle
    moved = jitter_pictures(ink, np.random.default_rng(4))
    assert moved.shape == ink.shape
    mass = moved.sum((1, 2, 3)) / ink.sum((1, 2, 3))
    assert 0.5 < mass.min() < mass.max() < 1.3
    left = moved[..., :16].sum((1, 2, 3)) > moved[..., 16:].sum((1, 2, 3))
    assert 16 < int(left.sum()) < 48  # half of them mirrored


def test_validation_figures_are_by_drawing_and_by_class():
    labels, found = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    figures = validation_figures(found, labels, deep=np.array([0, 1]))
    assert figures["top1"] == pytest.approx(3 / 5)
    assert figures["macro_top1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert figures["deep_macro_top1"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_training_that_cannot_run_is_refused():
    for options, complaint in (
        ({"seconds": 0}, "seconds 0 and steps 0: the training would never end. Give one of them"),
        ({"steps": -1}, "steps -1: the training would never end"),
        ({"steps": 1, "batch": 1}, "Give a batch of 2 or more and a rate above 0"),
        ({"steps": 1, "lr": 0.0}, "lr 0.0 is out of range"),
        ({"steps": 1, "versions": 0}, "versions is 0, wanted 1 or more"),
    ):
        with pytest.raises(ValueError, match=complaint):
            RecognizerTraining(**options)


def test_a_malformed_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--data", "x", "--out", "y", "--colour", "red"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("sketch_core: unrecognized arguments: --colour red. See")
    assert said.count("\n") == 1


def test_two_trainings_of_the_same_steps_are_the_same(folder):
    training = RecognizerTraining(steps=4, batch=16, versions=1)
    first, second = (train_recognizer(folder, TINY, training)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


EMBEDDED = Path(__file__).parent.parent / "sketch_core/weights/sketch_classifier.quickdraw345.safetensors"


@pytest.mark.weights
@pytest.mark.skipif(not EMBEDDED.is_file(), reason="no embedded recognizer")
def test_the_embedded_recognizer_knows_real_cats():
    recognizer = load_recognizer()
    assert len(recognizer.classes) == 345
    assert EMBEDDED.stat().st_size < 8e6
    cats = list(read_sketches(Path(__file__).parent / "data/cat.npz"))
    first = recognizer.recognize(cats, top_k=5)
    assert np.mean([guesses[0][0] == "cat" for guesses in first]) > 0.4
    assert np.mean(["cat" in [name for name, _ in guesses] for guesses in first]) > 0.7
    backwards = [Sketch(tuple(stroke[::-1] for stroke in cat.strokes[::-1]), cat.canvas) for cat in cats]
    assert np.allclose(recognizer.scores(backwards), recognizer.scores(cats), atol=1e-3)  # it sees ink only
