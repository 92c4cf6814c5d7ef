"""SVG of many programs: our strokes lie where svgelements, resvg and the files' own numbers say.

Distances are in pixels of a drawing 512 pixels wide or high.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sketch_core.svg import SvgError, read_svg
from tests.svg_corpus import SEEDS, STYLES, corpus
from tests.svg_oracles import away, error_to_resvg, error_to_svgelements, hairlines

FIXTURES = Path(__file__).parent / "data" / "svg"
NEAR = 0.5
CORPUS = corpus()
# svgelements knows neither transform-origin nor em, and gives a used symbol no viewport of its own.
FOR_RESVG = {"css", "symbols"}
FOR_SVGELEMENTS = sorted(set(STYLES) - FOR_RESVG)


def files_of(style: str) -> dict[str, str]:
    return {name: text for name, text in CORPUS.items() if name.rpartition("-")[0] == style}


def test_the_corpus_is_large_and_no_file_comes_twice():
    assert len(CORPUS) == len(STYLES) * SEEDS == 240
    assert len(set(CORPUS.values())) == 240
    packed = [text for name, text in files_of("minified_icon").items()]
    assert sum(re.search(r"a[^A-Za-z]* [01][01]-?\.?\d", text) is not None for text in packed) >= 10  # flags


@pytest.mark.parametrize("style", FOR_SVGELEMENTS)
def test_every_stroke_is_where_svgelements_has_it(style):
    pytest.importorskip("svgelements", reason="the oracle svgelements is not installed (extra `test`)")
    errors = {name: error_to_svgelements(read_svg(text), text) for name, text in files_of(style).items()}
    assert len(errors) == SEEDS
    assert not {name: error for name, error in errors.items() if not error <= NEAR}


@pytest.mark.parametrize("style", STYLES)
def test_ink_of_resvg_lies_on_our_strokes_and_they_on_it(style):
    pytest.importorskip("resvg_py", reason="the oracle resvg_py is not installed (extra `test`)")
    files = list(files_of(style).items())[: SEEDS // 4 if style in FOR_RESVG else 1]
    errors = {}
    for name, text in files:
        unit = {"traced": 13, "inkscape": 0.26}.get(style, 1)  # units of the shapes in a pixel of the canvas
        lines = hairlines(text, unit * max(read_svg(text).canvas) / 16000)
        errors[name] = error_to_resvg(read_svg(lines), lines)
    assert not {name: error for name, error in errors.items() if not error <= NEAR}


@pytest.mark.parametrize(
    ("style", "find", "put"),
    [
        ("inkscape", "matrix(0.9,0,0,0.9,1,2)", "matrix(0.9,0,0,0.9,1,3.2)"),
        ("line_icon", 'viewBox="0 0 24 24"', 'viewBox="0.05 0 24 24"'),
        ("sketch_app", "rotate(-45.000000)", "rotate(-44.000000)"),
        ("minified_icon", "<path", '<path transform="scale(1.01)"'),
    ],
)
def test_the_comparison_can_fail(style, find, put):
    pytest.importorskip("svgelements")
    text = files_of(style)[f"{style}-01"]
    assert text.count(find)
    assert error_to_svgelements(read_svg(text), text) <= NEAR
    assert error_to_svgelements(read_svg(text.replace(find, put)), text) > NEAR


def test_the_comparison_with_resvg_can_fail():
    pytest.importorskip("resvg_py")
    lines = hairlines(CORPUS["css-01"], 0.03)
    moved = lines.replace('viewBox="0 0 200 200"', 'viewBox="0.4 0 200 200"')
    assert error_to_resvg(read_svg(lines), lines) <= NEAR < error_to_resvg(read_svg(moved), lines)


def test_distances_are_right():
    line = np.array([[0.0, 0], [10, 0], [10, 10]])
    np.testing.assert_allclose(away(np.array([[5.0, 3], [12, 5], [13, 14], [0, 0]]), line), [3, 2, 5, 0])


# --- files written by hand in the manner of a program, with what they must give


FILES = {
    "coreldraw": (
        (40 * 96 / 25.4, 20 * 96 / 25.4),
        3,
        [[18.898, 18.898], [37.795, 56.693], [56.693, 18.898]],
    ),
    "drawio": ((141, 61), 3, None),
    "illustrator_switch": ((64, 64), 2, None),
    "matplotlib": ((192, 96), 3, [[80 / 3, 80], [80, 80 / 3], [496 / 3, 160 / 3]]),
    "whiteboard": ((480, 240), 3, None),
}
LAST = {  # first and last point of the last stroke
    "coreldraw": [[120.945, 18.898], [120.945, 18.898]],
    "drawio": [[139.38, 30.5], [139.38, 30.5]],
    "illustrator_switch": [[8, 36], [8, 36]],
    "matplotlib": [[496 / 3, 256 / 3], [496 / 3, 90]],
    "whiteboard": [[300, 100], [260, 180]],  # rotated by 90 degrees about (20, 10), moved, doubled
}


def fixture_file(name: str) -> Path:
    return FIXTURES / f"{name}.svg"


def test_every_fixture_is_tested():
    assert {path.stem for path in FIXTURES.glob("*.svg")} == {*FILES, "illustrator_entities"}


@pytest.mark.parametrize("name", FILES)
def test_a_programs_own_file(name):
    canvas, count, first = FILES[name]
    sketch = read_svg(fixture_file(name))
    assert sketch.canvas == pytest.approx(canvas)
    assert len(sketch.strokes) == count
    if first is not None:
        np.testing.assert_allclose(sketch.strokes[0], first, atol=0.01)
    np.testing.assert_allclose(sketch.strokes[-1][[0, -1]], LAST[name], atol=0.01)


def test_illustrators_entities_are_refused_with_what_to_do():
    with pytest.raises(SvgError, match="entities, which are never read.*Preserve Illustrator Editing Capab"):
        read_svg(fixture_file("illustrator_entities"))
