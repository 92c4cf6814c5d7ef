"""The stroke classifier, what it is shown of a drawing, its training, and recognizing by both."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sketch_core.data import read_sketches
from sketch_core.data.damage import Damage
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
from sketch_core.train import classifying, stroke_recognizer
from sketch_core.train.stroke_recognizer import (
    StrokeRecognizerTraining,
    group,
    main,
    stroke_run,
    train_stroke_recognizer,
)
from sketch_core.weight_file import write_weights
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
    training = StrokeRecognizerTraining(steps=60, batch=32, ema=0.9, damaged=0.3)
    network, figures, classes = train_stroke_recognizer(folder, TINY, training)
    assert classes == sorted(NAMES)
    assert figures["macro_top1"] > 0.9
    assert 0.5 < figures["damaged_top1"] < 1  # a beginning of a cross is a bar
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


def batches_of(folder, monkeypatch, **options) -> tuple[list, dict]:  # noqa: F811
    """The batches of three steps of a training, and the figures of its check."""
    heard, figures = [], {}

    def fit(run, batch, check, checkpoint):
        heard.extend(batch(step) for step in range(3))
        figures.update(check(run.average))
        return figures

    monkeypatch.setattr(stroke_recognizer, "fit", fit)
    training = StrokeRecognizerTraining(steps=3, batch=64, **options)
    train_stroke_recognizer(folder, TINY, training)
    return heard, figures


def test_a_share_of_the_drawings_is_damaged(folder, monkeypatch):  # noqa: F811
    harmed, asked = stroke_recognizer.harmed, []
    monkeypatch.setattr(
        stroke_recognizer, "harmed", lambda rows, *more: asked.append(1) or harmed(rows, *more)
    )
    plain, figures = batches_of(folder, monkeypatch, damaged=0.0)
    assert not asked
    assert "top1" in figures
    assert "damaged_top1" not in figures
    for damaged in (0.4, 1.0):
        asked.clear()
        heard, figures = batches_of(folder, monkeypatch, damaged=damaged)
        assert len(asked) - 30 == pytest.approx(3 * 64 * damaged, rel=0.2)  # the 30 of the validation too
        assert 0 <= figures["damaged_top1"] <= 1
        changed = 0
        for ((rows, length), labels), ((before, was), wanted) in zip(heard, plain, strict=True):
            assert torch.equal(labels, wanted)
            N = min(rows.shape[1], before.shape[1])
            same = (length == was) & (rows[:, :N] == before[:, :N]).all(2).all(1)
            changed += int((~same).sum())
        assert changed == pytest.approx(3 * 64 * damaged, rel=0.3)  # the others are as they were
    again, _ = batches_of(folder, monkeypatch, damaged=1.0)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(heard, again, strict=True))


def test_a_harmed_drawing_is_what_the_network_would_see_of_it():
    rng = np.random.default_rng(0)
    row = np.concatenate([rng.normal(0, 30, (60, 2)), rng.random((60, 1)) < 0.1], 1).astype(np.float32)
    found = [stroke_recognizer.harmed(row, np.random.default_rng(i), 24) for i in range(40)]
    assert max(map(len, found)) <= 24
    for i, rows in enumerate(found):
        hurt = Damage()(stroke3_to_sketch(row), np.random.default_rng(i))
        assert np.array_equal(rows, simplified(hurt, 24))
    assert len({rows.tobytes() for rows in found}) > 30
    dot = np.array([[0, 0, 1]], np.float32)
    network = StrokeClassifier(TINY).eval()
    for i in range(12):
        with torch.no_grad():
            assert (
                network(*padded([stroke_recognizer.harmed(dot, np.random.default_rng(i), 24)]))
                .isfinite()
                .all()
            )


@pytest.mark.parametrize("damaged", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(damaged):
    with pytest.raises(ValueError, match="damaged is .*, wanted a share of 0 to 1"):
        StrokeRecognizerTraining(steps=1, damaged=damaged)


def test_the_best_weights_name_damaged_drawings_too():
    training = StrokeRecognizerTraining(steps=3, batch=8, validate_steps=1)
    run = stroke_run(TINY, training)
    found = [(0.6, 0.2), (0.5, 0.4), (0.65, 0.1)]
    figures = iter({"top1": whole, "damaged_top1": damaged} for whole, damaged in found)
    inputs = drawings(*range(3, 11))
    best = classifying.fit(run, lambda step: (inputs, torch.arange(8) % 3), lambda net: next(figures), None)
    assert (best["step"], best["top1"], best["damaged_top1"]) == (2, 0.5, 0.4)
    assert classifying.score({"top1": 0.5, "damaged_top1": 0.25}) == 0.75
    assert classifying.score({"top1": 0.5}) == 0.5


# ---- starting from weights ------


@pytest.fixture
def weights(recognizer, tmp_path) -> Path:
    path = tmp_path / "first.safetensors"
    write_weights(path, recognizer.network, {"classes": sorted(NAMES)})
    return path


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[name]) for name, v in a.state_dict().items())


def test_a_run_starts_from_weights(recognizer, weights, tmp_path):
    run = stroke_run(TINY, StrokeRecognizerTraining(steps=4, batch=8, init=str(weights)))
    assert not same_weights(run.network, recognizer.network)
    run.begin(None, sorted(NAMES))
    assert same_weights(run.network, recognizer.network)
    assert same_weights(run.average, recognizer.network)
    assert run.step == 0
    run.learn(drawings(*range(3, 11)), torch.arange(8) % 3)
    assert not same_weights(run.network, recognizer.network)
    run.save(tmp_path / "run.pt")
    further = stroke_run(TINY, StrokeRecognizerTraining(steps=4, batch=8, init=str(weights)))
    further.begin(tmp_path / "run.pt", sorted(NAMES))  # a checkpoint goes before the weights
    assert further.step == 1
    assert same_weights(further.network, run.network)
    further.begin(tmp_path / "none.pt", sorted(NAMES))
    assert same_weights(further.network, recognizer.network)
    fresh, other = (stroke_run(TINY, StrokeRecognizerTraining(steps=4, batch=8)) for _ in range(2))
    fresh.begin(None, sorted(NAMES))
    assert same_weights(fresh.network, other.network)


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        (replace(TINY, kernel=5), sorted(NAMES)),
        (TINY, sorted(NAMES)[::-1]),
        (TINY, ["bar", "cross", "tree"]),
    ],
)
def test_weights_of_another_network_or_of_other_classes_are_no_start(weights, config, classes):
    run = stroke_run(config, StrokeRecognizerTraining(steps=1, init=str(weights)))
    before = [value.clone() for value in run.network.state_dict().values()]
    with pytest.raises(ValueError, match="first.safetensors is another network than is to be trained, or kn"):
        run.begin(None, classes)
    assert all(map(torch.equal, before, run.network.state_dict().values()))


def test_weights_of_another_architecture_are_no_start(weights, tmp_path):
    path = tmp_path / "pictures.safetensors"
    write_weights(path, raster().network, {"classes": sorted(NAMES)})
    run = stroke_run(TINY, StrokeRecognizerTraining(steps=1, init=str(path)))
    with pytest.raises(ValueError, match="is another network than is to be trained"):
        run.begin(None, sorted(NAMES))


def test_the_command_says_which_weights_it_started_from(folder, weights, tmp_path):  # noqa: F811
    out = tmp_path / "second.safetensors"
    config = json.dumps({k: v for k, v in asdict(TINY).items() if k != "classes"})
    training = '{"batch": 8, "lr": 1e-9, "adam_lr": 1e-9, "weight_decay": 0}'
    argv = ["--data", str(folder), "--steps", "1", "--config", config, "--training", training]
    assert main([*argv, "--out", str(out), "--init", str(weights)]) == 0
    assert f" --seed 0 --init {weights} --config" in read_metadata(out).command
    first, second = (load_recognizer(path).network.state_dict() for path in (weights, out))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0.02, atol=0.02)  # it learned next to nothing
    assert "damaged_top1" in read_metadata(out).figures
    (tmp_path / "plain").mkdir()
    assert main([*argv, "--out", str(tmp_path / "plain" / "w.safetensors")]) == 0
    assert "--init" not in read_metadata(tmp_path / "plain" / "w.safetensors").command
    with pytest.raises(ValueError, match="another network than is to be trained"):
        main([*argv[:4], "--out", str(tmp_path / "x.safetensors"), "--init", str(weights)])


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
