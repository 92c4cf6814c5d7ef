"""The differentiable raster: strokes -> soft images, with gradients to points and to pen probabilities.

A segment's coverage of a pixel is that of a line of width w seen through a round blur of half width s, by the
distance d of the pixel's centre to the segment (a capsule: round caps, dots are discs):
    c(d) = S((w/2 + d) / s) + S((w/2 - d) / s) - 1,   S' = 15/16 (1 - u²)²  on [-1, 1],
smooth everywhere, even in d, and exactly 0 beyond w/2 + s. Every segment counts with the probability p that
the pen draws it, and their union is soft, 1 - prod(1 - p c): all segments near a pixel feel it. The product
is taken as it stands: with 1 - p c kept above 1e-6 its gradient, the product over one factor, is that of
exp(sum log(1 - p c)), and no pixel's value depends on how logarithms are vectorised.

As nothing reaches beyond w/2 + s, each segment meets only the tiles of 8 x 8 pixels within its reach, and
backward computes distances again, some pairs of segment and tile at a time: memory goes with the image, time
with the ink. A drawing's image and gradient are the same bits in any batch.

Limits: where two segments of one line meet, partly covered pixels are counted twice, so joints are a little
darker than those of `raster.py` (mean error on drawings below 0.01, see the tests); gradients once only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .strokes import check_shape

TILE = 8  # pixels a side
PAIRS = 2**12  # segments in tiles, computed at a time: 1 MiB an array
SHARP = 0.76  # blur (pixels) whose std is that of a pixel's own square: what anti-aliasing looks like
OPAQUE = 1 - 1e-6  # the most that one segment covers


def soft_raster(
    points: Tensor,
    down: Tensor,
    size: int | tuple[int, int],
    *,
    line_width: float | Tensor,
    blur: float | Tensor = SHARP,
    mask: Tensor | None = None,
) -> Tensor:
    """Ink (B, H, W) in [0, 1], 0 paper; gradients to `points` and `down`.

    points      (B, N, 2)  pixels, y down; pixel (0, 0) has its centre at (0.5, 0.5), as in `raster.py`.
    down        (B, N)     probability that the line goes on from each point to the next; the last real
                           point's is not used. A point neither entered nor left is a dot.
    size        pixels: one number for a square, or (width, height).
    line_width  pixels, above 0; one number, or one a sketch (B,).
    blur        pixels from full ink to half, above 0; SHARP for what the eye wants, more for gradients that
                reach farther. A thin line under a wide blur is pale. One number, or one a sketch (B,).
    mask        (B, N)     True where a point is real; None: all are. Others are not even looked at.
    """
    check_shape("points", points, "B N 2")
    B, N, _ = points.shape
    check_shape("down", down, f"{B} {N}")
    real = torch.ones(B, N, dtype=torch.bool, device=points.device) if mask is None else mask
    check_shape("mask", real, f"{B} {N}")
    if not points.detach()[real].isfinite().all():
        raise ValueError("a point has a coordinate that is no finite number. Mask it, or lower the guidance.")
    width, height = (int(side) for side in (size if isinstance(size, (tuple, list)) else (size, size)))
    if not (0 < width <= 2**13 and 0 < height <= 2**13):
        raise ValueError(f"size is {width} x {height} pixels, wanted 1 to 8192 each.")
    if N == 0:
        return points.new_zeros(B, height, width)
    half, soft = _per_sketch("line_width", line_width, points) / 2, _per_sketch("blur", blur, points)
    both = real[:, :-1] & real[:, 1:]
    drawn = torch.where(both, down[:, :-1], 0.0)  # (B, N - 1), of the segments
    left, entered = (torch.nn.functional.pad(drawn, pad) for pad in ((0, 1), (1, 0)))
    dot = (1 - left) * (1 - entered)
    owner = torch.arange(B, device=points.device)[:, None]
    a, b = torch.cat([points[:, :-1], points], 1), torch.cat([points[:, 1:], points], 1)
    ink, there = torch.cat([drawn, dot], 1), torch.cat([both, real], 1)
    if not ink.requires_grad:
        there = there & (ink != 0)
    which = owner.expand_as(there)[there]
    segments = a[there], b[there], ink[there]
    return 1 - _Light.apply(*segments, _Frame(which, half[which], soft[which], (B, height, width)))


def _per_sketch(name: str, value: float | Tensor, points: Tensor) -> Tensor:
    """(B,) of a number or of one a sketch, all above 0."""
    value = torch.as_tensor(value, dtype=points.dtype, device=points.device).detach()
    if value.ndim > 1 or (value.ndim == 1 and len(value) != len(points)) or not (value > 0).all():
        raise ValueError(
            f"{name} is {value.tolist()}, wanted a number of pixels above 0, or one for each of "
            f"{len(points)} sketches."
        )
    return value.expand(len(points))


class _Frame(NamedTuple):
    """What segments are drawn into: owner (S,) their sketch, half line width and blur (S,), (B, H, W)."""

    owner: Tensor
    half: Tensor
    blur: Tensor
    shape: tuple[int, int, int]


class _Light(torch.autograd.Function):
    """What is left of the paper: prod(1 - p c) over the segments, (B, H, W).

    a, b  (S, 2) ends, pixels;  ink (S,) probabilities.
    """

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, ink: Tensor, frame: _Frame) -> Tensor:
        B, H, W = frame.shape
        rows, columns = -(-H // TILE), -(-W // TILE)
        segment, tile = _pairs(a.detach(), b.detach(), frame, rows, columns)
        light = a.new_ones(B * rows * columns, TILE * TILE)
        for part in _parts(len(segment)):
            s, where = segment[part], tile[part]
            passed = 1 - _cover(a, b, ink, frame, s, _centres(where, rows, columns, a)).k
            light.scatter_reduce_(0, where[:, None].expand_as(passed), passed, "prod")
        ctx.save_for_backward(a, b, ink, segment, tile, light)
        ctx.frame, ctx.grid = frame, (rows, columns)
        return _from_tiles(light, B, rows, columns)[:, :H, :W]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        a, b, ink, segment, tile, light = ctx.saved_tensors
        frame, (rows, columns) = ctx.frame, ctx.grid
        B, H, W = frame.shape
        grad = torch.nn.functional.pad(grad, (0, columns * TILE - W, 0, rows * TILE - H))
        pull = light * _to_tiles(grad, rows, columns)  # d/dk_i of the product is -product / (1 - k_i)
        moved = a.new_zeros(len(a), 5)  # of a, b, ink
        for part in _parts(len(segment)):
            s, where = segment[part], tile[part]
            c = _cover(a, b, ink, frame, s, _centres(where, rows, columns, a))
            of_k = -pull[where] / (1 - c.k) * OPAQUE
            force = of_k * ink[s, None] * c.slope  # times the vector from line to pixel: minus the pull on it
            x, y, ahead = force * c.x, force * c.y, force * c.along
            sums = [x.sum(1), y.sum(1), (ahead * c.x).sum(1), (ahead * c.y).sum(1)]
            to_b = torch.stack(sums[2:], 1)
            to_a = torch.stack(sums[:2], 1) - to_b
            moved.index_add_(0, s, torch.cat([-to_a, -to_b, (of_k * c.coverage).sum(1, keepdim=True)], 1))
        return moved[:, :2], moved[:, 2:4], moved[:, 4], None


class _Cover(NamedTuple):
    """Of P segments at the 64 pixels of a tile each, all (P, 64).

    k         p c, at most OPAQUE;  coverage c;  slope c'(d) / d, finite at d = 0.
    x, y      from the nearest point of the segment to the pixel;  along  where that point is, 0 at a, 1 at b.
    """

    k: Tensor
    coverage: Tensor
    slope: Tensor
    x: Tensor
    y: Tensor
    along: Tensor


def _cover(
    a: Tensor, b: Tensor, ink: Tensor, frame: _Frame, s: Tensor, centres: tuple[Tensor, Tensor]
) -> _Cover:
    step = (b - a)[s]
    length2 = step.square().sum(1, keepdim=True)
    dx, dy = centres[0] - a[s, 0, None], centres[1] - a[s, 1, None]
    along = (dx * step[:, :1] + dy * step[:, 1:]) / length2
    # A segment of no length: its ends share the pull, which is the derivative between its one-sided ones.
    along = torch.where(length2 > 0, along.clamp(0, 1), 0.5)
    x, y = dx - along * step[:, :1], dy - along * step[:, 1:]
    d = (x.square() + y.square()).sqrt()
    half, blur = frame.half[s, None], frame.blur[s, None]
    m, v = half / blur, d / blur
    coverage = _rise(m + v) + _rise(m - v) - 1
    near = -7.5 * m * (1 - m * m - v * v)  # K(m + v) - K(m - v) over v, where both are inside
    far = -_kernel(m - v) / v.clamp(min=1e-12)
    slope = torch.where(m + v < 1, near, far) / blur.square()
    return _Cover(ink[s, None] * coverage * OPAQUE, coverage, slope, x, y, along)


def _kernel(u: Tensor) -> Tensor:
    return 15 / 16 * (1 - u.clamp(-1, 1).square()).square()


def _rise(u: Tensor) -> Tensor:
    """The kernel's integral, 0 at -1 and 1 at 1."""
    u = u.clamp(-1, 1)
    square = u * u
    return 0.5 + u * (15 / 16 - square * (10 / 16 - square * 3 / 16))


def _parts(count: int) -> list[slice]:
    return [slice(first, first + PAIRS) for first in range(0, count, PAIRS)]


def _pairs(a: Tensor, b: Tensor, frame: _Frame, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """(P,) segment and (P,) tile of every meeting within reach, segment after segment.

    One pair too many changes nothing: it multiplies by exactly 1.
    """
    reach = (frame.half + frame.blur)[:, None]
    last = torch.tensor([columns - 1, rows - 1], device=a.device)
    low = ((torch.minimum(a, b) - reach) / TILE).floor().clamp(min=-1).minimum(last + 1).long()
    high = ((torch.maximum(a, b) + reach) / TILE).floor().clamp(min=-1).minimum(last + 1).long()
    low, high = low.clamp(min=0), high.minimum(last)
    across, down = (high - low + 1).clamp(min=0).unbind(1)
    count = across * down
    segment = torch.repeat_interleave(torch.arange(len(a), device=a.device), count)
    index = torch.arange(len(segment), device=a.device) - (count.cumsum(0) - count)[segment]
    column = low[segment, 0] + index % across[segment]
    row = low[segment, 1] + index // across[segment]
    middle = (torch.stack([column, row], 1) * TILE + TILE / 2).to(a.dtype)
    start, step = a[segment], (b - a)[segment]
    along = ((middle - start) * step).sum(1) / step.square().sum(1).clamp(min=1e-12)
    away = (middle - start - along.clamp(0, 1)[:, None] * step).square().sum(1).sqrt()
    meets = away <= reach[segment, 0] + TILE / math.sqrt(2) + 0.01  # and a little for rounding
    segment = segment[meets]
    return segment, (frame.owner[segment] * rows + row[meets]) * columns + column[meets]


def _centres(tile: Tensor, rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (P, 64) of the pixel centres of each tile."""
    inside = torch.arange(TILE * TILE, device=like.device)
    x = (tile % columns * TILE)[:, None] + inside % TILE
    y = (tile // columns % rows * TILE)[:, None] + inside // TILE
    return x.to(like.dtype) + 0.5, y.to(like.dtype) + 0.5


def _to_tiles(image: Tensor, rows: int, columns: int) -> Tensor:
    """(B, rows * 8, columns * 8) -> (B * rows * columns, 64)."""
    tiles = image.reshape(-1, rows, TILE, columns, TILE).transpose(2, 3)
    return tiles.reshape(-1, TILE * TILE)


def _from_tiles(light: Tensor, B: int, rows: int, columns: int) -> Tensor:
    return light.reshape(B, rows, columns, TILE, TILE).transpose(2, 3).reshape(B, rows * TILE, columns * TILE)
