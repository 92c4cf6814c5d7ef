"""A picture -> where its lines are: polarity, even light, threshold.

Everything is relative to the paper around a line. The paper is the upper envelope of the picture (a grey
closing with a window far wider than a line, at low resolution), and ink is the share of the paper's light
that is missing; shadows and vignettes divide out. Lines are where that share exceeds half of what it is at
the darkest place within a line's width, so faint lines are as wide as strong ones, and far enough above the
grain of the paper, which is read off the pixels *lighter* than the paper, where no ink can be.

Limits: a line must be darker (or lighter) than its own paper; shading turns into lines or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

PAPER_SIDE = 128  # pixels of the longer side at which the paper is estimated
PAPER_WINDOW = 31  # of them: a quarter of the picture; larger solid areas count as paper
UNEVEN = 0.12  # of the paper's light, at most, that smudges and bent paper take
MAJORITY_SIDE, MAJORITY_WINDOW = 256, 33  # the same for telling paper from lines
BLUR = 0.8  # pixels, standard deviation
COMB, DIRECTIONS = 3.5, 12  # pixels, of the blur along a line in grainy pictures
GRAINY = 0.006  # standard deviation of the paper from which on a picture is grainy
LEAST_CONTRAST = 0.04  # of the paper's light: what nobody sees is no line
GRAIN = 6.0  # standard deviations of the paper's grain that a line has to exceed somewhere
DOT = 8.0  # standard deviations of the paper's grain that a dot has to exceed
BESIDE = 0.05  # of the longer side
NARROW = 0.02  # of the longer side: what is narrower may be a line that begins at the edge
FATTEST = 0.02  # of the longer side: half the width from which on a picture of blobs is no line drawing


@dataclass(frozen=True)
class Ink:
    """What is drawn, at working size.

    mask      (H, W) bool, pixels of lines; filled areas are hollow, their rim as thick as a line.
    contrast  (H, W) float32, share of the paper's light that is missing, a little blurred.
    radius    (H, W) float32, distance to the nearest pixel outside of the mask: half the width of the line.
    skeleton  (H, W) bool, one pixel wide, in the middle of the mask.
    width     median width of the lines in pixels.
    """

    mask: np.ndarray
    contrast: np.ndarray
    radius: np.ndarray
    skeleton: np.ndarray
    width: float


def find_ink(picture: np.ndarray, *, threshold: float | None = None, polarity: str = "auto") -> Ink | None:
    """The lines of a picture (H, W, 3) float32 in 0..1, or None where there are none.

    threshold  share of the paper's light that must be missing, in (0, 1); None finds it.
    polarity   'dark' lines on light paper, 'light' lines on dark paper, or 'auto'.
    """
    from scipy import ndimage

    if polarity == "light" or (
        polarity == "auto" and _light_on_dark(picture @ np.float32([0.3, 0.59, 0.11]))
    ):
        picture = 1 - picture
    raw = _contrast(picture)
    contrast = ndimage.gaussian_filter(raw, BLUR)
    paper, grain = _paper(contrast)
    if grain > GRAINY:
        combed, dot = _combed(raw), contrast - paper
        dots = (dot > DOT * grain) & (combed < 0.5 * dot)  # combing smears dots alone
        contrast = np.where(dots, contrast, combed)
        paper, grain = _paper(combed)
        grain *= 1.5  # the largest of many directions strays farther up than down
    contrast -= paper
    mask = _half_maximum(contrast, grain) if threshold is None else contrast > threshold
    return _measured(mask, contrast) if mask.any() else None


def _paper(contrast: np.ndarray) -> tuple[float, float]:
    """Contrast of the bare paper and the standard deviation of its grain, from what is lighter than most."""
    some = contrast[::3, ::3]  # plenty for a median
    paper = float(np.median(some))
    lighter = some[some < paper]
    return paper, 1.4826 * float(np.median(paper - lighter)) if len(lighter) else 0.0


def _combed(contrast: np.ndarray) -> np.ndarray:
    """Blurred along the direction that shows most: closes the grain of pencil, keeps the width of its lines.

    Gaussians `COMB` pixels long and `BLUR` pixels wide, by fast Fourier transform.
    """
    from scipy import fft

    margin = 4 * round(COMB)
    padded = np.pad(contrast, margin, mode="reflect" if min(contrast.shape) > margin else "edge")
    shape = [fft.next_fast_len(side, real=True) for side in padded.shape]
    spectrum = fft.rfft2(padded, shape)
    v = 2 * np.pi * fft.fftfreq(shape[0])[:, None].astype(np.float32)
    u = 2 * np.pi * fft.rfftfreq(shape[1])[None].astype(np.float32)
    best = np.full(contrast.shape, -np.inf, np.float32)
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        along = (np.float32(np.cos(angle)) * u + np.float32(np.sin(angle)) * v) * np.float32(COMB)
        across = (np.float32(np.cos(angle)) * v - np.float32(np.sin(angle)) * u) * np.float32(BLUR)
        blurred = fft.irfft2(spectrum * np.exp(-(along**2 + across**2) / 2), shape)
        np.maximum(best, blurred[margin:, margin:][: best.shape[0], : best.shape[1]], out=best)
    return best


def _light_on_dark(grey: np.ndarray) -> bool:
    """Paper is what most pixels of any neighbourhood are: on which side of it do the others lie?"""
    from skimage.filters import rank

    picture = Image.fromarray(np.rint(255 * grey).astype(np.uint8))
    picture.thumbnail((MAJORITY_SIDE, MAJORITY_SIDE), Image.Resampling.BOX)
    small = np.array(picture)  # rank filters want a picture they may write to
    paper = rank.median(small, np.ones((MAJORITY_WINDOW, MAJORITY_WINDOW), np.uint8))
    return float(((small.astype(np.float32) - paper) ** 3).mean()) > 0


def _contrast(picture: np.ndarray) -> np.ndarray:
    """(H, W) share of the paper's light that is missing, mean of the colours: yellow counts as blue does."""
    missing = np.zeros(picture.shape[:2], np.float32)
    for colour in picture.transpose(2, 0, 1):
        missing += 1 - colour / np.maximum(_envelope(colour), 0.02)
    missing /= 3
    return missing - _uneven(missing)


def _envelope(grey: np.ndarray) -> np.ndarray:
    """(H, W) the light of the paper: a grey closing at low resolution, smoothed."""
    from scipy import ndimage

    paper = ndimage.maximum_filter(_small(grey), PAPER_WINDOW, mode="nearest")
    paper = ndimage.minimum_filter(paper, PAPER_WINDOW, mode="nearest")
    return _like(ndimage.gaussian_filter(paper, PAPER_WINDOW / 6, mode="nearest"), grey)


def _uneven(missing: np.ndarray) -> np.ndarray:
    """(H, W) what the envelope left over: the median of the neighbourhood, at most `UNEVEN` either way."""
    from scipy import ndimage
    from skimage.filters import rank

    small = _small(missing).clip(-UNEVEN, UNEVEN)
    levels = np.rint((small / UNEVEN + 1) * 127.5).astype(np.uint8)
    median = rank.median(levels, np.ones((PAPER_WINDOW // 2, PAPER_WINDOW // 2), np.uint8))
    median = (median.astype(np.float32) / 127.5 - 1) * UNEVEN
    return _like(ndimage.gaussian_filter(median, PAPER_WINDOW / 6, mode="nearest"), missing)


def _small(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape
    zoom = min(1.0, PAPER_SIDE / max(height, width))
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def _like(small: np.ndarray, grey: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(small).resize(grey.shape[::-1], Image.Resampling.BILINEAR))


def _half_maximum(contrast: np.ndarray, grain: float) -> np.ndarray:
    """(H, W) bool: pixels with half the contrast of the darkest one within a line's width, or more."""
    from scipy import ndimage

    least = max(3 * grain, LEAST_CONTRAST)
    _clear_edges(contrast, max(GRAIN * grain, LEAST_CONTRAST))
    ink = contrast[contrast > max(GRAIN * grain, LEAST_CONTRAST)]
    if not len(ink):
        return np.zeros(contrast.shape, bool)
    level = float(np.quantile(ink, 0.9))
    width = _line_width(contrast > max(least, 0.4 * level))
    darkest = ndimage.maximum_filter(contrast, 2 * round(width) + 1)
    mask = contrast > np.maximum(0.5 * darkest, max(least, 0.12 * level))
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    strongest = ndimage.maximum(contrast, pieces, np.arange(1, count + 1))
    keep = np.concatenate([[False], strongest > max(GRAIN * grain, 0.25 * level)])
    return keep[pieces]


def _clear_edges(contrast: np.ndarray, least: float) -> None:
    """Takes out what lies beside the paper: ink along more than `BESIDE` of an edge of the picture."""
    from scipy import ndimage

    for side in (contrast, contrast[::-1], contrast.T, contrast.T[::-1]):
        depth = np.logical_and.accumulate(side > least, 0).sum(0)  # pixels of ink from the edge inwards
        depth = ndimage.grey_opening(depth, max(1, round(NARROW * max(contrast.shape))))
        runs, count = ndimage.label(ndimage.binary_dilation(depth > 0, iterations=2))
        long = np.bincount(runs, minlength=count + 1) > BESIDE * max(contrast.shape)
        beside = long[runs] & (runs > 0)
        side[np.arange(len(side))[:, None] < np.where(beside, depth + 4, 0)] = 0


def _line_width(mask: np.ndarray) -> float:
    from skimage.morphology import skeletonize

    skeleton = skeletonize(mask)
    return 2 * float(np.median(_radius(mask)[skeleton])) - 1 if skeleton.any() else 1.0


def _radius(mask: np.ndarray) -> np.ndarray:
    """(H, W) distance to the nearest pixel outside of the mask; the edge of the picture is not outside."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(mask).astype(np.float32)


def _measured(mask: np.ndarray, contrast: np.ndarray) -> Ink:
    from scipy import ndimage
    from skimage.morphology import skeletonize

    radius, skeleton = _radius(mask), skeletonize(mask)
    half = min(float(np.median(radius[skeleton])), max(2.0, FATTEST * max(mask.shape)))
    limit = max(3.5 * half, 5.0)
    core = radius > limit
    if core.any():  # filled areas: what the pen drew is their outline
        area = ndimage.distance_transform_edt(~core) < limit
        mask = mask & ~(area & (radius > max(2 * half - 0.5, 2.0)))
        radius, skeleton = _radius(mask), skeletonize(mask)
    width = max(1.0, 2 * float(np.median(radius[skeleton])) - 1)
    return Ink(mask, contrast, radius, skeleton, width)
