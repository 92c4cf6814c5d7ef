"""SVG: what is written is read back by others and by us, and what must not be read is refused."""

from __future__ import annotations

import gzip
import json
import math
import re
import time
import tracemalloc
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import svgpathtools
from hypothesis import given, settings
from hypothesis import strategies as st

from sketch_core.strokes import Sketch, distance_to_segment, fit
from sketch_core.svg import MAX_BYTES, SvgError, read_svg, sketch_to_svg, svg_metadata

NS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def svg(body: str, head: str = 'width="100" height="100"') -> str:
    return f'<svg {NS} {head} fill="none" stroke="black">{body}</svg>'


def scribble(seed: int, *, strokes: int = 5, points: int = 8, side: float = 255.0) -> Sketch:
    rng = np.random.default_rng(seed)
    lines = [rng.uniform(0, side, (1 + (i + seed) % points, 2)) for i in range(strokes)]
    return Sketch(tuple(lines), (side, side), "cat")


def circle(n: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n + 1)
    points = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], 1)
    points[-1] = points[0]
    return points


def farthest(stroke: np.ndarray, points: np.ndarray) -> float:
    """How far the farthest of `points` is from a polyline."""
    segments = zip(stroke[:-1].astype(float), stroke[1:].astype(float), strict=True)
    return float(np.min([distance_to_segment(points, a, b) for a, b in segments], axis=0).max())


# --- writing


def paths_of(text: str) -> list[svgpathtools.Path]:
    return [svgpathtools.parse_path(d) for d in re.findall(r'<path d="([^"]*)"', text)]


@pytest.mark.parametrize("smooth", [False, True])
def test_svgpathtools_reads_the_same_geometry(smooth, tmp_path):
    sketch = scribble(3)
    text = sketch_to_svg(sketch, smooth=smooth)
    for path, stroke in zip(paths_of(text), sketch.strokes, strict=True):
        ends = [path.start, *(segment.end for segment in path)]
        on = np.array([[z.real, z.imag] for z in ends])
        np.testing.assert_allclose(on[: len(stroke)], stroke, atol=0.0051)  # it passes through every point
        assert len(on) == max(2, len(stroke))
        assert all(isinstance(s, svgpathtools.Line) for s in path) or smooth
    (tmp_path / "drawing.svg").write_text(sketch_to_svg(sketch, background=None), encoding="utf-8")
    paths, _ = svgpathtools.svg2paths(str(tmp_path / "drawing.svg"))
    assert len(paths) == len(sketch.strokes)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 255, width=32), st.floats(0, 255, width=32)), min_size=1, max_size=9),
        max_size=5,
    )
)
def test_writing_and_reading_round_trips(strokes):
    sketch = Sketch(tuple(np.array(s, np.float32) for s in strokes), label="cat")
    back = read_svg(sketch_to_svg(sketch))
    assert (back.canvas, back.label, len(back.strokes)) == (sketch.canvas, "cat", len(sketch.strokes))
    for ours, theirs in zip(sketch.strokes, back.strokes, strict=True):
        if len(theirs) == 1:  # a dot, or points that fall together at two decimals
            assert np.ptp(ours, axis=0).max() <= 0.0101
        else:
            np.testing.assert_allclose(ours, theirs, atol=0.0051)
    for ours, theirs in zip(
        sketch.strokes, read_svg(sketch_to_svg(sketch, smooth=True)).strokes, strict=True
    ):
        assert len(theirs) == 1 or farthest(theirs, ours.astype(float)) <= 0.0101


@pytest.mark.parametrize("side", [1.0, 24.0, 4000.0])
def test_decimals_follow_the_size(side):
    sketch = scribble(1, side=side)
    for ours, theirs in zip(sketch.strokes, read_svg(sketch_to_svg(sketch)).strokes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=min(0.0055, side / 1e4))


def test_one_round_capped_path_a_stroke_and_trimmed_numbers():
    sketch = Sketch((np.array([[1.0, 2.5], [3.126, -0.001]]), np.array([[7.0, 8.0]])), canvas=(255.0, 255.0))
    text = sketch_to_svg(sketch)
    assert re.findall(r'd="([^"]*)"', text) == ["M1 2.5L3.13 0", "M7 8L7 8"]
    assert 'stroke-linecap="round"' in text
    assert 'stroke-linejoin="round"' in text
    assert 'width="255" height="255" viewBox="0 0 255 255"' in text
    assert '<rect width="255" height="255" fill="white"/>' in text
    assert "<rect" not in sketch_to_svg(sketch, background=None)


def test_size_and_padding():
    sketch = Sketch((np.array([[10.0, 10], [60, 10]]), np.array([[10.0, 30]])), canvas=(200.0, 100.0))
    placed = read_svg(sketch_to_svg(sketch, size=(400, 300)))
    assert placed.canvas == (400, 300)
    np.testing.assert_allclose(placed.strokes[0], [[20, 70], [120, 70]])  # twice as large, centred
    fitted = read_svg(sketch_to_svg(sketch, size=(400, 300), padding=0.1, stroke_width=10))
    expected = fit(sketch, (400, 300), padding=35)
    np.testing.assert_allclose(fitted.strokes[0], expected.strokes[0], atol=0.01)
    assert read_svg(sketch_to_svg(Sketch(()), padding=0.1)).strokes == ()


def test_smoothing_keeps_a_circle_round_and_corners_sharp():
    ring, square = circle(8), np.array([[10.0, 10], [90, 10], [90, 90], [10, 90], [10, 10]])
    sketch = Sketch((ring, square), canvas=(100.0, 100.0))
    smooth = read_svg(sketch_to_svg(sketch, smooth=True))
    radius = np.hypot(*(smooth.strokes[0] - 50).T)
    assert np.abs(radius - 40).max() < 0.6
    assert (
        np.abs(np.hypot(*(ring[:-1] + ring[1:] - 100).T / 2) - 40).max() > 3
    )  # the polygon itself is not round
    np.testing.assert_allclose(smooth.strokes[1], square)


@pytest.mark.parametrize(
    "label",
    [
        "The Eiffel Tower",
        "a \"b\" <c> & 'd'",
        "]]>",
        "\x00\x01\x1f\x7f",
        "cat 🐈",
        "half \ud83d",
        "a\r\n\tb",
        "￾",
        "</svg><svg>",
        "",
    ],
)
def test_any_label_gives_valid_xml(label):
    text = sketch_to_svg(
        Sketch((np.ones((2, 2)),), label=label), metadata={"note": label, label: [1, None, "é"]}
    )
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert (root.find("{*}title") is None) == (label == "")
    assert read_svg(text).label == label  # through JSON, nothing is lost
    assert svg_metadata(text) == {"label": label, "note": label, label: [1, None, "é"]} | (
        {"label": label} if label != "label" else {}
    )


def test_comfyui_can_inject_its_own_metadata():
    """SaveSVGNode puts its CDATA behind everything that looks like an opening svg tag."""
    sketch = Sketch((np.array([[1.0, 1], [9, 9]]),), label="a <svg> b > c ]]>")
    text = sketch_to_svg(sketch, metadata={"prompt": "<svg width='1'> ]]> &"})
    tags = re.findall(r"<svg[^>]*>", text)
    assert len(tags) == 1
    assert text.startswith(tags[0])
    assert "]]>" not in text
    injected = re.sub(r"(<svg[^>]*>)", r"\1<metadata><![CDATA[{}]]></metadata>", text)
    assert read_svg(injected) == read_svg(text)
    assert svg_metadata(injected) == svg_metadata(text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"color": 'red"/><script>'}, "color is .*Check the spelling"),
        ({"color": "blakc"}, "Check the spelling"),
        ({"background": "url(#x)"}, "background is"),
        ({"background": "#12"}, "background is"),
        ({"color": None}, "color is 'None'"),
        ({"size": 0}, "wanted sides"),
        ({"size": 1e9}, "wanted sides"),
        ({"size": (10, float("nan"))}, "wanted sides"),
        ({"size": "big"}, "wanted a number of pixels"),
        ({"size": (1, 2, 3)}, "wanted a number of pixels"),
        ({"stroke_width": 0}, "stroke width is 0"),
        ({"stroke_width": float("inf")}, "stroke width is inf"),
        ({"padding": 0.5}, "leave nothing"),
        ({"metadata": {"a": float("nan")}}, "as JSON"),
        ({"metadata": {"a": object()}}, "as JSON"),
    ],
)
def test_what_cannot_be_written_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        sketch_to_svg(scribble(0), **options)


# --- reading


def arc_oracle(d: str) -> np.ndarray:
    path = svgpathtools.parse_path(d)
    return np.array([[z.real, z.imag] for segment in path for z in map(segment.point, np.linspace(0, 1, 60))])


@pytest.mark.parametrize("large", [0, 1])
@pytest.mark.parametrize("sweep", [0, 1])
@pytest.mark.parametrize("shape", ["30 18 25", "40 11 -70", "5 5 0", "18 30 400"])
def test_arcs_agree_with_svgpathtools(large, sweep, shape):
    d = f"M30 40A{shape} {large} {sweep} 62 51"
    (stroke,) = read_svg(svg(f'<path d="{d}"/>')).strokes
    assert farthest(stroke, arc_oracle(d)) < 0.03
    np.testing.assert_allclose(stroke[[0, -1]], [[30, 40], [62, 51]], atol=1e-5)
    centred = stroke - stroke.mean(0)
    assert len(stroke) > 8
    assert np.ptp(centred, axis=0).min() > 1


def test_curves_stay_within_the_tolerance():
    d = "M5 5C90 0 10 90 95 95S60 10 50 50Q0 80 30 90T5 20c1 2 3 4 5 6q9 9 9 0t5 5 6-6"
    for tolerance in (1.0, 0.05):
        (stroke,) = read_svg(svg(f'<path d="{d}"/>'), tolerance=tolerance).strokes
        assert farthest(stroke, arc_oracle(d)) < tolerance + 1e-5
    coarse, fine = (read_svg(svg(f'<path d="{d}"/>'), tolerance=t).num_points for t in (1.0, 0.05))
    assert coarse < fine < 300


@pytest.mark.parametrize(
    ("d", "strokes"),
    [
        ("M1 2 3 4 5-6", [[[1, 2], [3, 4], [5, -6]]]),
        ("m1 2 3 4 5-6", [[[1, 2], [4, 6], [9, 0]]]),
        ("M1,2h3v4H0V0z", [[[1, 2], [4, 2], [4, 6], [0, 6], [0, 0], [1, 2]]]),
        ("M0 0L1 1M1 1L2 2", [[[0, 0], [1, 1]], [[1, 1], [2, 2]]]),
        ("M5 5l1 0zm2 2 1 1", [[[5, 5], [6, 5], [5, 5]], [[7, 7], [8, 8]]]),
        ("M5 5l1 0zl2 2", [[[5, 5], [6, 5], [5, 5], [7, 7]]]),
        ("M-.5.5-1-1+3+3", [[[-0.5, 0.5], [-1, -1], [3, 3]]]),
        ("M1e1 2E+1L.3e2,4e-1", [[[10, 20], [30, 0.4]]]),
        ("M3 4z", [[[3, 4]]]),
        ("M3 4h0", [[[3, 4]]]),
        ("M3 4a5 5 0 01 0 0l1 1", [[[3, 4], [3, 4], [4, 5]]]),
        ("M0 0a0 5 0 015 5", [[[0, 0], [5, 5]]]),
        ("M3 4", []),
        ("", []),
    ],
)
def test_path_data(d, strokes):
    found = read_svg(svg(f'<path d="{d}"/>')).strokes
    assert len(found) == len(strokes)
    for ours, wanted in zip(found, strokes, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "points"),
    [
        ('<line x1="1" y1="2" x2="50%" y2="1in"/>', [[1, 2], [50, 96]]),
        ('<line x1="1cm" y1="10mm" x2="3pt" y2="2pc"/>', [[37.795, 37.795], [4, 32]]),
        ('<polyline points="1,2 3,4 5"/>', [[1, 2], [3, 4]]),
        ('<polygon points="0,0 4,0,4 3"/>', [[0, 0], [4, 0], [4, 3], [0, 0]]),
        ('<rect x="1" y="2" width="3" height="4"/>', [[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]),
        (
            '<g transform="translate(10 20)"><g transform="scale(2)"><path d="M1 1L2 3"/></g></g>',
            [[12, 22], [14, 26]],
        ),
        ('<path transform="rotate(90 10 10),translate(5)" d="M5 10L10 10"/>', [[10, 10], [10, 15]]),
        ('<path transform="matrix(0 1 -1 0 5 6)" d="M1 2L3 4"/>', [[3, 7], [1, 9]]),
        ('<path transform="skewX(45)" d="M0 0L0 10"/>', [[0, 0], [10, 10]]),
        ('<path transform="skewY(-45)" d="M0 0L10 10"/>', [[0, 0], [10, 0]]),
        (
            '<defs><path id="p" d="M0 0L1 1"/></defs><use xlink:href="#p" x="3" y="4" transform="scale(2)"/>',
            [[6, 8], [8, 10]],
        ),
        (
            '<symbol id="s" viewBox="0 0 10 5"><path d="M0 0L10 5"/></symbol>'
            '<use href="#s" width="20" height="20"/>',
            [[0, 5], [20, 15]],
        ),
        (
            '<svg x="10" y="20" width="50%" height="50" viewBox="0 0 5 5"><path d="M0 0L5 5"/></svg>',
            [[10, 20], [60, 70]],
        ),
        (
            '<switch><foreignObject/><g><path d="M0 0L1 1"/></g><path d="M9 9L1 1"/></switch>',
            [[0, 0], [1, 1]],
        ),
        ('<a href="https://example.org"><path d="M0 0L1 1"/></a>', [[0, 0], [1, 1]]),
    ],
)
def test_shapes_transforms_units_and_use(body, points):
    (stroke,) = read_svg(svg(body)).strokes
    np.testing.assert_allclose(stroke, points, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "canvas", "corner"),
    [
        ('viewBox="0 0 24 12"', (24, 12), (24, 12)),
        ('width="48" viewBox="0 0 24 12"', (48, 24), (48, 24)),
        ('width="100%" height="100%" viewBox="0 0 24 12"', (24, 12), (24, 12)),
        ('width="1in" height="1in" viewBox="0 0 24 12"', (96, 96), (96, 72)),
        ('width="96" height="96" viewBox="0 0 24 12" preserveAspectRatio="none"', (96, 96), (96, 96)),
        ('width="96" height="96" viewBox="0 0 24 12" preserveAspectRatio="xMaxYMin"', (96, 96), (96, 48)),
        (
            'width="96" height="96" viewBox="0 0 24 12" preserveAspectRatio="xMidYMid slice"',
            (96, 96),
            (144, 96),
        ),
        ('width="96" height="96" viewBox="12 6 24 24"', (96, 96), (48, 24)),
        ("", (24, 12), (24, 12)),
    ],
)
def test_canvas_and_view_box(head, canvas, corner):
    sketch = read_svg(svg('<path d="M24 12L0 0"/>', head))
    assert sketch.canvas == pytest.approx(canvas)
    np.testing.assert_allclose(sketch.strokes[0][0], corner, atol=1e-4)


def test_round_shapes_are_round():
    ring, oval, box = read_svg(
        svg(
            '<circle cx="50" cy="50" r="40"/><ellipse cx="50" cy="50" rx="40" ry="10"/>'
            '<rect width="90" height="40" rx="20"/>'
        )
    ).strokes
    np.testing.assert_allclose(np.hypot(*(ring - 50).T), 40, atol=0.001)
    np.testing.assert_allclose(((oval - 50) / [40, 10]) ** 2 @ [1, 1], 1, atol=0.001)
    assert box.min() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(box.max(0), [90, 40], atol=1e-4)
    ends = box[box[:, 0] < 20] - [20, 20]
    np.testing.assert_allclose(np.hypot(*ends.T), 20, atol=0.01)


@pytest.mark.parametrize(
    "body",
    [
        '<path display="none" d="M0 0L9 0"/>',
        '<g style="fill:red; display : none"><path d="M0 0L9 0"/></g>',
        '<style>.a, #b{display:none}</style><path class="x a" d="M0 0L9 0"/><path id="b" d="M0 0L9 0"/>',
        "<style>/* .c{} */ path.a{visibility:hidden} @media print{.k{display:none}}</style>"
        '<path class="a" d="M0 0L9 0"/>',
        '<defs><path d="M0 0L9 0"/></defs><clipPath id="c"><path d="M0 0L9 0"/></clipPath><mask>'
        '<path d="M0 0h9"/></mask>',
        '<symbol><path d="M0 0L9 0"/></symbol><marker><path d="M0 0h9"/></marker><pattern>'
        '<path d="M0 0h9"/></pattern>',
        '<path d="M0 0h24v24H0z" fill="none" stroke="none"/>',
        '<rect width="100" height="100" fill="white" stroke="none"/>',
        '<g opacity="0"><path d="M0 0L9 0"/></g><path transform="scale(0)" d="M0 0L9 0"/>',
        '<path fill-opacity="0" fill="red" stroke="none" d="M0 0L9 0"/><polyline points="5 5"/>',
        '<path stroke-width="0" d="M0 0L9 0"/><path style="stroke-opacity:0%" d="M0 0L9 0"/>',
        '<rect width="0" height="4"/><circle r="0"/><path d=""/><use href="#nothing"/>'
        '<use href="other.svg#k"/>',
        '<text>M0 0L9 0</text><image href="/etc/passwd"/><x:path xmlns:x="urn:x" d="M0 0L9 0"/>',
    ],
)
def test_what_is_not_drawn_is_left_out(body):
    (stroke,) = read_svg(svg(body + '<path class="k" d="M1 1L2 2"/>')).strokes
    np.testing.assert_array_equal(stroke, [[1, 1], [2, 2]])


@pytest.mark.parametrize(
    ("body", "points"),
    [
        ('<path style="transform:translate(10px,5%)" d="M0 0L1 1"/>', [[10, 5], [11, 6]]),
        ('<path style="transform: rotate(.25turn) scale(200%, 1)" d="M0 0L1 0"/>', [[0, 0], [0, 2]]),
        ('<path style="transform:rotate(100grad)" d="M0 0L1 0"/>', [[0, 0], [0, 1]]),
        ('<path style="transform:translateX(1in) translateY(-2px)" d="M0 2L1 2"/>', [[96, 0], [97, 0]]),
        ('<path style="transform:scaleX(2) scaleY(3) skew(45deg)" d="M0 1L1 1"/>', [[2, 3], [4, 3]]),
        ('<path transform="scale(9)" style="transform:none" d="M0 0L1 1"/>', [[0, 0], [1, 1]]),
        ('<path transform="rotate(90)" transform-origin="center" d="M50 50L60 50"/>', [[50, 50], [50, 60]]),
        ('<path transform="scale(2)" transform-origin="right top" d="M100 0L90 5"/>', [[100, 0], [80, 10]]),
        ('<path transform="scale(2)" transform-origin="top right" d="M100 0L90 5"/>', [[100, 0], [80, 10]]),
        ('<path transform="scale(2)" transform-origin="bottom" d="M50 100L50 95"/>', [[50, 100], [50, 90]]),
        ('<path transform="scale(2)" transform-origin="10px 20%" d="M10 20L11 20"/>', [[10, 20], [12, 20]]),
        ('<g font-size="10"><line x2="2em" y2="1rem"/></g>', [[0, 0], [20, 16]]),
        ('<g font-size="10"><g style="font-size:150%"><line x2="2em"/></g></g>', [[0, 0], [30, 0]]),
        ('<g font-size="large"><line x2="1em"/></g>', [[0, 0], [16, 0]]),
        ('<rect width="9" height="9" rx="-1"/>', [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]),
        (
            '<switch><g systemLanguage="de"><path d="M9 9h1"/></g><path systemLanguage="fr,en" d="M0 0h1"/>'
            '<path d="M5 5h1"/></switch>',
            [[0, 0], [1, 0]],
        ),
        (
            "<style>#p{transform:scale(2)} .a.b{transform:scale(3)} .a{transform:scale(4)}</style>"
            '<path id="p" class="a b" d="M0 0L1 1"/>',
            [[0, 0], [2, 2]],
        ),
        (
            "<style>.a{transform:scale(2)} .b{transform:scale(3)}</style>"  # the sheet's order
            '<path class="b a" d="M0 0L1 1"/>',
            [[0, 0], [3, 3]],
        ),
        (
            "<style>path{transform:scale(2)!important} #p{transform:scale(3)}</style>"
            '<path id="p" style="transform:scale(4)" d="M0 0L1 1"/>',
            [[0, 0], [2, 2]],
        ),
    ],
)
def test_styles_origins_and_font_sizes(body, points):
    (stroke,) = read_svg(svg(body)).strokes
    np.testing.assert_allclose(stroke, points, atol=1e-4)


def test_compressed_files(tmp_path):
    text = svg('<path d="M1 2L3 4"/>')
    (tmp_path / "a.svgz").write_bytes(gzip.compress(text.encode()))
    assert read_svg(tmp_path / "a.svgz") == read_svg(gzip.compress(text.encode())) == read_svg(text)


def test_outlines_without_any_paint_are_read_when_nothing_else_is_there():
    assert (
        len(read_svg(f'<svg {NS}><g fill="none"><path d="M0 0L1 1"/><path d="M0 0L9 1"/></g></svg>').strokes)
        == 2
    )


def test_a_drawn_frame_is_not_paper():
    frame = '<rect width="100" height="100"/><path d="M1 1L2 2"/>'
    assert len(read_svg(svg(frame)).strokes) == 2


def test_sources(tmp_path):
    text = svg('<path d="M1 2L3 4"/>')
    doctype = (
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"\n "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
    )
    (tmp_path / "a.svg").write_text(text, encoding="utf-8")
    declared = '<?xml version="1.0" encoding="UTF-8"?>\n' + doctype + text
    same = [
        text,
        text.encode(),
        tmp_path / "a.svg",
        declared,
        declared.encode(),
        text.encode("utf-16"),
        "\ufeff" + text,
    ]
    assert all(read_svg(source) == read_svg(text) for source in same)


BOMB = '<g id="u0"><path d="M0 0h1"/></g>' + "".join(
    f'<g id="u{i + 1}">' + f'<use href="#u{i}"/>' * 10 + "</g>" for i in range(8)
)
HOSTILE = {
    "billion laughs": (
        '<!DOCTYPE s [<!ENTITY a "ha">'
        + "".join(f'<!ENTITY {q} "{f"&{p};" * 10}">' for p, q in zip("abcdefgh", "bcdefghi", strict=True))
        + "]>"
        + svg("&i;"),
        "document type or entities",
    ),
    "external entity": (
        '<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + svg("<text>&x;</text>"),
        "document type",
    ),
    "use bomb": (svg(BOMB), "more than 1000 <use>"),
    "use of itself": (svg('<g id="a"><use href="#a"/></g>'), "contains itself"),
    "use in a ring": (svg('<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>'), "contains itself"),
    "use of the root": (svg('<use href="#r"/>', 'id="r"'), "contains itself"),
    "deep groups": (svg("<g>" * 5000 + "</g>" * 5000), "deeper than 64"),
    "deep uses": (
        svg("".join(f'<g id="d{i}"><use href="#d{i + 1}"/></g>' for i in range(200))),
        "deeper than 64",
    ),
    "many elements": (svg("<a/>" * 1_000_000), "more than 20000 elements"),
    "too large": (svg(" " * (MAX_BYTES + 1)), "larger than 8 MB"),
    "many segments": (svg(f'<path d="M0 0{"h1" * 900_000}"/>'), "more than 200000 segments"),
    "many arcs": (svg(f'<path d="M0 0{"a1 1 0 012 0" * 190_000}"/>'), "more than 200000 segments"),
    "many moves": (svg(f'<path d="{"M1 1z" * 600_000}"/>'), "more than 200000 segments"),
    "many points": (svg(f'<polyline points="{"1 2 " * 900_000}"/>'), "more than 400000 numbers"),
    "many paths": (svg(f'<path d="{" " * 100_000}M0 0h1"/>' * 70), "characters of path data"),
    "many transforms": (
        svg(('<g transform="' + "scale(1)" * 49 + '"/>') * 10_000),
        "characters of transforms",
    ),
    "long transform": (svg('<g transform="' + "scale(1)" * 900 + '"/>'), "longer than 2000"),
    "endless curve": (svg('<circle r="9e8"/>', 'viewBox="0 0 1 1"'), "more than 1000000 points"),
    "long number": (svg(f'<circle r="{"1" * 3_000_000}x"/>'), "wanted a length"),
    "long digits": (svg(f'<path d="M{"1" * 3_000_000}"/>'), "up to 1e"),
    "NaN in a path": (svg('<path d="M0 NaNL1 1"/>'), "path data 'M0 NaNL1 1' cannot be read"),
    "NaN length": (svg('<circle r="nan"/>'), "wanted a length"),
    "NaN points": (svg('<polyline points="1 2 nan 3"/>'), "wanted numbers"),
    "infinite path": (svg('<path d="M0 0L1e999 1"/>'), "no finite number"),
    "infinite sum": (svg('<path d="M0 0' + "l1e308 0" * 9 + '"/>'), "no finite number"),
    "infinite matrix": (svg('<g transform="scale(1e9)scale(1e9)"><path d="M1 1L2 2"/></g>'), "out of bounds"),
    "vanishing viewBox": (
        svg('<circle r="9e8"/>', 'width="1e8" height="1" viewBox="0 0 1e-300 1e-300"'),
        "coordinates beyond",
    ),
    "empty viewBox": (svg("", 'viewBox="0 0 0 5"'), "viewBox is"),
    "no size": (svg("", 'width="0" height="5"'), "nothing of it can be seen"),
    "unknown transform": (svg('<g transform="spin(3)"/>'), "transform 'spin"),
    "open transform": (svg('<g transform="scale(3"/>'), "transform 'scale"),
    "transform of a word": (svg('<g transform="scale(two)"/>'), "transform 'scale.two.' holds 'two'"),
    "transform in space": (svg('<g style="transform:rotate3d(1,1,1,45deg)"/>'), "transform 'rotate3d"),
    "unknown origin": (
        svg('<g transform="scale(2)" transform-origin="left wing"/>'),
        "transform-origin is 'wing'",
    ),
    "unknown unit": (svg('<line x1="3parsec"/>'), "wanted a length"),
    "unknown aspect": (svg("", 'viewBox="0 0 1 1" preserveAspectRatio="middle"'), "preserveAspectRatio"),
    "cut off": (svg("")[:-9], "not well-formed"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "not well-formed"),
    "damaged svgz": (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "svgz cannot be unpacked"),
    "a web page": ("<html/>", "outermost element is <html>"),
    "a file name": ("drawing.svg", "pathlib.Path"),
    "half a character": (svg("<title>\ud800</title>"), "surrogate"),
    "unknown encoding": (b'<?xml version="1.0" encoding="foo"?><svg/>', "encoding"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence_quickly(name):
    source, match = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(SvgError, match=match) as refused:
        read_svg(source)
    assert time.process_time() - start < 2
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", ["many elements", "many paths", "use bomb"])
def test_hostile_files_take_little_memory(name):
    tracemalloc.start()
    with pytest.raises(SvgError):
        read_svg(HOSTILE[name][0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250e6


@pytest.mark.parametrize(
    "d",
    [
        "L1 1",
        "M",
        "M1",
        "M12",
        "M0 0L1",
        "M0 0 1 2 3",
        "M0 0a1 1 0 2 0 1 1",
        "M0 0A1 1 0 0 1",
        "M0 0Le",
        "M0 0z5",
        "M0 0L1 1#",
    ],
)
def test_broken_path_data_is_refused(d):
    with pytest.raises(SvgError, match="cannot be read"):
        read_svg(svg(f'<path d="{d}"/>'))


@settings(deadline=None)
@given(st.text(alphabet="MmLlHhVvCcSsQqTtAaZz0123456789.-+eE, ", max_size=40))
def test_any_path_data_is_read_or_refused(d):
    try:
        sketch = read_svg(svg(f'<path d="M0 0{d}"/>'))
    except SvgError:
        return
    assert all(np.isfinite(stroke).all() for stroke in sketch.strokes)


def test_a_style_sheet_cannot_stall_the_reader():
    sheets = ["@" * 190_000 + "{" * 5000, "/*" * 95_000, "{}" * 95_000, "a{" * 95_000, "<!--" * 40_000]
    for sheet in sheets:
        start = time.process_time()
        read_svg(svg(f"<style><![CDATA[{sheet}]]></style>"))
        assert time.process_time() - start < 1


def test_metadata_of_other_programs_is_not_ours():
    assert svg_metadata(svg('<metadata id="other">{"label": "cat"}</metadata>')) == {}
    assert svg_metadata(svg('<metadata id="sketchknitter">[1]</metadata>')) == {}
    assert read_svg(svg('<metadata id="sketchknitter">{"label": 5}</metadata>')).label is None
    nested = json.dumps({"label": "x", "deep": [[[]]]})
    assert svg_metadata(svg(f'<metadata id="sketchknitter">{nested}</metadata>'))["label"] == "x"
    assert svg_metadata(svg(f'<metadata id="sketchknitter">{"[" * 100_000}</metadata>')) == {}


def test_tolerance_must_be_a_distance():
    with pytest.raises(ValueError, match="tolerance is 0"):
        read_svg(svg(""), tolerance=0)
    with pytest.raises(ValueError, match="tolerance is nan"):
        read_svg(svg(""), tolerance=math.nan)
    with pytest.raises(ValueError, match="got int"):
        read_svg(5)
