"""The raster: against a sixteen-fold supersampled oracle, in batches, at odd sizes, and out of bounds."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest

from sketch_core.raster import contact_sheet, rasterize, sketch_to_array, sketch_to_image
from sketch_core.strokes import Sketch, distance_to_segment


def scribble(seed: int, *, strokes: int = 4, points: int = 6, canvas=(255.0, 255.0)) -> Sketch:
    rng = np.random.default_rng(seed)
    return Sketch(tuple(rng.uniform(0.1, 0.9, (points, 2)) * canvas for _ in range(strokes)), canvas)


def supersampled(sketch: Sketch, width: int, height: int, line_width: float, times: int = 16) -> np.ndarray:
    """The share of times x times points of each pixel that lie within half a line width of the drawing."""
    zoom = min(width / sketch.canvas[0], height / sketch.canvas[1])
    shift = np.array([width, height]) / 2 - np.array(sketch.canvas) / 2 * zoom
    x, y = np.meshgrid((np.arange(width * times) + 0.5) / times, (np.arange(height * times) + 0.5) / times)
    samples = np.stack([x.ravel(), y.ravel()], 1)
    inked = np.zeros(len(samples), dtype=bool)
    for stroke in sketch.strokes:
        placed = stroke.astype(np.float64) * zoom + shift
        for a, b in (
            zip(placed[:-1], placed[1:], strict=True) if len(placed) > 1 else [(placed[0], placed[0])]
        ):
            inked |= distance_to_segment(samples, a, b) <= line_width / 2
    return inked.reshape(height, times, width, times).mean((1, 3))


@pytest.mark.parametrize(
    ("size", "line_width"), [((28, 28), 1.0), ((48, 48), 1.5), ((64, 24), 3.0), ((31, 77), 6.5)]
)
def test_agrees_with_a_supersampled_oracle(size, line_width):
    sketch = scribble(1, strokes=2, points=4, canvas=(200.0, 160.0))
    ours = sketch_to_array(sketch, size, line_width=line_width, padding=None)
    error = np.abs(ours - supersampled(sketch, *size, line_width))
    assert ours.shape == (size[1], size[0])
    assert ours.dtype == np.float32
    assert error.mean() < 0.012
    assert error.max() < 0.35  # where strokes meet, the union of coverages is not the coverage of the union
    blank = np.abs(np.zeros_like(ours) - supersampled(sketch, *size, line_width))
    assert blank.mean() > 5 * error.mean()  # the oracle can tell


@pytest.mark.parametrize("line_width", [0.25, 1.0, 2.0, 2.5, 7.0])
def test_straight_lines_along_the_axes_are_exact(line_width):
    sketch = Sketch((np.array([[-50.0, 20.3], [150, 20.3]]),), canvas=(100.0, 40.0))
    column = sketch_to_array(sketch, (100, 40), line_width=line_width, padding=None)[:, 50]
    edges = np.arange(41)
    covered = np.clip(
        np.minimum(edges[1:], 20.3 + line_width / 2) - np.maximum(edges[:-1], 20.3 - line_width / 2), 0, 1
    )
    if line_width >= 1:
        np.testing.assert_allclose(column, covered, atol=1e-4)
    assert column.max() <= max(line_width, 0.25) + 1e-6


@pytest.mark.parametrize("line_width", [3.0, 9.0, 40.0])
def test_a_dot_is_a_disc(line_width):
    dot = Sketch((np.array([[50.0, 50.0]]),), canvas=(100.0, 100.0))
    ink = sketch_to_array(dot, 100, line_width=line_width, padding=None)
    assert ink.sum() == pytest.approx(math.pi * line_width**2 / 4, rel=0.05)
    np.testing.assert_array_equal(ink, ink.T)
    np.testing.assert_array_equal(ink, ink[::-1, ::-1])
    again = Sketch((np.array([[50.0, 50.0], [50, 50]]),), canvas=(100.0, 100.0))
    np.testing.assert_array_equal(ink, sketch_to_array(again, 100, line_width=line_width, padding=None))


def test_caps_are_round_and_crossings_do_not_darken():
    cross = Sketch(
        (np.array([[10.0, 50], [90, 50]]), np.array([[50.0, 10], [50, 90]])), canvas=(100.0, 100.0)
    )
    ink = sketch_to_array(cross, 100, line_width=8, padding=None)
    assert ink.max() == 1
    assert ink.sum() == pytest.approx(2 * (80 * 8 + math.pi * 16) - 64, rel=0.01)


@pytest.mark.parametrize("size", [48, (60, 37)])
@pytest.mark.parametrize("padding", [0.05, None])
def test_a_drawing_is_the_same_in_any_batch(size, padding):
    sketches = [scribble(i, strokes=1 + i % 4, points=1 + i % 6) for i in range(9)]
    sketches.insert(3, Sketch(()))
    sketches.append(Sketch((np.array([[-300.0, 20], [900, 40]]),)))
    together = rasterize(sketches, size, padding=padding)
    for sketch, ink in zip(sketches, together, strict=True):
        np.testing.assert_array_equal(ink, rasterize([sketch], size, padding=padding)[0])
    assert not together[3].any()
    assert rasterize([], size).shape == (0, *together.shape[1:])


def test_padding_keeps_ink_away_and_none_keeps_the_place():
    sketch = Sketch((np.array([[10.0, 10], [60, 10]]), np.array([[10.0, 30]])), canvas=(200.0, 100.0))
    ink = sketch_to_array(sketch, (200, 100), line_width=4, padding=0.1) > 0
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert columns[0] >= 9
    assert columns[-1] <= 190
    assert rows[0] >= 9
    assert rows[-1] <= 90
    assert columns[-1] - columns[0] > 170  # and fills the room that is left
    placed = sketch_to_array(sketch, (200, 100), line_width=4, padding=None)
    assert placed[10, 10] == placed[30, 10] == placed[10, 60] == 1
    assert placed[20, 10] == 0


def test_a_large_canvas_is_quick_and_its_memory_bounded():
    sketch = scribble(5, strokes=3, points=8)
    tracemalloc.start()
    start = time.process_time()
    ink = sketch_to_array(sketch, (3000, 2000))
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ink.any()
    assert peak < 2.5 * ink.nbytes
    assert seconds < 3
    thick = sketch_to_array(sketch, 300, line_width=300, padding=None)
    assert thick.min() == 1


def test_small_batches_are_quick():
    sketches = [scribble(i, strokes=6, points=8) for i in range(200)]
    rasterize(sketches[:2], 48)
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        rasterize(sketches, 48)
        best = min(best, time.process_time() - start)
    assert best / len(sketches) < 1e-3


def test_strokes_far_outside_the_canvas_cost_and_show_nothing():
    inside = np.array([[20.0, 20], [80, 70]])
    away = [
        np.array([[1e30, -1e30], [1e30, 1e30]]),
        np.array([[-9e9, 500], [9e9, 500]]),
        np.array([[-50.0, -50]]),
    ]
    through = np.array([[-1e7, 30.0], [1e7, 30.0]])
    ink = sketch_to_array(Sketch((inside, *away), (100.0, 100.0)), 100, padding=None)
    np.testing.assert_array_equal(ink, sketch_to_array(Sketch((inside,), (100.0, 100.0)), 100, padding=None))
    line = sketch_to_array(Sketch((through,), (100.0, 100.0)), 100, line_width=2, padding=None)
    np.testing.assert_allclose(line[29:31], 1)
    assert line.sum() == pytest.approx(200)


def test_images_in_colour_and_on_clear_paper():
    sketch = Sketch((np.array([[10.0, 50], [90, 50]]),), canvas=(100.0, 100.0))
    image = sketch_to_image(sketch, 100, line_width=10, padding=None, color="#ff0000", background="navy")
    assert (image.mode, image.size) == ("RGB", (100, 100))
    assert image.getpixel((50, 50)) == (255, 0, 0)
    assert image.getpixel((50, 5)) == (0, 0, 128)
    clear = sketch_to_image(sketch, (100, 80), line_width=10, padding=None, color="white", background=None)
    assert (clear.mode, clear.size) == ("RGBA", (100, 80))
    assert clear.getpixel((50, 40)) == (255, 255, 255, 255)
    assert clear.getpixel((50, 5))[3] == 0
    assert sketch.to_image(64).size == (64, 64)


def test_contact_sheet():
    sketches = [scribble(i) for i in range(5)]
    assert contact_sheet(sketches, columns=3, cell=40).size == (120, 80)
    assert contact_sheet(sketches[:2], columns=8, cell=40).size == (80, 40)
    assert contact_sheet([], cell=40).size == (40, 40)
    captions = ["cat", "a caption much too long for its cell", "line\nbreak\x07", "猫\ud800", ""]
    plain, captioned = (
        contact_sheet(sketches, columns=3, cell=40),
        contact_sheet(sketches, columns=3, cell=40, captions=captions),
    )
    assert captioned.height > plain.height
    below = np.asarray(captioned)[40 : captioned.height // 2]
    assert (below[:, :40] < 128).any()  # there is a caption
    assert (below[:, [39, 40, 79, 80]] == 255).all()  # and it stays in its column


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: sketch_to_array(s, 0), "wanted 1 or more"),
        (lambda s: sketch_to_array(s, -5), "wanted 1 or more"),
        (lambda s: sketch_to_array(s, 10**6), "Make it smaller"),
        (lambda s: sketch_to_array(s, 12.5), "whole number"),
        (lambda s: sketch_to_array(s, (1, 2, 3)), "width, height"),
        (lambda s: sketch_to_array(s, 64, line_width=0), "line width is 0"),
        (lambda s: sketch_to_array(s, 64, line_width=float("nan")), "line width is nan"),
        (lambda s: sketch_to_array(s, 64, line_width=65), "shorter side"),
        (lambda s: sketch_to_array(s, 64, padding=0.5), "leave nothing"),
        (lambda s: sketch_to_array(s, 64, padding=-0.1), "leave nothing"),
        (lambda s: rasterize([s] * 400, 1000), "fewer at once"),
        (lambda s: sketch_to_image(s, 64, color="blakc"), "Check the spelling"),
        (lambda s: sketch_to_image(s, 64, background=7), "Check the spelling"),
        (lambda s: contact_sheet([s], captions=[]), "0 captions for 1 sketches"),
        (lambda s: contact_sheet([s], columns=0), "columns is 0"),
        (lambda s: contact_sheet([s], cell=2), "cell is 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(scribble(0))
