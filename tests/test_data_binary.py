"""Quick, Draw! .bin files, and what is left of them when they are cut short."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sketch_core.data import DataError, read_bin, read_sketches

DATA = Path(__file__).parent / "data"


def record(strokes, *, recognized: int = 1) -> bytes:
    """One record, put together from the dataset's description and nothing of ours."""
    packed = struct.pack("<Q2sbIH", 5152802093400064, b"GB", recognized, 1488000000, len(strokes))
    for x, y in strokes:
        packed += struct.pack(f"<H{len(x)}B{len(y)}B", len(x), *x, *y)
    return packed


def test_the_same_cats_as_in_the_npz():
    binary = list(read_bin(DATA / "cat.bin"))
    assert len(binary) == 5
    assert binary == list(read_sketches(DATA / "cat.npz"))[:5]
    assert {sketch.label for sketch in binary} == {"cat"}


def test_points_strokes_and_label(tmp_path):
    path = tmp_path / "alarm_clock.bin"
    path.write_bytes(record([([0, 255], [7, 8]), ([9], [10])]) + record([([1], [2])], recognized=0))
    first, second = read_bin(path)
    np.testing.assert_array_equal(first.strokes[0], [[0, 7], [255, 8]])
    np.testing.assert_array_equal(first.strokes[1], [[9, 10]])
    assert second.label == "alarm clock"
    assert list(read_bin(path, recognized_only=True)) == [first]


def test_a_truncated_record_is_named_and_ends_the_reading(tmp_path):
    whole = (DATA / "cat.bin").read_bytes()
    path = tmp_path / "cat.bin"
    for cut in range(1, 60):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=r"cat\.bin, record 5: truncated\. Download"):
            list(read_bin(path))
        assert len(list(read_bin(path, on_error="skip"))) == 4


def test_records_that_are_none(tmp_path):
    path = tmp_path / "a.bin"
    good = record([([1], [2])])
    path.write_bytes(good + record([]) + record([([], []), ([1], [2])]) + good)
    with pytest.raises(DataError, match=r"a\.bin, record 2: a drawing or stroke without points"):
        list(read_bin(path))
    errors = []
    assert len(list(read_bin(path, on_error=errors.append))) == 2
    assert [str(error).split(":")[0].rsplit(" ", 1)[1] for error in errors] == ["2", "3"]
    path.write_text("<!DOCTYPE html><html>not found</html>" * 3)
    with pytest.raises(
        DataError, match=r"record 1: recognized is \d+, wanted 0 or 1. Is it a Quick, Draw! .bin"
    ):
        list(read_bin(path))
    assert list(read_bin(path, on_error="skip")) == []
