"""Small line charts beside one another, written as SVG text or drawn with Pillow; no plotting library.

Limits: linear and logarithmic axes, one y axis a panel, as many series as COLORS are told apart by colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from PIL import Image, ImageDraw, ImageFont

COLORS = ("#1b6ca8", "#d1495b", "#2e933c", "#8f5aa8", "#c77d0a", "#3d9b9b", "#6b6b6b", "#a3485c")
WIDTH, HEIGHT = 420, 300  # of a panel, in units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 44  # margins of a panel
INK, FAINT = "#222222", "#dddddd"
SIZE = 12  # of the letters
ZOOM = 2  # pixels of a PNG to a unit


@dataclass(frozen=True)
class Series:
    """Points (x, y, half of the interval of y or None) that a line joins, in order of x."""

    name: str
    points: Sequence[tuple[float, float, float | None]]


@dataclass(frozen=True)
class Panel:
    """One chart. `level` is a dashed line across (the floor) and its words; `log_x` spaces by ratio."""

    x: str
    y: str
    series: Sequence[Series]
    level: tuple[float, str] | None = None
    log_x: bool = False


@dataclass
class Canvas:
    """Lines (points, colour, width, dashed), dots (x, y, colour), texts (x, y, text, anchor, colour)."""

    width: float
    height: float
    lines: list = field(default_factory=list)
    dots: list = field(default_factory=list)
    texts: list = field(default_factory=list)


def chart(panels: Sequence[Panel], *, columns: int = 3) -> Canvas:
    """The panels in rows of `columns`, the names of the series below, in the order of their appearance."""
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}
    below = HEIGHT * math.ceil(len(panels) / columns)
    canvas = Canvas(WIDTH * min(columns, len(panels)), below + 20 * len(names) + 6)
    for i, panel in enumerate(panels):
        _panel(canvas, panel, i % columns * WIDTH, i // columns * HEIGHT, colors)
    for i, name in enumerate(names):
        y = below + 20 * i + 8
        canvas.lines.append(([(LEFT, y), (LEFT + 24, y)], colors[name], 2, False))
        canvas.dots.append((LEFT + 12, y, colors[name]))
        canvas.texts.append((LEFT + 32, y + 4, name, "start", INK))
    return canvas


def _panel(canvas: Canvas, panel: Panel, left: float, top: float, colors: dict[str, str]) -> None:
    found = [point for series in panel.series for point in series.points]
    if not found:
        raise ValueError(f"the panel {panel.y!r} has no points. Give it a series.")
    ys = [y + sign * (half or 0) for _, y, half in found for sign in (-1, 1)]
    ys += [panel.level[0]] if panel.level else []
    to_x = _scale([x for x, _, _ in found], left + LEFT, left + WIDTH - RIGHT, log=panel.log_x)
    to_y = _scale(ys, top + HEIGHT - BOTTOM, top + TOP)
    bottom, right = top + HEIGHT - BOTTOM, left + WIDTH - RIGHT
    for value in ticks(*_span([x for x, _, _ in found]), log=panel.log_x):
        x = to_x(value)
        canvas.lines.append(([(x, top + TOP), (x, bottom)], FAINT, 1, False))
        canvas.texts.append((x, bottom + 16, f"{value:g}", "middle", INK))
    for value in ticks(*_span(ys)):
        y = to_y(value)
        canvas.lines.append(([(left + LEFT, y), (right, y)], FAINT, 1, False))
        canvas.texts.append((left + LEFT - 6, y + 4, f"{value:g}", "end", INK))
    canvas.lines.append(([(left + LEFT, top + TOP), (left + LEFT, bottom), (right, bottom)], INK, 1, False))
    canvas.texts.append(((left + LEFT + right) / 2, bottom + 34, panel.x, "middle", INK))
    canvas.texts.append((left + LEFT, top + TOP - 10, panel.y, "start", INK))
    if panel.level:
        y = to_y(panel.level[0])
        canvas.lines.append(([(left + LEFT, y), (right, y)], INK, 1, True))
        canvas.texts.append((right, y - 5, panel.level[1], "end", INK))
    for series in panel.series:
        color = colors[series.name]
        points = sorted(series.points, key=lambda point: point[0])
        canvas.lines.append(([(to_x(x), to_y(y)) for x, y, _ in points], color, 2, False))
        for x, y, half in points:
            if half is not None:
                ends = [(to_x(x), to_y(y - half)), (to_x(x), to_y(y + half))]
                canvas.lines.append((ends, color, 1, False))
            canvas.dots.append((to_x(x), to_y(y), color))


def ticks(low: float, high: float, *, log: bool = False) -> list[float]:
    """Round values within low to high: steps of 1, 2 or 5 times a power of ten; on a log axis, 1, 2 and 5."""
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        return [value for value in found if low * 0.999 <= value <= high * 1.001] or [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From least to most, never nothing."""
    low, high = min(values), max(values)
    if high > low:
        return low, high
    room = abs(low) / 10 or 1.0
    return low - room, high + room


def _scale(values: Sequence[float], start: float, end: float, *, log: bool = False):
    """A function from values to positions, a twentieth of room at both ends."""
    low, high = _span(values)
    if log and low <= 0:
        raise ValueError(f"a logarithmic axis begins at {low:g}, wanted above 0. Leave log_x out.")
    bend = math.log10 if log else float
    a, b = bend(low), bend(high)
    inset = (end - start) * 0.05
    return lambda value: start + inset + (bend(value) - a) / (b - a) * (end - start - 2 * inset)


def to_svg(canvas: Canvas) -> str:
    """SVG text; the same chart is the same text."""
    w, h = canvas.width, canvas.height
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:g} {h:g}" width="{w:g}" height="{h:g}" '
        f'font-family="sans-serif" font-size="{SIZE}">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for points, color, width, dashed in canvas.lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>')
    out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y, color in canvas.dots]
    for x, y, text, anchor, color in canvas.texts:
        out.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def to_image(canvas: Canvas) -> Image.Image:
    """RGB image, ZOOM pixels to a unit."""
    image = Image.new("RGB", (round(canvas.width * ZOOM), round(canvas.height * ZOOM)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(SIZE * ZOOM)
    for points, color, width, dashed in canvas.lines:
        places = [(x * ZOOM, y * ZOOM) for x, y in points]
        for a, b in _dashes(places) if dashed else zip(places, places[1:], strict=False):
            draw.line([a, b], fill=color, width=width * ZOOM)
    for x, y, color in canvas.dots:
        box = [(x - 3) * ZOOM, (y - 3) * ZOOM, (x + 3) * ZOOM, (y + 3) * ZOOM]
        draw.ellipse(box, fill=color)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for x, y, text, anchor, color in canvas.texts:
        draw.text((x * ZOOM, y * ZOOM), text, fill=color, font=font, anchor=anchors[anchor])
    return image


def _dashes(places: Sequence[tuple[float, float]]):
    """Pieces of 5 units with gaps of 4 along a horizontal line."""
    (x0, y), (x1, _) = places
    x = x0
    while x < x1:
        yield (x, y), (min(x + 5 * ZOOM, x1), y)
        x += 9 * ZOOM
