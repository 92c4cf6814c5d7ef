"""Sketch <-> SVG: a small writer, and the door to a reader that trusts nothing.

Writing: one round-capped `<path>` a stroke, coordinates in output pixels with as many decimals as the size
needs (two at 255), optionally smoothed by Bézier curves that pass through every point. What is known of the
drawing travels as JSON in `<metadata id="sketchknitter">`, escaped so that any text survives and nothing
can leave it.

Reading: outlines of path, line, polyline, polygon, rect, circle and ellipse from any drawing program,
flattened to polylines. `svg_reader.py` says what is followed and what is left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from .strokes import Sketch, bounds
from .svg_paths import flatten
from .svg_reader import read_outlines
from .svg_values import SvgError
from .svg_xml import MAX_BYTES, SVG_NAMESPACE, parse_svg, tag_of

__all__ = ["MAX_BYTES", "SvgError", "read_svg", "sketch_to_svg", "svg_metadata"]

SIDES = (1e-3, 1e5)  # px, of a canvas that is written

METADATA_ID = "sketchknitter"
COLOR_NAMES = frozenset(
    """aliceblue antiquewhite aqua aquamarine azure beige bisque black blanchedalmond blue blueviolet brown
    burlywood cadetblue chartreuse chocolate coral cornflowerblue cornsilk crimson cyan darkblue
    darkcyan darkgoldenrod darkgray darkgreen darkgrey darkkhaki darkmagenta darkolivegreen darkorange
    darkorchid darkred darksalmon darkseagreen darkslateblue darkslategray darkslategrey darkturquoise
    darkviolet deeppink deepskyblue dimgray dimgrey dodgerblue firebrick floralwhite forestgreen fuchsia
    gainsboro ghostwhite gold goldenrod gray green greenyellow grey honeydew hotpink indianred indigo
    ivory khaki lavender lavenderblush lawngreen lemonchiffon lightblue lightcoral lightcyan
    lightgoldenrodyellow lightgray lightgreen lightgrey lightpink lightsalmon lightseagreen lightskyblue
    lightslategray lightslategrey lightsteelblue lightyellow lime limegreen linen magenta maroon
    mediumaquamarine mediumblue mediumorchid mediumpurple mediumseagreen mediumslateblue
    mediumspringgreen mediumturquoise mediumvioletred midnightblue mintcream mistyrose moccasin
    navajowhite navy oldlace olive olivedrab orange orangered orchid palegoldenrod palegreen
    paleturquoise palevioletred papayawhip peachpuff peru pink plum powderblue purple rebeccapurple red
    rosybrown royalblue saddlebrown salmon sandybrown seagreen seashell sienna silver skyblue slateblue
    slategray slategrey snow springgreen steelblue tan teal thistle tomato turquoise violet wheat white
    whitesmoke yellow yellowgreen currentcolor transparent""".split()
)


# --- writing


def sketch_to_svg(
    sketch: Sketch,
    *,
    size: float | tuple[float, float] | None = None,
    padding: float | None = None,
    stroke_width: float | None = None,
    color: str = "black",
    background: str | None = "white",
    smooth: bool = False,
    metadata: dict | None = None,
    title: str | None = None,
) -> str:
    """SVG text of a drawing.

    size          output pixels: one number for a square, (width, height), or None for the canvas.
    padding       share of the shorter side kept free of ink while the drawing is fitted and centred;
                  None leaves the drawing where it is on its canvas, the canvas being fitted and centred.
    stroke_width  output pixels; None: 1/85 of the shorter side (3 px at 255).
    color, background  CSS colour names or #hex; a background of None leaves the paper clear.
    smooth        cubic Bézier curves through the points instead of straight lines; sharp corners stay sharp.
    metadata      anything JSON can say, kept in the file; `svg_metadata` reads it back.
    title         what viewers show; None: the label.
    """
    width, height = _output_size(sketch, size)
    shorter = min(width, height)
    stroke_width = shorter / 85 if stroke_width is None else float(stroke_width)
    if not 0 < stroke_width <= shorter:
        raise ValueError(
            f"stroke width is {stroke_width:g} pixels, wanted more than 0 and at most the shorter side, "
            f"{shorter:g}. Give another width."
        )
    decimals = min(9, max(2, 4 - math.floor(math.log10(shorter))))
    zoom, shift = _placement(sketch, width, height, stroke_width, padding)
    w, h = _number(width, 6), _number(height, 6)
    lines = [f'<svg xmlns="{SVG_NAMESPACE}" width="{w}" height="{h}" viewBox="0 0 {w} {h}">']
    title = sketch.label if title is None else title
    if title:
        lines.append(f"<title>{_escape(title)}</title>")
    known = ({} if sketch.label is None else {"label": sketch.label}) | (metadata or {})
    if known:
        lines.append(f'<metadata id="{METADATA_ID}">{_json(known)}</metadata>')
    if background is not None:
        lines.append(f'<rect width="{w}" height="{h}" fill="{_color("background", background)}"/>')
    ink, thick = _color("color", color), _number(stroke_width, decimals + 1)
    lines.append(
        f'<g fill="none" stroke="{ink}" stroke-width="{thick}" '
        'stroke-linecap="round" stroke-linejoin="round">'
    )
    for stroke in sketch.strokes:
        points = stroke.astype(np.float64) * zoom + shift
        lines.append(f'<path d="{_path_data(points, decimals, smooth)}"/>')
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _output_size(sketch: Sketch, size: float | tuple[float, float] | None) -> tuple[float, float]:
    sides = (
        sketch.canvas if size is None else tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    )
    try:
        width, height = (float(side) for side in sides)
    except (TypeError, ValueError):
        raise ValueError(f"size is {size!r}, wanted a number of pixels, (width, height) or None.") from None
    if not all(SIDES[0] <= side <= SIDES[1] for side in (width, height)):
        raise ValueError(
            f"an SVG of {width:g} x {height:g} pixels was asked for, wanted sides from {SIDES[0]:g} to "
            f"{SIDES[1]:g}. Give another size."
        )
    return width, height


def _placement(sketch: Sketch, width: float, height: float, stroke_width: float, padding: float | None):
    """zoom and shift (2,) that bring canvas units to output pixels; the same rule as the raster's."""
    middle = np.array([width, height]) / 2
    if padding is None or not sketch.strokes:
        zoom = min(width / sketch.canvas[0], height / sketch.canvas[1])
        return zoom, middle - np.array(sketch.canvas) / 2 * zoom
    margin = float(padding) * min(width, height) + stroke_width / 2
    if not (padding >= 0 and 2 * margin < min(width, height)):
        raise ValueError(
            f"padding {padding:g} and a line of {stroke_width:g} pixels leave nothing of {width:g} x "
            f"{height:g}. Make one of them smaller."
        )
    left, top, right, bottom = bounds(sketch)
    extent = np.array([right - left, bottom - top])
    room = np.array([width, height]) - 2 * margin
    zoom = float(np.min(room / np.maximum(extent, 1e-9))) if extent.any() else 1.0
    return zoom, middle - np.array([left + right, top + bottom]) / 2 * zoom


def _path_data(points: np.ndarray, decimals: int, smooth: bool) -> str:
    """Path data through `points` (n, 2); a dot is a line of no length, which round caps make a disc."""

    def text(rows: np.ndarray) -> str:
        return " ".join(_number(value, decimals) for value in rows.reshape(-1))

    start = "M" + text(points[:1])
    if len(points) == 1:
        return start + "L" + text(points)
    if not smooth:
        return start + "L" + text(points[1:])
    return start + "".join(
        ("L" if len(controls) == 1 else "C") + text(controls) for controls in _smooth_runs(points)
    )


def _smooth_runs(points: np.ndarray) -> Iterator[np.ndarray]:
    """Control points after the start: (1, 2) rows for a straight line or (3 m, 2) for m cubic curves.

    The line is cut where it turns by more than 75 degrees; between cuts, centripetal Catmull-Rom curves
    (Catmull & Rom, 1974; Yuksel et al., 2011: no loops and no cusps within a curve), as Béziers. A closed
    stroke without corners has no ends.
    """
    points = points[np.concatenate([[True], np.any(np.diff(points, axis=0) != 0, axis=1)])]
    if len(points) == 1:  # several equal points: a dot
        yield points
        return
    step = np.diff(points, axis=0)
    unit = step / np.maximum(np.hypot(*step.T), 1e-300)[:, None]
    sharp = np.cos(np.radians(75))
    corners = np.flatnonzero((unit[1:] * unit[:-1]).sum(1) < sharp) + 1
    closed = (
        len(corners) == 0
        and len(points) > 3
        and bool((points[0] == points[-1]).all())
        and float(unit[0] @ unit[-1]) >= sharp
    )
    ends = [0, *corners.tolist(), len(points) - 1]
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        run = points[first : last + 1]
        if len(run) <= 2:
            yield run[1:]
            continue
        before, after = (run[-2:-1], run[1:2]) if closed else (run[:1], run[-1:])
        p = np.concatenate([before, run, after])
        yield _catmull_rom(p[:-3], p[1:-2], p[2:-1], p[3:])


def _catmull_rom(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray) -> np.ndarray:
    """(3 m, 2) Bézier controls of the m centripetal curves from p1 to p2; an end point comes twice."""
    d1, d2, d3 = (np.sqrt(np.hypot(*(b - a).T))[:, None] for a, b in ((p0, p1), (p1, p2), (p2, p3)))

    def control(near, far, other, d, beyond):  # Yuksel et al. (2011), Bézier form
        weight = 3 * d * (d + beyond)
        inner = d**2 * other - beyond**2 * far + (2 * d**2 + 3 * d * beyond + beyond**2) * near
        return np.where(weight > 0, inner / np.where(weight > 0, weight, 1), near)

    controls = np.stack([control(p1, p0, p2, d1, d2), control(p2, p3, p1, d3, d2), p2], axis=1)
    return controls.reshape(-1, 2)


def _number(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _escape(text: str) -> str:
    """Text as XML 1.0 can hold it: markup escaped, characters that XML forbids replaced by U+FFFD."""
    text = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(text))
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\r", "&#13;")):
        text = text.replace(plain, entity)
    return text


def _json(metadata: dict) -> str:
    """JSON in plain ASCII without <, > or &, so that neither XML nor somebody's regular expression trips."""
    try:
        text = json.dumps(metadata, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"metadata cannot be written as JSON ({error}). Use text, finite numbers, lists and dicts."
        ) from None
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _color(name: str, color: str) -> str:
    if isinstance(color, str):
        color = color.strip()
        if (
            re.fullmatch(r"#([0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})", color)
            or color.lower() in COLOR_NAMES
        ):
            return color
    raise ValueError(
        f"{name} is {str(color)[:40]!r}, wanted a CSS colour name such as 'black', or '#rrggbb'. "
        f"Check the spelling."
    )


# --- reading


def read_svg(source: str | bytes | Path, *, tolerance: float | None = None) -> Sketch:
    """The outlines of an SVG as a sketch, one stroke a subpath, in CSS pixels of the file's own size.

    source     SVG text, its bytes, or the path of a file (a `Path`; text is never taken for a file name);
               bytes and files may be compressed (.svgz).
    tolerance  how far a polyline may stray from a curve, in pixels; None: 1/4000 of the longer side.

    The canvas is the file's width and height; its viewBox where it has none; else what the drawing spans.
    A rectangle that only fills the canvas before anything is drawn is taken for paper. The label comes back
    from files that `sketch_to_svg` wrote. A file without outlines gives a sketch without strokes. What cannot
    or must not be read is an `SvgError`, a ValueError.
    """
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance:g}, wanted a distance above 0 in pixels.")
    root = parse_svg(source)
    outlines, canvas = read_outlines(root)
    curves = [curve for outline in outlines for curve in outline.curves]
    strokes = flatten(curves, max(canvas) / 4000 if tolerance is None else tolerance)
    label = _own_metadata(root).get("label")
    return Sketch(strokes, canvas, label if isinstance(label, str) else None)


def svg_metadata(source: str | bytes | Path) -> dict:
    """What `sketch_to_svg` was given as metadata, and the label; {} for files of other programs."""
    return _own_metadata(parse_svg(source))


def _own_metadata(root: Element) -> dict:
    for element in root:
        if tag_of(element) == "metadata" and element.get("id") == METADATA_ID:
            try:
                found = json.loads(element.text or "{}")
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}
