"""One reader and one writer for all files, told by the suffix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sketch_core.data import DataError, read_sketches, write_sketches
from sketch_core.strokes import Sketch, bounds

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz", ".JSONL"])
def test_ndjson_by_any_name(tmp_path, suffix):
    drawings = list(read_sketches(DATA / "drawings.ndjson"))
    assert write_sketches(tmp_path / f"a{suffix}", drawings) == 36
    assert list(read_sketches(tmp_path / f"a{suffix}")) == drawings


def test_npz_puts_a_simplified_drawing_where_it_was(tmp_path):
    cats = list(read_sketches(DATA / "cat.npz"))
    assert len(cats) == 10
    for sketch in cats:
        left, top, right, bottom = bounds(sketch)
        assert (left, top) == (0, 0)
        assert 250 <= max(right, bottom) <= 255  # simplified after it was scaled
    assert write_sketches(tmp_path / "cat.npz", cats) == 10
    assert list(read_sketches(tmp_path / "cat.npz")) == cats


def test_npz_rounds_points_and_not_offsets(tmp_path):
    line = Sketch((np.stack([np.arange(100) * 1.4, np.zeros(100)], 1),), label="line")
    write_sketches(tmp_path / "line.npz", [line])
    (back,) = read_sketches(tmp_path / "line.npz")
    assert np.abs(back.strokes[0] - line.strokes[0]).max() <= 0.5


def test_a_suffix_nobody_knows(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read cat\.docx: its suffix is '\.docx'. Known: \.ndjson"):
        read_sketches("cat.docx")
    with pytest.raises(ValueError, match=r"cannot write .*cat\.bin"):
        write_sketches(tmp_path / "cat.bin", [])
    with pytest.raises(ValueError, match="2 sketches, but an SVG holds one"):
        write_sketches(tmp_path / "a.svg", [Sketch(()), Sketch(())])
    assert not list(tmp_path.iterdir())


def test_svg_there_and_back(tmp_path):
    pytest.importorskip("svgpathtools")
    cat = next(read_sketches(DATA / "cat.npz"))
    assert write_sketches(tmp_path / "cat.svg", [cat]) == 1
    (back,) = read_sketches(tmp_path / "cat.svg")
    for found, wanted in zip(back.strokes, cat.strokes, strict=True):
        np.testing.assert_allclose(found, wanted, atol=0.01)
    (tmp_path / "bad.svg").write_text("<svg")
    with pytest.raises(DataError, match=r"bad\.svg"):
        list(read_sketches(tmp_path / "bad.svg"))
    assert list(read_sketches(tmp_path / "bad.svg", on_error="skip")) == []
