"""Quick, Draw! ndjson: simplified and raw, plain and gzipped, and lines that are none."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.data import DataError, ndjson, read_ndjson, write_ndjson
from sketch_core.data.records import replacing
from sketch_core.strokes import Sketch, bounds

DATA = Path(__file__).parent / "data"
GOOD = '{"word":"cat","recognized":true,"drawing":[[[0,10],[0,255]],[[5],[6]]]}'

coordinates = st.floats(-1000, 1000).map(lambda value: round(value, 2))
strokes = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6).map(np.array)
sketches = st.builds(
    Sketch,
    st.lists(strokes, max_size=4).map(tuple),
    st.tuples(st.floats(1, 4000), st.floats(1, 4000)) | st.just((255.0, 255.0)),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
)


def test_the_fixture_holds_real_drawings():
    drawings = list(read_ndjson(DATA / "drawings.ndjson"))
    assert len(drawings) == 36
    assert len({sketch.label for sketch in drawings}) == 12
    assert "The Eiffel Tower" in {sketch.label for sketch in drawings}
    for sketch in drawings:
        left, top, right, bottom = bounds(sketch)
        assert (left, top) == (0, 0)
        assert 250 <= max(right, bottom) <= 255  # simplified after it was scaled
        assert sketch.canvas == (255, 255)


def test_the_fixture_is_written_back_byte_for_byte(tmp_path):
    assert write_ndjson(tmp_path / "a.ndjson", read_ndjson(DATA / "drawings.ndjson")) == 36
    assert (tmp_path / "a.ndjson").read_bytes() == (DATA / "drawings.ndjson").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ndjson"]


@settings(max_examples=40)
@given(st.lists(sketches, max_size=3), st.sampled_from(["a.ndjson", "a.ndjson.gz"]))
def test_sketches_come_back(tmp_path_factory, drawings, name):
    path = tmp_path_factory.mktemp("round") / name
    write_ndjson(path, drawings)
    back = list(read_ndjson(path))
    assert [(s.label, s.canvas, len(s.strokes)) for s in back] == [
        (s.label, s.canvas, len(s.strokes)) for s in drawings
    ]
    for found, wanted in zip(back, drawings, strict=True):
        for a, b in zip(found.strokes, wanted.strokes, strict=True):
            np.testing.assert_allclose(a, b, atol=6e-4)


def test_raw_drawings_keep_their_pixels(tmp_path):
    (tmp_path / "raw.ndjson").write_text(
        '{"word":"cat","drawing":[[[500.5,700.25],[10.0,20.0],[0,33]],[[1.0],[2.0],[99]]]}\n'
    )
    (sketch,) = read_ndjson(tmp_path / "raw.ndjson")
    np.testing.assert_array_equal(sketch.strokes[0], [[500.5, 10], [700.25, 20]])
    np.testing.assert_array_equal(sketch.strokes[1], [[1, 2]])
    assert sketch.canvas == (701, 255)


def test_unrecognized_drawings_can_be_left_out(tmp_path):
    lines = [GOOD, GOOD.replace("true", "false"), '{"word":"dog","drawing":[[[0],[0]]]}']
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    assert len(list(read_ndjson(tmp_path / "a.ndjson"))) == 3
    assert [s.label for s in read_ndjson(tmp_path / "a.ndjson", recognized_only=True)] == ["cat", "dog"]


BROKEN = [
    (GOOD[:-9], r"truncated or damaged JSON \(.* at column \d+\)"),
    ("[]", 'no "drawing" list'),
    ('{"word":"cat"}', 'no "drawing" list'),
    ('{"word":7,"drawing":[]}', "\"word\" is '7', wanted text"),
    ('{"drawing":[[[0,1]]]}', r"stroke 0 is not \[\[x...\], \[y...\]\]"),
    ('{"drawing":[7]}', "stroke 0 is not"),
    ('{"drawing":[{"x":1}]}', "stroke 0 is not"),
    ('{"drawing":[[[0],[0]],[[0,1],[0]]]}', r"stroke 1 has x of shape \(2,\) and y of \(1,\)"),
    ('{"drawing":[[[],[]]]}', "at least one"),
    ('{"drawing":[[1,2]]}', "at least one"),
    ('{"drawing":[[[[1]],[[2]]]]}', "at least one"),
    ('{"drawing":[[[1,[2]],[3,4]]]}', "two lists of numbers"),
    ('{"drawing":[[["1"],[2]]]}', "no number"),
    ('{"drawing":[[[null],[2]]]}', "no number"),
    ('{"drawing":[[[NaN],[2]]]}', "beyond"),
    ('{"drawing":[[[1e9],[2]]]}', "beyond ±1e.06"),
    ('{"drawing":[[[1' + "0" * 400 + "],[2]]]}", "no number"),
    ('{"drawing":[[[1' + "0" * 5000 + "],[2]]]}", "integer"),
    ('{"drawing":[],"canvas":[0,10]}', "wanted two finite sides"),
    ('{"drawing":[],"canvas":"big"}', r"wanted \[width, height\]"),
    ('{"drawing":[],"canvas":[1' + "0" * 400 + ",1]}", "too large"),
    ('{"drawing":' + "[" * 100_000, "nested|recursion|JSON"),
]


@pytest.mark.parametrize(("line", "complaint"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_named_skipped_or_fatal(tmp_path, line, complaint):
    path = tmp_path / "a.ndjson"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    reader = read_ndjson(path)
    next(reader)
    with pytest.raises(DataError, match=rf"(?s)^\S*a\.ndjson:3: .*{complaint}.*Mend or remove the line\.$"):
        next(reader)
    assert len(list(read_ndjson(path, on_error="skip"))) == 2
    errors = []
    assert len(list(read_ndjson(path, on_error=errors.append))) == 2
    assert len(errors) == 1


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.ndjson").write_bytes(GOOD.replace("cat", "c\xe4t").encode("latin-1"))
    with pytest.raises(DataError, match="a.ndjson:1: bytes that are not UTF-8"):
        list(read_ndjson(tmp_path / "a.ndjson"))


def test_an_endless_line_is_passed_over_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(ndjson, "MAX_LINE", 100)
    (tmp_path / "a.ndjson").write_text(f"{GOOD}\n{'x' * 1000}\n{GOOD}\n{'y' * 250}")
    with pytest.raises(DataError, match="a.ndjson:2: a line of more than"):
        list(read_ndjson(tmp_path / "a.ndjson"))
    errors = []
    assert len(list(read_ndjson(tmp_path / "a.ndjson", on_error=errors.append))) == 2
    assert [":2:" in str(errors[0]), ":4:" in str(errors[1])] == [True, True]


def test_a_truncated_gzip_ends_after_what_it_holds(tmp_path):
    text = "".join(json.dumps({"word": str(i), "drawing": [[[i], [0]]]}) + "\n" for i in range(5000))
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(text.encode())[:-2000])
    with pytest.raises(DataError, match=r"a\.ndjson\.gz:\d+: truncated or damaged gzip"):
        list(read_ndjson(tmp_path / "a.ndjson.gz"))
    labels = [sketch.label for sketch in read_ndjson(tmp_path / "a.ndjson.gz", on_error="skip")]
    assert 0 < len(labels) < 5000
    assert labels == [str(i) for i in range(len(labels))]


def test_an_interrupted_writing_leaves_the_old_file(tmp_path):
    def drawings():
        yield Sketch((np.zeros((1, 2)),))
        raise KeyboardInterrupt

    for name in ("a.ndjson", "a.ndjson.gz"):
        (tmp_path / name).write_text("old")
        with pytest.raises(KeyboardInterrupt):
            write_ndjson(tmp_path / name, drawings())
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unwritable_folder_and_a_full_disk_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="cannot write .*: No such file or directory. Choose a folder"):
        write_ndjson(tmp_path / "missing" / "a.ndjson", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write .*Not a directory"):
        write_ndjson(tmp_path / "file" / "a.ndjson", [])
    (tmp_path / "b.ndjson").mkdir()
    with pytest.raises(ValueError, match="cannot write .*b.ndjson: Is a directory"):
        write_ndjson(tmp_path / "b.ndjson", [])
    with (
        pytest.raises(ValueError, match="No space left on device. Free some space"),
        replacing(tmp_path / "c"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.ndjson", "file"]


def test_a_file_that_may_not_grow_is_not_left_behind(tmp_path):
    """A real refusal to write, from the kernel."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    drawings = list(read_ndjson(DATA / "drawings.ndjson"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ValueError, match="cannot write .*File too large. Free some space"):
            write_ndjson(tmp_path / "a.ndjson", drawings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
