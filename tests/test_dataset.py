"""Many drawings in flat arrays: what is read, kept, joined, simplified and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sketch_core.data import read_npz, write_npz
from sketch_core.data.dataset import StrokeDataset
from sketch_core.strokes import sketch_to_stroke3

DATA = Path(__file__).parent / "data"
LINE = np.array([[3, 4, 0], [-5, 2, 1]], np.int16)  # up and left of where it starts
TWO_STROKES = np.array([[10, 0, 1], [0, 5, 0], [10, 0, 1]], np.int16)


def spiral(n: int) -> np.ndarray:
    """One stroke of n rows that no simplification leaves as it is."""
    angle = np.linspace(0, 6 * np.pi, n + 1)
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * (20 + 6 * angle)[:, None]
    rows = np.zeros((n, 3), np.int16)
    rows[:, :2] = np.diff(points.round(), axis=0)
    rows[-1, 2] = 1
    return rows


@pytest.fixture
def folder(tmp_path):
    write_npz(tmp_path / "The_Eiffel_Tower.npz", {"train": [LINE, TWO_STROKES], "valid": [LINE]})
    write_npz(tmp_path / "cat.npz", {"train": [TWO_STROKES], "test": [LINE]})
    return tmp_path


def test_a_folder_is_read_split_by_split(folder):
    train = StrokeDataset.from_folder(folder)
    assert train.classes == ("The Eiffel Tower", "cat")
    assert train.labels.tolist() == [0, 0, 1]
    assert train.lengths.tolist() == [2, 3, 3]
    for ours, theirs in zip(train, [LINE, TWO_STROKES, TWO_STROKES], strict=False):
        assert ours.dtype == np.int16
        assert np.array_equal(ours, theirs)
    valid = StrokeDataset.from_folder(folder, "valid")
    assert valid.classes == train.classes  # a class without drawings keeps its label
    assert valid.labels.tolist() == [0]


def test_real_drawings_are_read_as_they_are():
    dataset = StrokeDataset.from_folder(DATA)
    wanted = read_npz(DATA / "cat.npz")["train"]
    assert len(dataset) == len(wanted)
    assert all(np.array_equal(dataset[i], rows) for i, rows in enumerate(wanted))


def test_classes_are_chosen_in_any_case(folder):
    assert StrokeDataset.from_folder(folder, classes=["the_eiffel tower"]).classes == ("The Eiffel Tower",)
    with pytest.raises(ValueError, match="no file for dog, owl. Fetch it, or leave it out"):
        StrokeDataset.from_folder(folder, classes=["owl", "cat", "dog"])


def test_what_cannot_be_read_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.npz files. Point to"):
        StrokeDataset.from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no drawing in the split 'dev'. Known splits: train, valid, test"):
        StrokeDataset.from_folder(folder, "dev")
    rows = np.empty(1, object)
    rows[0] = LINE.astype(np.float32) + np.float32([0.5, 0, 0])
    np.savez(folder / "half.npz", train=rows)
    with pytest.raises(ValueError, match=r"half\.npz holds offsets with fractions. Scale"):
        StrokeDataset.from_folder(folder)


def test_a_sketch_lies_where_its_own_box_begins(folder):
    dataset = StrokeDataset.from_folder(folder)
    sketch = dataset.sketch(0)
    assert sketch.label == "The Eiffel Tower"
    assert [stroke.tolist() for stroke in sketch.strokes] == [[[2, 0], [5, 4], [0, 6]]]
    for i in range(len(dataset)):
        assert np.array_equal(sketch_to_stroke3(dataset.sketch(i)), dataset[i])


def test_scale_is_the_std_of_all_offsets(folder):
    offsets = np.array([3, 4, -5, 2, 10, 0, 0, 5, 10, 0, 10, 0, 0, 5, 10, 0], float)
    assert StrokeDataset.from_folder(folder).scale() == pytest.approx(
        np.sqrt((offsets**2).mean() - offsets.mean() ** 2)
    )


def test_spread_is_how_far_points_lie_from_the_middle_of_their_drawing(folder):
    data = StrokeDataset.from_folder(folder)
    places = [np.concatenate([[[0, 0]], data[i][:, :2].cumsum(0)]) for i in range(len(data))]
    away = np.concatenate([p - p.mean(0) for p in places])
    assert data.spread() == pytest.approx(np.sqrt((away**2).mean()) / data.scale())


def test_joining_keeps_our_classes(folder, tmp_path):
    write_npz(folder / "owl.npz", {"train": [LINE]})
    ours = StrokeDataset.from_folder(folder)
    (tmp_path / "more").mkdir()
    write_npz(tmp_path / "more" / "cat.npz", {"train": [LINE]})
    write_npz(tmp_path / "more" / "owl.npz", {"train": [TWO_STROKES]})
    joined = ours.joined(StrokeDataset.from_folder(tmp_path / "more"))
    assert joined.classes == ours.classes
    assert joined.labels.tolist() == [0, 0, 1, 2, 1, 2]
    assert np.array_equal(joined[1], ours[1])
    assert np.array_equal(joined[5], TWO_STROKES)
    write_npz(tmp_path / "more" / "dog.npz", {"train": [LINE]})
    with pytest.raises(ValueError, match="new classes: dog. Leave their files out"):
        ours.joined(StrokeDataset.from_folder(tmp_path / "more"))


def test_long_drawings_are_simplified_and_short_ones_are_not():
    dataset = StrokeDataset.from_rows([spiral(150), TWO_STROKES, spiral(40)], [0, 0, 0], ("spiral",))
    short = dataset.at_most(40)
    assert short.lengths[0] <= 40
    assert short.lengths[1:].tolist() == [3, 40]
    assert np.array_equal(short[1], TWO_STROKES)
    assert np.array_equal(short[2], dataset[2])
    before, after = dataset.sketch(0).strokes[0], short.sketch(0).strokes[0]
    assert np.allclose(before[[0, -1]] - before[0], after[[0, -1]] - after[0], atol=1)
    gaps = np.linalg.norm(before[:, None] - after[None], axis=-1).min(0)
    assert gaps.max() < 3  # its points are points of the drawing


def test_more_strokes_than_rows_are_cut_off():
    dots = np.array([[9, 9, 1]] * 30, np.int16)
    assert np.array_equal(StrokeDataset.from_rows([dots], [0], ("rain",)).at_most(12)[0], dots[:12])


def test_lengths_are_counted_by_class(folder):
    counts = StrokeDataset.from_folder(folder).length_histograms(3)
    assert counts.tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]


def test_the_first_of_each_class_are_kept_in_order():
    drawings = [spiral(n) for n in (5, 6, 7, 8, 9)]
    dataset = StrokeDataset.from_rows(drawings, [1, 0, 1, 1, 0], ("cat", "owl"))
    some = dataset.first(2)
    assert some.labels.tolist() == [1, 0, 1, 0]
    assert some.lengths.tolist() == [5, 6, 7, 9]
    assert np.array_equal(dataset.first(10**9).rows, dataset.rows)
