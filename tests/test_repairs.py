"""evaluate repairs: damage that is what it says, shares that add up, right distances, the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sketch_core import __main__ as cli
from sketch_core import naming
from sketch_core.data import write_npz
from sketch_core.evaluate import repairs
from sketch_core.evaluate.repairs import (
    Damaged,
    blanked,
    chamfer,
    chosen,
    healed,
    nearness,
    pixels,
)
from sketch_core.knitter import SketchModel
from sketch_core.strokes import Sketch, sketch_to_stroke3
from tests.test_knitter import METADATA
from tests.tiny import tiny_transformer

SPLITS = ("train", "valid", "test")


def toy(label: str, i: int) -> Sketch:
    """A slanting box with a line in it, or a zigzag and a line; each one another."""
    shift = 3 * i
    box = [[20, 20], [200 + shift, 30], [210, 190 + shift], [30, 200], [20, 20]]
    zigzag = [[10, 10 + shift], [60, 200], [110, 20], [160 + shift, 210], [240, 15]]
    return Sketch((box if label == "cat" else zigzag, [[50, 60], [150, 160 + shift]]), label=label)


class Judge:
    """Names what fills its canvas evenly a cat, and is never wrong about clean toys."""

    classes = ("cactus", "cat", "dog")

    def scores(self, sketches):
        cats = [len(sketch.strokes[0]) > 2 and bool(np.ptp(sketch.strokes[0][[0, -1]], 0).max() < 50)
                for sketch in sketches]  # fmt: skip
        return np.array([[not cat, cat, 0] for cat in cats], np.float32)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for label in ("cat", "cactus"):
        rows = {split: [sketch_to_stroke3(toy(label, i)) for i in range(4)] for split in SPLITS}
        write_npz(folder / f"{label}.npz", rows)
    return folder


@pytest.fixture
def parts(monkeypatch):
    model = SketchModel("tiny", tiny_transformer(), METADATA)
    monkeypatch.setattr("sketch_core.knitter.load", lambda name="default": model)
    monkeypatch.setattr(repairs, "load_recognizer", lambda name: Judge())
    monkeypatch.setattr(naming, "embedded_recognizers", lambda: (Judge(),))
    return model


def test_what_is_mended_is_unlabelled_and_off_by_what_it_says(parts, monkeypatch):
    """In units of the model's canvas, on which these drawings are."""
    seen = {}

    def kept(name):
        def mend(model, sketches, **options):
            seen.setdefault(name, []).append(list(sketches))
            return sketches

        return mend

    monkeypatch.setattr("sketch_core.rectifier.rectify", kept("rectify"))
    monkeypatch.setattr("sketch_core.redraw.complete", kept("complete"))
    dense = Sketch([np.random.default_rng(0).uniform(0, 255, (4000, 2)), [[9, 9], [90, 9]]], label="cat")
    damaged = Damaged([toy("cat", 0), dense], Judge())
    _, drawn = repairs.rectified(damaged, parts, 0.5)
    guessed, told = seen["rectify"]
    assert guessed == drawn["rough"]
    assert [one.label for one in guessed] == [None, None]
    assert [one.label for one in told] == ["cat", "cat"]
    assert [one.strokes[0].tolist() for one in guessed] == [one.strokes[0].tolist() for one in told]
    moved = guessed[1].strokes[0] - dense.strokes[0]
    np.testing.assert_allclose(moved.std(0), 0.5 * repairs.K * 255, rtol=0.05)
    repairs.completed(damaged, parts)
    guessed, told = seen["complete"]
    assert [(len(one.strokes), one.label) for one in guessed] == [(1, None)] * 2
    assert [(len(one.strokes), one.label) for one in told] == [(1, "cat")] * 2


def test_shares_are_of_what_was_lost():
    first = lambda n: np.arange(10) < n  # noqa: E731
    assert repairs.returned(first(8), first(2), first(5)) == pytest.approx(0.5)
    assert repairs.returned(first(8), first(2), first(1)) == pytest.approx(-1 / 6)
    assert np.isnan(repairs.returned(first(8), first(8), first(9)))
    toys = [toy("cat", i) for i in range(3)] + [toy("cactus", 0)]
    damaged = Damaged(toys, Judge())
    wrong = [toys[0], toys[3], toys[3], toys[0]]
    found = damaged.report(before=wrong, guessed=[toys[0], toys[1], *wrong[2:]], told=toys)
    assert (found["clean"], found["before"], found["guessed"], found["told"]) == (1, 0.25, 0.5, 1)
    assert (found["guessed_share"], found["told_share"]) == (pytest.approx(1 / 3), 1)
    assert found["guessed_gained"][0] < 0.25 < found["guessed_gained"][1]
    assert found["named"] == 0.5


def test_chamfer_is_the_mean_of_both_ways():
    a, b = np.array([[0, 0], [0, 4]], np.float32), np.array([[3, 0]], np.float32)
    assert chamfer(a, b) == pytest.approx(((3 + 5) / 2 + 3) / 2)
    assert chamfer(a, b) == chamfer(b, a)
    assert chamfer(a, a) == 0


def test_a_drawing_is_nearest_to_its_own_original():
    originals = [toy(label, 9 * i) for label in ("cat", "cactus") for i in range(3)]
    own, share = nearness(originals, originals)
    assert (own, share) == (0, 1)
    swapped = [originals[i] for i in (1, 0, 2, 3, 4, 5)]
    own, share = nearness(swapped, originals)
    assert own > 0
    assert share < 1
    assert len(pixels(originals)) == 6
    assert np.isnan(nearness(originals[:1], originals[:1])[1])


def test_the_choice_is_of_the_split_and_a_class_s_own(data):
    both, one = chosen(data, ["cat", "cactus"], "test", 2, 5), chosen(data, ["cat"], "test", 2, 5)
    assert [sketch.label for sketch in both] == ["cat", "cat", "cactus", "cactus"]
    assert both[:2] == one
    assert len(chosen(data, ["cat"], "valid", 99, 0)) == 4
    write_npz(data / "dog.npz", {"train": [sketch_to_stroke3(toy("cat", 0))], "valid": [], "test": []})
    with pytest.raises(ValueError, match="no test drawings of dog. Leave that class out"):
        chosen(data, ["dog"], "test", 2, 0)


def test_the_command_prints_a_line_a_level_and_writes_what_was_asked_for(data, parts, tmp_path, capsys):
    argv = [
        "evaluate",
        "repairs",
        "--data",
        str(data),
        "--classes",
        "cat,cactus",
        "--count",
        "3",
        "--steps",
        "2",
    ]
    out = ["--out", str(tmp_path / "r.json"), "--sheets", str(tmp_path / "sheets")]
    assert cli.main([*argv, "--levels", "0,0.3", "--lost", "0.3", *out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model stroke_transformer.quickdraw345")
    assert lines[1].startswith("judge sketch_classifier.judge345.safetensors, sha256 ")
    assert lines[2] == "6 test drawings of 2 classes, seed 0; K 0.24"
    assert [line.split()[:2] for line in lines[4:]] == [
        ["rectify", "0%"], ["rectify", "30%"], ["heal", "30%"], ["complete", "50%"]
    ]  # fmt: skip
    report = json.loads((tmp_path / "r.json").read_text())
    assert [run["clean"] for run in report["runs"]] == [1, 1, 1, 1]
    assert report["runs"][3]["prefix_exact"] == 1
    assert report["k"] == repairs.K
    assert report["model"]["file"].startswith("stroke_transformer.quickdraw345")
    assert len(report["model"]["sha256"]) == 64
    settings = {"strength": 0.5, "steps": 2, "guidance": None, "sampler": None, "seed": 0}
    assert report["settings"] == settings
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 4
    assert cli.main([*argv, *out]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["heal", "complete"])
def test_the_report_names_the_weights_whichever_verb_is_measured(data, parts, tmp_path, verb):
    argv = ["evaluate", "repairs", "--data", str(data), "--classes", "cat", "--count", "1", "--steps", "2"]
    out = tmp_path / "r.json"
    assert cli.main([*argv, "--verbs", verb, "--lost", "0.3", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert len(report["model"]["sha256"]) == 64
    assert report["settings"]["steps"] == 2


def test_drawings_that_cannot_be_measured_are_refused_before(data, parts, monkeypatch, capsys):
    with pytest.raises(ValueError, match="the judge does not know None, owl, so it cannot tell"):
        Damaged([toy("cat", 0), toy("owl", 0), Sketch(toy("cat", 0).strokes)], Judge())
    with pytest.raises(ValueError, match="there is no drawing to damage"):
        Damaged([], Judge())
    one = [Sketch(toy("cat", i).strokes[:1], label="cat") for i in range(2)]
    monkeypatch.setattr(repairs, "chosen", lambda *args: one)
    assert cli.main(["evaluate", "repairs", "--data", str(data), "--classes", "cat"]) == 1
    printed = capsys.readouterr()
    assert "none of the 2 drawings has two strokes, so none can be halved" in printed.err
    assert not printed.out


def test_nothing_is_left_of_where_lost_points_were(parts):
    stroke = np.array([[0, 0], [90, 400], [30, 0], [-300, 70], [9, 9], [60, 30], [500, 500]])
    lost = np.array([False, True, False, True, True, False, True])
    away = [np.array([[800, 800], [801, 5]]), np.array([True, True])]
    source = Sketch((stroke, away[0]), label="cat")
    blank = blanked(source, [lost, away[1]])
    np.testing.assert_allclose(
        blank.strokes[0], [[0, 0], [15, 0], [30, 0], [40, 10], [50, 20], [60, 30], [60, 30]], atol=1e-4
    )
    assert blank.strokes[1].tolist() == [[60, 30], [60, 30]]
    assert blank.label is None
    elsewhere = [np.where(mask[:, None], 7 * line - 3, line) for line, mask in ((stroke, lost), away)]
    assert blanked(Sketch(tuple(elsewhere), label="cat"), [lost, away[1]]) == blank


def test_heal_is_measured_without_the_lost_points(parts, monkeypatch):
    """Lost points that lay elsewhere: the same drawings come out."""
    toys = [toy("cat", i) for i in range(3)]
    marked = [repairs.by_chance(one, 0.3, np.random.default_rng([0, i])) for i, one in enumerate(toys)]
    assert any(mask.any() for _, masks in marked for mask in masks)
    moved = [
        Sketch(
            tuple(np.where(m[:, None], s * 3 + 40, s) for s, m in zip(one.strokes, masks, strict=True)),
            label="cat",
        )
        for one, masks in marked
    ]
    drawn = []
    for sketches in (toys, moved):
        damaged = Damaged(toys, Judge())
        damaged.sketches = sketches
        drawn.append(healed(damaged, parts, 0.3, steps=2)[1])
    assert drawn[0]["guessed"] == drawn[1]["guessed"]
    assert drawn[0]["told"] == drawn[1]["told"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--verbs", "paint"], "unknown verb 'paint'. Known: rectify, heal, complete"),
        (["--levels", "0,much"], "'0,much' is no list of numbers. Write 0,0.1,0.3"),
        (["--lost", "30"], "'30' has a number beyond 0 to 1"),
    ],
)
def test_what_is_refused(data, parts, capsys, argv, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "repairs", "--data", str(data), *argv])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
