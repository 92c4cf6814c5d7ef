"""Sketch <-> SVG: a small writer, and a reader that trusts nothing.

Writing: one round-capped `<path>` a stroke, coordinates in output pixels with as many decimals as the size
needs (two at 255), optionally smoothed by Bézier curves that pass through every point. What is known of the
drawing travels as JSON in `<metadata id="sketchknitter">`, escaped so that any text survives and nothing
can leave it.

Reading: outlines of path, line, polyline, polygon, rect, circle and ellipse, with nested transforms,
viewBox, units, `use` and `display`, flattened to polylines. XML goes through defusedxml without a document
type, the walk is a loop with a bounded stack, and every quantity a file can inflate is capped (`MAX_...`).
Path data is read by `svgpathtools.parse_path` between arcs; arcs are converted here, because svgpathtools
stops at an arc that ends where it starts and takes 75 microseconds for each of the others.

Limits: text, images, clips, masks, markers and patterns are left out; CSS is read for `display`,
`visibility`, `fill` and `stroke` with simple selectors only. Outlines without paint are left out if
anything else is painted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder

import numpy as np

from .strokes import Sketch, bounds

MAX_BYTES = 8_000_000
MAX_DEPTH = 64  # of nested elements, `use` included
MAX_ELEMENTS = 20_000  # in the file, and again when `use` has been followed
MAX_USES = 1_000
MAX_PATH_CHARS = 4_000_000  # of path data that is parsed
MAX_TRANSFORM_CHARS = 2_000_000
MAX_SEGMENTS = 200_000
MAX_POINTS = 1_000_000
MAX_COORDINATE = 1e9
SIDES = (1e-3, 1e5)  # px, of a canvas that is written

SVG_NAMESPACE = "http://www.w3.org/2000/svg"
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


class SvgError(ValueError):
    """An SVG that cannot or must not be read, said in one sentence."""


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

    source     SVG text, its bytes, or the path of a file (a `Path`; text is never taken for a file name).
    tolerance  how far a polyline may stray from a curve, in pixels; None: 1/4000 of the longer side.

    The canvas is the file's width and height; its viewBox where it has none; else what the drawing spans.
    A rectangle that only fills the canvas before anything is drawn is taken for paper. The label comes back
    from files that `sketch_to_svg` wrote. A file without outlines gives a sketch without strokes.
    """
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance:g}, wanted a distance above 0 in pixels.")
    root = _parse(source)
    frame, matrix, viewport = _root_frame(root)
    shapes = _Walk(root).shapes(matrix, viewport)
    shapes = [shape for shape in shapes if shape.filled or shape.stroked] or shapes
    canvas = frame or _span(shapes)
    if shapes and _is_paper(shapes[0], canvas):
        shapes = shapes[1:]
    curves = [curve for shape in shapes for curve in shape.curves]
    strokes = _flatten(curves, max(canvas) / 4000 if tolerance is None else tolerance)
    label = _own_metadata(root).get("label")
    return Sketch(strokes, canvas, label if isinstance(label, str) else None)


def svg_metadata(source: str | bytes | Path) -> dict:
    """What `sketch_to_svg` was given as metadata, and the label; {} for files of other programs."""
    return _own_metadata(_parse(source))


def _own_metadata(root: Element) -> dict:
    for element in root:
        if _tag(element) == "metadata" and element.get("id") == METADATA_ID:
            try:
                found = json.loads(element.text or "{}")
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}


class _Bounded:
    """A TreeBuilder that stops at the first element too many or too deep, while the file is being read."""

    def __init__(self) -> None:
        self.tree, self.depth, self.count = TreeBuilder(), 0, 0

    def start(self, tag: str, attributes: dict) -> Element:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > MAX_DEPTH:
            raise SvgError(
                f"the SVG nests elements deeper than {MAX_DEPTH}. Ungroup it in a drawing program."
            )
        if self.count > MAX_ELEMENTS:
            raise SvgError(
                f"the SVG has more than {MAX_ELEMENTS} elements. Simplify it in a drawing program."
            )
        return self.tree.start(tag, attributes)

    def end(self, tag: str) -> Element:
        self.depth -= 1
        return self.tree.end(tag)

    def data(self, text: str) -> None:
        self.tree.data(text)

    def close(self) -> Element:
        return self.tree.close()


def _parse(source: str | bytes | Path) -> Element:
    """The root element. defusedxml refuses document types, entities and anything external."""
    from defusedxml import DefusedXmlException  # here, so that a program that only writes pays nothing
    from defusedxml.ElementTree import DefusedXMLParser

    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    if not isinstance(source, (str, bytes)):
        raise ValueError(f"got {type(source).__name__}, wanted SVG text, bytes or a pathlib.Path.")
    if len(source) > MAX_BYTES:
        raise SvgError(f"the SVG is larger than {MAX_BYTES // 10**6} MB. Simplify it in a drawing program.")
    if isinstance(source, str):
        if "<" not in source:
            raise SvgError(f"{source[:60]!r} is not SVG text. Give a pathlib.Path to read a file.")
        source = _without_doctype(source.lstrip("\ufeff \t\r\n"), "<!DOCTYPE", "[", ">", " ", "<svg")
    else:
        if source[:2] == b"\x1f\x8b":
            raise SvgError("the file is a compressed .svgz. Unpack it first.")
        source = _without_doctype(source, b"<!DOCTYPE", b"[", b">", b" ", b"<svg")
    parser = DefusedXMLParser(target=_Bounded(), forbid_dtd=True)
    try:
        parser.feed(source)
        root = parser.close()
    except DefusedXmlException:
        raise SvgError(
            "the SVG declares its own document type or entities, which are never read. Save it as plain SVG."
        ) from None
    except SyntaxError as error:  # ElementTree's ParseError
        raise SvgError(f"this is not well-formed XML: {error}. Save the drawing again as SVG.") from None
    except UnicodeEncodeError:
        raise SvgError(
            "the SVG text holds half a character (a lone surrogate). Save it again as UTF-8."
        ) from None
    except (LookupError, ValueError) as error:
        if isinstance(error, SvgError):
            raise
        raise SvgError("the SVG names a text encoding that cannot be read. Save it again as UTF-8.") from None
    if _tag(root) != "svg":
        raise SvgError(
            f"the file's outermost element is <{str(root.tag)[:40]}>, wanted <svg>. Choose an SVG file."
        )
    return root


def _without_doctype(text, doctype, subset, end, blank, svg):
    """Blanks the harmless `<!DOCTYPE svg PUBLIC "..." "...">` of older programs; it declares nothing."""
    head = text[:4096].split(svg)[0]
    start = head.find(doctype)
    stop = head.find(end, start) if start >= 0 else -1
    if stop < 0 or subset in head[start:stop]:
        return text
    return text[:start] + blank * (stop + 1 - start) + text[stop + 1 :]


def _tag(element: Element) -> str:
    """The element's name without the SVG namespace; names of other namespaces come back whole."""
    tag = element.tag if isinstance(element.tag, str) else ""
    return tag.removeprefix("{" + SVG_NAMESPACE + "}")


# Affine matrices are (a, b, c, d, e, f) as in SVG; points are complex numbers x + iy.
Matrix = tuple[float, float, float, float, float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def _compose(outer: Matrix, inner: Matrix) -> Matrix:
    a, b, c, d, e, f = outer
    A, B, C, D, E, F = inner
    return a * A + c * B, b * A + d * B, a * C + c * D, b * C + d * D, a * E + c * F + e, b * E + d * F + f


def _apply(matrix: Matrix, z: np.ndarray) -> np.ndarray:
    a, b, c, d, e, f = matrix
    moved = np.empty_like(z)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by _Walk._shape
        moved.real = a * z.real + c * z.imag + e
        moved.imag = b * z.real + d * z.imag + f
    return moved


_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_BLANK = " \t\r\n\f,"
_FLAG = re.compile("[01]")
_SPACE = re.compile(r"[\s,]*")
_LENGTH = re.compile(rf"\s*({_NUMBER.pattern})\s*([a-zA-Z%]*)\s*")
_UNITS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96, "q": 96 / 101.6}
_UNITS |= {"em": 16, "rem": 16, "ex": 8}


def _finite(text: str, what: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_COORDINATE:
        raise SvgError(
            f"{what} is {text[:40]}, wanted a number up to {MAX_COORDINATE:g}. Scale the drawing down."
        )
    return value


def _length(element: Element, name: str, whole: float, default: float | None = 0.0) -> float | None:
    """The attribute in pixels; `whole` is what 100% means."""
    text = element.get(name)
    if text is None or text.strip() in ("", "auto"):
        return default
    match = _LENGTH.fullmatch(text) if len(text) <= 100 else None  # the pattern is slow on long failures
    unit = match[2].lower() if match else None
    if unit != "%" and unit not in _UNITS:
        raise SvgError(f"<{_tag(element)}> has {name}={text[:40]!r}, wanted a length. Correct the file.")
    value = _finite(match[1], name)
    return value * whole / 100 if unit == "%" else value * _UNITS[unit]


def _numbers(text: str, what: str) -> list[float]:
    """Numbers parted by spaces or commas; anything else between them is refused, NaN included."""
    stray, count = _NUMBER.subn(" ", text)
    stray = stray.strip(_BLANK)
    if stray:
        raise SvgError(f"{what} holds {stray[:20]!r}, wanted numbers. Correct the file.")
    if count > 2 * MAX_SEGMENTS:
        raise SvgError(f"{what} holds more than {2 * MAX_SEGMENTS} numbers. Simplify the drawing.")
    values = [float(number) for number in _NUMBER.findall(text)]
    if not max(map(abs, values), default=0.0) <= MAX_COORDINATE:
        raise SvgError(f"{what} holds a number beyond {MAX_COORDINATE:g}. Scale the drawing down.")
    return values


def _view_box(element: Element) -> tuple[float, float, float, float] | None:
    text = element.get("viewBox")
    if text is None or not text.strip():
        return None
    values = _numbers(text, "viewBox") if len(text) <= 1000 else []
    if len(values) != 4 or values[2] <= 0 or values[3] <= 0:
        raise SvgError(
            f"viewBox is {text[:60]!r}, wanted x, y and a width and height above 0. Correct the file."
        )
    return tuple(values)


def _fit_box(
    box: tuple[float, float, float, float], width: float, height: float, aspect: str | None
) -> Matrix:
    """The matrix that brings a viewBox to a width x height viewport under preserveAspectRatio."""
    words = (aspect or "xMidYMid meet")[:100].replace("defer", " ").split() or ["xMidYMid"]
    x, y, w, h = box
    sx, sy = width / w, height / h
    if words[0] == "none":
        return sx, 0.0, 0.0, sy, -x * sx, -y * sy
    match = re.fullmatch("x(Min|Mid|Max)Y(Min|Mid|Max)", words[0])
    if match is None:
        raise SvgError(f"preserveAspectRatio is {aspect[:40]!r}, which SVG does not know. Correct the file.")
    s = max(sx, sy) if "slice" in words[1:] else min(sx, sy)
    share = {"Min": 0.0, "Mid": 0.5, "Max": 1.0}
    e, f = (width - w * s) * share[match[1]] - x * s, (height - h * s) * share[match[2]] - y * s
    return s, 0.0, 0.0, s, e, f


def _root_frame(root: Element) -> tuple[tuple[float, float] | None, Matrix, tuple[float, float]]:
    """The canvas in pixels (None: unknown), the matrix of the root's contents, and what 100% means inside."""
    box = _view_box(root)

    def side(name: str) -> float | None:
        if (root.get(name) or "").strip().endswith("%"):
            return None  # of a window that is not there
        value = _length(root, name, 0.0, None)
        if value is not None and value <= 0:
            raise SvgError(
                f"the SVG has {name}={root.get(name)[:40]!r}: nothing of it can be seen. Give it a size."
            )
        return value

    width, height = side("width"), side("height")
    if box is None:
        frame = None if width is None or height is None else (width, height)
        return frame, IDENTITY, (width or 300.0, height or 150.0)
    if width is None and height is None:
        width, height = box[2:]
    elif width is None:
        width = height * box[2] / box[3]
    elif height is None:
        height = width * box[3] / box[2]
    return (width, height), _fit_box(box, width, height, root.get("preserveAspectRatio")), box[2:]


def _transform(text: str | None) -> Matrix:
    """The matrix of a transform attribute, the functions applied from right to left."""
    matrix = IDENTITY
    if not text or text.strip() == "none":
        return matrix
    if len(text) > 2000:
        raise SvgError("a transform is longer than 2000 characters. Flatten the drawing's transforms.")
    *calls, rest = text.split(")")
    if rest.strip(_BLANK) or not calls:
        raise SvgError(f"transform {text[:40]!r} cannot be read. Correct the file.")
    for name, _, arguments in (call.partition("(") for call in calls):
        name = name.strip(_BLANK)
        matrix = _compose(matrix, _transform_call(name, _numbers(arguments, f"transform {name[:20]}"), text))
        if not all(abs(value) <= MAX_COORDINATE for value in matrix):
            raise SvgError(f"transform {text[:40]!r} leads out of bounds. Scale the drawing down.")
    return matrix


def _transform_call(name: str, v: list[float], text: str) -> Matrix:
    match name, len(v):
        case "matrix", 6:
            return tuple(v)
        case "translate", 1 | 2:
            return 1.0, 0.0, 0.0, 1.0, v[0], v[1] if len(v) > 1 else 0.0
        case "scale", 1 | 2:
            return v[0], 0.0, 0.0, v[-1], 0.0, 0.0
        case "rotate", 1 | 3:
            cos, sin = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
            x, y = v[1:] or (0.0, 0.0)
            return cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y
        case "skewX", 1:
            return 1.0, 0.0, math.tan(math.radians(v[0])), 1.0, 0.0, 0.0
        case "skewY", 1:
            return 1.0, math.tan(math.radians(v[0])), 0.0, 1.0, 0.0, 0.0
    raise SvgError(f"transform {text[:40]!r} cannot be read. Correct the file.")


# --- the walk


@dataclass(frozen=True)
class _Shape:
    """One complex array (m, 4) of cubic control points a subpath, in pixels, and which paint shows."""

    curves: tuple[np.ndarray, ...]
    filled: bool
    stroked: bool


class _Node(NamedTuple):
    """An element with what it inherits."""

    element: Element
    matrix: Matrix
    paint: tuple[str, str, str]  # fill, stroke, visibility
    viewport: tuple[float, float]
    depth: int
    using: tuple[str, ...]  # ids that `use` is inside of
    size: tuple[str | None, str | None] = (None, None)  # a `use` gives its symbol this size


class _Walk:
    """One bounded pass over a document; counters hold across everything that `use` repeats."""

    def __init__(self, root: Element) -> None:
        self.root, self.ids, self.rules = root, {}, {}
        self.visited = self.uses = self.path_chars = self.transform_chars = self.segments = 0
        self.paths: dict[int, tuple[np.ndarray, ...]] = {}  # parsed once however often `use` repeats it
        for element in root.iter():
            if element.get("id"):
                self.ids.setdefault(element.get("id"), element)
            if _tag(element) == "style" and len(element.text or "") <= 200_000:
                _read_rules(element.text or "", self.rules)

    def shapes(self, matrix: Matrix, viewport: tuple[float, float]) -> list[_Shape]:
        """Every outline of the document in drawing order."""
        shapes = []
        stack = [_Node(self.root, IDENTITY, ("black", "none", "visible"), viewport, 0, ())]
        while stack:
            node = stack.pop()
            self.visited += 1
            if self.visited > MAX_ELEMENTS:
                raise SvgError(f"the SVG draws more than {MAX_ELEMENTS} elements through <use>. Simplify it.")
            if node.depth > MAX_DEPTH:
                raise SvgError(f"the SVG nests elements deeper than {MAX_DEPTH} through <use>. Simplify it.")
            style = self._style(node.element)
            if style.get("display") == "none":
                continue
            paint = tuple(
                inherited if style.get(name, "inherit") == "inherit" else style[name]
                for name, inherited in zip(("fill", "stroke", "visibility"), node.paint, strict=True)
            )
            transform = node.element.get("transform")
            self.transform_chars += len(transform or "")
            if self.transform_chars > MAX_TRANSFORM_CHARS:
                raise SvgError(
                    f"the SVG has more than {MAX_TRANSFORM_CHARS} characters of transforms. Simplify it."
                )
            own = _compose(node.matrix, _transform(transform))
            if node.element is self.root and node.depth == 0:
                own = _compose(own, matrix)
            node = node._replace(matrix=own, paint=paint)
            children = self._children(node)
            if children is not None:
                stack.extend(reversed(children))
            elif paint[2] not in ("hidden", "collapse"):
                shapes += self._shape(node)
        return shapes

    def _style(self, element: Element) -> dict[str, str]:
        """display, visibility, fill and stroke as attribute, rule or style say, the later the stronger."""
        style = {name: element.get(name).strip() for name in _STYLED if element.get(name)}
        if self.rules:
            tag, classes = _tag(element), (element.get("class") or "")[:1000].split()
            names = ["*", tag, *("." + c for c in classes), *(tag + "." + c for c in classes)]
            for name in [*names, "#" + (element.get("id") or "")]:
                style |= self.rules.get(name, {})
        return style | _declarations(element.get("style") or "")

    def _children(self, node: _Node) -> list[_Node] | None:
        """What to walk next: a list for containers and for what is skipped, None for a shape."""
        tag = _tag(node.element)
        if tag in ("g", "a") or (tag == "svg" and node.depth == 0):
            return self._inside(node, list(node.element))
        if tag == "switch":
            fits = (e for e in node.element if _tag(e) in _DRAWN and e.get("requiredExtensions") is None)
            return self._inside(node, [*fits][:1])
        if tag == "use":
            return self._used(node)
        if tag == "svg" or (tag == "symbol" and node.using):
            return self._framed(node)
        return None if tag in _SHAPES else []

    def _inside(self, node: _Node, elements: list[Element]) -> list[_Node]:
        return [
            node._replace(element=element, depth=node.depth + 1, size=(None, None))
            for element in elements
            if _tag(element) in _DRAWN and _tag(element) != "symbol"
        ]

    def _used(self, node: _Node) -> list[_Node]:
        """The element that a `use` repeats; references to other files and to nothing are left out."""
        self.uses += 1
        if self.uses > MAX_USES:
            raise SvgError(f"the SVG follows more than {MAX_USES} <use> elements. Simplify it.")
        href = (
            node.element.get("href") or node.element.get("{http://www.w3.org/1999/xlink}href") or ""
        ).strip()
        target = self.ids.get(href[1:]) if href.startswith("#") else None
        if target is None or _tag(target) not in _DRAWN:
            return []
        if href in node.using or any(target is e for e in (self.root, node.element)):
            raise SvgError(f"<use> of {href[:40]!r} contains itself. Correct the file.")
        width, height = node.viewport
        x, y = _length(node.element, "x", width), _length(node.element, "y", height)
        return [
            node._replace(
                element=target,
                matrix=_compose(node.matrix, (1.0, 0.0, 0.0, 1.0, x, y)),
                depth=node.depth + 1,
                using=(*node.using, href),
                size=(node.element.get("width"), node.element.get("height")),
            )
        ]

    def _framed(self, node: _Node) -> list[_Node]:
        """The contents of a nested svg or of a used symbol, in its own viewport."""
        element, (whole_width, whole_height) = node.element, node.viewport
        frame = Element("svg")
        frame.set("width", node.size[0] or element.get("width") or "100%")
        frame.set("height", node.size[1] or element.get("height") or "100%")
        width, height = _length(frame, "width", whole_width), _length(frame, "height", whole_height)
        if width <= 0 or height <= 0:
            return []
        x, y = _length(element, "x", whole_width), _length(element, "y", whole_height)
        matrix, viewport = _compose(node.matrix, (1.0, 0.0, 0.0, 1.0, x, y)), (width, height)
        box = _view_box(element)
        if box is not None:
            matrix = _compose(matrix, _fit_box(box, width, height, element.get("preserveAspectRatio")))
            viewport = box[2:]
        return self._inside(node._replace(matrix=matrix, viewport=viewport), list(element))

    def _shape(self, node: _Node) -> list[_Shape]:
        element, tag = node.element, _tag(node.element)
        if tag == "path":
            curves = self._path(element)
        else:
            self._count_chars(len(element.get("points") or ""))
            curves = _SHAPES[tag](element, *node.viewport)
        curves = tuple(_apply(node.matrix, curve) for curve in curves if len(curve))
        self.segments += sum(map(len, curves))
        if self.segments > MAX_SEGMENTS:
            raise SvgError(f"the SVG draws more than {MAX_SEGMENTS} segments. Simplify it.")
        if not all((np.abs(curve) <= MAX_COORDINATE).all() for curve in curves):
            raise SvgError(
                f"<{tag}> has coordinates beyond {MAX_COORDINATE:g} pixels. Scale the drawing down."
            )
        fill, stroke, _ = node.paint
        return [_Shape(curves, fill not in _CLEAR and tag != "line", stroke not in _CLEAR)] if curves else []

    def _path(self, element: Element) -> tuple[np.ndarray, ...]:
        key = id(element)
        if key not in self.paths:
            d = element.get("d") or ""
            self._count_chars(len(d))
            self.paths[key] = _path_curves(d)
        return self.paths[key]

    def _count_chars(self, count: int) -> None:
        self.path_chars += count
        if self.path_chars > MAX_PATH_CHARS:
            raise SvgError(f"the SVG has more than {MAX_PATH_CHARS} characters of path data. Simplify it.")


_STYLED = ("display", "visibility", "fill", "stroke")
_CLEAR = ("none", "transparent")


def _declarations(text: str) -> dict[str, str]:
    """The four properties that matter here, out of CSS declarations."""
    pairs = (part.partition(":") for part in text[:10_000].split(";"))
    values = ((name.strip().lower(), value.replace("!important", "").strip()) for name, _, value in pairs)
    return {name: value for name, value in values if name in _STYLED and value}


def _read_rules(sheet: str, rules: dict[str, dict[str, str]]) -> None:
    """Adds a style sheet's simple rules by selector; at-rules (media, fonts) are left out."""
    first, *commented = sheet.split("/*")
    sheet = first + " ".join(part.partition("*/")[2] for part in commented)
    depth, selectors, skipping = 0, "", False
    for token in re.split(r"([{}])", sheet):  # no pattern with a choice: a hostile sheet takes no longer
        if token == "{":
            depth += 1
        elif token == "}":
            depth = max(0, depth - 1)
        elif depth == 0:
            selectors = token.rpartition(";")[2].strip()
            skipping = selectors.startswith("@")
        elif depth == 1 and not skipping:
            found = _declarations(token)
            for selector in selectors.split(",") if found else ():
                if re.fullmatch(r"[\w.#*-]+", selector.strip()):
                    rules.setdefault(selector.strip(), {}).update(found)


# --- shapes: each gives complex arrays (m, 4) of cubic control points in its own coordinates, one a subpath


def _lines(points: np.ndarray) -> np.ndarray:
    """Complex points (n,) as n - 1 straight cubics; a single point as one of no length."""
    points = np.asarray(points, dtype=np.complex128)
    if len(points) == 1:
        points = np.repeat(points, 2)
    a, b = points[:-1], points[1:]
    return np.stack([a, a + (b - a) / 3, b - (b - a) / 3, b], axis=1)


def _ellipse_arc(
    centre: complex, rx: float, ry: float, theta: float, delta: float, turn: complex = 1.0
) -> list[tuple[complex, complex, complex, complex]]:
    """An elliptical arc from angle theta over delta (radians), its axes turned by `turn`, as cubics.

    Each spans 45 degrees at most and is 4e-6 of the radius off.
    """
    n = max(1, math.ceil(abs(delta) / (math.pi / 4) - 1e-9))
    k = 4 / 3 * math.tan(delta / n / 4)
    cubics, before = [], None
    for i in range(n + 1):
        cos, sin = math.cos(theta + delta * i / n), math.sin(theta + delta * i / n)
        on = centre + turn * complex(rx * cos, ry * sin)
        ahead = turn * complex(-rx * sin * k, ry * cos * k)
        if before is not None:
            cubics.append((before[0], before[0] + before[1], on - ahead, on))
        before = on, ahead
    return cubics


def _line(element: Element, width: float, height: float) -> list[np.ndarray]:
    x1, x2 = (_length(element, name, width) for name in ("x1", "x2"))
    y1, y2 = (_length(element, name, height) for name in ("y1", "y2"))
    return [_lines([complex(x1, y1), complex(x2, y2)])]


def _polyline(element: Element, width: float, height: float) -> list[np.ndarray]:
    values = _numbers(element.get("points") or "", "points")
    z = np.array(values[0 : len(values) // 2 * 2 : 2]) + 1j * np.array(values[1::2])
    return [_lines(z)] if len(z) else []


def _polygon(element: Element, width: float, height: float) -> list[np.ndarray]:
    curves = _polyline(element, width, height)
    if not curves or curves[0][0, 0] == curves[0][-1, 3]:
        return curves
    return [np.concatenate([curves[0], _lines([curves[0][-1, 3], curves[0][0, 0]])])]


def _rect(element: Element, width: float, height: float) -> list[np.ndarray]:
    x, w, rx = (_length(element, n, width, d) for n, d in (("x", 0.0), ("width", 0.0), ("rx", None)))
    y, h, ry = (_length(element, n, height, d) for n, d in (("y", 0.0), ("height", 0.0), ("ry", None)))
    if w <= 0 or h <= 0:
        return []
    rx, ry = (ry if rx is None else rx) or 0.0, (rx if ry is None else ry) or 0.0
    rx, ry = min(max(rx, 0.0), w / 2), min(max(ry, 0.0), h / 2)
    if rx == 0 or ry == 0:
        return [_lines(np.array([x, x + w, x + w, x, x]) + 1j * np.array([y, y, y + h, y + h, y]))]
    pieces, quarter = [], math.pi / 2
    corners = ((x + w - rx, y + ry), (x + w - rx, y + h - ry), (x + rx, y + h - ry), (x + rx, y + ry))
    at = complex(x + rx, y)
    for i, (cx, cy) in enumerate(corners):
        arc = np.array(_ellipse_arc(complex(cx, cy), rx, ry, (i - 1) * quarter, quarter))
        pieces += [_lines([at, arc[0, 0]]), arc]
        at = arc[-1, 3]
    return [np.concatenate(pieces)]


def _ellipse(element: Element, width: float, height: float) -> list[np.ndarray]:
    cx, cy = _length(element, "cx", width), _length(element, "cy", height)
    if _tag(element) == "circle":
        rx = ry = _length(element, "r", math.hypot(width, height) / math.sqrt(2))
    else:
        rx, ry = _length(element, "rx", width, None), _length(element, "ry", height, None)
        rx, ry = (ry if rx is None else rx) or 0.0, (rx if ry is None else ry) or 0.0
    if rx <= 0 or ry <= 0:
        return []
    return [np.array(_ellipse_arc(complex(cx, cy), rx, ry, 0.0, 2 * math.pi))]


_SHAPES = {
    "path": None,  # through _Walk._path, which keeps what it parsed
    "line": _line,
    "polyline": _polyline,
    "polygon": _polygon,
    "rect": _rect,
    "circle": _ellipse,
    "ellipse": _ellipse,
}
_DRAWN = frozenset(_SHAPES) | {"svg", "g", "a", "switch", "use", "symbol"}

_ARITY = {
    "M": 2,
    "L": 2,
    "H": 1,
    "V": 1,
    "C": 6,
    "S": 4,
    "Q": 4,
    "T": 2,
    "A": 5,
    "Z": 1,
}  # packed flags: 5 of 7


def _path_curves(d: str) -> tuple[np.ndarray, ...]:
    """The subpaths of path data, cut at movetos, closings and arcs; svgpathtools reads what lies between."""
    d = d.strip()
    if not d or d == "none":
        return ()
    if d[0] not in "Mm":
        raise _unreadable(d)
    _count_segments(d)
    subpaths: list[list[np.ndarray]] = []
    here, start, total = 0j, 0j, 0
    for command, rest in re.findall(r"([MmZzAa])([^MmZzAa]*)", d):
        if command in "Mm":
            (x, y), at = _scan(rest, _SPACE.match(rest).end(), "nn", d)
            rest = rest[at:]
            here = start = complex(x, y) + (here if command == "m" else 0)
            subpaths.append([])
            if rest and not rest[0].isalpha():
                rest = ("L" if command == "M" else "l") + rest
        elif command in "Zz":
            if here != start or not subpaths[-1]:  # a closed subpath of no length is a dot
                subpaths[-1].append(_lines([here, start]))
            here = start
        else:
            rest, here = _arcs(rest, here, command == "a", subpaths[-1], d)
            total += len(subpaths[-1][-1])
            if total > MAX_SEGMENTS:
                raise SvgError(f"a path has more than {MAX_SEGMENTS} segments. Simplify the drawing.")
        if rest.strip(_BLANK):
            subpaths[-1].append(_between(rest, here, d))
            here = complex(subpaths[-1][-1][-1, 3])
    return tuple(np.concatenate(pieces) for pieces in subpaths if pieces)


def _unreadable(d: str) -> SvgError:
    return SvgError(
        f"path data {d[:40]!r} cannot be read. Correct the file, or save the drawing again as plain SVG."
    )


def _count_segments(d: str) -> None:
    """Refuses path data by its characters and its numbers, before anything slow reads it."""
    total = 0
    for command, rest in re.findall(r"([MmZzLlHhVvCcSsQqTtAa])([^MmZzLlHhVvCcSsQqTtAa]*)", d):
        other, numbers = _NUMBER.subn("", rest)
        if other.strip(_BLANK):
            raise _unreadable(d)
        total += max(1, numbers // _ARITY[command.upper()]) * (
            4 if command in "Aa" else 1
        )  # an arc: 1 to 8 cubics
        if total > MAX_SEGMENTS:
            raise SvgError(f"a path has more than {MAX_SEGMENTS} segments. Simplify the drawing.")


def _scan(text: str, at: int, fields: str, d: str) -> tuple[list[float], int]:
    """Values of `fields` (n: number, f: arc flag, 0 or 1) from position `at`, and where the next thing is."""
    values = []
    for field in fields:
        match = (_NUMBER if field == "n" else _FLAG).match(text, at)
        if match is None:
            raise _unreadable(d)
        values.append(_finite(match[0], "path data"))
        at = _SPACE.match(text, match.end()).end()
    return values, at


def _arcs(rest: str, here: complex, relative: bool, pieces: list[np.ndarray], d: str) -> tuple[str, complex]:
    """Adds the arcs at the start of `rest` to `pieces`; returns what follows them and where they end."""
    at = _SPACE.match(rest).end()
    cubics = []
    while True:
        (rx, ry, turn, large, sweep, x, y), at = _scan(rest, at, "nnnffnn", d)
        end = complex(x, y) + (here if relative else 0)
        cubics += _arc(here, abs(rx), abs(ry), math.radians(turn), bool(large), bool(sweep), end)
        if len(cubics) > MAX_SEGMENTS:
            raise SvgError(f"a path has more than {MAX_SEGMENTS} segments. Simplify the drawing.")
        here = end
        if at == len(rest) or rest[at].isalpha():
            pieces.append(np.array(cubics))
            return rest[at:], here


def _arc(start: complex, rx: float, ry: float, phi: float, large: bool, sweep: bool, end: complex) -> list:
    """Cubics of an arc given by its ends (SVG 1.1, appendix F.6.5); without a radius, a line."""
    straight = [(start, (2 * start + end) / 3, (start + 2 * end) / 3, end)]
    if start == end or rx == 0 or ry == 0:
        return straight
    turn = complex(math.cos(phi), math.sin(phi))
    half = (start - end) / 2 / turn  # F.6.5.1
    u = complex(half.real / rx, half.imag / ry)  # where the radii are 1
    if abs(u) > 1:  # F.6.6: radii too small for the distance grow
        rx, ry, u = rx * abs(u), ry * abs(u), u / abs(u)
    if abs(u) < 1e-9:
        return straight
    away = math.sqrt(max(0.0, 1 / abs(u) ** 2 - 1)) * (-1 if large == sweep else 1)
    middle = u * complex(0, -away)  # F.6.5.2
    first, last = u - middle, -u - middle
    theta = math.atan2(first.imag, first.real)
    delta = math.atan2(last.imag, last.real) - theta
    if sweep and delta < 0:
        delta += 2 * math.pi
    elif not sweep and delta > 0:
        delta -= 2 * math.pi
    centre = (start + end) / 2 + turn * complex(middle.real * rx, middle.imag * ry)
    cubics = _ellipse_arc(centre, rx, ry, theta, delta, turn)
    cubics[0] = (start, *cubics[0][1:])
    cubics[-1] = (*cubics[-1][:3], end)
    return cubics


def _between(text: str, here: complex, d: str) -> np.ndarray:
    """Lines and curves from `here` on as cubics (m, 4), read by svgpathtools."""
    from svgpathtools import parse_path  # here: it brings scipy, half a second that only reading curves needs

    try:
        segments = [segment.bpoints() for segment in parse_path(text, current_pos=here)]
    except (ValueError, IndexError, TypeError, AssertionError):
        raise _unreadable(d) from None
    if not segments:
        raise _unreadable(d)
    cubics = np.empty((len(segments), 4), dtype=np.complex128)
    sizes = np.fromiter(map(len, segments), np.int64, len(segments))
    for size in (2, 3, 4):
        which = np.flatnonzero(sizes == size)
        if len(which):
            z = np.array([segments[i] for i in which])
            if not (np.maximum(np.abs(z.real), np.abs(z.imag)) <= MAX_COORDINATE).all():
                raise SvgError(
                    f"path data {d[:40]!r} goes beyond {MAX_COORDINATE:g} or to no finite number. "
                    f"Scale the drawing down."
                )
            cubics[which] = z if size == 4 else _raised(z)
    return cubics


def _raised(z: np.ndarray) -> np.ndarray:
    """Lines (m, 2) or quadratic curves (m, 3) as cubics (m, 4)."""
    a, b = z[:, 0], z[:, -1]
    c, d = (b, a) if z.shape[1] == 2 else (z[:, 1], z[:, 1])
    share = 1 / 3 if z.shape[1] == 2 else 2 / 3
    return np.stack([a, a + (c - a) * share, b + (d - b) * share, b], axis=1)


# --- polylines


def _flatten(curves: list[np.ndarray], tolerance: float) -> tuple[np.ndarray, ...]:
    """Polylines (n, 2) that stray at most `tolerance` from the cubics, evenly spaced in each one's parameter.

    A cubic cut into n pieces strays at most 3/4 M / n^2, M its largest second difference (Wang et al., 1984).
    """
    if not curves:
        return ()
    z = np.concatenate(curves)
    bend = np.abs(z[:, :-2] - 2 * z[:, 1:-1] + z[:, 2:]).max(1)
    size = np.abs(z).max(1)
    bend[bend <= 1e-12 * size] = 0  # straight up to rounding
    pieces = np.maximum(1.0, np.ceil(np.sqrt(0.75 * bend / tolerance)))
    if pieces.sum() + len(curves) > MAX_POINTS:
        raise SvgError(
            f"the SVG flattens to more than {MAX_POINTS} points. Simplify it, or raise the tolerance."
        )
    pieces = pieces.astype(np.int64)
    which = np.repeat(np.arange(len(z)), pieces)
    step = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1
    t = step / pieces[which]
    p0, p1, p2, p3 = z[which].T
    s = 1 - t
    points = s**3 * p0 + 3 * s**2 * t * p1 + 3 * s * t**2 * p2 + t**3 * p3
    points = np.where(step == pieces[which], p3, points)  # ends are exact
    counts = np.add.reduceat(pieces, np.cumsum([0, *map(len, curves[:-1])]))
    strokes = []
    for curve, run in zip(curves, np.split(points, np.cumsum(counts)[:-1]), strict=True):
        line = np.concatenate([curve[0, :1], run])
        line = line[:1] if (line == line[0]).all() else line
        strokes.append(np.stack([line.real, line.imag], axis=1))
    return tuple(strokes)


def _span(shapes: list[_Shape]) -> tuple[float, float]:
    """A canvas for a file that names none: from the origin, or from the drawing's edge, to its far corner."""
    if not shapes:
        return 300.0, 150.0  # CSS's default size
    z = np.concatenate([curve.reshape(-1) for shape in shapes for curve in shape.curves])
    sides = (max(part.max(), part.max() - part.min()) for part in (z.real, z.imag))
    width, height = (float(side) if side > 1e-6 else 1.0 for side in sides)
    return width, height


def _is_paper(shape: _Shape, canvas: tuple[float, float]) -> bool:
    """Whether the shape is a plain rectangle over the whole canvas: a background, not a drawn frame."""
    if shape.stroked or not shape.filled or len(shape.curves) != 1 or len(shape.curves[0]) not in (4, 5):
        return False
    corners = shape.curves[0][:, 0]
    x, y = corners.real / canvas[0], corners.imag / canvas[1]
    at_corner = (np.minimum(abs(x), abs(x - 1)) < 0.005) & (np.minimum(abs(y), abs(y - 1)) < 0.005)
    straight = np.abs(shape.curves[0][:, 1] - (2 * corners + shape.curves[0][:, 3]) / 3) < 1e-6 * max(canvas)
    return bool(at_corner.all() and straight.all() and np.ptp(x) > 0.9 and np.ptp(y) > 0.9)
