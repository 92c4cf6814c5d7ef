"""The stroke classifier, what it is shown of a drawing, its training, and recognizing by both."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketch_core.data import read_sketches
from sketch_core.hub import find_weights, read_metadata
from sketch_core.models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from sketch_core.models.stroke_classifier import StrokeClassifier, StrokeClassifierConfig, point_features
from sketch_core.recognizer import (
    BY,
    Both,
    Recognizer,
    load_recognizer,
    padded,
    recognizer_by,
    simplified,
)
from sketch_core.strokes import Sketch, sketch_to_stroke3, stroke3_to_sketch
from sketch_core.train.stroke_recognizer import (
    StrokeRecognizerTraining,
    group,
    main,
    stroke_run,
    train_stroke_recognizer,
)
from tests.test_recognizer import NAMES, folder, sketches, toy_sketch  # noqa: F401

TINY = StrokeClassifierConfig(classes=3, max_points=24, widths=(16, 24), depths=(1, 1), kernel=3)


@pytest.fixture
def recognizer():
    torch.manual_seed(0)
    network = StrokeClassifier(TINY)
    for name, p in network.named_parameters():
        if ".out." in name or name.startswith("head."):  # a fresh block does nothing
            torch.nn.init.normal_(p, std=0.5)
    return Recognizer(network, NAMES)


def drawings(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    made = [
        np.concatenate([rng.normal(0, 20, (n, 2)), rng.random((n, 1)) < 0.2], 1).astype(np.float32)
        for n in lengths
    ]
    return padded(made)


# ---- the network -----------------------------------------------------------------------------------


def test_shapes_and_gradients():
    network = StrokeClassifier(replace(TINY, depths=(2, 1)))
    rows, length = drawings(5, 11, 1, 24)
    logits = network(rows, length)
    assert logits.shape == (4, 3)
    assert network.features(rows, length).shape == (4, network.head.in_features) == (4, 48)
    for _ in range(2):  # a block starts as nothing, and what it reads learns from the second step on
        network.zero_grad()
        network(rows, length).square().sum().backward()
        with torch.no_grad():
            for p in network.parameters():
                p -= 0.1 * p.grad
    silent = [
        n for n, p in network.named_parameters() if not p.grad.abs().sum() > 0 or not p.grad.isfinite().all()
    ]
    assert silent == []


def test_the_default_is_small():
    assert sum(p.numel() for p in StrokeClassifier(StrokeClassifierConfig()).parameters()) < 1.5e6


def test_a_config_is_json_and_back():
    assert StrokeClassifierConfig(**json.loads(json.dumps(asdict(TINY)))) == TINY


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 1}, "classes is 1, wanted 2"),
        ({"depths": (1,)}, r"depths \(1,\) must be as many"),
        ({"widths": (0, 3)}, "of 1 or more"),
        ({"kernel": 4}, "odd kernel"),
        ({"max_points": 0}, "Give 1 point or more"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
    ],
)
def test_a_config_that_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **fields)


def test_padding_does_not_matter(recognizer):
    lengths = (5, 11, 1, 24, 7)
    rows, length = drawings(*lengths)
    with torch.no_grad():
        together = recognizer.network(rows, length)
        for i, n in enumerate(lengths):
            alone = recognizer.network(rows[i : i + 1, :n], length[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_point_features_are_of_the_drawing_in_its_box():
    rows = torch.tensor([[[10.0, 0, 0], [0, 4, 1], [-10, 0, 0], [99, 99, 9]]])  # the last is padding
    found = point_features(rows, torch.tensor([3]))[0]
    assert found[:, 0].tolist() == pytest.approx([1, 1, -1, 0])  # x: the box is 10 wide
    assert found[:, 1].tolist() == pytest.approx([-0.4, 0.4, 0.4, 0])
    assert found[:, 2:4].flatten().tolist() == pytest.approx([8, 0, 0, 3.2, -8, 0, 0, 0])
    assert found[:3, 4].tolist() == [1, 1, 0]  # the third row is a move
    assert found[:3, 5].tolist() == [0, 1, 0]
    assert found[:, 6].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 0])


# ---- what it is shown ------------------------------------------------------------------------------


def test_order_and_direction_count_place_and_size_do_not(recognizer):
    some = sketches(6)
    scores = recognizer.scores(some)
    moved = [Sketch(tuple(3 * stroke + 40 for stroke in s.strokes), canvas=(900, 700)) for s in some]
    assert np.allclose(recognizer.scores(moved), scores, atol=1e-4)
    backwards = [Sketch(tuple(stroke[::-1] for stroke in s.strokes), s.canvas) for s in some]
    assert not np.allclose(recognizer.scores(backwards), scores, atol=1e-3)


def test_a_dense_line_is_simplified_to_what_quickdraw_would_hold():
    t = np.linspace(0, 1, 400)[:, None]
    line = Sketch((np.array([[10.0, 20.0]]) + t * np.array([[200.0, 30.0]]),))
    assert len(simplified(line, 128)) == 1
    scribble = Sketch((np.random.default_rng(0).uniform(0, 255, (900, 2)),))
    assert 20 < len(simplified(scribble, 128)) <= 128
    dots = Sketch(tuple(np.random.default_rng(1).uniform(0, 255, (300, 1, 2))))
    assert len(simplified(dots, 128)) == 128  # nothing to simplify: the end is cut off


def test_nothing_and_a_dot_can_be_asked_about(recognizer):
    odd = [Sketch(()), Sketch(([[7.0, 7.0]],)), Sketch(([[7.0, 7.0], [7.0, 7.0]],))]
    scores = recognizer.scores(odd)
    assert np.isfinite(scores).all()
    assert np.allclose(scores.sum(1), 1, atol=1e-6)
    assert recognizer.recognize([]) == []
    assert recognizer.features(odd).shape == (3, 48)


def test_scores_in_any_batches(recognizer, monkeypatch):
    some = sketches(7)
    scores = recognizer.scores(some)
    monkeypatch.setattr("sketch_core.recognizer.BATCH", 2)
    assert np.allclose(recognizer.scores(some), scores, atol=1e-5)
    features, read = recognizer.read(some)
    assert np.allclose(read, scores, atol=1e-5)
    assert np.allclose(features, recognizer.features(some), atol=1e-5)


# ---- both ------------------------------------------------------------------------------------------


def raster() -> Recognizer:
    torch.manual_seed(3)
    network = SketchClassifier(
        SketchClassifierConfig(
            classes=3, size=16, line_width=1.0, stem=8, kernel=3, widths=(16,), depths=(1,)
        )
    )
    torch.nn.init.normal_(network.head.weight, std=1.0)
    return Recognizer(network, NAMES)


def test_both_is_the_mean_of_the_two(recognizer):
    some, picture = sketches(5), raster()
    both = Both([picture, recognizer])
    mean = (picture.scores(some) + recognizer.scores(some)) / 2
    assert np.allclose(both.scores(some), mean, atol=1e-6)
    assert both.classes == NAMES
    best = both.recognize(some, top_k=2)
    assert [[name for name, _ in row] for row in best] == [
        [NAMES[i] for i in np.argsort(-row, kind="stable")[:2]] for row in mean
    ]
    with pytest.raises(ValueError, match="top_k is 4, wanted 1 to 3"):
        both.recognize(some, top_k=4)


def test_recognizers_of_different_classes_are_not_averaged(recognizer):
    with pytest.raises(ValueError, match="different classes cannot be averaged. Use one of them alone"):
        Both([Recognizer(raster().network, NAMES[::-1]), recognizer])


def test_a_way_that_is_none():
    with pytest.raises(ValueError, match="cannot recognize by 'smell'. Known: pictures, strokes, both"):
        recognizer_by("smell")


# ---- training --------------------------------------------------------------------------------------


def test_training_learns_without_a_test_split(folder):  # noqa: F811
    training = StrokeRecognizerTraining(steps=60, batch=32, ema=0.9)
    network, figures, classes = train_stroke_recognizer(folder, TINY, training)
    assert classes == sorted(NAMES)
    assert figures["macro_top1"] > 0.9
    rng = np.random.default_rng(5)
    fresh = [toy_sketch(name, rng) for name in NAMES for _ in range(10)]
    guesses = [g[0][0] for g in Recognizer(network, classes).recognize(fresh)]
    assert np.mean([g == s.label for g, s in zip(guesses, fresh, strict=True)]) > 0.9


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path):
    training = StrokeRecognizerTraining(steps=10, batch=8)
    batches = [(drawings(*range(3, 11), seed=i), torch.arange(8) % 3) for i in range(4)]
    whole, first, second = (stroke_run(replace(TINY, dropout=0.0), training) for _ in range(3))
    for run in (whole, first):
        for inputs, labels in batches[:2]:
            run.learn(inputs, labels)
    first.save(tmp_path / "run.pt")
    second.resume(tmp_path / "run.pt")
    for run in (whole, second):
        for inputs, labels in batches[2:]:
            run.learn(inputs, labels)
    assert second.step == whole.step == 4
    for a, b in zip(whole.average.state_dict().values(), second.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="checkpoint of another network"):
        stroke_run(replace(TINY, kernel=5), training).resume(tmp_path / "run.pt")


def test_a_group_of_batches_is_drawn_by_balance_and_sorted_by_length():
    class Data:
        lengths = np.arange(100, 0, -1)

    training = StrokeRecognizerTraining(steps=1, batch=16)
    batches = group(Data, np.linspace(0.01, 1, 100), training, 5)
    assert [len(batch) for batch in batches] == [16] * 8
    spans = sorted((Data.lengths[batch].min(), Data.lengths[batch].max()) for batch in batches)
    assert all(high <= low for (_, high), (low, _) in zip(spans, spans[1:], strict=False))
    assert spans != [(Data.lengths[b].min(), Data.lengths[b].max()) for b in batches]  # not in that order
    again = group(Data, np.linspace(0.01, 1, 100), training, 5)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_the_command_writes_weights_that_say_where_they_come_from(folder, tmp_path):  # noqa: F811
    out = tmp_path / "strokes.safetensors"
    config = {k: v for k, v in asdict(TINY).items() if k != "classes"}
    command = [
        "--data",
        str(folder),
        "--out",
        str(out),
        "--checkpoint",
        str(tmp_path / "run.pt"),
        "--steps",
        "3",
    ]
    command += ["--config", json.dumps(config), "--training", '{"batch": 16}']
    assert main(command) == 0
    loaded = load_recognizer(out)
    assert loaded.classes == sorted(NAMES)
    assert loaded.network.config == TINY
    assert loaded.scores(sketches(3)).shape == (3, 3)
    with pytest.raises(ValueError, match="exists already. Add --force"):
        main(command)
    says = read_metadata(out)
    assert says.command.startswith(
        "python -m sketch_core train stroke-recognizer --data DIR --steps 3 --seed 0"
    )
    assert says.training == {"step": 3, "seconds": says.training["seconds"], "drawings_seen": 48}


# ---- with the embedded weights ---------------------------------------------------------------------


@pytest.mark.weights
def test_the_embedded_stroke_recognizer_knows_real_cats_and_both_agree_more():
    try:
        path = find_weights("stroke_recognizer")
    except ValueError:
        pytest.skip("no embedded stroke recognizer")
    assert path.stat().st_size < 3e6
    strokes = recognizer_by("strokes")
    assert len(strokes.classes) == 345
    cats = list(read_sketches(Path(__file__).parent / "data/cat.npz"))
    named = [guesses[0][0] for guesses in strokes.recognize(cats)]
    assert np.mean([name == "cat" for name in named]) > 0.3
    twice = [stroke3_to_sketch(sketch_to_stroke3(cat), label="cat") for cat in cats]
    assert np.allclose(strokes.scores(twice), strokes.scores(cats), atol=1e-4)
    assert set(BY) == {"pictures", "strokes", "both"}
    both = recognizer_by("both").scores(cats)
    assert np.allclose(both.sum(1), 1, atol=1e-5)
