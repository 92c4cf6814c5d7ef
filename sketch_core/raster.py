"""Sketch -> image: anti-aliased ink by the distance of every pixel centre to the nearest capsule.

A stroke of width w is all that lies within w / 2 of its polyline: round caps, round joins, dots are discs.
A pixel whose centre lies at distance d is covered by clip(w / 2 + 1/2 - d, 0, min(w, 1)): exact for straight
edges along the axes and within a few percent of the true area elsewhere; the union of strokes is the smallest
distance, so crossings do not darken. Lines are cut into short pieces and each piece looks only at its own box
of pixels, which keeps time and memory in proportion to the ink. Pixel (0, 0) has its centre at (0.5, 0.5).

Limits: one colour an image; a spot a few hundredths of a pixel wide is drawn somewhat too dark.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from .strokes import Sketch

MAX_PIXELS = 2**26  # of one image: 8192 x 8192
MAX_BATCH_PIXELS = 2**28  # of one call: 1 GiB of float32
CHUNK = 2**16  # pixel distances computed at a time: the scratch arrays stay in the processor's cache


def sketch_to_array(
    sketch: Sketch,
    size: int | tuple[int, int],
    *,
    line_width: float | None = None,
    padding: float | None = 0.05,
) -> np.ndarray:
    """Ink coverage of a drawing, float32 (H, W), 0 paper and 1 ink.

    size        pixels: one number for a square, or (width, height).
    line_width  pixels of the output; None: 1/85 of the shorter side (3 px at 255), at least 1.
    padding     share of the shorter side kept free of ink while the drawing is fitted and centred;
                None leaves the drawing where it is on its canvas, the canvas being fitted and centred.
    """
    width, height = _size(size)
    line_width = max(1.0, min(width, height) / 85) if line_width is None else line_width
    return _draw([sketch], width, height, line_width, padding)[0]


def rasterize(
    sketches: Sequence[Sketch],
    size: int | tuple[int, int],
    *,
    line_width: float | None = None,
    padding: float | None = 0.05,
) -> np.ndarray:
    """Ink coverage of many drawings at once, float32 (B, H, W); each is what `sketch_to_array` gives alone.

    Made for a classifier's small images: about 0.05 ms a drawing at 48 pixels on one core.
    line_width  None: 1/32 of the shorter side, at least 1. Other options as in `sketch_to_array`.
    """
    width, height = _size(size)
    line_width = max(1.0, min(width, height) / 32) if line_width is None else line_width
    return _draw(list(sketches), width, height, line_width, padding)


def sketch_to_image(
    sketch: Sketch,
    size: int | tuple[int, int] = 512,
    *,
    line_width: float | None = None,
    padding: float | None = 0.05,
    color: str = "black",
    background: str | None = "white",
) -> Image.Image:
    """The drawing in one colour: RGB on `background`, or RGBA with clear paper when `background` is None.

    color, background  CSS names, #hex, rgb() or hsl() as Pillow reads them; the rest as in `sketch_to_array`.
    """
    ink, paper = _color(color), None if background is None else _color(background)
    coverage = sketch_to_array(sketch, size, line_width=line_width, padding=padding)
    coverage *= ink[3] / 255
    alpha = np.empty(coverage.shape, np.uint8)
    for top in range(0, len(coverage), 256):  # in bands: a large image needs no second float copy
        alpha[top : top + 256] = np.rint(coverage[top : top + 256] * 255)
    mask = Image.fromarray(alpha)
    if paper is None:
        image = Image.new("RGBA", mask.size, ink[:3] + (0,))
        image.putalpha(mask)
        return image
    if paper[3] == 255:
        image = Image.new("RGB", mask.size, paper[:3])
        image.paste(ink[:3], mask=mask)
        return image
    layer = Image.new("RGBA", mask.size, ink[:3] + (0,))
    layer.putalpha(mask)
    return Image.alpha_composite(Image.new("RGBA", mask.size, paper), layer)


def contact_sheet(
    sketches: Sequence[Sketch],
    *,
    columns: int = 8,
    cell: int = 128,
    captions: Sequence[str] | None = None,
    line_width: float | None = None,
    padding: float | None = 0.08,
    color: str = "black",
    background: str = "white",
) -> Image.Image:
    """Drawings in rows of `columns` square cells of `cell` pixels, each with a caption below it if given.

    Fewer drawings than columns make a narrower sheet; none make one empty cell. Captions that are too
    long are cut with an ellipsis; characters that Pillow's own font lacks show as boxes.
    """
    sketches = list(sketches)
    columns, cell = _whole("columns", columns), _whole("cell", cell)
    if cell < 8:
        raise ValueError(f"cell is {cell} pixels, wanted 8 or more. Make the cells larger.")
    if captions is not None and len(captions) != len(sketches):
        raise ValueError(f"got {len(captions)} captions for {len(sketches)} sketches. Give one each.")
    text = 0 if captions is None else max(9, cell // 10)
    line = 0 if captions is None else text + text // 2 + 2
    columns = max(1, min(columns, len(sketches)))
    rows = max(1, -(-len(sketches) // columns))
    width, height = _size((columns * cell, rows * (cell + line)))
    sheet = Image.new("RGB", (width, height), _color(background)[:3])
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(text) if text else None
    for i, sketch in enumerate(sketches):
        x, y = i % columns * cell, i // columns * (cell + line)
        options = {"line_width": line_width, "padding": padding, "color": color, "background": background}
        sheet.paste(sketch_to_image(sketch, cell, **options).convert("RGB"), (x, y))
        if captions is not None:
            caption = _cut(str(captions[i]), font, cell - 4)
            x += (cell - font.getlength(caption)) / 2
            pen.text((x, y + cell), caption, fill=_color(color)[:3], font=font)
    return sheet


def _cut(caption: str, font, room: float) -> str:
    """The caption on one line, shortened with an ellipsis until it fits `room` pixels."""
    caption = " ".join(caption[:500].split()).encode("utf-8", "replace").decode("utf-8")
    if not isinstance(font, ImageFont.FreeTypeFont):  # without FreeType: Latin-1 bitmaps
        caption = caption.encode("latin-1", "replace").decode("latin-1")
    dots = "…" if isinstance(font, ImageFont.FreeTypeFont) else "..."
    if font.getlength(caption) <= room:
        return caption
    while caption and font.getlength(caption + dots) > room:
        caption = caption[:-1]
    return caption.rstrip() + dots


def _draw(
    sketches: list[Sketch], width: int, height: int, line_width: float, padding: float | None
) -> np.ndarray:
    """(B, H, W) float32 coverage."""
    line_width = float(line_width)
    if not 0 < line_width <= min(width, height):
        raise ValueError(
            f"line width is {line_width:g} pixels, wanted more than 0 and at most the shorter side of "
            f"{width} x {height}. Give a width that fits, or None."
        )
    if len(sketches) * width * height > MAX_BATCH_PIXELS:
        raise ValueError(
            f"{len(sketches)} images of {width} x {height} pixels are more than {MAX_BATCH_PIXELS} pixels. "
            f"Rasterize fewer at once."
        )
    if not sketches:
        return np.zeros((0, height, width), dtype=np.float32)
    a, b, owner = _segments(sketches, width, height, line_width, padding)
    a, b, owner = _clip(a, b, owner, width, height, line_width / 2 + 1)
    longest = max(3.0, line_width)
    a, b, owner = _split(a, b, owner, longest)
    reach = np.float32(line_width / 2 + 0.5)  # no ink farther from a line than this
    nearest = np.full((len(sketches), height, width), reach * reach, dtype=np.float32)  # squared distances
    _lower(nearest, a, b, owner, reach=line_width / 2 + 0.5, longest=longest)
    coverage = np.sqrt(nearest, out=nearest)
    np.subtract(reach, coverage, out=coverage)
    return np.clip(coverage, 0, min(1.0, line_width), out=coverage)


def _segments(
    sketches: list[Sketch], width: int, height: int, line_width: float, padding: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends a, b (S, 2) float64 in pixels and owner (S,) of every segment; a dot is a segment of no length."""
    strokes = [stroke for sketch in sketches for stroke in sketch.strokes]
    if not strokes:
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
    points = np.concatenate(strokes).astype(np.float64)
    counts = np.fromiter(map(len, strokes), np.int64, len(strokes))
    stroke_owner = np.repeat(np.arange(len(sketches)), [len(sketch.strokes) for sketch in sketches])
    owner = np.repeat(stroke_owner, counts)
    zoom, shift = _placement(sketches, points, owner, width, height, line_width, padding)
    points = points * zoom[owner, None] + shift[owner]
    last = np.cumsum(counts) - 1
    following = np.arange(1, len(points) + 1)
    following[last] = last  # the last point of a stroke leads to itself ...
    starts = np.ones(len(points), dtype=bool)
    starts[last[counts > 1]] = False  # ... and starts a segment only if it is the stroke
    return points[starts], points[following[starts]], owner[starts]


def placement(
    sketch: Sketch, size: tuple[int, int], *, padding: float | None = 0.05
) -> tuple[float, np.ndarray]:
    """zoom and shift (2,) from canvas units to the pixels where `sketch_to_array` draws them."""
    width, height = _size(size)
    points = np.concatenate([*sketch.strokes, np.zeros((0, 2))]).astype(np.float64)
    owner, line_width = np.zeros(len(points), dtype=np.int64), max(1.0, min(width, height) / 85)
    zoom, shift = _placement([sketch], points, owner, width, height, line_width, padding)
    return float(zoom[0]), shift[0]


def _placement(
    sketches: list[Sketch],
    points: np.ndarray,
    owner: np.ndarray,
    width: int,
    height: int,
    line_width,
    padding,
) -> tuple[np.ndarray, np.ndarray]:
    """zoom (B,) and shift (B, 2) that bring canvas units to pixels."""
    middle = np.array([width, height]) / 2
    if padding is None:
        canvas = np.array([sketch.canvas for sketch in sketches])
        zoom = np.min([width, height] / canvas, axis=1)
        return zoom, middle - canvas / 2 * zoom[:, None]
    margin = float(padding) * min(width, height) + line_width / 2
    if not (padding >= 0 and 2 * margin < min(width, height)):
        raise ValueError(
            f"padding {padding:g} and a line of {line_width:g} pixels leave nothing of {width} x {height}. "
            f"Make one of them smaller."
        )
    drawn, first = np.unique(owner, return_index=True)
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    room = np.array([width, height]) - 2 * margin
    fit = np.min(room / np.maximum(high - low, 1e-9), axis=1)
    fit[(high == low).all(1)] = 1.0
    zoom, shift = np.ones(len(sketches)), np.zeros((len(sketches), 2))
    zoom[drawn], shift[drawn] = fit, middle - (low + high) / 2 * fit[:, None]
    return zoom, shift


def _clip(
    a: np.ndarray, b: np.ndarray, owner: np.ndarray, width: int, height: int, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments cut to the image and `margin` pixels around it (Liang & Barsky, 1984); none of the others."""
    low, high = np.array([-margin, -margin]), np.array([width + margin, height + margin])
    inside = ((np.minimum(a, b) >= low) & (np.maximum(a, b) <= high)).all(1)
    if inside.all():
        return a, b, owner
    step = b - a
    still = step == 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t0, t1 = (low - a) / step, (high - a) / step
    outside = still & ((a < low) | (a > high))
    enter = np.where(still, 0.0, np.minimum(t0, t1)).max(1).clip(0, 1)
    leave = np.where(still, 1.0, np.maximum(t0, t1)).min(1).clip(0, 1)
    keep = (enter <= leave) & ~outside.any(1)
    keep &= inside | (leave > enter) | still.all(1)
    a, b, step, owner = a[keep], b[keep], step[keep], owner[keep]
    enter, leave = enter[keep, None], leave[keep, None]
    b = np.where(leave < 1, (a + leave * step).clip(low, high), b)
    a = np.where(enter > 0, (a + enter * step).clip(low, high), a)
    return a, b, owner


def _split(
    a: np.ndarray, b: np.ndarray, owner: np.ndarray, longest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same capsules as pieces no longer than `longest` along either axis."""
    step = b - a
    pieces = np.maximum(1, np.ceil(np.abs(step).max(1, initial=0) / longest)).astype(np.int64)
    which = np.repeat(np.arange(len(a)), pieces)
    index = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start, end = (index / pieces[which])[:, None], ((index + 1) / pieces[which])[:, None]
    return a[which] + start * step[which], a[which] + end * step[which], owner[which]


def _lower(
    nearest: np.ndarray, a: np.ndarray, b: np.ndarray, owner: np.ndarray, *, reach: float, longest: float
) -> None:
    """Lowers `nearest` (B, H, W) to the squared distance to each piece, in the piece's own box of pixels.

    All boxes have one size, set by `reach` and `longest` alone, so that no drawing depends on its batch.
    """
    _, height, width = nearest.shape
    if len(a) == 0:
        return
    span = int(np.ceil(longest + 2 * reach)) + 1
    columns, rows = min(span, width), min(span, height)
    corner = np.ceil(np.minimum(a, b) - reach - 0.5).astype(np.int64)
    corner = corner.clip(
        0, [width - columns, height - rows]
    )  # moved in, it still holds its part of the image
    step = b - a
    length2 = (step**2).sum(1)
    along = np.where(length2[:, None] > 1e-12, step / np.maximum(length2, 1e-12)[:, None], 0.0)
    from_a = (corner + 0.5 - a).astype(np.float32)  # of the box's first pixel centre
    step, along = step.astype(np.float32), along.astype(np.float32)
    base = owner * (height * width) + corner[:, 1] * width + corner[:, 0]
    flat = nearest.reshape(-1)
    band = max(1, min(rows, CHUNK // columns))
    some = max(1, CHUNK // (columns * band))
    column = np.arange(columns)
    for top in range(0, rows, band):
        row = np.arange(top, min(top + band, rows))
        offsets = (row[:, None] * width + column).reshape(-1)
        for first in range(0, len(a), some):
            part = slice(first, first + some)
            dx = from_a[part, 0, None] + column.astype(np.float32)  # (S, columns)
            dy = from_a[part, 1, None] + row.astype(np.float32)  # (S, rows)
            t = (dy * along[part, 1, None])[:, :, None] + (dx * along[part, 0, None])[:, None, :]
            np.clip(t, 0, 1, out=t)
            ex = dx[:, None, :] - t * step[part, 0, None, None]
            ex *= ex
            t *= step[part, 1, None, None]
            np.subtract(dy[:, :, None], t, out=t)
            t *= t
            t += ex
            np.minimum.at(flat, (base[part, None] + offsets).reshape(-1), t.reshape(-1))


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) in pixels, checked."""
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise ValueError(f"size is {size!r}, wanted one number of pixels or (width, height).")
    width, height = _whole("width", sides[0]), _whole("height", sides[1])
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels are more than the {MAX_PIXELS} of one image. Make it smaller."
        )
    return width, height


def _whole(name: str, value: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}, wanted a whole number of pixels.") from None
    if value < 1:
        raise ValueError(f"{name} is {value}, wanted 1 or more.")
    return value


def _color(color: str) -> tuple[int, int, int, int]:
    try:
        return ImageColor.getcolor(color, "RGBA")
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f"color is {str(color)[:40]!r}, wanted a name such as 'black', or '#rrggbb'. Check the spelling."
        ) from None
