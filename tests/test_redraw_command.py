"""Redrawing on the command line: what rectify, complete, heal, vary and interpolate write and refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sketch_core import __main__ as cli
from sketch_core.data import read_sketches, write_sketches
from sketch_core.knitter import DEFAULTS, GUIDED, SketchModel
from sketch_core.redraw_command import picture
from sketch_core.strokes import Sketch
from sketch_core.svg import read_svg, svg_metadata
from tests.test_cli import everything_under, failure
from tests.test_knitter import METADATA
from tests.test_redraw import Recognizer
from tests.tiny import tiny_transformer

FEW = ["--steps", "2", "--guidance", "1"]
TIMES = [(DEFAULTS["steps"] - i) / DEFAULTS["steps"] for i in range(DEFAULTS["steps"])]
TO_NAME = 2 * sum(1 + (GUIDED[0] <= t <= GUIDED[1]) for t in TIMES)  # calls; two classes that both know


@pytest.fixture(autouse=True)
def model(monkeypatch):
    tiny = SketchModel("tiny", tiny_transformer(), METADATA)
    monkeypatch.setattr("sketch_core.knitter.load", lambda name="default": tiny)
    monkeypatch.setattr("sketch_core.naming.embedded_recognizers", lambda: (Recognizer(),))
    return tiny


@pytest.fixture
def icon(tmp_path):
    """An SVG of no known class: an L, and a line that goes on behind a gap."""
    path = tmp_path / "icon.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 480" width="640" height="480">'
        '<path d="M100.25 100.5 L300 110 L310 400" fill="none" stroke="black"/>'
        '<path d="M330 420 L400 440" fill="none" stroke="black"/></svg>'
    )
    return path


@pytest.fixture
def two(tmp_path):
    path = tmp_path / "two.ndjson"
    cat = Sketch(([[0, 0], [255, 90], [100, 255]], [[20, 20], [60, 30]]), label="cat")
    write_sketches(path, [cat, Sketch(([[0, 0], [90, 255]], [[5, 9], [100, 10], [80, 80]]), label="Cactus")])
    return path


def test_rectify_draws_a_rough_drawing_on_its_own_canvas(icon, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rough = Sketch([rng.uniform(0, 400, (12, 2)), [[5, 5], [600, 70.5]]], (640, 480))
    path = tmp_path / "rough.ndjson"
    write_sketches(path, [rough, *([read_svg(icon)] * 2)])
    out = tmp_path / "out"
    argv = ["rectify", str(path), "--pick", "0:2", "--count", "2", "--seed", "4", "--out", str(out)]
    assert cli.main([*argv, *FEW]) == 0
    assert "4 sketches of cactus (the recognizer's guess; --class says otherwise)" in capsys.readouterr().out
    assert len(everything_under(out)) == 6
    record = svg_metadata((out / "rough-000-001.svg").read_text("utf-8"))
    wanted = {"verb": "rectify", "class": "cactus", "strength": 0.5, "follow": "strokes", "index": 1}
    assert wanted.items() <= record.items()
    again = ["--strength", "0", "--json", "--out", str(tmp_path / "same")]
    assert cli.main(["rectify", str(path), "--pick", "0", "--count", "1", *again]) == 0
    (same,) = read_sketches(tmp_path / "same" / "sketches.ndjson")
    assert same == next(iter(read_sketches(path)))
    picture = ["--follow", "picture", "--count", "1", "--class", "cat", "--out", str(tmp_path / "picture")]
    assert cli.main(["rectify", str(icon), *picture, *FEW]) == 0


def test_what_a_rough_drawing_costs_to_name_is_told(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "rough.ndjson"
    write_sketches(path, [Sketch([rng.uniform(0, 255, (12, 2))])])
    argv = ["rectify", str(path), "--count", "1", "--json", "--out", str(tmp_path / "a"), *FEW]
    assert cli.main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["guessed"] is True
    assert report["network_calls"] == 2 + TO_NAME


def test_complete_writes_on_the_canvas_of_the_source_and_says_what_it_took_it_for(icon, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["complete", str(icon), "--count", "2", "--seed", "4", "--out", str(out), *FEW]) == 0
    names = ["icon-000.svg", "icon-001.svg", "sheet.png", "sketches.ndjson"]
    assert everything_under(out) == names
    source, drawn = read_svg(icon), read_svg(out / "icon-001.svg")
    assert drawn.canvas == (640, 480)
    for ours, theirs in zip(drawn.strokes, source.strokes, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=0.01)
    exact = list(read_sketches(out / "sketches.ndjson"))[1]
    assert all(np.array_equal(a, b) for a, b in zip(exact.strokes, source.strokes, strict=False))
    record = svg_metadata((out / "icon-001.svg").read_text("utf-8"))
    wanted = {"verb": "complete", "model": "tiny", "class": "cactus", "seed": 4, "index": 1, "steps": 2}
    assert wanted.items() <= record.items()
    printed = capsys.readouterr().out
    assert printed.startswith(
        "tiny: 2 sketches of cactus (the recognizer's guess; --class says otherwise) in "
    )
    calls = 2 + TO_NAME / 2  # those from which it was named, over two
    assert f"{calls:g} network calls a sketch" in printed


def test_a_class_that_is_known_is_no_guess(two, tmp_path, capsys):
    assert cli.main(["vary", str(two), "--count", "1", "--json", "--out", str(tmp_path / "a"), *FEW]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["guessed"] is False
    assert report["classes"] == ["cat", "cactus"]
    assert report["files"][:2] == ["two-000-000.svg", "two-001-000.svg"]
    argv = ["complete", str(two), "--pick", "1", "--class", "the_eiffel_tower", "--count", "1", *FEW]
    assert cli.main([*argv, "--out", str(tmp_path / "b")]) == 0
    assert "1 sketch of The Eiffel Tower (class) in" in capsys.readouterr().out


def test_drawings_beyond_the_canvas_are_counted(two, tmp_path, capsys):
    off = Sketch(([[-20, 0], [255, 90]], [[20, 20], [60, 30]]), label="cat")
    write_sketches(tmp_path / "off.ndjson", [*read_sketches(two), off])
    argv = ["vary", str(tmp_path / "off.ndjson"), "--amount", "0", "--count", "2"]
    assert cli.main([*argv, "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.endswith("2 of them reach beyond the canvas of off.ndjson\n")
    assert cli.main([*argv, "--json", "--out", str(tmp_path / "b")]) == 0
    assert json.loads(capsys.readouterr().out)["off_canvas"] == 2


def test_vary_by_nothing_is_the_drawing(two, tmp_path):
    assert cli.main(["vary", str(two), "--amount", "0", "--count", "1", "--out", str(tmp_path / "o")]) == 0
    assert list(read_sketches(tmp_path / "o" / "sketches.ndjson")) == list(read_sketches(two))


def test_heal_joins_a_gap(icon, tmp_path):
    assert (
        cli.main(["heal", str(icon), "--gap", "40", "--count", "1", "--out", str(tmp_path / "o"), *FEW]) == 0
    )
    (healed,) = read_sketches(tmp_path / "o" / "sketches.ndjson")
    points = {tuple(point) for stroke in healed.strokes for point in stroke.tolist()}
    source = read_svg(icon)
    assert {tuple(point) for stroke in source.strokes for point in stroke.tolist()} <= points
    assert healed.num_points > source.num_points
    assert healed.canvas == (640, 480)


def test_masks_of_16_bits_and_of_8_are_read_alike(tmp_path):
    dark, light = 60, 200
    eight = np.array([[0, dark, light, 255]], np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(eight.astype(np.int32) * 257).save(tmp_path / "16.tif")
    for name in ("8.png", "16.png", "16.tif"):
        np.testing.assert_allclose(picture(tmp_path / name), eight / 255, atol=1e-6)


def test_masks_that_are_no_pictures_are_refused_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="text.png cannot be read as a picture: .* Give a PNG or JPG"):
        picture(tmp_path / "text.png")
    Image.new("L", (50, 50), 255).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="big.png cannot be read as a picture: .* decompression bomb"):
        picture(tmp_path / "big.png")
    monkeypatch.undo()
    for error in (SyntaxError("broken PNG file"), EOFError("no more images in file")):

        def broken(*_, error=error):
            raise error

        monkeypatch.setattr(Image.Image, "convert", broken)
        with pytest.raises(ValueError, match=f"cannot be read as a picture: {error}"):
            picture(tmp_path / "big.png")


def test_heal_refuses_too_many_strokes_before_it_looks_for_gaps(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sketch_core.lost.gaps", None)  # is not reached
    path = tmp_path / "many.ndjson"
    write_sketches(path, [Sketch([[[i, 0], [i, 9]] for i in range(250)], label="cat")])
    assert "has 250 strokes, but there is room for" in failure(
        capsys, ["heal", path, "--out", tmp_path / "o"]
    )


def test_heal_under_a_mask_and_along_lines(icon, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[8:14, 15:25] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    argv = ["heal", str(icon), "--erase", str(tmp_path / "mask.png"), "--count", "1", *FEW]
    assert cli.main([*argv, "--out", str(tmp_path / "a")]) == 0
    (healed,) = read_sketches(tmp_path / "a" / "sketches.ndjson")
    points = np.concatenate(healed.strokes)
    for x, y in ((100.25, 100.5), (300, 110), (310, 400), (330, 420), (400, 440)):
        assert (np.abs(points - (x, y)).max(1) < 1e-3).any()
    argv = ["heal", str(icon), "--strength", "0.3", "--count", "2", *FEW]
    assert cli.main([*argv, "--out", str(tmp_path / "b")]) == 0
    for drawn in read_sketches(tmp_path / "b" / "sketches.ndjson"):
        assert [len(stroke) for stroke in drawn.strokes] == [3, 2]
    argv = ["heal", str(icon), "--lost", "0.5", "--count", "2", *FEW]
    assert cli.main([*argv, "--out", str(tmp_path / "c")]) == 0


def test_interpolate_writes_the_way_in_order(two, icon, tmp_path, capsys):
    argv = ["interpolate", str(two), str(icon), "--count", "3", "--steps", "2", "--ends"]
    assert cli.main([*argv, "--out", str(tmp_path / "o")]) == 0
    drawn = list(read_sketches(tmp_path / "o" / "sketches.ndjson"))
    assert len(drawn) == 3 + 2 * 3
    given = [*read_sketches(two), read_svg(icon)]
    for end, wanted in zip(drawn[::4], given, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(end.strokes, wanted.strokes, strict=True))
    assert "9 sketches of cat, cactus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["complete", "{two}", "--pick", "7"], "holds no such drawing"),
        (["complete", "{two}", "--class", "caat"], "unknown class 'caat'. Near: cat"),
        (["complete", "{two}", "--detail", "3"], "detail is 3, but 4 points are given"),
        (["heal", "{two}", "--gap", "1"], "nothing lost: no ends of lines face each other"),
        (["heal", "{two}", "--gap", "1", "--lost", "0.1"], "--gap and --lost do not go together"),
        (["interpolate", "{icon}"], "got 1 drawing, wanted two or more"),
        (["vary", "{icon}", "--sampler", "euler"], "unknown sampler 'euler'"),
        (["rectify", "{icon}", "--class", "caat"], "unknown class 'caat'. Near: cat"),
        (["vary", "none.svg"], "none.svg: No such file"),
    ],
)
def test_what_is_refused_in_one_line_leaves_nothing(two, icon, tmp_path, capsys, argv, message):
    argv = [part.format(two=two, icon=icon) for part in argv]
    before = everything_under(tmp_path)
    assert message in failure(capsys, [*argv, "--out", tmp_path / "out"])
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("option", ["--amount=2", "--count=0", "--seed=-1", "--steps=0"])
def test_absurd_numbers_are_refused(two, tmp_path, capsys, option):
    assert "from" in failure(capsys, ["vary", two, option, "--out", tmp_path / "out"], status=2)


def test_interpolating_in_one_step_is_refused(two, tmp_path, capsys):
    argv = ["interpolate", two, "--steps", "1", "--out", tmp_path / "out"]
    assert "from 2" in failure(capsys, argv, status=2)


def test_nothing_is_overwritten_and_too_many_are_refused(two, tmp_path, capsys, monkeypatch):
    argv = ["vary", str(two), "--amount", "0", "--out", str(tmp_path / "o")]
    assert cli.main(argv) == 0
    capsys.readouterr()
    assert "exists already" in failure(capsys, argv)
    monkeypatch.setattr("sketch_core.redraw_command.MAX_DRAWINGS", 7)
    assert "2 drawings, 4 of each, are more than 7" in failure(capsys, [*argv, "--force"])
