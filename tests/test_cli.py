"""The command line: what it writes, what it refuses, and that nothing is left half-written."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sketch_core import __main__ as cli
from sketch_core.data import read_sketches, write_sketches
from sketch_core.knitter import DEFAULTS, SketchModel
from sketch_core.strokes import Sketch
from sketch_core.svg import read_svg

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
CLASSES = ["alarm clock", "cactus", "cat", "sun"]


class FakeModel:
    """Draws two strokes a sketch, told by class, seed and index; a step is as many calls as the guidance."""

    name = "fake"
    classes = CLASSES
    sampling = DEFAULTS

    def __init__(self):
        self.asked = []

    def label(self, name):
        return SketchModel.label(self, name)

    def draw(self, names, *, count, start, seed, on_step, steps, guidance, **settings):
        self.asked.append((names, count, start, seed, {"steps": steps, "guidance": guidance} | settings))
        active = np.arange(count * len(names))
        cost = SimpleNamespace(calls=np.full(len(active), float(guidance)))
        for index in range(steps):
            t = np.full(len(active), 1 - index / steps)
            on_step(SimpleNamespace(index=index, active=active, t=t, prediction=cost))
        return [self.sketch(name, seed, i) for name in names for i in range(start, start + count)]

    def sketch(self, name, seed, i):
        points = [[0, 0], [255, CLASSES.index(name) * 20], [i % 200, seed % 200 + 10], [100, 255]]
        return Sketch((np.array(points[:2]), np.array(points[2:])), label=name)


@pytest.fixture
def model(monkeypatch):
    fake = FakeModel()
    monkeypatch.setattr("sketch_core.knitter.load", lambda name="default": fake)
    return fake


def failure(capsys, argv, status=1):
    """Runs a command that must fail with one line on standard error, and returns that line."""
    try:
        found = cli.main([str(part) for part in argv])
    except SystemExit as stop:
        found = stop.code
    out, err = capsys.readouterr()
    assert found == status
    assert out == ""
    assert err.startswith("sketch_core: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def everything_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, **options
    )


# ---- draw


def test_draw_writes_svgs_a_sheet_and_the_strokes(model, tmp_path, capsys):
    out = tmp_path / "new" / "drawings"
    settings = ["--steps", "4", "--guidance", "2"]
    assert cli.main(["draw", "cat", "--count", "3", "--seed", "9", "--out", str(out), *settings]) == 0
    assert everything_under(tmp_path / "new") == [
        "drawings",
        "drawings/cat-000.svg",
        "drawings/cat-001.svg",
        "drawings/cat-002.svg",
        "drawings/sheet.png",
        "drawings/sketches.ndjson",
    ]
    wanted = [model.sketch("cat", 9, i) for i in range(3)]
    assert list(read_sketches(out / "sketches.ndjson")) == wanted
    first = json.loads((out / "sketches.ndjson").read_text("utf-8").splitlines()[0])
    assert first["word"] == "cat"
    assert first["drawing"] == [[[0, 255], [0, 40]], [[0, 100], [19, 255]]]
    drawn = read_svg(out / "cat-001.svg")
    for ours, theirs in zip(drawn.strokes, wanted[1].strokes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.01)
    written = json.loads(re.search(r'id="sketchknitter">(.*?)<', (out / "cat-001.svg").read_text("utf-8"))[1])
    assert written["seed"] == 9
    assert written["index"] == 1
    assert written["guidance"] == 2
    printed, progress = capsys.readouterr()
    assert printed.startswith("fake: 3 sketches in ")
    assert "8 network calls a sketch" in printed
    assert progress == ""  # not a terminal


def test_calls_of_each_sketch_in_batches_that_follow_each_other():
    shown = []
    watch = cli.Watch(SimpleNamespace(show=shown.append), None)
    for index, active, t, calls in [
        (0, [0, 1], [1.0, 1.0], [1, 1]),
        (1, [1], [0.5], [2]),
        (0, [0], [1.0], [1]),
        (1, [0], [0.25], [1]),
    ]:
        prediction = SimpleNamespace(calls=np.array(calls))
        watch.on_step(
            SimpleNamespace(index=index, active=np.array(active), t=np.array(t), prediction=prediction)
        )
    assert watch.calls == [1, 3, 2]
    assert shown == [0, 1.5, 2, 2.75]  # sketches done, by their time


def test_the_paper_s_shortcut_is_spelled_with_a_threshold(model, tmp_path, capsys):
    command = ["draw", "cat", "--count", "1", "--threshold", "0.3", "--out", str(tmp_path / "a")]
    assert cli.main(command) == 0
    (asked,) = model.asked
    assert str(asked[-1]["schedule"]) == "shortcut, threshold 0.3, jump 50"
    written = json.loads(
        re.search(r'id="sketchknitter">(.*?)<', (tmp_path / "a/cat-000.svg").read_text("utf-8"))[1]
    )
    assert written["schedule"] == "shortcut, threshold 0.3, jump 50"
    assert written["steps"] is None
    capsys.readouterr()
    clash = ["draw", "cat", "--jump", "9", "--out", tmp_path / "b"]
    assert "belong to the shortcut, not to --schedule uniform" in failure(
        capsys, [*clash, "--schedule", "uniform"]
    )
    assert "as many steps as it needs. Omit --steps" in failure(capsys, [*clash, "--steps", "4"])
    assert not (tmp_path / "b").exists()


def test_draw_counts_within_each_class(model, tmp_path):
    folder = tmp_path / "out"
    assert cli.main(["draw", "CAT, alarm_clock,cat", "--count=2", "--start=7", f"--out={folder}"]) == 0
    names = [name for name in everything_under(folder) if name.endswith(".svg")]
    assert names == ["alarm_clock-007.svg", "alarm_clock-008.svg", "cat-007.svg", "cat-008.svg"]
    labels = [(s.label, s.strokes[1][0, 0]) for s in read_sketches(folder / "sketches.ndjson")]
    assert labels == [("cat", 7), ("cat", 8), ("alarm clock", 7), ("alarm clock", 8)]


def test_draw_all_draws_every_class(model, tmp_path):
    assert cli.main(["draw", "all", "--count", "1", "--out", str(tmp_path / "out")]) == 0
    assert [asked[0] for asked in model.asked] == [CLASSES]


def test_draw_hands_on_what_was_given_over_the_defaults(model, tmp_path):
    given = "--steps 12 --sampler ddpm --schedule quadratic --guidance 2.5 --detail 40".split()
    assert cli.main(["draw", "sun", "--seed", str(2**64 - 1), *given, "--out", str(tmp_path / "a")]) == 0
    assert cli.main(["draw", "sun", "--out", str(tmp_path / "b")]) == 0
    settings = {"steps": 12, "sampler": "ddpm", "schedule": "quadratic", "guidance": 2.5, "detail": 40}
    assert model.asked == [(["sun"], 16, 0, 2**64 - 1, settings), (["sun"], 16, 0, 0, DEFAULTS)]


def test_draw_reports_in_json(model, tmp_path, capsys):
    argv = ["draw", "cat", "--count", "2", "--json", "--steps", "5", "--guidance", "1"]
    assert cli.main([*argv, "--out", str(tmp_path / "o")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "fake"
    assert report["sketches"] == 2
    assert report["network_calls"] == 5
    assert report["seconds"] >= 0
    assert report["files"] == ["cat-000.svg", "cat-001.svg", "sheet.png", "sketches.ndjson"]


def test_draw_overwrites_only_with_force_and_says_so_before_drawing(model, tmp_path, capsys):
    argv = ["draw", "cat", "--count", "1", "--out", tmp_path / "out"]
    assert cli.main(list(map(str, argv))) == 0
    capsys.readouterr()
    (tmp_path / "out" / "cat-000.svg").write_text("mine")
    assert "exists already (and 2 more). Add --force" in failure(capsys, argv)
    assert len(model.asked) == 1
    assert (tmp_path / "out" / "cat-000.svg").read_text() == "mine"
    assert cli.main([*map(str, argv), "--force"]) == 0
    assert (tmp_path / "out" / "cat-000.svg").read_text("utf-8") != "mine"


def test_draw_adds_to_a_folder_that_holds_other_files(model, tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    assert cli.main(["draw", "cat", "--count", "1", "--out", str(tmp_path)]) == 0
    assert everything_under(tmp_path) == ["cat-000.svg", "notes.txt", "sheet.png", "sketches.ndjson"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["draw", "catt"], "unknown class 'catt'"),
        (["draw", "cat,cactu"], "Near: cactus"),
        (["draw", ","], "no class in ','"),
        (["draw", "xyzzyx"], "sketch_core classes"),
    ],
)
def test_draw_refuses_unknown_classes(model, tmp_path, capsys, argv, message):
    assert message in failure(capsys, [*argv, "--out", tmp_path / "out"])
    assert everything_under(tmp_path) == []


@pytest.mark.parametrize(
    "option",
    "--count=0 --count=-1 --count=1e3 --count=99999999999 --start=-1 --seed=-1 "
    "--seed=18446744073709551616 --steps=0 --steps=100000 --guidance=nan --guidance=-1 --guidance=inf "
    "--detail=0 --detail=1000000".split(),
)
def test_draw_refuses_absurd_numbers(model, tmp_path, capsys, option):
    message = failure(capsys, ["draw", "cat", option, "--out", tmp_path / "out"], status=2)
    assert option.split("=")[0] in message
    assert "from" in message
    assert model.asked == []


def test_draw_refuses_more_drawings_than_it_can_hold(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "MAX_DRAWINGS", 10)
    message = failure(capsys, ["draw", "all", "--count=3", "--out", tmp_path / "out"])
    assert "4 classes of 3 sketches are 12 drawings" in message
    assert model.asked == []


def test_draw_refuses_a_file_as_a_folder_and_a_folder_as_a_file(model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "is a file, wanted a folder" in failure(capsys, ["draw", "cat", "--out", tmp_path / "file"])
    assert "is a file" in failure(capsys, ["draw", "cat", "--out", tmp_path / "file" / "deeper"])
    (tmp_path / "out" / "sheet.png").mkdir(parents=True)
    argv = ["draw", "cat", "--count=1", "--force", "--out", tmp_path / "out"]
    assert "Choose another folder" in failure(capsys, argv)
    assert model.asked == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows folders have no such bits")
def test_draw_refuses_an_unwritable_folder_before_it_draws(model, capsys):
    folder = Path(tempfile.mkdtemp())  # pytest's own lie under a private one
    folder.chmod(0o555)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)  # root may write everywhere
        message = failure(capsys, ["draw", "cat", "--out", folder / "out"])
    finally:
        os.seteuid(me)
        shutil.rmtree(folder)
    assert "cannot write" in message
    assert "Permission denied" in message
    assert model.asked == []


@pytest.mark.parametrize("victim", ["cat-001.svg", "sheet.png", "sketches.ndjson"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_nothing_half_written(model, tmp_path, capsys, monkeypatch, victim, existing):
    folder = tmp_path / "out"
    if existing:
        folder.mkdir()
        (folder / "cat-000.svg").write_text("mine")
    before = everything_under(tmp_path)
    real_open = open

    def full(file, *args, **kwargs):
        if victim in str(file) and ("w" in str(args) or "x" in str(args)):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        return real_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", full)
    monkeypatch.setattr("io.open", full)
    message = failure(capsys, ["draw", "cat", "--count=2", "--force", "--out", folder])
    assert f"cannot write {folder}" in message
    assert "Free some space" in message
    assert everything_under(tmp_path) == before
    if existing:
        assert (folder / "cat-000.svg").read_text() == "mine"


def test_a_disk_that_is_really_full(model, tmp_path, capsys):
    """On a file system of 64 KiB, where this machine lets us mount one."""
    small = tmp_path / "small"
    small.mkdir()
    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no small file system here: {mount.stderr.decode().strip()}")
    try:
        assert "Free some space" in failure(capsys, ["draw", "cat", "--count", "200", "--out", small / "out"])
        assert everything_under(small) == []
        source = DATA / "drawings.ndjson"
        failure(capsys, ["convert", source, small / "sheet.png", "--size", "512"])
        assert everything_under(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_an_error_while_drawing_leaves_nothing(model, tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise ValueError("detail is 4, wanted 8 to 96.")

    monkeypatch.setattr(model, "draw", broken)
    assert "detail is 4" in failure(capsys, ["draw", "cat", "--out", tmp_path / "a" / "b"])
    assert everything_under(tmp_path) == []


def test_ctrl_c_while_drawing_leaves_nothing_and_no_traceback(model, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "draw", stopped)
    assert "stopped" in failure(capsys, ["draw", "cat", "--out", tmp_path / "a" / "b"], status=130)
    assert everything_under(tmp_path) == []


def test_progress_shows_on_a_terminal_and_clears_its_line(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert cli.main(["draw", "cat,sun", "--steps", "4", "--out", str(tmp_path / "o")]) == 0
    shown = capsys.readouterr().err
    assert " 25%" in shown
    assert " 75%" in shown
    assert "\n" not in shown
    assert shown.endswith("\r")
    assert shown.rstrip("\r").rsplit("\r", 1)[1].strip() == ""


def test_a_missing_torch_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "sketch_core.knitter", None
    )  # an import of it fails as one of torch would
    monkeypatch.delattr("sketch_core.knitter", raising=False)

    def missing(*_):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli, "_run", missing)
    assert "torch is not installed. Install" in failure(capsys, ["draw", "cat"])


# ---- convert, recognize, data fetch


@pytest.fixture
def two(tmp_path):
    """An ndjson of two drawings, with whole numbers."""
    path = tmp_path / "two.ndjson"
    model = FakeModel()
    write_sketches(path, [model.sketch("cat", 0, 0), model.sketch("sun", 0, 1)])
    return path


@pytest.mark.parametrize("suffix", ["ndjson", "ndjson.gz", "npz"])
def test_convert_keeps_whole_numbers_exactly(two, tmp_path, capsys, suffix):
    there, back = tmp_path / f"there.{suffix}", tmp_path / "back.ndjson"
    assert cli.main(["convert", str(two), str(there)]) == 0
    assert cli.main(["convert", str(there), str(back)]) == 0
    assert "2 sketches written to" in capsys.readouterr().out
    for a, b in zip(read_sketches(two), read_sketches(back), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a.strokes, b.strokes, strict=True))


def test_convert_fits_a_small_canvas_before_npz_rounds(tmp_path):
    icon = Sketch((np.array([[1.25, 1], [3.75, 2]]),), (5, 5))
    (tmp_path / "icon.svg").write_text(icon.to_svg(), "utf-8")
    assert cli.main(["convert", str(tmp_path / "icon.svg"), str(tmp_path / "icon.npz")]) == 0
    (sketch,) = read_sketches(tmp_path / "icon.npz")
    assert np.ptp(sketch.strokes[0], axis=0) == pytest.approx([255, 102], abs=1)


def test_convert_one_to_svg_and_png(two, tmp_path):
    assert cli.main(["convert", str(two), str(tmp_path / "a.svg"), "--pick", "1", "--size", "400"]) == 0
    drawn = read_svg(tmp_path / "a.svg")
    assert max(drawn.canvas) == 400
    assert cli.main(["convert", str(tmp_path / "a.svg"), str(tmp_path / "a.png"), "--size", "64"]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_convert_many_to_a_folder_and_a_sheet(two, tmp_path):
    assert cli.main(["convert", str(two), str(tmp_path / "svgs"), "--smooth"]) == 0
    assert everything_under(tmp_path / "svgs") == ["cat-000.svg", "sun-001.svg"]
    assert cli.main(["convert", str(two), str(tmp_path / "sheet.png")]) == 0


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("two.ndjson", "a.svg", "Choose one with --pick"),
        ("two.ndjson", "a.tiff", "cannot write a.tiff"),
        ("two.ndjson", "two.ndjson", "exists already"),
        ("none.ndjson", "a.svg", "No such file"),
        ("photo.png", "a.svg", "cannot be read as a picture"),
        ("photo.JPG", "a.svg", "No such file"),
        ("notes.txt", "a.svg", "suffix"),
        ("empty.ndjson", "a.svg", "holds no drawing"),
        ("cut.npz", "a.ndjson", "cut.npz"),
        ("cut.bin", "a.ndjson", "cut.bin"),
        ("cut.ndjson", "a.npz", "cut.ndjson:1"),
        ("cut.svg", "a.npz", "cut.svg"),
        (".", "a.npz", "is a folder"),
    ],
)
def test_convert_refuses_in_one_line_and_writes_nothing(two, tmp_path, capsys, source, target, message):
    for name in ("empty.ndjson", "photo.png", "notes.txt"):
        (tmp_path / name).write_text("")
    for name in ("cat.npz", "cat.bin", "drawings.ndjson"):
        content = (DATA / name).read_bytes()
        keep = content.find(b"\n") - 3 if name.endswith("json") else len(content) // 2 - 1
        (tmp_path / ("cut" + Path(name).suffix)).write_bytes(content[:keep])
    (tmp_path / "cut.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0")
    before = everything_under(tmp_path)
    assert message in failure(capsys, ["convert", tmp_path / source, tmp_path / target])
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize(
    "option", ["--pick=x", "--pick=", "--pick=-1", "--pick=:x", "--size=0", "--size=9999999"]
)
def test_convert_refuses_absurd_options(two, tmp_path, capsys, option):
    failure(capsys, ["convert", two, tmp_path / "a.svg", option], status=2)


def test_recognize_lists_guesses(two, monkeypatch, capsys):
    class Fake:
        classes = CLASSES

        def recognize(self, sketches, top_k):
            return [[(s.label, 0.75), ("sun", 0.2)][:top_k] for s in sketches]

    monkeypatch.setattr("sketch_core.recognizer.load_recognizer", lambda name="recognizer": Fake())
    assert cli.main(["recognize", str(two), "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{two}:0  cat 0.75, sun 0.20",
        f"{two}:1  sun 0.75, sun 0.20",
    ]
    assert cli.main(["recognize", str(two), "--top", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {"file": str(two), "index": 1, "guesses": [{"label": "sun", "score": 0.75}]}


def test_recognize_by_what_is_asked(two, monkeypatch, capsys):
    class Sure:
        def __init__(self, answer):
            self.answer, self.classes = answer, CLASSES

        def scores(self, sketches):
            return np.tile(
                np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(self.answer)], (len(sketches), 1)
            )

        def recognize(self, sketches, top_k):
            return [[(self.answer, 1.0)] for _ in sketches]

    made = {"recognizer": Sure("cat"), "stroke_recognizer": Sure("sun")}
    monkeypatch.setattr("sketch_core.recognizer.load_recognizer", lambda name="recognizer": made[name])
    for options, wanted in (
        ([], "cat 1.00"),
        (["--by", "pictures"], "cat 1.00"),
        (["--by", "strokes"], "sun 1.00"),
        (["--by", "both"], "cat 0.50, sun 0.50"),
        (["--model", "stroke_recognizer"], "sun 1.00"),
    ):
        assert cli.main(["recognize", str(two), "--top", "2", *options]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"{two}:0  {wanted}"
    assert "not allowed with argument" in failure(
        capsys, ["recognize", two, "--by", "both", "--model", "recognizer"], status=2
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.svg", "No such file"), ("a.png", "No such file"), ("cut.ndjson", "cut.ndjson:1")],
)
def test_recognize_refuses_in_one_line(tmp_path, capsys, name, message):
    (tmp_path / "cut.ndjson").write_text('{"word": "cat", "drawing": [[[0,')
    assert message in failure(capsys, ["recognize", tmp_path / name])


def test_fetch_hands_on_classes_and_reports_paths(tmp_path, monkeypatch, capsys):
    asked = []

    def fetch_class(name, folder, *, format, force, on_progress):
        asked.append((name, Path(folder), format, force))
        on_progress(5, 10)
        on_progress(10, None)
        return Path(folder) / f"{name}.{format}"

    monkeypatch.setattr("sketch_core.data.fetch.fetch_class", fetch_class)
    assert cli.main(["data", "fetch", "cat, alarm clock", "--format", "bin", "--out", str(tmp_path)]) == 0
    assert asked == [("cat", tmp_path, "bin", False), ("alarm clock", tmp_path, "bin", False)]
    paths = [str(tmp_path / "cat.bin"), str(tmp_path / "alarm clock.bin")]
    assert capsys.readouterr().out.splitlines() == paths


def test_train_runs_from_options_to_weights(tmp_path, capsys):
    small = '{"width": 32, "depth": 1, "heads": 2}'
    argv = ["train", "--data", DATA, "--out", tmp_path / "run", "--steps", "2", "--model", small]
    assert cli.main([*map(str, argv), "--tokens", "512", "--precision", "fp32"]) == 0
    assert "step 2" in capsys.readouterr().out
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_train_refuses_in_one_line(tmp_path, capsys):
    assert "Give one of them" in failure(capsys, ["train", "--data", DATA])
    assert "no .npz files" in failure(capsys, ["train", "--data", tmp_path, "--steps", "1"])
    assert "--data" in failure(capsys, ["train", "--steps", "1"], status=2)


# ---- the command itself


VERBS = ["draw", "classes", "recognize", "convert", "data", "data fetch", "train", "evaluate"]
VERBS += ["complete", "heal", "vary", "interpolate"]
VERBS += ["train recognizer", "train stroke-recognizer", "train shortcut"]


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*verb.split(), "--help"])
    assert stop.value.code == 0
    assert f"python -m sketch_core {verb}".strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["sketch"], ["draw"], ["data"], ["draw", "cat", "--colour", "red"]),
        *(["train", name, "--colour", "red"] for name in ("recognizer", "stroke-recognizer", "shortcut")),
    ],
)
def test_a_malformed_command_is_one_line(argv, capsys):
    assert "--help" in failure(capsys, argv, status=2)


def test_help_classes_and_convert_do_not_wait_for_torch(two, tmp_path):
    listing = ["classes", "--model", "recognizer"]
    code = (
        "import sys; from sketch_core.__main__ import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as stop: status = stop.code\n"
        "sys.exit(status or ('torch' in sys.modules and 'torch was imported'))"
    )
    for argv in (["--help"], ["draw", "--help"], ["convert", str(two), str(tmp_path / "a.npz")], listing):
        run = python("-c", code, *argv)
        assert run.returncode == 0, (argv, run.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line(two, tmp_path):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "sketch_core", "convert", two, tmp_path / "a.npz"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert run.returncode == 1
    assert run.stderr == "sketch_core: No space left on device.\n"


@pytest.mark.skipif(not shutil.which("head"), reason="no head to read one line")
def test_a_reader_that_leaves_is_no_traceback():
    command = f"{sys.executable} -m sketch_core draw --help | head -n 1"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert run.stderr == ""


# ---- with the embedded weights


@pytest.mark.weights
def test_the_embedded_model_draws_the_same_cat_alone_and_in_company(tmp_path):
    draw = ["draw", "cat", "--steps", "3", "--seed", "5"]
    assert cli.main([*draw, "--count", "3", "--out", str(tmp_path / "three")]) == 0
    assert cli.main([*draw, "--count", "1", "--start", "2", "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "three/cat-002.svg").read_bytes() == (tmp_path / "one/cat-002.svg").read_bytes()
    lines = (tmp_path / "three/sketches.ndjson").read_text("utf-8").splitlines()
    assert lines[2] == (tmp_path / "one/sketches.ndjson").read_text("utf-8").strip()


@pytest.mark.weights
def test_classes_lists_what_the_embedded_model_draws(capsys):
    assert cli.main(["classes", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 345


@pytest.mark.weights
def test_weights_of_another_architecture_are_refused(tmp_path, capsys):
    weights = ROOT / "sketch_core/weights"
    drawer = next(weights.glob("stroke_transformer.*.safetensors"))
    assert "stroke_transformer" in failure(capsys, ["recognize", DATA / "drawings.ndjson", "--model", drawer])
    for recognizer in weights.glob("sketch_classifier.*.safetensors"):
        message = failure(capsys, ["draw", "cat", "--model", recognizer, "--out", tmp_path / "out"])
        assert "sketch_classifier" in message
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(drawer.read_bytes()[:5000])
    assert "broken.safetensors" in failure(
        capsys, ["draw", "cat", "--model", broken, "--out", tmp_path / "out"]
    )
    assert everything_under(tmp_path) == ["broken.safetensors"]


@pytest.mark.weights
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_a_running_draw(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "sketch_core", "draw", "all", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells hide it from the background
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".sketches-*")) and time.monotonic() < deadline:
        time.sleep(0.05)  # the staging folder appears when drawing begins
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "sketch_core: stopped.\n"
    assert everything_under(tmp_path) == []
