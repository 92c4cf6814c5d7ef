"""What attributes of an SVG say: numbers, lengths with units, transforms and view boxes.

Whatever cannot be read, is not finite or goes beyond `MAX_COORDINATE` is refused with an `SvgError`; nothing
is guessed. Points are complex numbers x + iy, affine matrices (a, b, c, d, e, f) as in SVG.

Limits: percentages in transforms and transform-origin are of the viewport, never of the element's own box
(`transform-box: fill-box`); a transform in space is refused.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

MAX_COORDINATE = 1e9
MAX_NUMBERS = 400_000  # in one attribute
MAX_TRANSFORM = 2_000  # characters of one transform


class SvgError(ValueError):
    """An SVG that cannot or must not be read, said in one sentence."""


# --- numbers and lengths

NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
BLANK = " \t\r\n\f,"
_LENGTH = re.compile(rf"\s*({NUMBER.pattern})\s*([a-zA-Z%]*)\s*")
_PIXELS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96, "q": 96 / 101.6}
_TURNS = {"": 1, "deg": 1, "rad": 180 / math.pi, "grad": 0.9, "turn": 360}  # degrees


def finite(text: str, what: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_COORDINATE:
        raise SvgError(
            f"{what} is {text[:40]}, wanted a number up to {MAX_COORDINATE:g}. Scale the drawing down."
        )
    return value


def numbers(text: str, what: str) -> list[float]:
    """Numbers parted by spaces or commas; anything else between them is refused, NaN included."""
    stray, count = NUMBER.subn(" ", text)
    stray = stray.strip(BLANK)
    if stray:
        raise SvgError(f"{what} holds {stray[:20]!r}, wanted numbers. Correct the file.")
    if count > MAX_NUMBERS:
        raise SvgError(f"{what} holds more than {MAX_NUMBERS} numbers. Simplify the drawing.")
    values = [float(number) for number in NUMBER.findall(text)]
    if not max(map(abs, values), default=0.0) <= MAX_COORDINATE:
        raise SvgError(f"{what} holds a number beyond {MAX_COORDINATE:g}. Scale the drawing down.")
    return values


def _number_and_unit(text: str) -> tuple[str, str] | None:
    match = _LENGTH.fullmatch(text) if len(text) <= 100 else None  # the pattern is slow on long failures
    return (match[1], match[2].lower()) if match else None


class Units(NamedTuple):
    """What 100%, em and rem mean at one place of a document, in the pixels of that place."""

    width: float
    height: float
    em: float = 16.0
    rem: float = 16.0

    @property
    def diagonal(self) -> float:
        """What 100% of a radius is."""
        return math.hypot(self.width, self.height) / math.sqrt(2)

    def pixels(self, text: str, what: str, whole: float) -> float:
        """The length `text` in pixels; `whole` is what 100% means."""
        number, unit = _number_and_unit(text) or ("", None)
        scale = {**_PIXELS, "%": whole / 100, "em": self.em, "ex": self.em / 2, "rem": self.rem}.get(unit)
        if scale is None:
            raise SvgError(f"{what} is {text[:40]!r}, wanted a length such as 12 or 3mm. Correct the file.")
        return finite(number, what) * scale

    def attribute(self, element, name: str, whole: float, default: float | None = 0.0) -> float | None:
        """An element's attribute in pixels; `default` where it is missing, empty or auto."""
        text = element.get(name)
        if text is None or text.strip() in ("", "auto"):
            return default
        return self.pixels(text, f"<{str(element.tag).rpartition('}')[2][:20]}> {name}", whole)


# --- affine matrices

Matrix = tuple[float, float, float, float, float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    a, b, c, d, e, f = outer
    A, B, C, D, E, F = inner
    return a * A + c * B, b * A + d * B, a * C + c * D, b * C + d * D, a * E + c * F + e, b * E + d * F + f


def shifted(matrix: Matrix, x: float, y: float) -> Matrix:
    """`matrix` after a move by (x, y) in its own coordinates."""
    return compose(matrix, (1.0, 0.0, 0.0, 1.0, x, y))


def apply(matrix: Matrix, z: np.ndarray) -> np.ndarray:
    """Complex points under a matrix; what overflows comes out infinite, for the caller to refuse."""
    a, b, c, d, e, f = matrix
    moved = np.empty_like(z)
    with np.errstate(over="ignore", invalid="ignore"):
        moved.real = a * z.real + c * z.imag + e
        moved.imag = b * z.real + d * z.imag + f
    return moved


def transform(text: str | None, units: Units, origin: str | None = None) -> Matrix:
    """The matrix of a transform attribute or property about `origin`; functions apply from right to left."""
    if not text or text.strip() == "none":
        return IDENTITY
    if len(text) > MAX_TRANSFORM:
        raise SvgError(
            f"a transform is longer than {MAX_TRANSFORM} characters. Flatten the drawing's transforms."
        )
    *calls, rest = text.split(")")
    if rest.strip(BLANK) or not calls:
        raise SvgError(f"transform {text[:40]!r} cannot be read. Correct the file.")
    x, y = _origin(origin, units)
    matrix = (1.0, 0.0, 0.0, 1.0, x, y)
    for name, _, arguments in (call.partition("(") for call in calls):
        matrix = compose(matrix, _function(name.strip(BLANK), _arguments(arguments), units, text))
        if not all(abs(value) <= MAX_COORDINATE for value in matrix):
            raise SvgError(f"transform {text[:40]!r} leads out of bounds. Scale the drawing down.")
    return shifted(matrix, -x, -y)


def _arguments(text: str) -> list[str]:
    """Numbers, each with the unit behind it, if there is one; stray text stays, to be refused."""
    parted = NUMBER.sub(lambda match: " " + match[0], text.replace(",", " "))
    return parted.split()


def _function(name: str, arguments: list[str], units: Units, text: str) -> Matrix:
    """One function; SVG writes bare numbers, CSS adds units."""

    def length(i: int, whole: float) -> float:
        return units.pixels(arguments[i], "transform", whole) if i < len(arguments) else 0.0

    def number(i: int, scales: dict[str, float]) -> float:
        value, unit = _number_and_unit(arguments[i]) or ("", None)
        if unit not in scales:
            raise SvgError(f"transform {text[:40]!r} holds {arguments[i][:20]!r}. Correct the file.")
        return finite(value, "transform") * scales[unit]

    def tangent(i: int) -> float:
        return math.tan(math.radians(number(i, _TURNS))) if i < len(arguments) else 0.0

    share = {"": 1, "%": 0.01}
    match name, len(arguments):
        case "matrix", 6:
            return tuple(number(i, {"": 1, "px": 1}) for i in range(6))
        case "translate", 1 | 2:
            return 1.0, 0.0, 0.0, 1.0, length(0, units.width), length(1, units.height)
        case "translateX", 1:
            return 1.0, 0.0, 0.0, 1.0, length(0, units.width), 0.0
        case "translateY", 1:
            return 1.0, 0.0, 0.0, 1.0, 0.0, length(0, units.height)
        case "scale", 1 | 2:
            return number(0, share), 0.0, 0.0, number(len(arguments) - 1, share), 0.0, 0.0
        case "scaleX", 1:
            return number(0, share), 0.0, 0.0, 1.0, 0.0, 0.0
        case "scaleY", 1:
            return 1.0, 0.0, 0.0, number(0, share), 0.0, 0.0
        case "rotate", 1 | 3:
            angle = math.radians(number(0, _TURNS))
            cos, sin = math.cos(angle), math.sin(angle)
            x, y = (length(1, units.width), length(2, units.height)) if len(arguments) == 3 else (0.0, 0.0)
            return cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y
        case "skewX", 1:
            return 1.0, 0.0, tangent(0), 1.0, 0.0, 0.0
        case "skewY", 1:
            return 1.0, tangent(0), 0.0, 1.0, 0.0, 0.0
        case "skew", 1 | 2:
            return 1.0, tangent(1), tangent(0), 1.0, 0.0, 0.0
    raise SvgError(f"transform {text[:40]!r} cannot be read. Correct the file.")


_SIDES = {"left": (0.0, None), "right": (1.0, None), "top": (None, 0.0), "bottom": (None, 1.0)}


def _origin(text: str | None, units: Units) -> tuple[float, float]:
    """transform-origin in pixels: keywords, lengths and shares of the viewport; x first unless words say."""
    words = (text or "")[:200].lower().split()[:2] or ["0", "0"]
    if words[0] in ("top", "bottom") or words[1:] in (["left"], ["right"]):
        words = [*words[1:], "center"][:1] + words[:1]
    words = [*words, "center"][:2]
    shares = [
        0.5 if word == "center" else _SIDES.get(word, (None, None))[axis] for axis, word in enumerate(words)
    ]
    x, y = (
        whole * share if share is not None else units.pixels(word, "transform-origin", whole)
        for word, share, whole in zip(words, shares, units[:2], strict=True)
    )
    return x, y


# --- view boxes


def view_box(element) -> tuple[float, float, float, float] | None:
    text = element.get("viewBox")
    if text is None or not text.strip():
        return None
    values = numbers(text, "viewBox") if len(text) <= 1000 else []
    if len(values) != 4 or values[2] <= 0 or values[3] <= 0:
        raise SvgError(
            f"viewBox is {text[:60]!r}, wanted x, y and a width and height above 0. Correct the file."
        )
    return tuple(values)


def fit_box(
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
