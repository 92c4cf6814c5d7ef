"""Guidance: a denoiser in, a denoiser out, whose clean drawings come near to what is wanted.

`anchored` knows where points should lie, and how surely: the strokes of a rough drawing, what is left of a
damaged one. It is exact, a small linear system a sketch. `guided` knows any differentiable energy of the
drawing, as `Likeness` to a picture, and walks down its gradient.

Both act on places, the sums of offsets. Offsets are what a denoiser is unsure of, so a place that is pulled
takes its neighbours along: what the wish says of the layout is followed first, and how the line runs between
is the denoiser's. The gradient is taken at the predicted clean points, never through the network: through
it, at twice the cost, drawings came no nearer to the picture they were asked for and were recognized less.

Measured with noise on offsets and rough drawings (every point displaced at random): anchors at the rough
points, a walk from pure noise and the spread near the true one rectify best; starting half way keeps the
noise. `Likeness` alone (no points known) wants a scale of 1 to 2, a scale of 4 copies the roughness too.

Limits: `anchored` weighs as if noise were white on offsets. Where it is white on places, a rough drawing is
itself what the noise makes of a clean one, and the rectifier begins there without anchors. Systems are solved
on the CPU in float64, a sketch at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import POINT_TILE, ROW_TILE, Denoise, Prediction, to_length
from .pen import lift_probability
from .perceptual import Perceptual
from .schedules import AlphaBar
from .soft_raster import SHARP, soft_raster
from .strokes import check_shape

Energy = Callable[[Prediction, Tensor, Tensor], Tensor]  # seen, t (b,), which of B sketches (b,) -> (b,)

REACH = 3.0  # points over which a gradient's pull is shared


def places(points: Tensor) -> Tensor:
    """Offsets (b, N, 2) -> places (b, N + 1, 2) of all points, the origin first."""
    return F.pad(points.cumsum(1), (0, 0, 1, 0))


# ---- points that should lie somewhere -------------------------------------------------------------


@dataclass(frozen=True)
class Anchors:
    """Where the points of B sketches should lie.

    places  (B, N + 1, 2)  model units, the origin first; only their places to one another count.
    spread  (B, N + 1)     standard deviation of each, model units: 0 is exactly there, inf anywhere.
    """

    places: Tensor
    spread: Tensor

    def __post_init__(self) -> None:
        B, M = self.places.shape[:2]
        check_shape("places", self.places, f"{B} {M} 2")
        check_shape("spread", self.spread, f"{B} {M}")
        if not (self.spread >= 0).all():
            raise ValueError("a spread is below 0 or not a number, wanted 0 (exact) to inf (free).")
        if not self.places[self.spread < torch.inf].isfinite().all():
            raise ValueError("an anchor lies at no finite place. Give it one, or a spread of inf.")


def anchored(denoise: Denoise, anchors: Anchors, length: Tensor, alpha_bar: AlphaBar) -> Denoise:
    """Predictions with the points brought towards their anchors: the posterior mean given both.

    The denoiser knows offsets up to a variance r² = 1 - ᾱ, as for offsets of variance 1, and the anchors know
    places p_i up to s_i²; the most likely places minimise
        sum |offset - its prediction|² / r² + sum |p_i - anchor_i|² / s_i².
    It is the noisy linear inverse problem of ΠGDM (Song et al., 2023, "Pseudoinverse-guided diffusion models
    for inverse problems", section 3) for sums of offsets, solved for x0_hat as it is, without the derivative
    of the network. The embedded model is surer than that, with about 0.6 (1 - ᾱ) left of an offset; but
    twice the weight for it made rectified drawings less like their originals and no more recognized.

    length  (B,)  points of each sketch.
    """

    def denoise_anchored(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        seen = denoise(x, t, active)
        here = seen.points.detach().cpu().double()
        points, rows, left = here.clone(), active.cpu(), 1 - alpha_bar(t)
        for row, (i, variance) in enumerate(zip(rows.tolist(), left.tolist(), strict=True)):
            n = int(length[i])
            spread2 = anchors.spread[i, : n + 1].detach().cpu().double().square()
            follow = torch.where(spread2 > 0, variance / (variance + spread2), 1.0)
            if not follow.any():
                continue
            wanted = anchors.places[i, : n + 1].detach().cpu().double()
            off = torch.where(follow[:, None] > 0, wanted - places(here[row : row + 1, :n])[0], 0.0)
            points[row, :n] += _settled(off, follow).diff(dim=0)
        return replace(seen, points=points.to(seen.points))

    return denoise_anchored


def _settled(off: Tensor, follow: Tensor) -> Tensor:
    """The move (M, 2) of M points in a row that would each like to move by `off` (M, 2).

    Solves  follow d + (1 - follow) L d = follow off,  L the path's Laplacian: where `follow` (M,) is 1 a
    point goes where it likes, at 0 to the middle of its neighbours.
    """
    M = len(off)
    chain = torch.eye(M, dtype=off.dtype).diff(dim=0)  # (M - 1, M)
    system = torch.diag(follow) + (1 - follow)[:, None] * (chain.T @ chain)
    return torch.linalg.solve(system, follow[:, None] * off)


# ---- drawings that should be somehow --------------------------------------------------------------


def guided(
    denoise: Denoise,
    energy: Energy,
    scale: float,
    alpha_bar: AlphaBar,
    *,
    length: Tensor,
    interval: tuple[float, float] = (0.0, 1.0),
    steps: int = 1,
    reach: float = REACH,
) -> Denoise:
    """Predictions moved down the gradient of energy.

    Dhariwal & Nichol (2021, arXiv:2105.05233, Algorithm 2) shift eps by sqrt(1 - ᾱ) times the gradient; here
    the shift is of x0_hat, its direction the gradient's and its size a share of the noise level, so that
    scale means the same for every energy, sketch and time, and the shift ends with the noise.

    energy    what the denoiser sees, t (b,), which sketches (b,) -> (b,); called with ROW_TILE sketches at a
              time, repeated where there are fewer and cut or padded to the tile of points that holds them,
              so that no sketch depends on its batch.
    scale     root mean square shift of the places in units of sqrt(1 - ᾱ) model units, all steps together;
              0 is the denoiser itself.
    length    (B,)  points of each sketch.
    interval  guidance acts while low <= t <= high.
    steps     gradients a call.
    reach     points over which a pull is shared: a gradient at one place bends the line around it.
    """
    if not 0 <= scale < torch.inf:
        raise ValueError(f"guidance scale is {scale}, wanted a number of 0 or more. 0 is none.")
    if steps < 1 or steps != int(steps):
        raise ValueError(f"guidance takes {steps} steps a call, wanted a whole number of 1 or more.")
    if not 0 <= reach < torch.inf:
        raise ValueError(f"reach is {reach} points, wanted 0 or more.")
    if scale == 0:
        return denoise

    def denoise_guided(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        seen = denoise(x, t, active)
        rows = ((t >= interval[0]) & (t <= interval[1])).nonzero()[:, 0]
        if not len(rows):
            return seen
        here, when, who = _rows(seen, rows), t[rows], active[rows.to(active.device)]
        size = scale / steps * (1 - alpha_bar(when)).sqrt()
        for _ in range(steps):
            pull = _pull(energy, here, when, who, length)
            moves = [_move(pull[k], int(length[i]), reach) for k, i in enumerate(who.tolist())]
            shift = torch.stack(moves) * size[:, None, None]
            here = replace(here, points=here.points + shift.to(here.points))
        return replace(seen, points=seen.points.index_put((rows.to(x.device),), here.points))

    return denoise_guided


def _rows(seen: Prediction, rows: Tensor) -> Prediction:
    return Prediction(*(part[rows.to(part.device)] for part in (seen.points, seen.pen, seen.calls)))


def _pull(energy: Energy, seen: Prediction, t: Tensor, active: Tensor, length: Tensor) -> Tensor:
    """-d energy / d place, (b, N + 1, 2) float64 on the CPU. Works under inference mode too.

    In groups of one padded length, as networks run: sums over points round as there are points to sum.
    """
    pull = torch.zeros(len(t), seen.points.shape[1] + 1, 2, dtype=torch.float64)
    padded = (-(-length[active.to(length.device)] // POINT_TILE) * POINT_TILE).tolist()
    for N in sorted(set(padded)):
        group = torch.tensor([i for i, n in enumerate(padded) if n == N])
        for rows in group.split(ROW_TILE):
            tile = torch.cat([rows, rows[-1:].expand(ROW_TILE - len(rows))])
            with torch.inference_mode(False), torch.enable_grad():
                # clones: tensors of inference mode cannot be kept for backward
                part = _rows(seen, tile)
                points, pen = (to_length(value.detach(), N).clone() for value in (part.points, part.pen))
                at = places(points).requires_grad_()
                part = Prediction(at.diff(dim=1), pen, part.calls.clone())
                value = energy(part, t[tile].clone(), active[tile.to(active.device)].clone())
                check_shape("energy", value, f"{ROW_TILE}")
                (gradient,) = torch.autograd.grad(value.sum(), at)
            n = min(N + 1, pull.shape[1])
            pull[rows, :n] = -gradient[: len(rows), :n].cpu().double()
    return pull


def _move(pull: Tensor, n: int, reach: float) -> Tensor:
    """The move (N, 2), as offsets, of a sketch of n offsets under a pull (N + 1, 2) on its places.

    Of root mean square 1; (I + reach² L)⁻¹ shares every pull among about `reach` neighbours on each side.
    """
    own = pull[: n + 1] - pull[: n + 1].mean(0)  # a move of the whole drawing is none
    moved = _settled(own, torch.full((n + 1,), 1 / (1 + reach**2), dtype=own.dtype))
    size = moved.square().sum(1).mean().sqrt()
    offsets = (moved / size if size > 0 else moved).diff(dim=0)
    return F.pad(offsets, (0, 0, 0, len(pull) - 1 - n))


class Likeness:
    """The energy of not looking like given pictures: a perceptual distance from the drawing's own picture.

    The drawing, whatever its size, is first put into the box of the picture's ink, which it fills. It is
    compared where the pictures are, with a `perceptual` that is there too; it may come from another device.

    pictures    (B, H, W)  ink in [0, 1], one a sketch.
    length      (B,)       points of each sketch.
    line_width  pixels of the drawing's own lines; the pictures' should be about the same.
    down        (B, N + 1) probability that the pen draws on from each point, the origin first; None takes
                the denoiser's word for it, which then has no gradient.
    """

    def __init__(
        self,
        perceptual: Perceptual,
        pictures: Tensor,
        length: Tensor,
        *,
        line_width: float,
        down: Tensor | None = None,
        blur: float = SHARP,
    ) -> None:
        check_shape("pictures", pictures, "B H W")
        with torch.inference_mode(False), torch.no_grad():
            self.perceptual, self.line_width, self.blur = perceptual, line_width, blur
            self.pictures = pictures.detach().clone()
            self.length = length.to(self.pictures.device)
            self.down = None if down is None else down.detach().clone()
            self.box = ink_box(self.pictures, line_width)
            # in tiles, as every other picture it is compared with
            rows = torch.arange(-(-len(pictures) // ROW_TILE) * ROW_TILE).clamp(max=len(pictures) - 1)
            tiles = [perceptual.describe(self.pictures[part]) for part in rows.split(ROW_TILE)]
            self.wanted = [torch.cat(maps)[: len(pictures)] for maps in zip(*tiles, strict=True)]

    def __call__(self, seen: Prediction, t: Tensor, active: Tensor) -> Tensor:
        device = self.pictures.device
        active = active.to(device)
        here = Prediction(*(part.to(device) for part in (seen.points, seen.pen, seen.calls)))
        ink = self.picture(here, active)
        return self.perceptual.between(self.perceptual.describe(ink), [maps[active] for maps in self.wanted])

    def picture(self, seen: Prediction, active: Tensor) -> Tensor:
        """(b, H, W): the drawing as it is compared."""
        N = seen.points.shape[1]
        real = torch.arange(N + 1, device=self.length.device) <= self.length[active, None]
        if self.down is None:
            down = 1 - lift_probability(seen.pen).to(seen.points)
            down = F.pad(down, (1, 0), value=1.0)  # the first line is always drawn
        else:
            down = to_length(self.down[active, :, None], N + 1)[..., 0].to(seen.points)
        at = into_box(places(seen.points), real, self.box[active].to(seen.points))
        height, width = self.pictures.shape[1:]
        size = (width, height)
        return soft_raster(at, down, size, line_width=self.line_width, blur=self.blur, mask=real)


def ink_box(pictures: Tensor, line_width: float) -> Tensor:
    """(B, 4) left, top, right, bottom of the middle of the lines in pictures (B, H, W), pixels."""
    boxes = []
    for i, ink in enumerate(pictures):
        rows, columns = (ink.amax(axis) > 0.5 for axis in (1, 0))
        if not rows.any():
            raise ValueError(f"picture {i} holds no ink, wanted a drawing: 1 ink, 0 paper. Is it inverted?")
        (top, bottom), (left, right) = (
            (where.nonzero()[0, 0].item(), where.nonzero()[-1, 0].item() + 1) for where in (rows, columns)
        )
        inset = min(line_width, right - left, bottom - top) / 2
        boxes.append([left + inset, top + inset, right - inset, bottom - inset])
    return torch.tensor(boxes, dtype=pictures.dtype, device=pictures.device)


def into_box(at: Tensor, real: Tensor, box: Tensor) -> Tensor:
    """Places (b, M, 2), of which `real` (b, M) count, scaled evenly and centred to fill a box (b, 4) each.

    A box flatter than 1 to 10, that of a straight line, counts as 1 to 10.
    """
    low = torch.where(real[..., None], at, torch.inf).amin(1)
    high = torch.where(real[..., None], at, -torch.inf).amax(1)
    sides = box[:, 2:] - box[:, :2]
    sides = sides.maximum(0.1 * sides.amax(1, keepdim=True))
    zoom = (sides / (high - low).clamp(min=1e-6)).amin(1)
    moved = (at - (low + high)[:, None] / 2) * zoom[:, None, None] + (box[:, 2:] + box[:, :2])[:, None] / 2
    return torch.where(real[..., None], moved, 0.0)
