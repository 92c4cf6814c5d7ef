"""Charts: where points land, round ticks, equal text for equal charts, both formats."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ImageColor

from sketch_core.evaluate.plot import HEIGHT, WIDTH, ZOOM, Panel, Series, chart, ticks, to_image, to_svg

FALLING = Series("ddim <2M> & co", [(4, 9.0, 0.5), (16, 3.0, None), (8, 5.0, 0.25)])


def dots(canvas, color: str) -> list[tuple[float, float]]:
    return [(x, y) for x, y, found in canvas.dots if found == color]


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(3, 47) == [10, 20, 30, 40]
    assert ticks(4, 1000, log=True) == [5, 10, 20, 50, 100, 200, 500, 1000]
    assert ticks(6, 7, log=True) == [6]
    for low, high in ((-0.004, 0.011), (0.13, 0.27), (5e5, 9e5), (-3, -1)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 8
        assert low <= found[0]
        assert found[-1] <= high


def test_points_lie_in_order_and_equal_ratios_are_equal_lengths_on_a_logarithmic_axis():
    canvas = chart([Panel("calls", "FID", [FALLING], log_x=True)])
    points = sorted(dots(canvas, canvas.dots[0][2]))[-3:]
    x, y = np.array(points).T
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])  # 4, 8, 16
    assert (np.diff(y) > 0).all()  # less is lower on the page, y grows downwards
    linear = chart([Panel("calls", "FID", [FALLING])])
    x = np.array(sorted(dots(linear, linear.dots[0][2]))[-3:])[:, 0]
    assert (x[2] - x[1]) == pytest.approx(2 * (x[1] - x[0]))


def test_a_bar_is_as_long_as_its_interval():
    canvas = chart([Panel("calls", "FID", [FALLING], level=(1.0, "real"))])
    lengths = {
        round(abs(points[1][1] - points[0][1]), 3)
        for points, color, width, _ in canvas.lines
        if color == canvas.dots[0][2] and width == 1
    }
    small, large = sorted(lengths)
    assert large == pytest.approx(2 * small, rel=1e-3)
    assert sum(dashed for *_, dashed in canvas.lines) == 1
    assert "real" in [text for _, _, text, _, _ in canvas.texts]


def test_panels_stand_in_rows_and_everything_lies_inside():
    canvas = chart([Panel("x", f"y {i}", [FALLING, Series("other", [(1, i, 1.0)])]) for i in range(4)])
    assert canvas.width == 3 * WIDTH
    assert canvas.height >= 2 * HEIGHT + 40
    places = [place for points, *_ in canvas.lines for place in points] + [dot[:2] for dot in canvas.dots]
    x, y = np.array(places).T
    assert 0 <= x.min()
    assert x.max() <= canvas.width
    assert 0 <= y.min()
    assert y.max() <= canvas.height


def test_svg_is_wellformed_and_the_same_every_time():
    panels = [Panel("calls", "FID", [FALLING], level=(1.0, "real"))]
    text = to_svg(chart(panels))
    assert text == to_svg(chart(panels))
    root = ElementTree.fromstring(text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "ddim <2M> & co" in texts
    assert {"calls", "FID"} <= set(texts)


def test_the_picture_has_the_colours_of_the_chart():
    canvas = chart([Panel("calls", "FID", [FALLING], level=(1.0, "real"))])
    image = to_image(canvas)
    assert image.size == (round(canvas.width * ZOOM), round(canvas.height * ZOOM))
    x, y, color = canvas.dots[0]
    assert image.getpixel((round(x * ZOOM), round(y * ZOOM))) == ImageColor.getrgb(color)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_one_point_and_level_lines_need_no_span():
    to_image(chart([Panel("x", "y", [Series("one", [(3, 0.0, None)])], level=(0.0, "real"))]))


def test_charts_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="the panel 'y' has no points"):
        chart([Panel("x", "y", [Series("none", [])])])
    with pytest.raises(ValueError, match="begins at 0, wanted above 0"):
        chart([Panel("x", "y", [Series("zero", [(0, 1, None), (2, 1, None)])], log_x=True)])
