"""The protocol on three classes of toy drawings: what must pass passes, and every way to cheat is caught."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from sketch_core.data import DataError, write_npz
from sketch_core.evaluate import (
    DEEP_CLASSES,
    Bar,
    choose_classes,
    compare,
    differences,
    draw_all,
    evaluate,
    figures_of,
    ink_length,
    main,
    measure_real,
    nearest_training,
    sheet,
    small_pictures,
    table,
)
from sketch_core.evaluate.cache import FeatureCache
from sketch_core.evaluate.classes import fold_of
from sketch_core.evaluate.curves import curves, curves_plot, curves_table
from sketch_core.evaluate.drawing import Counter, class_seed, drawer
from sketch_core.evaluate.inception import load_inception
from sketch_core.evaluate.plot import to_svg
from sketch_core.evaluate.printing import differences_table, run_labels
from sketch_core.evaluate.protocol import read_runs
from sketch_core.evaluate.sweep import settings_grid
from sketch_core.knitter import SketchModel
from sketch_core.metrics import geometry_score
from sketch_core.raster import rasterize
from sketch_core.shortcut import Shortcut
from sketch_core.strokes import Sketch, sketch_to_stroke3
from sketch_core.weight_file import Metadata
from tests.tiny import tiny_transformer

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

    network = torch.nn.Identity()

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

    def read(self, sketches):
        return self.features(sketches), self.scores(sketches)


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
    return measure_real(folder, CLASSES, count=COUNT, judge=recognizer)


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
    real = measure_real(folder, CLASSES, count=500, judge=recognizer)
    assert real.counts == [COUNT] * 3
    real = measure_real(folder, CLASSES[:2], count=7, judge=recognizer)
    assert len(real.test.sketches) == len(real.floor.sketches) == sum(real.counts) == 14
    assert real.test.labels.tolist() == [0] * 7 + [1] * 7
    assert [s.label for s in real.test.sketches] == ["circle"] * 7 + ["box kite"] * 7
    assert [len(features) for features, _ in real.train] == [60, 60]


def test_the_choice_of_drawings_hangs_on_the_seed_and_on_no_other_class(folder, recognizer):
    def chosen(classes, seed):
        return measure_real(folder, classes, count=8, judge=recognizer, seed=seed).test.sketches[-8:]

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
    with pytest.raises(ValueError, match="count is 3, wanted 6"):
        measure_real(folder, CLASSES, count=3, judge=recognizer)
    with pytest.raises(ValueError, match="does not know cat"):
        measure_real(folder, ["cat"], count=9, judge=recognizer)
    with pytest.raises(ValueError, match="none twice"):
        measure_real(folder, ["circle", "circle"], count=9, judge=recognizer)
    with pytest.raises(ValueError, match="got 2 drawings, wanted 60"):
        compare(drawings["test"]["circle"][:2], real)
    with pytest.raises(ValueError, match="drew 1 of circle, wanted 20"):
        evaluate(lambda name, *, count, seed: [Sketch(())], real)


@pytest.fixture
def command(monkeypatch, drawings, recognizer, folder, tmp_path):
    """Runs `evaluate` with a model that draws test drawings; returns what the model was asked."""
    asked = []

    def draw(name, *, count, seed, on_step, **options):
        for _ in range(options.get("steps", 5)):  # the command stops at the first of a drawing that it tries
            on_step(SimpleNamespace(prediction=SimpleNamespace(calls=torch.full((count,), 2.0))))
        asked.append((name, count, seed, options))
        shift = seed if options.get("steps") == 3 else 0
        return [drawings["test"][name][(i + shift) % COUNT] for i in range(count)]

    knitter = SimpleNamespace(
        load=lambda name: SimpleNamespace(
            draw=draw, network=torch.nn.Identity(), sampling={"sampler": "ddim", "steps": 5}
        ),
    )
    monkeypatch.setitem(sys.modules, "sketch_core.knitter", knitter)
    monkeypatch.setattr("sketch_core.evaluate.command.load_recognizer", lambda name: recognizer)

    def run(*arguments, status=0):
        asked.clear()
        paths = ("--data", str(folder), "--cache", str(tmp_path / "cache"))
        assert main([*paths, "--classes", "all", *arguments]) == status
        return asked

    return run


def test_the_command_writes_table_json_and_sheet(command, tmp_path, capsys):
    out, png = tmp_path / "report.json", tmp_path / "sheet.png"
    options = ("--count", "9", "--seed", "5", "--steps", "7", "--guidance", "2.5")
    asked = command(*options, "--out", str(out), "--sheet", str(png))
    assert sorted((n, count, options) for n, count, _, options in asked) == [
        (n, 9, {"steps": 7, "guidance": 2.5}) for n in sorted(CLASSES)
    ]
    assert sorted(seed for _, _, seed, _ in asked) == sorted(class_seed(5, c) for c in (1, 2, 3))
    assert len({class_seed(seed, c) for seed in range(50) for c in range(1, 346)}) == 50 * 345
    report = json.loads(out.read_text())
    assert {name: report["settings"][name] for name in ("sampler", "steps", "guidance")} == {
        "sampler": "ddim",
        "steps": 7,
        "guidance": 2.5,
    }
    assert report["drawings"] == 27
    assert report["calls"] == 14.0
    assert report["protocol"]["seeds"] == [5]
    assert report["protocol"]["counts"] == [9, 9, 9]
    assert len(report["protocol"]["judge"]["sha256"]) == len(report["settings"]["model_sha256"]) == 64
    assert str(tmp_path) not in out.read_text()
    assert png.read_bytes()[:4] == b"\x89PNG"
    text = capsys.readouterr().out
    assert "met   top-1, share of real" in text
    assert report["protocol"]["judge"]["sha256"][:16] in text
    assert "14 network calls a sketch" in text


def test_the_full_protocol_draws_every_seed_and_gives_intervals(command, tmp_path, capsys):
    out = tmp_path / "report.json"
    options = ("--protocol", "full", "--count", "10", "--seeds", "3,8", "--resamples", "6", "--geometry", "0")
    asked = command(*options, "--out", str(out))
    assert [seed for _, _, seed, _ in asked] == [class_seed(s, c) for s in (3, 8) for c in (1, 2, 3)]
    report = json.loads(out.read_text())
    assert report["drawings"] == 60
    assert len(report["fid"]["of_seeds"]) == 2
    assert {len(found) for found in report["draws"].values()} == {6}
    for name, (low, high) in report["intervals"].items():
        value = figures_of(report)[name]
        assert low - 1e-9 <= value <= high + 1e-9, name
    assert "60 drawings, 3 classes, 10 each, 2 seeds" in capsys.readouterr().out


def test_a_file_prints_as_the_run_did_and_compares_with_itself(command, tmp_path, capsys):
    out = tmp_path / "report.json"
    command("--count", "10", "--resamples", "5", "--out", str(out))
    printed = capsys.readouterr().out
    assert main(["--from", str(out)]) == 0
    assert capsys.readouterr().out == printed
    assert main(["--from", str(out), "--against", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(printed)
    assert "WORSE" not in text
    assert " better" not in text
    command("--count", "10", "--resamples", "5", "--against", str(out))
    assert "0.0000 to 0.0000" in capsys.readouterr().out


def test_runs_of_another_protocol_are_not_compared(command, tmp_path):
    out = tmp_path / "report.json"
    command("--count", "10", "--out", str(out))
    for options, name in (
        (("--count", "9"), "counts"),
        (("--count", "10", "--seeds", "4"), "seeds"),
        (("--count", "10", "--seed", "1", "--seeds", "0"), "choice"),
    ):
        with pytest.raises(ValueError, match=f"do not compare: {name} differs"):
            command(*options, "--against", str(out))
    other = json.loads(out.read_text())
    other["protocol"]["judge"]["sha256"] = "0" * 64
    out.write_text(json.dumps(other))
    with pytest.raises(ValueError, match="judge differs"):
        command("--count", "10", "--against", str(out))


def test_differences_are_paired_and_say_what_is_better(drawings, real):
    def run(make):
        report = compare([make(name, i) for name in CLASSES for i in range(COUNT)], real, resamples=20)
        return report | {"protocol": {"judge": {"sha256": "1"}}}

    rng = np.random.default_rng(4)
    good = run(lambda name, i: drawings["valid"][name][i])
    bad = run(lambda name, i: scribble(rng) if i % 2 else drawings["valid"][name][i])
    rows = {row["figure"]: row for row in differences(good, bad)}
    assert rows["top1"]["difference"] == pytest.approx(good["top1"]["fake"] - bad["top1"]["fake"])
    assert rows["top1"]["better"] is True
    assert rows["fid"]["better"] is True  # less of it
    assert rows["fid"]["difference"] < 0
    assert rows["strokes_share"]["better"] is None  # neither more nor less is better
    rows = {row["figure"]: row for row in differences(bad, good)}
    assert rows["fid"]["better"] is False
    assert "WORSE" in differences_table(differences(bad, good))
    # the same half samples in both: what they share cancels, and the difference is surer than either
    near = run(lambda name, i: drawings["valid"][name][i] if i else drawings["train"][name][0])
    row = {row["figure"]: row for row in differences(good, near)}["fid"]
    assert np.ptp(row["interval"]) < np.ptp(good["intervals"]["fid"]) / 2


def test_a_sweep_measures_every_combination_and_plots(command, tmp_path, capsys):
    out, svg, png = tmp_path / "runs.json", tmp_path / "runs.svg", tmp_path / "runs.png"
    grid = ("--sweep", "sampler=ddim,ddpm", "steps=3,6")
    asked = command(*grid, "--count", "8", "--resamples", "3", "--out", str(out), "--plot", str(svg))
    assert [options for _, _, _, options in asked[::3]] == [
        {"sampler": s, "steps": n} for s in ("ddim", "ddpm") for n in (3, 6)
    ]
    text = capsys.readouterr().out
    assert "real (valid against test)" in text
    assert text.count("+/-") == 4
    runs = json.loads(out.read_text())["runs"]
    assert [run["calls"] for run in runs] == [6.0, 12.0, 6.0, 12.0]
    assert ElementTree.fromstring(svg.read_text()).tag.endswith("svg")
    assert main(["--from", str(out), "--plot", str(png)]) == 0
    assert capsys.readouterr().out == text
    assert png.read_bytes()[:4] == b"\x89PNG"


def test_figures_are_one_flat_object(command, capsys):
    command("--count", "8", "--json")
    found = json.loads(capsys.readouterr().out)
    assert {"top1", "top1_share", "fid", "fid_floor", "recall", "coverage", "calls", "empty"} <= set(found)
    assert all(isinstance(value, int | float) for value in found.values())


def test_training_features_are_read_from_the_cache(command, tmp_path, monkeypatch, recognizer):
    seen = []
    features = recognizer.features
    monkeypatch.setattr(
        recognizer, "features", lambda sketches: seen.append(len(sketches)) or features(sketches)
    )
    command("--count", "8", "--json")
    files = sorted((tmp_path / "cache").glob("*.npz"))
    assert len(files) == 3
    assert 60 in seen
    seen.clear()
    command("--count", "8", "--json")
    assert 60 not in seen
    files[0].write_bytes(b"damaged")
    command("--count", "8", "--json")
    assert seen.count(60) == 1
    assert sorted((tmp_path / "cache").glob("*.npz")) == files


def test_a_cache_file_cut_in_half_is_made_anew(tmp_path, folder):
    cache, drawings = FeatureCache(tmp_path, judge="1"), next(folder.glob("*.npz"))
    cache.keep(drawings, np.ones((50, 8), np.float32), np.ones((50, 8), np.uint8))
    (file,) = tmp_path.glob("*.npz")
    data = file.read_bytes()
    assert cache.find(drawings) is not None
    file.write_bytes(data[: len(data) // 2])
    assert cache.find(drawings) is None


def test_a_cache_of_other_code_is_not_believed(command, tmp_path, monkeypatch, recognizer, capsys):
    command("--count", "8", "--json")
    first = capsys.readouterr().out
    monkeypatch.setattr(recognizer, "projection", recognizer.projection * 1.01)
    monkeypatch.setattr(recognizer, "means", recognizer.means * 1.01)
    command("--count", "8", "--json")
    assert json.loads(capsys.readouterr().out)["nearest_features"] == pytest.approx(
        json.loads(first)["nearest_features"]
    )  # all of them are 1 % larger; compared with the kept ones they would all be far off


def test_settings_that_cannot_work_are_said_before_anything_is_measured(command, monkeypatch, small_model):
    monkeypatch.setattr(sys.modules["sketch_core.knitter"], "load", lambda name: small_model)
    monkeypatch.setattr("sketch_core.evaluate.command.measure_real", None)  # is not reached
    with pytest.raises(ValueError, match="unknown sampler 'dimd'"):
        command("--sampler", "dimd")
    with pytest.raises(ValueError, match="steps is 0"):
        command("--sweep", "steps=4,0")


def test_a_device_that_is_not_there_is_said_in_a_sentence(command):
    with pytest.raises(ValueError, match="cannot use the device 'abacus'"):
        command("--device", "abacus")


def test_without_gudhi_the_full_protocol_leaves_the_geometry_score_out(command, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gudhi" else find(name))
    command("--protocol", "full", "--count", "8", "--seeds", "0", "--resamples", "2")
    captured = capsys.readouterr()
    assert "needs gudhi, which is not installed" in captured.err
    assert "Geometry" not in captured.out
    with pytest.raises(ValueError, match="needs gudhi"):
        command("--geometry", "5")


def test_files_of_several_runs_are_one_table(command, tmp_path, capsys):
    paths = [tmp_path / f"{steps}.json" for steps in (3, 6)]
    for steps, path in zip((3, 6), paths, strict=True):
        command("--count", "8", "--steps", str(steps), "--out", str(path))
    capsys.readouterr()
    assert main(["--from", *map(str, paths)]) == 0
    text = capsys.readouterr().out
    assert "steps 3" in text
    assert "steps 6" in text
    command("--count", "7", "--out", str(tmp_path / "other.json"))
    with pytest.raises(ValueError, match="do not compare: counts differs"):
        main(["--from", str(paths[0]), str(tmp_path / "other.json")])


def test_runs_of_weights_under_one_name_are_told_apart():
    settings = {"model": "weights.safetensors", "sampler": "ddim", "steps": 4}
    runs = [{"settings": settings | {"model_sha256": letter * 64}} for letter in "ab"]
    assert run_labels(runs) == ["weights.safetensors aaaaaaaa", "weights.safetensors bbbbbbbb"]
    runs.append({"settings": settings | {"model_sha256": "a" * 64, "steps": None}})
    assert run_labels(runs)[1:] == ["weights.safetensors bbbbbbbb steps 4", "weights.safetensors aaaaaaaa"]


def test_the_cache_changes_no_figure(folder, recognizer, real, tmp_path):
    cache = FeatureCache(tmp_path, judge="1")
    for _ in range(2):
        found = measure_real(folder, CLASSES, count=COUNT, judge=recognizer, cache=cache)
        for space in ("features", "pictures"):
            assert np.array_equal(found.nearest["real"][space], real.nearest["real"][space])
    assert len(list(tmp_path.glob("*.npz"))) == 3
    other = FeatureCache(tmp_path, judge="2")
    assert other.find(folder / "circle.npz") is None
    nowhere = FeatureCache(folder / "circle.npz" / "below a file", judge="1")
    measure_real(folder, CLASSES, count=COUNT, judge=recognizer, cache=nowhere)


def test_the_command_overwrites_nothing_unasked(command, tmp_path):
    out = tmp_path / "report.json"
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        command("--out", str(out))
    with pytest.raises(ValueError, match="is not a folder"):
        command("--out", str(tmp_path / "nowhere" / "report.json"))
    assert out.read_text() == "mine"
    command("--classes", "circle", "--out", str(out), "--force")
    assert json.loads(out.read_text())["classes"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --data DIR to measure, or --from JSON"),
        (["--data", "x", "--from", "y"], "give --data DIR to measure, or --from JSON"),
        (["--from", "x", "--sheet", "y.png"], "--sheet needs drawings"),
        (["--from", "x", "--plot", "y.pdf"], "must end in .svg or .png"),
        (["--data", "x", "--count", "many"], "'many' is no whole number from 0"),
        (["--data", "x", "--seeds", "1,2,1"], "names a seed twice"),
        (["--data", "x", "--seeds", f"1,{2**64}"], f"{2**64} is no seed, wanted 0 to {2**64 - 1}"),
        (["--data", "x", "--seed", f"{2**64}"], f"{2**64} is no seed, wanted 0 to {2**64 - 1}"),
        (["--data", "x", "--protocol", "long"], "invalid choice: 'long'"),
        (["--data", "x", "--stepz", "4"], "unrecognized arguments: --stepz"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("sketch_core: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["pace=1,2"], "cannot sweep 'pace=1,2'"),
        (["steps"], "cannot sweep 'steps'"),
        (["steps=4,x"], "'steps=4,x' holds no int"),
        (["steps=4", "steps=5"], "steps is swept twice"),
    ],
)
def test_a_sweep_that_cannot_be_read_is_said_in_a_sentence(grid, message):
    with pytest.raises(ValueError, match=message):
        settings_grid(grid)


def test_files_that_are_no_reports_are_refused(tmp_path):
    for text in ("{}", "[]", "no json", '{"runs": []}', '{"runs": [1]}', '{"runs": 7}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match="is no report of `evaluate --out`"):
            read_runs(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot read"):
        read_runs(tmp_path / "missing.json")


def test_too_few_drawings_for_half_samples_are_refused(drawings, real):
    sketches = [s for name in CLASSES for s in drawings["test"][name]]
    with pytest.raises(ValueError, match="60 drawings and 1 half samples, wanted 24 and 2"):
        compare(sketches, real, resamples=1)


def test_seeds_are_averaged_where_sets_are_compared_and_pooled_elsewhere(drawings, real):
    first = [drawings["valid"][name][i] for name in CLASSES for i in range(COUNT)]
    second = [drawings["train"][name][i] for name in CLASSES for i in range(COUNT)]
    one, two = compare(first, real), compare(second, real)
    both = compare(first + second, real, seeds=2)
    for name in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert both[name]["of_seeds"] == pytest.approx([one[name]["fake"], two[name]["fake"]])
        assert both[name]["fake"] == pytest.approx((one[name]["fake"] + two[name]["fake"]) / 2)
        assert both[name]["floor"] == one[name]["floor"]
    assert both["top1"]["fake"] == pytest.approx((one["top1"]["fake"] + two["top1"]["fake"]) / 2)
    assert both["strokes"]["fake"] == pytest.approx((one["strokes"]["fake"] + two["strokes"]["fake"]) / 2)
    with pytest.raises(ValueError, match="got 120 drawings, wanted 180, .* 3 times"):
        compare(first + second, real, seeds=3)


def test_folds_follow_mean_points(drawings, real):
    folds = [fold_of(points) for points in (39.9, 40, 100, 100.1)]
    assert folds == ["simple", "moderate", "moderate", "complex"]
    points = np.array([30.0, 60.0, 150.0])
    split = replace(real, mean_points=points)
    sketches = [s for name in CLASSES for s in drawings["valid"][name]]
    folds = compare(sketches, split)["folds"]
    assert [(f["fold"], f["classes"], f["mean_points"]) for f in folds] == [
        ("simple", 1, 30.0),
        ("moderate", 1, 60.0),
        ("complex", 1, 150.0),
    ]
    for fold in folds:
        assert fold["fid"]["fake"] == pytest.approx(fold["fid"]["floor"])
    assert compare(sketches, replace(real, mean_points=points * 0 + 50))["folds"][0]["fid"][
        "fake"
    ] == pytest.approx(compare(sketches, real)["fid"]["fake"])


@pytest.mark.skipif(importlib.util.find_spec("gudhi") is None, reason="gudhi is not installed")
def test_the_geometry_score_of_valid_drawings_is_the_floor(drawings, real):
    sketches = [s for name in CLASSES for s in drawings["valid"][name]]
    found = compare(sketches, real, geometry=2)["geometry"]
    assert found["fake"] == pytest.approx(found["floor"])
    assert found["runs"] == 2
    rows = [rasterize(side.sketches, 28).reshape(60, -1) for side in (real.test, real.floor)]
    assert found["floor"] == pytest.approx(1000 * geometry_score(*rows, runs=2))


# ---- with a small model of our own ----------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model():
    counts = [[0] * 21 for _ in range(3)]
    for row in counts:
        row[8] = row[20] = 1
    metadata = Metadata("1", "stroke_transformer", {}, scale=20.0, classes=CLASSES, lengths=tuple(counts))
    return SketchModel("small", tiny_transformer(), metadata)


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"sampler": "ddim", "steps": 3, "guidance": 1.0}, 3),
        (
            {"sampler": "ddpm", "steps": 4, "guidance": 3.0},
            6,
        ),  # guided at t = 0.5, 0.25
        ({"sampler": "heun", "steps": 3, "guidance": 1.0}, 5),
    ],
)
def test_network_calls_are_counted_as_the_network_is_called(small_model, real, settings, calls):
    rows = 0
    few = replace(real, counts=[4, 4, 4])

    def count(module, inputs):
        nonlocal rows
        rows += len(inputs[0])

    counter = Counter()
    hook = small_model.network.register_forward_pre_hook(count)
    drawn = draw_all(drawer(small_model, settings, counter), few, [0, 1], counter=counter)
    hook.remove()
    assert len(drawn.sketches) == 24
    assert drawn.calls == calls
    assert drawn.shortcut_calls == 0
    assert rows >= 24 * calls  # the network's batches are padded to whole tiles
    assert rows <= 3 * 24 * calls


def test_a_shortcuts_own_calls_are_counted(small_model, real, monkeypatch):
    asked = []
    placement = small_model.placement

    def never(step):  # recognizable: jumps of 250 thousandths
        asked.append(len(step.t))
        return torch.zeros(len(step.t))

    def with_network(schedule, steps):
        if isinstance(schedule, Shortcut) and schedule.recognize is None:
            return replace(schedule, recognize=never)
        return placement(schedule, steps)

    monkeypatch.setattr(small_model, "placement", with_network)
    counter, few = Counter(), replace(real, counts=[2, 2, 2])
    settings = {"schedule": "threshold:0.5:250", "sampler": "ddim", "guidance": 1.0}
    drawn = draw_all(drawer(small_model, settings, counter), few, [0], counter=counter)
    assert drawn.calls == drawn.shortcut_calls == 4
    assert sum(asked) == 24


@pytest.mark.parametrize("schedule", ["threshold", "threshold:0.5", "threshold:2:50", "threshold:0.5:none"])
def test_a_threshold_that_cannot_be_read_is_said_in_a_sentence(small_model, schedule):
    with pytest.raises(ValueError, match="Write threshold:T:M, such as threshold:0.5:50"):
        drawer(small_model, {"schedule": schedule}, Counter())


def test_curves_follow_every_sketch_and_know_what_noise_is(small_model, recognizer):
    found = curves(small_model, recognizer, CLASSES, count=6, steps=20, guidance=1.0)
    assert found["t"] == pytest.approx(np.arange(1, 0, -1 / 20))
    assert {len(values) for values in found.values()} == {20}
    assert found["noise"][0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.1)  # at t = 1 there is only noise
    for name in ("noisy", "noisy_top1", "clean", "clean_top1"):
        assert all(0 <= value <= 1 for value in found[name])
    assert ElementTree.fromstring(to_svg(curves_plot(found))).tag.endswith("svg")
    assert len(curves_table(found).splitlines()) == 21
    with pytest.raises(ValueError, match="does not know cat"):
        curves(small_model, recognizer, ["cat"], count=1)


def test_the_command_draws_curves(command, small_model, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys.modules["sketch_core.knitter"], "load", lambda name: small_model)
    svg, out = tmp_path / "curves.svg", tmp_path / "curves.json"
    command("--curves", str(svg), "--out", str(out), "--count", "2", "--steps", "20")
    assert capsys.readouterr().out.startswith("                t")
    assert "estimated noise" in svg.read_text()
    written = json.loads(out.read_text())
    assert written["settings"]["steps"] == 20
    assert len(written["curves"]["t"]) == 20
    with pytest.raises(ValueError, match="--curves needs --data"):
        main(["--from", str(out), "--curves", str(tmp_path / "more.svg")])


# ---- Inception ------------------------------------------------------------------------------------


@pytest.fixture
def fidelity(monkeypatch):
    """torch-fidelity with a network that means what it is given over a grid."""
    given = []

    class Extractor:
        def __init__(self, name, features, feature_extractor_weights_path):
            state = torch.load(feature_extractor_weights_path, weights_only=True)
            if set(state) != {"weight"}:
                raise RuntimeError("Unexpected keys")
            assert features == ["2048"]

        def __call__(self, pictures):
            given.append(pictures)
            assert pictures.dtype == torch.uint8
            return (torch.nn.functional.adaptive_avg_pool2d(pictures[:, :1].float(), (32, 64)).flatten(1),)

    package = ModuleType("torch_fidelity")
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return given


def test_inception_sees_black_lines_on_white(fidelity, tmp_path, drawings):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "inception.pth")
    describe = load_inception(tmp_path / "inception.pth")
    some = drawings["test"]["circle"] + drawings["test"]["zigzag"]
    features = describe(some)
    assert features.shape == (40, 2048)
    assert [len(pictures) for pictures in fidelity] == [32, 8]
    assert fidelity[0].shape[1:] == (3, 256, 256)
    assert fidelity[0].float().mean() > 200
    assert int(fidelity[0].min()) == 0
    assert describe([]).shape == (0, 2048)


def test_inception_figures_stand_beside_the_judges(command, fidelity, tmp_path, capsys):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "inception.pth")
    out = tmp_path / "report.json"
    command("--count", "6", "--inception", str(tmp_path / "inception.pth"), "--out", str(out))
    report = json.loads(out.read_text())
    assert len(report["protocol"]["inception"]) == 64
    assert report["inception_fid"]["floor"] > 0
    assert "Inception FID" in capsys.readouterr().out
    with pytest.raises(ValueError, match="inception differs"):
        command("--count", "6", "--against", str(out))


def test_inception_files_that_cannot_be_used_are_refused(fidelity, tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    with pytest.raises(ValueError, match="cannot read"):
        load_inception(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of tensors alone"):
        load_inception(path)
    torch.save({"weight": Counter()}, path)  # a pickle that would run code of its choice
    with pytest.raises(ValueError, match="no file of tensors alone"):
        load_inception(path)
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="other tensors than Inception v3"):
        load_inception(path)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ValueError, match="need torch-fidelity, which cannot be imported"):
        load_inception(path)


def test_the_cache_keeps_to_its_size(tmp_path, monkeypatch, folder):
    cache = FeatureCache(tmp_path, judge="1")
    made = np.zeros((50, 4), np.float32), np.zeros((50, 9), np.uint8)
    files = [folder / f"{name}.npz" for name in ("circle", "zigzag", "box_kite")]
    cache.keep(files[0], *made)
    size = next(tmp_path.glob("*.npz")).stat().st_size
    monkeypatch.setattr("sketch_core.evaluate.cache.MAX_BYTES", int(2.5 * size))
    os.utime(next(tmp_path.glob("*.npz")), (1, 1))
    cache.keep(files[1], *made)
    assert cache.find(files[0]) is not None  # used again: now the younger one
    os.utime(cache._path(files[1]), (2, 2))
    cache.keep(files[2], *made)
    assert cache.find(files[1]) is None
    assert cache.find(files[0]) is not None
    assert cache.find(files[2]) is not None
