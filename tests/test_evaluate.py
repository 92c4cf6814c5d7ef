"""The protocol on three classes of toy drawings: what must pass passes, and every way to cheat is caught."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sketch_core.data import write_npz
from sketch_core.evaluate import (
    DEEP_CLASSES,
    Bar,
    choose_classes,
    compare,
    evaluate,
    ink_length,
    main,
    measure_real,
    nearest_training,
    sheet,
    small_pictures,
    table,
)
from sketch_core.strokes import Sketch, sketch_to_stroke3

CLASSES = ("circle", "box kite", "zigzag")
COUNT = 20


def toy_sketch(name: str, rng: np.random.Generator) -> Sketch:
    """A wobbly circle in one stroke, a box with a cross in three, or a zigzag in one."""
    if name == "circle":
        angles = np.linspace(0, 2 * np.pi, 18) + rng.uniform(0, 6)
        strokes = [np.stack([np.cos(angles) * rng.uniform(0.7, 1), np.sin(angles)], 1) * 120]
    elif name == "box kite":
        w = rng.uniform(80, 120)
        box = [[-w, -120], [w, -120], [w, 120], [-w, 120], [-w, -120]]
        strokes = [np.array(box), np.array([[-w, -120], [w, 120]]), np.array([[w, -120], [-w, 120]])]
    else:
        x = np.linspace(-120, 120, rng.integers(6, 10))
        strokes = [np.stack([x, rng.uniform(50, 90) * (-1.0) ** np.arange(len(x))], 1)]
    return Sketch(tuple(np.rint(s + rng.normal(0, 5, s.shape) + 127) for s in strokes), label=name)


def scribble(rng: np.random.Generator) -> Sketch:
    return Sketch(tuple(rng.uniform(0, 255, (8, 2)) for _ in range(6)))


class ToyRecognizer:
    """Features are a fixed projection of small pictures, a class is the nearest mean."""

    def __init__(self, examples: dict[str, list[Sketch]]) -> None:
        self.classes = ["something else", *examples]
        self.projection = np.random.default_rng(0).standard_normal((24 * 24, 12)) / 24
        self.means = np.stack([self.features(sketches).mean(0) for sketches in examples.values()])

    def features(self, sketches):
        return (small_pictures(sketches) @ self.projection).astype(np.float32)

    def scores(self, sketches):
        gaps = np.linalg.norm(self.features(sketches)[:, None] - self.means, axis=2)
        scores = np.exp(-np.concatenate([np.full((len(gaps), 1), 1e3), gaps], 1))
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32)

    def recognize(self, sketches, top_k=1):
        return [[(self.classes[row.argmax()], float(row.max()))] for row in self.scores(sketches)]


@pytest.fixture(scope="module")
def drawings() -> dict[str, dict[str, list[Sketch]]]:
    rng = np.random.default_rng(1)
    sizes = {"train": 60, "valid": COUNT, "test": COUNT}
    return {
        s: {name: [toy_sketch(name, rng) for _ in range(n)] for name in CLASSES} for s, n in sizes.items()
    }


@pytest.fixture(scope="module")
def folder(drawings, tmp_path_factory):
    path = tmp_path_factory.mktemp("toys")
    for name in CLASSES:
        splits = {split: [sketch_to_stroke3(s) for s in sets[name]] for split, sets in drawings.items()}
        write_npz(path / f"{name.replace(' ', '_')}.npz", splits)
    return path


@pytest.fixture(scope="module")
def recognizer(drawings):
    return ToyRecognizer(drawings["train"])


@pytest.fixture(scope="module")
def real(folder, recognizer):
    return measure_real(folder, CLASSES, count=COUNT, recognizer=recognizer)


def bar(report: dict, name: str) -> bool:
    """Whether all bars whose name begins so are met."""
    found = [b["met"] for b in report["bars"] if b["name"].startswith(name)]
    assert found, f"no bar {name}"
    return all(found)


def drawn_by(make, real) -> dict:
    report, _ = evaluate(lambda name, *, count, seed: [make(name, i) for i in range(count)], real)
    return report


def test_real_drawings_meet_every_bar(drawings, real):
    report = drawn_by(lambda name, i: drawings["test"][name][i], real)
    assert report["all_met"]
    assert report["top1"]["ratio"] == 1.0
    assert report["top1"]["real"] > 0.9
    assert report["recall"]["fake"] == report["precision"]["fake"] == 1.0
    assert report["fid"]["fake"] == pytest.approx(0, abs=1e-4)
    assert report["fid"]["floor"] > 0.001
    assert [report[name]["ratio"] for name in ("strokes", "ink", "points")] == [1.0, 1.0, 1.0]
    assert report["nearest"]["features"]["fake"] == report["nearest"]["features"]["real"]
    assert report["empty"] == 0


def test_the_floor_is_what_valid_drawings_get(drawings, real):
    report = drawn_by(lambda name, i: drawings["valid"][name][i], real)
    for name in ("precision", "recall", "fid", "kid"):
        assert report[name]["fake"] == pytest.approx(report[name]["floor"], rel=1e-9), name


def test_scribbles_fail(real):
    rng = np.random.default_rng(2)
    report = drawn_by(lambda name, i: scribble(rng), real)
    assert not bar(report, "top-1")
    assert not bar(report, "recall")
    assert not bar(report, "strokes")
    assert not bar(report, "ink")
    assert report["fid"]["fake"] > 3 * report["fid"]["floor"]
    assert not report["all_met"]


def test_copies_of_training_drawings_fail_on_their_distance_alone(drawings, real):
    report = drawn_by(lambda name, i: drawings["train"][name][i], real)
    assert report["nearest"]["features"]["fake"] == {"median": 0.0, "p5": 0.0}
    assert report["nearest"]["pictures"]["fake"] == {"median": 0.0, "p5": 0.0}
    assert [b["name"] for b in report["bars"] if not b["met"]] == [
        f"nearest {space}, {name} over real"
        for space in ("features", "pictures")
        for name in ("median", "p5")
    ]


def test_one_good_drawing_over_and_over_fails_on_recall(drawings, real):
    report = drawn_by(lambda name, i: drawings["test"][name][0], real)
    assert bar(report, "top-1")
    assert not bar(report, "recall")


def test_good_drawings_of_the_wrong_class_fail(drawings, real):
    following = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    report = drawn_by(lambda name, i: drawings["test"][following[name]][i], real)
    assert report["top1"]["fake"] < 0.1
    assert [c["taken_for"] for c in report["by_class"]] == list(following.values())


def test_empty_drawings_are_counted_and_never_recognized(real):
    blank, dots = Sketch(()), Sketch((np.array([[3.0, 4.0]]), np.array([[50.0, 60.0]])))
    report = drawn_by(lambda name, i: blank if i % 2 else dots, real)
    assert report["empty"] == COUNT * len(CLASSES)
    assert report["top1"]["fake"] == 0.0
    assert not bar(report, "empty")


def test_recognition_is_a_mean_over_classes_with_an_interval_around_it(drawings, real):
    rng = np.random.default_rng(3)
    report = drawn_by(lambda name, i: drawings["test"][name][i] if name == "zigzag" else scribble(rng), real)
    by_class = [c["top1_fake"] for c in report["by_class"]]
    assert report["top1"]["fake"] == pytest.approx(np.mean(by_class))
    low, high = report["top1"]["fake_interval"]
    assert low <= report["top1"]["fake"] <= high


def test_every_side_holds_as_many_of_each_class(folder, recognizer):
    real = measure_real(folder, CLASSES, count=500, recognizer=recognizer)
    assert real.counts == [COUNT] * 3
    real = measure_real(folder, CLASSES[:2], count=7, recognizer=recognizer)
    assert len(real.test.sketches) == len(real.floor.sketches) == sum(real.counts) == 14
    assert real.test.labels.tolist() == [0] * 7 + [1] * 7
    assert [s.label for s in real.test.sketches] == ["circle"] * 7 + ["box kite"] * 7
    assert [len(features) for features, _ in real.train] == [60, 60]


def test_the_choice_of_drawings_hangs_on_the_seed_and_on_no_other_class(folder, recognizer):
    def chosen(classes, seed):
        return measure_real(folder, classes, count=8, recognizer=recognizer, seed=seed).test.sketches[-8:]

    assert chosen(CLASSES, 0) == chosen(CLASSES[2:], 0)
    assert chosen(CLASSES, 0) != chosen(CLASSES, 1)


def test_nearest_distances_stay_within_the_class(drawings, real):
    report = drawn_by(lambda name, i: drawings["train"]["circle"][i], real)
    nearest = {c["class"]: c["nearest_ratio"] for c in report["by_class"]}
    assert nearest["circle"] == 0.0
    assert nearest["zigzag"] > 1.5
    assert nearest_training(real.test, real.train)["features"].shape == (60,)


def test_ink_does_not_hang_on_the_size_of_the_drawing():
    box = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]])
    assert ink_length(Sketch((box,))) == pytest.approx(4 * 255)
    assert ink_length(Sketch((box * 7 + 3,), canvas=(90, 200))) == pytest.approx(4 * 255)
    assert ink_length(Sketch((box, box))) == pytest.approx(8 * 255)
    assert ink_length(Sketch(())) == ink_length(Sketch((box[:1],))) == 0.0


def test_a_report_is_json_and_its_table_shows_the_bars(drawings, real):
    report = drawn_by(lambda name, i: drawings["train"][name][i], real)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = table(report)
    assert text.count("MISS") == 4
    assert text.count("met ") == len(report["bars"]) - 4
    assert all(name in text for name in (*CLASSES, "FID", "recall", "60 drawings, 3 classes, 20 each"))


def test_a_report_without_bounds_is_still_json(real):
    report = drawn_by(lambda name, i: Sketch(()), real)
    json.dumps(report, allow_nan=False)
    assert "MISS" in table(report)


def test_a_bar_has_two_ends():
    assert Bar("x", 1.0, low=0.85, high=1.15).met
    assert not Bar("x", 1.2, low=0.85, high=1.15).met
    assert not Bar("x", 0.8, low=0.85, high=1.15).met
    assert not Bar("x", float("nan"), low=0.85).met


def test_a_sheet_has_a_row_for_each_class(drawings, real):
    sketches = [s for name in CLASSES for s in drawings["test"][name]]
    image = sheet(sketches, real, columns=10)
    assert image.width == 960
    assert image.height > 3 * 96


def test_classes_are_chosen_as_the_folder_spells_them():
    known = ["The Eiffel Tower", "alarm clock", "cat"]
    assert choose_classes("Alarm_Clock,the eiffel tower", known) == ["alarm clock", "The Eiffel Tower"]
    assert choose_classes("all", known) == known
    assert choose_classes("deep", DEEP_CLASSES) == DEEP_CLASSES
    assert len(DEEP_CLASSES) == 28
    with pytest.raises(ValueError, match="no drawings of dog in the data folder"):
        choose_classes("cat,dog", known)
    with pytest.raises(ValueError, match="holds no .npz files"):
        choose_classes("all", [])


def test_bad_input_is_said_in_a_sentence(folder, recognizer, real, drawings):
    with pytest.raises(ValueError, match="count is 3, wanted 4"):
        measure_real(folder, CLASSES, count=3, recognizer=recognizer)
    with pytest.raises(ValueError, match="does not know cat"):
        measure_real(folder, ["cat"], count=9, recognizer=recognizer)
    with pytest.raises(ValueError, match="none twice"):
        measure_real(folder, ["circle", "circle"], count=9, recognizer=recognizer)
    with pytest.raises(ValueError, match="got 2 drawings, wanted 60"):
        compare(drawings["test"]["circle"][:2], real)
    with pytest.raises(ValueError, match="drew 1 of circle, wanted 20"):
        evaluate(lambda name, *, count, seed: [Sketch(())], real)


@pytest.fixture
def command(monkeypatch, drawings, recognizer, folder):
    """Runs `evaluate` with a model that draws test drawings; returns what the model was asked."""
    asked = []

    def draw(name, *, count, seed, **options):
        asked.append((name, count, seed, options))
        return drawings["test"][name][:count]

    knitter = SimpleNamespace(load=lambda name: SimpleNamespace(draw=draw))
    monkeypatch.setitem(sys.modules, "sketch_core.knitter", knitter)
    monkeypatch.setattr("sketch_core.evaluate.load_recognizer", lambda name: recognizer)

    def run(*arguments):
        assert main(["--data", str(folder), *arguments]) == 0
        return asked

    return run


def test_the_command_writes_table_json_and_sheet(command, tmp_path, capsys):
    out, png = tmp_path / "report.json", tmp_path / "sheet.png"
    options = ("--count", "9", "--seed", "5", "--steps", "7", "--guidance", "2.5")
    asked = command("--classes", "all", *options, "--out", str(out), "--sheet", str(png))
    assert sorted(asked) == [(n, 9, 5, {"steps": 7, "guidance": 2.5}) for n in sorted(CLASSES)]
    report = json.loads(out.read_text())
    assert report["settings"] == {
        "model": "default",
        "recognizer": "recognizer",
        "classes": "all",
        "seed": 5,
        "steps": 7,
        "guidance": 2.5,
    }
    assert report["drawings"] == 27
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert "met   top-1, share of real" in capsys.readouterr().out


def test_the_command_overwrites_nothing_unasked(command, tmp_path):
    out = tmp_path / "report.json"
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        command("--classes", "all", "--out", str(out))
    with pytest.raises(ValueError, match="is not a folder"):
        command("--classes", "all", "--out", str(tmp_path / "nowhere" / "report.json"))
    assert out.read_text() == "mine"
    command("--classes", "circle", "--out", str(out), "--force")
    assert json.loads(out.read_text())["classes"] == 1
