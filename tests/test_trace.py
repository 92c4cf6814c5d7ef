"""Pictures of known drawings, traced back: how near, how many strokes, how long, in which order."""

from __future__ import annotations

import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sketch_core import __main__ as cli
from sketch_core.data import read_ndjson
from sketch_core.strokes import Sketch, fit, resample
from sketch_core.svg import read_svg

pytest.importorskip("skimage")
from scipy import ndimage  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from sketch_core.trace import graph, image_to_sketch, joins, trace, trace_file  # noqa: E402

DRAWINGS = list(read_ndjson(Path(__file__).parent / "data/drawings.ndjson"))
CANVAS = (512, 512)
ANGLE = np.linspace(0, 2 * np.pi, 200)
RING = np.stack([256 + 150 * np.cos(ANGLE), 256 + 150 * np.sin(ANGLE)], 1)


def picture(sketch, width=4.0, **options):
    size = tuple(int(side) for side in sketch.canvas)
    return sketch.to_image(size, line_width=width, padding=None, **options)


def of(*strokes, canvas=CANVAS):
    return Sketch(tuple(np.array(stroke, float) for stroke in strokes), canvas)


def chamfer(a, b):
    """The larger of the two mean distances from one drawing to the other, pixels."""
    a, b = (np.concatenate(resample(sketch, 0.25).strokes) for sketch in (a, b))
    return max(cKDTree(a).query(b)[0].mean(), cKDTree(b).query(a)[0].mean())


def length(sketch):
    return sum(np.hypot(*np.diff(stroke, axis=0).T).sum() for stroke in sketch.strokes)


def closed(stroke):
    return len(stroke) > 3 and np.array_equal(stroke[0], stroke[-1])


def photo(sketch, *, seed=0, width=4.0, strength=0.5, noise=0.02):
    """A photo of a pencil drawing: tooth of the paper, pressure, a lamp to the upper left, blur, noise."""
    rng = np.random.default_rng(seed)
    columns, rows = (int(side) for side in sketch.canvas)

    def cloud(sigma):
        field = ndimage.gaussian_filter(rng.standard_normal((rows, columns)), sigma)
        return field / field.std()

    ink = np.zeros((rows, columns))
    for stroke in sketch.strokes:
        pressure = strength * rng.uniform(0.6, 1)
        one = Sketch((stroke,), sketch.canvas)
        ink = np.maximum(ink, pressure * (1 - np.asarray(picture(one, width).convert("L")) / 255))
    ink = ink * (1 - 0.25 * cloud(0.8).clip(-1, 2.5)).clip(0, 1.2) * (1 + 0.15 * cloud(20)).clip(0.4, 1.4)
    y, x = np.mgrid[0:rows, 0:columns] / [[[rows]], [[columns]]]
    light = 0.45 + 0.5 * np.exp(-(((x - 0.25) / 0.7) ** 2) - ((y - 0.2) / 0.75) ** 2)
    page = (1 - ink.clip(0, 1) + 0.01 * cloud(1.5)) * light
    page = ndimage.gaussian_filter(page, 0.7)[..., None] * [0.95, 0.92, 0.86]
    return (page + noise * rng.standard_normal(page.shape)).clip(0, 1).astype(np.float32)


# --- exact answers

SHAPES = {
    "ring": of(RING),
    "crossing": of([[100, 100], [400, 400]], [[400, 100], [100, 400]]),
    "small angle": of([[60, 200], [450, 260]], [[60, 260], [450, 200]]),
    "tee": of([[60, 100], [450, 100]], [[256, 100], [256, 400]]),
    "dots": of([[100, 100]], [[200, 100]], [[100, 200], [300, 300]]),
    "square": of([[100, 100], [400, 100], [400, 400], [100, 400], [100, 100]]),
    "hash": of(*([[x, 50], [x, 450]] for x in (200, 300)), *([[50, y], [450, y]] for y in (200, 300))),
    "eight": of(np.stack([256 + 180 * np.sin(ANGLE), 256 + 120 * np.sin(2 * ANGLE)], 1)),
    "star": of(
        [[256 + 200 * np.sin(0.8 * np.pi * k), 256 - 200 * np.cos(0.8 * np.pi * k)] for k in range(6)]
    ),
}


@pytest.mark.parametrize("width", [1.5, 4, 14])
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_comes_back(name, width):
    drawn = SHAPES[name]
    found = image_to_sketch(picture(drawn, width))
    assert found.canvas == drawn.canvas
    assert len(found.strokes) == len(drawn.strokes)
    assert chamfer(found, drawn) < 0.4
    assert length(found) == pytest.approx(length(drawn), rel=0.025)
    assert sorted(map(closed, found.strokes)) == sorted(map(closed, drawn.strokes))
    assert sorted(len(stroke) == 1 for stroke in found.strokes) == sorted(
        len(stroke) == 1 for stroke in drawn.strokes
    )


def test_a_straight_line_is_two_points_on_its_axis():
    for y in (200.0, 200.3, 200.5):
        (stroke,) = image_to_sketch(picture(of([[50, y], [450, y]]), 3)).strokes
        assert len(stroke) == 2
        np.testing.assert_allclose(stroke, [[50, y], [450, y]], atol=0.75)
        np.testing.assert_allclose(stroke[:, 1], y, atol=0.1)


def test_a_thin_triangle_keeps_its_point():
    drawn = of([[100, 100], [450, 150], [100, 200]])
    (stroke,) = image_to_sketch(picture(drawn, 4)).strokes
    assert np.hypot(*(stroke - [450, 150]).T).min() < 2


def test_filled_areas_become_their_outline():
    page = Image.new("RGB", CANVAS, "white")
    pen = ImageDraw.Draw(page)
    pen.ellipse([200, 200, 280, 280], fill="black")
    pen.line([40, 60, 460, 60], fill="black", width=4)
    pen.line([40, 90, 460, 90], fill="black", width=4)
    strokes = image_to_sketch(page).strokes
    (outline,) = [stroke for stroke in strokes if closed(stroke)]
    assert len(strokes) == 3
    assert np.hypot(*(outline - 240.5).T) == pytest.approx(38, abs=2)


def test_gaps_are_bridged_where_ends_face_each_other():
    drawn = of(
        [[50, 100], [240, 100]], [[248, 100], [450, 100]], [[50, 300], [250, 300]], [[253, 309], [253, 450]]
    )
    page = picture(drawn, 4)
    assert len(image_to_sketch(page).strokes) == 3
    assert len(image_to_sketch(page, bridge=0).strokes) == 4


def test_no_gap_wider_than_a_tenth_of_the_picture_is_bridged():
    page = picture(of([[50, 100], [200, 100]], [[300, 100], [450, 100]]), 4)
    assert len(image_to_sketch(page, bridge=400).strokes) == 2
    page = picture(of([[50, 100], [200, 100]], [[240, 100], [450, 100]]), 4)
    assert len(image_to_sketch(page, bridge=400).strokes) == 1


def dashes(step: int) -> np.ndarray:
    page = np.full((1024, 1024), 255, np.uint8)
    for y in range(4, 1020, step):
        for x in range(4, 1000, 2 * step):
            page[y : y + 2, x : x + step] = 0
    return page


def test_lines_are_counted_before_gaps_are_closed(monkeypatch):
    monkeypatch.setattr("sketch_core.trace.joins._bridge", None)  # is not reached
    monkeypatch.setattr("sketch_core.trace.MAX_LINES", 400)
    with pytest.raises(ValueError, match=r"holds \d+ lines, wanted at most 400"):
        image_to_sketch(dashes(32), bridge=512)


def test_wide_gaps_between_a_thousand_dashes_take_little_memory():
    """The ends that lie near each other, all of them at once, were 27 MB; 25 times that for 5,000 dashes."""
    rng = np.random.default_rng(0)
    ways = np.linspace(0, 14, 8)[:, None] * rng.choice([-1.0, 1.0], (1000, 1, 2))
    lines = list(rng.uniform(0, 1024, (1000, 1, 2)) + ways)
    tracemalloc.start()
    joined = joins._bridge(lines, 102, 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    assert len(joined) < 500


def test_short_strokes_and_dots_are_left_out_when_asked():
    drawn = of([[50, 100], [450, 100]], [[50, 200], [80, 200]], [[200, 300]])
    assert [len(s.strokes) for s in (image_to_sketch(picture(drawn), min_length=m) for m in (0, 10, 50))] == [
        3,
        2,
        1,
    ]


def test_tolerance_is_in_pixels_of_the_picture():
    fine, coarse = (image_to_sketch(picture(SHAPES["ring"]), tolerance=t) for t in (0.2, 8))
    assert fine.num_points > 4 * coarse.num_points
    assert chamfer(fine, SHAPES["ring"]) < 0.15
    assert chamfer(coarse, SHAPES["ring"]) < 8


# --- real drawings


@pytest.mark.parametrize("width", [2, 5])
def test_drawings_of_people_come_back(width):
    errors, strokes, lengths = [], [], []
    for drawing in DRAWINGS[:8]:
        drawn = fit(drawing, CANVAS, padding=40)
        found = image_to_sketch(picture(drawn, width))
        errors.append(chamfer(found, drawn))
        strokes.append(len(found.strokes) / len(drawn.strokes))
        lengths.append(length(found) / length(drawn))
    assert np.median(errors) < 0.3
    assert max(errors) < 1
    assert 0.7 < np.median(strokes) < 1.3
    assert np.median(lengths) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("index", [0, 5])
def test_a_photo_of_a_pencil_drawing_comes_back(index):
    drawn = fit(DRAWINGS[index], (700, 600), padding=60)
    found = image_to_sketch(photo(drawn, seed=index))
    assert chamfer(found, drawn) < 1
    assert length(found) == pytest.approx(length(drawn), rel=0.1)
    assert len(found.strokes) <= 2 * len(drawn.strokes) + 2


def test_a_dot_in_a_photo_stays_a_dot():
    drawn = of([[240, 270]], RING)
    ring, *dots = sorted(image_to_sketch(photo(drawn)).strokes, key=len, reverse=True)
    assert closed(ring)
    (dot,) = dots
    np.testing.assert_allclose(dot, [[240, 270]], atol=1.5)


def test_what_lies_beside_the_paper_is_no_line():
    drawn = fit(DRAWINGS[0], (600, 600), padding=80)
    page = photo(drawn)
    page[:, :25] = page[580:] = 0.05
    assert chamfer(image_to_sketch(page), drawn) < 1


# --- equivalences


def test_moving_the_drawing_moves_the_strokes():
    drawn = fit(DRAWINGS[3], CANVAS, padding=60)
    base = image_to_sketch(picture(drawn))
    moved = of(*(stroke + [13, -7] for stroke in drawn.strokes))
    found = image_to_sketch(picture(moved))
    assert len(found.strokes) == len(base.strokes)
    assert chamfer(found, of(*(stroke + [13, -7] for stroke in base.strokes))) < 0.05


def test_colour_polarity_and_alpha_do_not_matter():
    drawn = fit(DRAWINGS[3], CANVAS, padding=60)
    base = image_to_sketch(picture(drawn))
    ink = 1 - np.asarray(picture(drawn).convert("L"), np.float32) / 255
    for same in (
        picture(drawn, color="white", background="black"),
        picture(drawn, color="#ffe94d"),
        picture(drawn, color="navy", background="#f4e8c8"),
        picture(drawn, background=None),
        picture(drawn, color="white", background=None),
        ink,
        1 - ink[..., None],
        ink > 0.5,
        Image.fromarray(np.uint16(65535 * (1 - ink))),
    ):
        found = image_to_sketch(same)
        assert abs(len(found.strokes) - len(base.strokes)) <= 1  # edges without grey may part a crossing
        assert chamfer(found, base) < 0.2


def test_polarity_can_be_said():
    page = picture(SHAPES["crossing"])
    assert len(image_to_sketch(page, polarity="dark").strokes) == 2
    assert not np.array_equal(trace(page, polarity="light").ink, trace(page, polarity="dark").ink)


def test_size_changes_scale_alone():
    drawn = fit(DRAWINGS[3], CANVAS, padding=60)
    for side in (128, 300, 1200):
        page = drawn.to_image(side, line_width=side / 100, padding=None)
        found = fit(image_to_sketch(page), CANVAS, padding=60)
        assert chamfer(found, drawn) < 1.5


def test_the_same_picture_gives_the_same_strokes():
    page = photo(fit(DRAWINGS[5], CANVAS, padding=40))
    assert image_to_sketch(page) == image_to_sketch(page)


# --- order and direction


def test_strokes_go_as_hands_do():
    drawn = of([[450, 300], [60, 300]], [[256, 480], [256, 350]], np.roll(RING[:-1], 60, 0)[::-1])
    ring, *lines = image_to_sketch(picture(of(*drawn.strokes[:2], [*RING[:-1], RING[0]]))).strokes
    assert closed(ring)  # the longest first
    x, y = ring[:-1].T
    assert x @ np.roll(y, -1) < y @ np.roll(x, -1)  # anticlockwise, y down
    assert ring[0, 1] == ring[:, 1].min()
    for line in lines:
        assert line[0].sum() < line[-1].sum()


def test_the_pen_goes_on_nearby():
    rows = [[[50, y], [450, y]] for y in (100, 200, 300, 400)]
    found = image_to_sketch(picture(of(*rows[::-1]))).strokes
    assert [round(float(stroke[0, 1])) for stroke in found] == [100, 200, 300, 400]


# --- nothing to see, too much, not a picture


@pytest.mark.parametrize(
    "page",
    [
        np.ones((60, 80)),
        np.zeros((600, 400, 3)),
        np.full((1, 1), 255, np.uint8),
        np.full((1, 3000), 0.5),
        np.linspace(0.3, 0.9, 800, dtype=np.float32)[None].repeat(300, 0),
        0.8 + 0.03 * np.random.default_rng(0).standard_normal((500, 500)),
        np.random.default_rng(1).random((400, 400, 3)),
    ],
    ids=["white", "black", "one pixel", "one row", "gradient", "grain", "static"],
)
def test_where_there_are_no_lines_there_are_no_strokes(page):
    traced = trace(page)
    assert traced.sketch.strokes == ()
    assert traced.sketch.canvas == page.shape[1::-1]
    assert not traced.ink.any()


def test_texture_is_refused(monkeypatch):
    monkeypatch.setattr(graph, "MAX_CROSSINGS", 3)
    with pytest.raises(ValueError, match="4 crossings, wanted at most 3"):
        image_to_sketch(picture(SHAPES["hash"]))
    monkeypatch.undo()
    monkeypatch.setattr("sketch_core.trace.MAX_LINES", 3)
    with pytest.raises(ValueError, match="4 lines, wanted at most 3"):
        image_to_sketch(picture(SHAPES["hash"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"polarity": "both"}, "wanted one of auto, dark, light"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"min_length": float("nan")}, "min_length is nan"),
        ({"bridge": float("inf")}, "bridge is inf"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        image_to_sketch(np.ones((8, 8)), **options)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 2)), r"shape \(4, 4, 2\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.full((4, 4), np.nan), "not finite"),
    ],
)
def test_what_is_no_picture_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        image_to_sketch(array)


def test_without_scikit_image_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match="needs scikit-image.*pip install scikit-image"):
        image_to_sketch(np.ones((8, 8)))


def test_a_large_photo_takes_little_time():
    page = photo(fit(DRAWINGS[5], (1024, 1024), padding=80))
    trace(page)
    begun = time.process_time()
    trace(page)
    assert time.process_time() - begun < 4  # about 0.5 s on one core; the guard is for another order


# --- files


def test_a_photo_is_turned_upright_and_traced_by_convert(tmp_path, capsys):
    page = picture(of([[50, 20], [50, 280]], canvas=(100, 300)))
    exif = page.getexif()
    exif[0x0112] = 6  # turned a quarter
    page.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    assert cli.main(["convert", str(tmp_path / "photo.jpg"), str(tmp_path / "out.svg")]) == 0
    (stroke,) = trace_file(tmp_path / "photo.jpg").sketch.strokes
    np.testing.assert_allclose(stroke, [[50, 20], [50, 280]], atol=1.5)
    assert len(read_svg(tmp_path / "out.svg").strokes) == 1


def test_a_blank_page_is_said_and_not_written(tmp_path, capsys):
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    assert cli.main(["convert", str(tmp_path / "blank.png"), str(tmp_path / "out.svg")]) == 1
    assert "blank.png shows no lines" in capsys.readouterr().err
    assert not (tmp_path / "out.svg").exists()


def test_files_that_are_no_pictures_are_refused(tmp_path, monkeypatch):
    Image.new("L", (50, 50), 255).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("hello")
    for name in ("cut.png", "text.png"):
        with pytest.raises((ValueError, OSError)):
            trace_file(tmp_path / name)
    Image.new("L", (50, 50), 255).save(tmp_path / "big.png")
    monkeypatch.setattr("sketch_core.trace.MAX_PIXELS", 2000)
    with pytest.raises(ValueError, match="50 x 50 pixels, wanted at most 2000"):
        trace_file(tmp_path / "big.png")
