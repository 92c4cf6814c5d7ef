"""Load SVG as Sketch, and the other files that Load Sketch reads, without ComfyUI."""

from __future__ import annotations

import gzip
import io
from types import SimpleNamespace

import numpy as np
import pytest

from sketch_core.data import write_sketches
from sketch_core.strokes import Sketch

LINES = '<path d="M1 2L3 4 5 4.001 7 4" fill="none" stroke="black"/>'


def svg(body: str = LINES) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">{body}</svg>'


def put(pack, name: str, content: str | bytes, folder: str = "input") -> str:
    path = pack.host.base / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name + (" [output]" if folder == "output" else "")


def test_a_file_becomes_a_sketch_of_its_own_canvas(pack):
    (sketch,) = pack.run("SK_LoadSVG", file=put(pack, "a.svg", svg()))
    assert (sketch.canvas, sketch.label) == ((40, 20), None)
    np.testing.assert_allclose(sketch.strokes[0], [[1, 2], [3, 4], [5, 4.001], [7, 4]], atol=1e-6)


def test_what_is_listed_is_read(pack):
    put(pack, "b.svg", svg())
    put(pack, "sketch/a.SVG", svg())
    put(pack, "c.svgz", gzip.compress(svg().encode()))
    put(pack, "sketch/d.svg", svg(), "output")
    put(pack, "e.png", b"\x89PNG")
    options = pack.nodes["SK_LoadSVG"].define_schema().inputs[0].options
    assert options == ["b.svg", "c.svgz", "sketch/a.SVG", "sketch/d.svg [output]"]
    for name in options:
        assert pack.nodes["SK_LoadSVG"].validate_inputs(name) is True
        assert len(pack.run("SK_LoadSVG", file=name)) == 1


def test_class_and_simplify(pack):
    file = put(pack, "a.svg", Sketch(([[0, 0], [9, 9]],), label="dog").to_svg())
    assert pack.run("SK_LoadSVG", file=file)[0].label == "dog"
    assert pack.run("SK_LoadSVG", file=file, class_name=" cat ")[0].label == "cat"
    file = put(pack, "b.svg", svg())
    (stroke,) = pack.run("SK_LoadSVG", file=file, simplify=0.1)[0].strokes
    np.testing.assert_allclose(stroke, [[1, 2], [3, 4], [7, 4]])


def test_pasted_text_goes_before_the_file(pack):
    (sketch,) = pack.run("SK_LoadSVG", file=put(pack, "a.svg", svg(LINES * 2)), text=f"  {svg()}\n")
    assert len(sketch.strokes) == 1
    with pytest.raises(ValueError, match="^text: "):
        pack.run("SK_LoadSVG", file="none", text="a cat")


def test_the_wire_goes_before_the_file(pack):
    value = SimpleNamespace(data=[io.BytesIO(svg().encode()), io.BytesIO(svg(LINES * 2).encode())])
    sketches = pack.run("SK_LoadSVG", file="none", svg=value)
    assert [len(sketch.strokes) for sketch in sketches] == [1, 2]
    assert sketches.records == [{}, {}]


def test_what_to_svg_writes_comes_back(pack):
    drawn = Sketch(([[10, 20], [30, 40], [50, 20]], [[60, 60], [70, 75]]), label="cat")
    value = pack.run("SK_ToSVG", sketch=[drawn], width=255, height=255, placement="canvas")
    (back,) = pack.run("SK_LoadSVG", file="none", svg=value)
    assert (back.canvas, back.label) == (drawn.canvas, drawn.label)
    assert [stroke.tolist() for stroke in back.strokes] == [stroke.tolist() for stroke in drawn.strokes]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("<svg", "^a.svg: this is not well-formed XML"),
        (svg("<text>cat</text>"), "a.svg holds no lines, only text or pictures. Turn text into paths"),
        ('<!DOCTYPE svg [<!ENTITY a "b">]>' + svg(), "^a.svg: the SVG declares .* Illustrator"),
        (svg("<g>" * 5000 + "</g>" * 5000), "^a.svg: the SVG nests elements deeper than 64"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_files_name(pack, content, match):
    with pytest.raises(ValueError, match=match):
        pack.run("SK_LoadSVG", file=put(pack, "a.svg", content))


def test_no_file_at_all(pack):
    node = pack.nodes["SK_LoadSVG"]
    assert node.define_schema().inputs[0].options == ["none"]
    assert node.validate_inputs("none") is True
    assert node.fingerprint_inputs("none") == ""
    with pytest.raises(ValueError, match="no SVG to read. Put a file into the input folder"):
        pack.run("SK_LoadSVG", file="none")
    assert "no file 'b.svg'" in node.validate_inputs("b.svg")


def test_pasted_text_needs_no_file(pack):
    node = pack.nodes["SK_LoadSVG"]
    assert node.validate_inputs("gone.svg", text=svg()) is True
    assert node.fingerprint_inputs("gone.svg", text=svg()) == ""
    assert len(pack.run("SK_LoadSVG", file="gone.svg", text=svg())) == 1
    assert "no file 'gone.svg'" in node.validate_inputs("gone.svg", text=" ")


def test_pasted_text_may_name_any_encoding(pack):
    text = '<?xml version="1.0" encoding="UTF-16"?>' + svg()
    assert len(pack.run("SK_LoadSVG", file="none", text=text)) == 1


@pytest.mark.parametrize("name", ["../secret.svg", "/etc/secret.svg", "sketch/../../secret.svg [output]"])
def test_no_path_leads_out(pack, name):
    (pack.host.base / "secret.svg").write_text(svg())
    assert "lies outside of" in pack.nodes["SK_LoadSVG"].validate_inputs(name)
    with pytest.raises(ValueError, match="lies outside of"):
        pack.run("SK_LoadSVG", file=name)


def test_the_fingerprint_changes_with_the_file_alone(pack):
    node, file = pack.nodes["SK_LoadSVG"], put(pack, "a.svg", svg())
    before = node.fingerprint_inputs(file, "", 0.0)
    assert node.fingerprint_inputs(file, "", 0.0) == before
    put(pack, "a.svg", svg(LINES * 2))
    assert node.fingerprint_inputs(file, "", 0.0) != before


def test_cancel_stops_between_drawings(pack):
    pack.host.cancelled = True
    with pytest.raises(Exception, match="^$") as stopped:
        pack.run("SK_LoadSVG", file=put(pack, "a.svg", svg()))
    assert type(stopped.value).__name__ == "Interrupted"


@pytest.mark.parametrize("suffix", [".npz", ".jsonl", ".ndjson.gz"])
def test_load_sketch_reads_every_kind_of_stroke_file(pack, suffix):
    drawings = [Sketch(([[0, 0], [10, 5]], [[20, 20], [30, 30]]), label="cat") for _ in range(3)]
    write_sketches(pack.host.base / "input" / f"cat{suffix}", drawings)
    options = pack.nodes["SK_Load"].define_schema().inputs[0].options
    assert options == [f"cat{suffix}"]
    loaded = pack.run("SK_Load", file=options[0], start=1)
    assert [sketch.label for sketch in loaded] == ["cat", "cat"]
    np.testing.assert_allclose(loaded[0].strokes[1], [[20, 20], [30, 30]])
