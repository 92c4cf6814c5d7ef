"""What svgelements and resvg make of an SVG, and how far our strokes are from it, in pixels at 512."""

from __future__ import annotations

import io
import re

import numpy as np

from sketch_core.strokes import Sketch

SIDE = 512  # pixels of the longer side, in which distances are given


def away(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """How far each of `points` (n, 2) is from the polyline (m, 2)."""
    a, b = (line[:-1], line[1:]) if len(line) > 1 else (line, line)
    ab = b - a
    length2 = np.maximum((ab**2).sum(1), 1e-300)
    nearest = np.full(len(points), np.inf)
    for rows in np.array_split(np.arange(len(a)), len(a) * len(points) // 200_000 + 1):
        from_a = points[:, None] - a[rows]
        t = np.clip((from_a * ab[rows]).sum(2) / length2[rows], 0, 1)
        nearest = np.minimum(nearest, np.hypot(*np.moveaxis(from_a - t[..., None] * ab[rows], 2, 0)).min(1))
    return nearest


def dense(line: np.ndarray, spacing: float) -> np.ndarray:
    """The polyline's points and more between them, `spacing` apart at most."""
    counts = np.ceil(np.hypot(*np.diff(line, axis=0).T) / spacing).astype(int).clip(1)
    along = np.repeat(np.arange(len(counts)), counts)
    share = (np.arange(len(along)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[along]
    return np.concatenate([line[along] + share[:, None] * np.diff(line, axis=0)[along], line[-1:]])


# --- svgelements: subpath by subpath


def svgelements_strokes(text: str) -> list[np.ndarray]:
    """Every subpath that svgelements finds, sampled, in CSS pixels."""
    import svgelements

    strokes = []
    for element in svgelements.SVG.parse(io.StringIO(text), reify=True, ppi=96).elements():
        if not isinstance(element, svgelements.Shape):
            continue
        for subpath in abs(svgelements.Path(element)).as_subpaths():
            points = [_samples(segment) for segment in subpath if type(segment).__name__ != "Move"]
            points = [part for part in points if part is not None]
            if points:
                strokes.append(np.concatenate(points))
    return strokes


def _samples(segment) -> np.ndarray | None:
    if segment.start is None or segment.end is None:
        return None
    if type(segment).__name__ in ("Line", "Close"):
        return np.array([segment.start, segment.end], dtype=float)
    return np.asarray(segment.npoint(np.linspace(0, 1, 100)), dtype=float)


def error_to_svgelements(sketch: Sketch, text: str) -> float:
    """The worst distance between our strokes and its subpaths, one by one, both ways; inf if they differ in
    number."""
    theirs, zoom = svgelements_strokes(text), SIDE / max(sketch.canvas)
    if len(theirs) != len(sketch.strokes):
        return np.inf
    worst = 0.0
    for ours, their in zip(sketch.strokes, theirs, strict=True):
        ours, their = ours.astype(float) * zoom, their * zoom
        worst = max(worst, away(their, ours).max(), away(ours, dense(their, 2.0)).max())
    return worst


# --- resvg: everything as hairlines, and where their ink is

HAIRLINES = (
    "*{fill:none!important;stroke:#000!important;stroke-width:%g!important;stroke-linecap:round!important;stroke-linejoin:round!important;"
    "stroke-dasharray:none!important;opacity:1!important;stroke-opacity:1!important;clip-path:none!important;"
    "mask:none!important;filter:none!important;overflow:visible!important}"
)


def hairlines(text: str, width: float) -> str:
    """The document with every shape a thin line of that many units, for both readers alike."""
    head, end, tail = text.rpartition("</svg>")
    return f"{re.sub('<image[^>]*/>', '', head)}<style>{HAIRLINES % width}</style>{end}{tail}"


def resvg_ink(text: str, canvas: tuple[float, float], side: int) -> np.ndarray:
    """(n, 2) centres of the pixels that resvg inks, in units of the canvas."""
    import resvg_py
    from PIL import Image

    zoom = side / max(canvas)
    width, height = (max(1, round(length * zoom)) for length in canvas)
    png = resvg_py.svg_to_bytes(svg_string=text, width=width, height=height, dpi=96, skip_system_fonts=True)
    alpha = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))[..., 3]
    rows, columns = np.nonzero(alpha > 4)
    return np.stack([columns + 0.5, rows + 0.5], 1) / zoom


def error_to_resvg(sketch: Sketch, text: str, side: int = 2048) -> float:
    """The worst distance from ink to our strokes and from our strokes, where they are on the canvas, to ink.

    `sketch` and `text` are of `hairlines`. A pixel's own size is in it: about 0.2 at a `side` of 2048.
    """
    from scipy.spatial import cKDTree

    zoom = SIDE / max(sketch.canvas)
    ink = resvg_ink(text, sketch.canvas, side) * zoom
    ours = np.concatenate([dense(stroke.astype(float) * zoom, 0.1) for stroke in sketch.strokes])
    seen = ours[((ours > 0) & (ours < np.array(sketch.canvas) * zoom)).all(1)]
    if not len(ink) or not len(seen):
        return 0.0 if len(ink) == len(seen) else np.inf
    inner = ink[((ink > 1) & (ink < np.array(sketch.canvas) * zoom - 1)).all(1)]  # clipped curves are bent
    return max(cKDTree(ours).query(inner)[0].max(), cKDTree(ink).query(seen)[0].max())
