"""The outlines of an SVG file in drawing order, in CSS pixels, read without trusting anything in the file.

The walk is a loop with a bounded stack, and every quantity that a file can inflate is capped (`MAX_...`).
Followed are nested transforms, viewBox, units, nested svg, symbol, `use`, switch, and the styles that
`svg_styles.py` knows.

Limits: text, images, clips, masks, markers and patterns are left out, so what a clip or the edge of a nested
svg would hide is there. Within switch the reader speaks English.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from .svg_paths import BASIC_SHAPES, MAX_SEGMENTS, path_curves
from .svg_styles import MAX_SHEET, Styles, StyleSheet
from .svg_values import (
    IDENTITY,
    MAX_COORDINATE,
    NUMBER,
    Matrix,
    SvgError,
    Units,
    apply,
    compose,
    fit_box,
    shifted,
    transform,
    view_box,
)
from .svg_xml import MAX_DEPTH, MAX_ELEMENTS, tag_of

MAX_USES = 1_000
MAX_PATH_CHARS = 4_000_000  # of path data that is parsed
MAX_TRANSFORM_CHARS = 500_000

_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_CONTAINERS = frozenset({"svg", "g", "a", "switch", "use", "symbol"})
_DRAWN = frozenset({"path", *BASIC_SHAPES}) | _CONTAINERS
_CLEAR = ("none", "transparent")
_INHERITED = {
    "fill": "black",
    "stroke": "none",
    "visibility": "visible",
    "fill-opacity": "1",
    "stroke-opacity": "1",
    "stroke-width": "1",
}


@dataclass(frozen=True)
class Outline:
    """A shape: its subpaths, complex (m, 4) cubic control points in pixels, and which paint shows."""

    curves: tuple[np.ndarray, ...]
    filled: bool
    stroked: bool


# --- the walk


def read_outlines(root: Element) -> tuple[list[Outline], tuple[float, float]]:
    """What a document draws, and its canvas (width, height) in pixels.

    Outlines without paint are left out if anything else is painted, and so is a rectangle that only fills
    the canvas before anything is drawn: paper.
    """
    frame, matrix, units = _root_frame(root)
    outlines = _Walk(root).outlines(matrix, units)
    outlines = [outline for outline in outlines if outline.filled or outline.stroked] or outlines
    canvas = frame or _span(outlines)
    if outlines and _is_paper(outlines[0], canvas):
        outlines = outlines[1:]
    return outlines, canvas


def _root_frame(root: Element) -> tuple[tuple[float, float] | None, Matrix, Units]:
    """The canvas in pixels (None: unknown), the matrix of the root's contents, and the units inside."""
    box = view_box(root)

    def side(name: str) -> float | None:
        if (root.get(name) or "").strip().endswith("%"):
            return None  # of a window that is not there
        value = Units(0.0, 0.0).attribute(root, name, 0.0, None)
        if value is not None and value <= 0:
            raise SvgError(
                f"the SVG has {name}={root.get(name)[:40]!r}: nothing of it can be seen. Give it a size."
            )
        return value

    width, height = side("width"), side("height")
    if box is None:
        frame = None if width is None or height is None else (width, height)
        return frame, IDENTITY, Units(width or 300.0, height or 150.0)
    if width is None and height is None:
        width, height = box[2:]
    elif width is None:
        width = height * box[2] / box[3]
    elif height is None:
        height = width * box[3] / box[2]
    return (width, height), fit_box(box, width, height, root.get("preserveAspectRatio")), Units(*box[2:])


class _Node(NamedTuple):
    """An element with what it inherits."""

    element: Element
    matrix: Matrix
    paint: tuple[str, ...]  # values of _INHERITED
    units: Units
    depth: int
    using: tuple[str, ...]  # ids that `use` is inside of
    size: tuple[str | None, str | None] = (None, None)  # a `use` gives its symbol this size


class _Walk:
    """One bounded pass over a document; counters hold across everything that `use` repeats."""

    def __init__(self, root: Element) -> None:
        self.root, self.ids, self.sheet = root, {}, StyleSheet()
        self.visited = self.uses = self.path_chars = self.transform_chars = self.segments = 0
        self.read_paths: dict[int, tuple[np.ndarray, ...]] = {}  # once, however often `use` repeats them
        self.read_styles: dict[int, Styles] = {}
        for element in root.iter():
            if element.get("id"):
                self.ids.setdefault(element.get("id"), element)
            if tag_of(element) == "style" and len(element.text or "") <= MAX_SHEET:
                self.sheet.add(element.text or "")

    def outlines(self, matrix: Matrix, units: Units) -> list[Outline]:
        """Every outline of the document in drawing order."""
        found = []
        stack = [_Node(self.root, IDENTITY, tuple(_INHERITED.values()), units, 0, ())]
        while stack:
            node = stack.pop()
            self.visited += 1
            if self.visited > MAX_ELEMENTS:
                raise SvgError(f"the SVG draws more than {MAX_ELEMENTS} elements through <use>. Simplify it.")
            if node.depth > MAX_DEPTH:
                raise SvgError(f"the SVG nests elements deeper than {MAX_DEPTH} through <use>. Simplify it.")
            style = self._style(node.element)
            if style.get("display") == "none" or _is_zero(style.get("opacity", "1")):
                continue
            node = self._styled(node, style)
            if node.depth == 0:
                node = node._replace(
                    matrix=compose(node.matrix, matrix), units=node.units._replace(rem=node.units.em)
                )
            a, b, c, d, *_ = node.matrix
            if a * d == b * c:  # SVG 2, 8.5: what is flattened to a line is not drawn
                continue
            children = self._children(node)
            if children is not None:
                stack.extend(reversed(children))
            elif node.paint[2] not in ("hidden", "collapse"):
                found += self._outline(node)
        return found

    def _style(self, element: Element) -> Styles:
        key = id(element)
        if key not in self.read_styles:
            self.read_styles[key] = self.sheet.styles(element, tag_of(element))
        return self.read_styles[key]

    def _styled(self, node: _Node, style: Styles) -> _Node:
        """The node under its own paint, font size and transform."""
        paint = tuple(
            inherited if style.get(name, "inherit") == "inherit" else style[name]
            for name, inherited in zip(_INHERITED, node.paint, strict=True)
        )
        units = node.units
        if NUMBER.match(style.get("font-size", "")):
            units = units._replace(em=units.pixels(style["font-size"], "font-size", units.em))
        text = style.get("transform")
        self.transform_chars += len(text or "")
        if self.transform_chars > MAX_TRANSFORM_CHARS:
            raise SvgError(
                f"the SVG has more than {MAX_TRANSFORM_CHARS} characters of transforms. Simplify it."
            )
        own = transform(text, units, style.get("transform-origin"))
        return node._replace(matrix=compose(node.matrix, own), paint=paint, units=units)

    def _children(self, node: _Node) -> list[_Node] | None:
        """What to walk next: a list for containers and for what is skipped, None for a shape."""
        tag = tag_of(node.element)
        if tag in ("g", "a") or (tag == "svg" and node.depth == 0):
            return self._inside(node, list(node.element))
        if tag == "switch":
            return self._inside(node, [element for element in node.element if _fits(element)][:1])
        if tag == "use":
            return self._used(node)
        if tag == "svg" or (tag == "symbol" and node.using):
            return self._framed(node)
        return None if tag in _DRAWN - _CONTAINERS else []

    def _inside(self, node: _Node, elements: list[Element]) -> list[_Node]:
        return [
            node._replace(element=element, depth=node.depth + 1, size=(None, None))
            for element in elements
            if tag_of(element) in _DRAWN and tag_of(element) != "symbol"
        ]

    def _used(self, node: _Node) -> list[_Node]:
        """The element that a `use` repeats; references to other files and to nothing are left out."""
        self.uses += 1
        if self.uses > MAX_USES:
            raise SvgError(f"the SVG follows more than {MAX_USES} <use> elements. Simplify it.")
        element, units = node.element, node.units
        href = (element.get("href") or element.get(_XLINK_HREF) or "").strip()
        target = self.ids.get(href[1:]) if href.startswith("#") else None
        if target is None or tag_of(target) not in _DRAWN:
            return []
        if href in node.using or any(target is e for e in (self.root, element)):
            raise SvgError(f"<use> of {href[:40]!r} contains itself. Correct the file.")
        x, y = units.attribute(element, "x", units.width), units.attribute(element, "y", units.height)
        return [
            node._replace(
                element=target,
                matrix=shifted(node.matrix, x, y),
                depth=node.depth + 1,
                using=(*node.using, href),
                size=(element.get("width"), element.get("height")),
            )
        ]

    def _framed(self, node: _Node) -> list[_Node]:
        """The contents of a nested svg or of a used symbol, in its own viewport."""
        element, units = node.element, node.units

        def side(given: str | None, name: str, whole: float) -> float:
            texts = (text.strip() for text in (given, element.get(name)) if text is not None)
            text = next((text for text in texts if text not in ("", "auto")), "100%")
            return units.pixels(text, name, whole)

        width = side(node.size[0], "width", units.width)
        height = side(node.size[1], "height", units.height)
        if width <= 0 or height <= 0:
            return []
        x, y = units.attribute(element, "x", units.width), units.attribute(element, "y", units.height)
        matrix, box = shifted(node.matrix, x, y), view_box(element)
        if box is not None:
            matrix = compose(matrix, fit_box(box, width, height, element.get("preserveAspectRatio")))
            width, height = box[2:]
        units = units._replace(width=width, height=height)
        return self._inside(node._replace(matrix=matrix, units=units), list(element))

    def _outline(self, node: _Node) -> list[Outline]:
        element, tag = node.element, tag_of(node.element)
        if tag == "path":
            curves = self._path(element)
        else:
            self._count_chars(len(element.get("points") or ""))
            curves = BASIC_SHAPES[tag](element, node.units)
        curves = tuple(apply(node.matrix, curve) for curve in curves if len(curve))
        self.segments += sum(map(len, curves))
        if self.segments > MAX_SEGMENTS:
            raise SvgError(f"the SVG draws more than {MAX_SEGMENTS} segments. Simplify it.")
        if not all((np.abs(curve) <= MAX_COORDINATE).all() for curve in curves):
            raise SvgError(
                f"<{tag}> has coordinates beyond {MAX_COORDINATE:g} pixels. Scale the drawing down."
            )
        if not curves:
            return []
        fill, stroke, _, fill_opacity, stroke_opacity, stroke_width = node.paint
        filled = fill.lower() not in _CLEAR and tag != "line" and not _is_zero(fill_opacity)
        stroked = stroke.lower() not in _CLEAR and not (_is_zero(stroke_opacity) or _is_zero(stroke_width))
        return [Outline(curves, filled, stroked)]

    def _path(self, element: Element) -> tuple[np.ndarray, ...]:
        key = id(element)
        if key not in self.read_paths:
            d = element.get("d") or ""
            self._count_chars(len(d))
            self.read_paths[key] = path_curves(d)
        return self.read_paths[key]

    def _count_chars(self, count: int) -> None:
        self.path_chars += count
        if self.path_chars > MAX_PATH_CHARS:
            raise SvgError(f"the SVG has more than {MAX_PATH_CHARS} characters of path data. Simplify it.")


def _is_zero(text: str) -> bool:
    """Whether a style's value is a zero of any unit."""
    match = NUMBER.match(text[:40].strip())
    return match is not None and float(match[0]) == 0


def _fits(element: Element) -> bool:
    """Whether a switch may choose this child."""
    language = element.get("systemLanguage")
    return (
        tag_of(element) in _DRAWN
        and element.get("requiredExtensions") is None
        and (language is None or re.search(r"(^|,)\s*en\b", language[:1000]) is not None)
    )


def _span(outlines: list[Outline]) -> tuple[float, float]:
    """A canvas for a file that names none: from the origin, or from the drawing's edge, to its far corner."""
    if not outlines:
        return 300.0, 150.0  # CSS's default size
    z = np.concatenate([curve.reshape(-1) for outline in outlines for curve in outline.curves])
    sides = (max(part.max(), part.max() - part.min()) for part in (z.real, z.imag))
    width, height = (float(side) if side > 1e-6 else 1.0 for side in sides)
    return width, height


def _is_paper(outline: Outline, canvas: tuple[float, float]) -> bool:
    """Whether the shape is a plain rectangle over the whole canvas: a background, not a drawn frame."""
    if (
        outline.stroked
        or not outline.filled
        or len(outline.curves) != 1
        or len(outline.curves[0]) not in (4, 5)
    ):
        return False
    corners = outline.curves[0][:, 0]
    x, y = corners.real / canvas[0], corners.imag / canvas[1]
    at_corner = (np.minimum(abs(x), abs(x - 1)) < 0.005) & (np.minimum(abs(y), abs(y - 1)) < 0.005)
    straight = np.abs(outline.curves[0][:, 1] - (2 * corners + outline.curves[0][:, 3]) / 3) < 1e-6 * max(
        canvas
    )
    return bool(at_corner.all() and straight.all() and np.ptp(x) > 0.9 and np.ptp(y) > 0.9)
