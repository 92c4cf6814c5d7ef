"""A picture of a drawing -> a Sketch: find the ink, thin it, follow the lines, draw them in order.

Photos of pencil drawings, scans, edge maps, light lines on dark ground. What is worked on is the picture at
a longer side of at most `WORKING_SIDE` pixels; strokes come back in pixels of the picture itself.

Limits: lines only. Shading, texture and photographs of things are not drawings and make scribbles.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..strokes import Sketch, simplify

WORKING_SIDE = 1024  # pixels of the longer side that a larger picture is brought to
SMALL = 512  # pixels of the longer side below which a picture is enlarged
ENLARGE = 4  # times, at most
MAX_LINES = 5000  # more, before gaps are closed, are texture, not a drawing
MAX_PIXELS = 2**27  # of a file: 134 million
POLARITIES = ("auto", "dark", "light")


@dataclass(frozen=True)
class Trace:
    """sketch on a canvas of the picture's size, and the ink it follows: (H, W) bool at working size."""

    sketch: Sketch
    ink: np.ndarray

    def mask(self) -> np.ndarray:
        """(H, W) float32 at the picture's own size, 1 where there is ink."""
        width, height = (int(side) for side in self.sketch.canvas)
        ink = Image.fromarray(np.uint8(255) * self.ink)
        return np.asarray(ink.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255


def image_to_sketch(image, **options) -> Sketch:
    """The strokes of a picture; what `trace` takes, without the ink."""
    return trace(image, **options).sketch


def trace(
    image: Image.Image | np.ndarray,
    *,
    threshold: float | None = None,
    polarity: str = "auto",
    tolerance: float | None = None,
    min_length: float | None = None,
    bridge: float | None = None,
    label: str | None = None,
) -> Trace:
    """Lines of a picture as strokes, in the order and direction of a hand.

    image       PIL image, or (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 or float in 0..1; see-through
                pixels show white paper.
    threshold   how much of the paper's light a line must lack, in (0, 1); None finds it for every line.
    polarity    'dark' lines on light paper, 'light' lines on dark paper, 'auto': whichever is fewer pixels.
    tolerance   pixels of the picture: how far a stroke may leave the line when points are dropped
                (`strokes.simplify`); None: 1/800 of the longer side, at least half a pixel.
    min_length  pixels of the picture: shorter strokes are left out, dots too; None keeps what is longer than
                the line is wide, and dots.
    bridge      pixels of the picture: ends that face each other over a gap of that size are joined;
                None: three line widths. No gap wider than a tenth of the picture's longer side is closed.
    A picture without lines is an empty sketch; one that is all texture is a ValueError, as is a bad option.
    """
    picture = image if isinstance(image, Image.Image) else _from_array(image)
    _check(threshold, polarity, {"tolerance": tolerance, "min_length": min_length, "bridge": bridge})
    find_ink, trace_lines, length_of, centred, drawn = _machinery()
    width, height = size = picture.size
    pixels = _working(picture)
    zoom = max(pixels.shape) / max(size)
    ink = find_ink(pixels, threshold=threshold, polarity=polarity)
    if ink is None:
        return Trace(Sketch((), size, label), np.zeros(pixels.shape[:2], bool))
    lines = trace_lines(ink, bridge=3 * ink.width if bridge is None else bridge * zoom, most=MAX_LINES)
    lines = [line for line in lines if length_of(line) >= (min_length or 0) * zoom]
    dots, lines = [line for line in lines if len(line) == 1], [line for line in lines if len(line) > 1]
    strokes = drawn(centred(lines, ink) + dots, pixels.shape[1::-1])
    tolerance = max(0.5, max(size) / 800) if tolerance is None else tolerance
    strokes = tuple(((stroke + 0.5) / zoom).clip(0, size) for stroke in strokes)
    return Trace(simplify(Sketch(strokes, size, label), tolerance), ink.mask)


def trace_file(path: str | Path, **options) -> Trace:
    """`trace` of a PNG, JPG or other picture file, upright as its camera says; the label is not set."""
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            picture = Image.open(path)
        with picture:
            if math.prod(picture.size) > MAX_PIXELS:
                raise ValueError(
                    f"{path} has {picture.width} x {picture.height} pixels, wanted at most {MAX_PIXELS}. "
                    f"Make it smaller first."
                )
            picture.load()
            return trace(ImageOps.exif_transpose(picture), **options)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}. Give a PNG or JPG.") from error


def _machinery():
    try:
        import scipy  # noqa: F401
        import skimage  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            "turning pictures into strokes needs scikit-image, which is not installed. Install it into the "
            "Python that runs this: python -m pip install scikit-image"
        ) from error
    from .graph import length_of
    from .ink import find_ink
    from .joins import trace_lines
    from .lines import centred, drawn

    return find_ink, trace_lines, length_of, centred, drawn


def _check(threshold: float | None, polarity: str, lengths: dict[str, float | None]) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold:g}, wanted a share of the paper's light between 0 and 1.")
    if polarity not in POLARITIES:
        raise ValueError(f"polarity is {polarity!r}, wanted one of {', '.join(POLARITIES)}.")
    for name, value in lengths.items():
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value:g}, wanted a length of 0 or more in pixels of the picture.")


def _from_array(array: np.ndarray) -> Image.Image:
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise ValueError(
            f"picture has shape {array.shape}, wanted (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError("the picture holds values that are not finite numbers. Check what made it.")
        array = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(array)


def _working(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in 0..1 at working size, on white paper."""
    longest = max(picture.size)
    zoom = min(WORKING_SIDE, max(longest, min(SMALL, ENLARGE * longest))) / longest
    small = tuple(max(1, round(side * zoom)) for side in picture.size)
    if picture.mode.startswith(("I", "F")):  # 16 bits of grey
        grey = np.asarray(picture, np.float32)
        picture = Image.fromarray(np.rint(grey.clip(0, 65535) / 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        paper = Image.new("RGBA", picture.size, "white")
        shown = Image.alpha_composite(paper, picture).convert("RGB")
        if all(low > 250 for low, _ in shown.getextrema()) and alpha.getextrema()[0] < 255:
            shown = ImageOps.invert(alpha)  # white lines on clear ground: their shape is in the alpha
        picture = shown
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    if zoom < 1:
        picture = picture.resize(small, Image.Resampling.BOX, reducing_gap=2.0)
    elif zoom > 1:
        picture = picture.resize(small, Image.Resampling.BICUBIC)
    return np.asarray(picture.convert("RGB"), np.float32) / 255
