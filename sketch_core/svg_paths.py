"""Path data and basic shapes as cubic Bézier curves, and those curves as polylines.

A subpath is a complex array (m, 4): the control points of m cubics, each starting where the last one ends.
Path data is read by `svgpathtools.parse_path` between arcs; arcs are converted here, because svgpathtools
stops at an arc that ends where it starts and takes 75 microseconds for each of the others. 100,000 cubics
take about a second, half of it in svgpathtools.

Limits: path data with a mistake is refused whole, where a browser draws what comes before it.
"""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element

import numpy as np

from .svg_values import BLANK, MAX_COORDINATE, NUMBER, SvgError, Units, finite, numbers

MAX_SEGMENTS = 200_000  # in a path, and in a document
MAX_POINTS = 1_000_000  # of all polylines

_FLAG = re.compile("[01]")
_SPACE = re.compile(r"[\s,]*")
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


def _lines(points: np.ndarray) -> np.ndarray:
    """Complex points (n,), n > 1, as n - 1 straight cubics."""
    points = np.asarray(points, dtype=np.complex128)
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


# --- basic shapes: subpaths in the element's own coordinates


def _line(element: Element, units: Units) -> list[np.ndarray]:
    x1, x2 = (units.attribute(element, name, units.width) for name in ("x1", "x2"))
    y1, y2 = (units.attribute(element, name, units.height) for name in ("y1", "y2"))
    return [_lines([complex(x1, y1), complex(x2, y2)])]


def _polyline(element: Element, units: Units) -> list[np.ndarray]:
    values = numbers(element.get("points") or "", "points")
    z = np.array(values[0 : len(values) // 2 * 2 : 2]) + 1j * np.array(values[1::2])
    return [_lines(z)] if len(z) > 1 else []


def _polygon(element: Element, units: Units) -> list[np.ndarray]:
    curves = _polyline(element, units)
    if not curves or curves[0][0, 0] == curves[0][-1, 3]:
        return curves
    return [np.concatenate([curves[0], _lines([curves[0][-1, 3], curves[0][0, 0]])])]


def _radii(element: Element, units: Units) -> tuple[float, float]:
    """rx and ry; one that is missing, auto or negative is like the other."""
    rx, ry = (
        units.attribute(element, name, whole, None)
        for name, whole in (("rx", units.width), ("ry", units.height))
    )
    rx, ry = (None if r is None or r < 0 else r for r in (rx, ry))
    return (ry if rx is None else rx) or 0.0, (rx if ry is None else ry) or 0.0


def _rect(element: Element, units: Units) -> list[np.ndarray]:
    x, w = (units.attribute(element, name, units.width) for name in ("x", "width"))
    y, h = (units.attribute(element, name, units.height) for name in ("y", "height"))
    if w <= 0 or h <= 0:
        return []
    rx, ry = _radii(element, units)
    rx, ry = min(rx, w / 2), min(ry, h / 2)
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


def _circle(element: Element, units: Units) -> list[np.ndarray]:
    r = units.attribute(element, "r", units.diagonal)
    return _whole_ellipse(element, units, r, r)


def _ellipse(element: Element, units: Units) -> list[np.ndarray]:
    return _whole_ellipse(element, units, *_radii(element, units))


def _whole_ellipse(element: Element, units: Units, rx: float, ry: float) -> list[np.ndarray]:
    cx, cy = units.attribute(element, "cx", units.width), units.attribute(element, "cy", units.height)
    if rx <= 0 or ry <= 0:
        return []
    return [np.array(_ellipse_arc(complex(cx, cy), rx, ry, 0.0, 2 * math.pi))]


BASIC_SHAPES = {
    "line": _line,
    "polyline": _polyline,
    "polygon": _polygon,
    "rect": _rect,
    "circle": _circle,
    "ellipse": _ellipse,
}


# --- path data


def path_curves(d: str) -> tuple[np.ndarray, ...]:
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
        if rest.strip(BLANK):
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
        other, numbers = NUMBER.subn("", rest)
        if other.strip(BLANK):
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
        match = (NUMBER if field == "n" else _FLAG).match(text, at)
        if match is None:
            raise _unreadable(d)
        values.append(finite(match[0], "path data"))
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


def flatten(curves: list[np.ndarray], tolerance: float) -> tuple[np.ndarray, ...]:
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
