"""Guided rectifying: a rough drawing in, the same drawing out, done well, still as strokes.

A hand that is off by so much at every point does what the forward process does where noise is on places. So a
model with such noise begins with the user's own points, at the time when noise is that large, and draws from
there, told where the pen lifts: from the posterior, of what people draw, given these points. A model with
noise on offsets draws from pure noise instead, and every prediction on the way is brought towards the user's
places (`guidance.anchored`). How much a hand is off is estimated from the drawing: a shaky line zigzags.

The paper pulls by the gradient of a perceptual distance between pictures instead. That is `follow="picture"`
here, for drawings whose strokes mean nothing.

Limits: one class a drawing; the number and order of points are the user's, unless only the picture is
followed; a drawing is taken to be equally rough everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import Condition, Denoise, takes_known
from .given import EPSILON, SIDE, Given, bring, size_of_whole
from .guidance import Anchors, Likeness, anchored, guided
from .knitter import BATCH, Emerging, SketchModel, sketch_generator
from .models.stroke_transformer import Known, spread_of_places
from .naming import classes_of, labelled, unnamed
from .pen import decode_pen
from .perceptual import Perceptual, sketch_perceptual
from .raster import rasterize
from .recognizer import Recognizer, load_recognizer
from .redraw import SURE
from .schedules import ALPHA_BARS, AlphaBar, Stride, time_of
from .strokes import (
    Frame,
    PenState,
    Sketch,
    StrokeLatent,
    bounds,
    distance_to_segment,
    kept_by_simplifying,
    sketch_to_stroke3,
)

STRENGTH = 0.5  # as rough as it looks
GUIDANCE = 3.0  # of rough drawings where noise is on offsets, unless the model wants none
FOLLOW = ("strokes", "picture")

CLEAN = 4.0  # units of 255 that a point of a clean drawing lies off the line between its neighbours ...
PER_BEND = 1.27  # ... how far off points are for each unit more ...
PER_TURN = 0.32  # ... and for each unit of their second difference; all fitted on training drawings
LEAST = 0.005  # of the longer side: no drawing is taken to be better than that
WIDENING = 0.5  # of a drawing's box by points that are off by 1, times the logarithm of how many there are
SMALLEST = 0.5  # but no drawing is taken to be smaller than that share of its box
FRESH = 0.3  # noise that is added to rough points, in units of their own: less, and all drawings are one
SOONEST = 1e-6  # time before which no walk begins
BELIEF = 4.0  # nats for the user's own lifts of the pen, at strength 1/2

PLAIN = 0.01  # roughness up to which a drawing is named as it is

PICTURE = 48  # pixels a side of the pictures that are compared where only the picture is followed ...
LINE = 1.5  # ... and the width of their lines; larger pictures cost more and were no better
PULL, STRONGEST = 1.0, 2.0  # scale of a picture's pull at strength 1/2, and at the most: 4 copies roughness

Drawn = tuple[Tensor, Tensor, float]  # offsets (n, 2) in model units, pen logits (n, 3), network calls


@dataclass(frozen=True)
class Guide:
    """Rough drawings, and how they are to be followed.

    sketches    drawings; of those of which only the picture is followed, only what they look like counts.
    strength    0: they come back as they are. 1/2: points move about as far as they look rough. 1: free.
    follow      "strokes": every point is drawn again near its place, in the same order. "picture": the model
                finds strokes of its own that look alike, for drawings whose strokes mean nothing.
    class_name  what they show; None: each one's own label, or else the recognizers' guess; "any": whatever
                the model likes.
    """

    sketches: tuple[Sketch, ...]
    strength: float = STRENGTH
    follow: str = "strokes"
    class_name: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength:g}, wanted 0 (as it is) to 1 (free).")
        if self.follow not in FOLLOW:
            raise ValueError(f"cannot follow {self.follow!r}. Known: {', '.join(FOLLOW)}.")
        if not self.sketches:
            raise ValueError("there is no sketch, wanted at least one.")
        if not all(sketch.strokes for sketch in self.sketches):
            raise ValueError(
                "the sketch is empty, wanted at least one stroke. To draw from nothing, use draw."
            )

    @property
    def looseness(self) -> float:
        """How many times its roughness a point may move: from 0 to inf, 1 at strength 1/2."""
        return self.strength / (1 - self.strength) if self.strength < 1 else float("inf")


def rectify(
    model: SketchModel,
    sketch: Sketch | Sequence[Sketch],
    *,
    strength: float = STRENGTH,
    follow: str = "strokes",
    class_name: str | None = None,
    recognizer: Recognizer | None = None,
    count: int = 1,
    start: int = 0,
    seed: int = 0,
    **sampling,
) -> list[Sketch]:
    """The user's drawing, done well: `count` times for each sketch, on its own canvas.

    strength    0 gives it back, bit for bit; 1/2 moves points as far as it looks rough; 1 is free.
    follow, class_name  as in `Guide`. The result's label says what it was taken for.
    recognizer  names drawings whose class nobody says, as `naming.py` has it; None: the embedded ones.
    sampling    steps, sampler, schedule, guidance, detail, batch_size and on_step, as in
                `SketchModel.sample`, but `sampling_of` says what None means; detail only where the picture
                is followed. With noise on places, only the steps below a drawing's own noise are taken.

    Results have the points that the model was given: a line of hundreds is drawn again with fewer.
    """
    guide = Guide((sketch,) if isinstance(sketch, Sketch) else tuple(sketch), strength, follow, class_name)
    model.check(count, start, seed)
    if strength == 0:
        return [source for source in guide.sketches for _ in range(count)]
    options = {"count": count, "start": start, "seed": seed, "recognizer": recognizer, **sampling}
    return decode_pen(sample_guided(model, guide, **options))


def sample_guided(
    model: SketchModel,
    guide: Guide,
    *,
    recognizer: Recognizer | None = None,
    count: int = 1,
    start: int = 0,
    seed: int = 0,
    steps: int | None = None,
    sampler: str | None = None,
    schedule: str | Stride | None = None,
    guidance: float | None = None,
    detail: int | None = None,
    batch_size: int = BATCH,
    on_step: Callable[[Emerging], None] | None = None,
) -> StrokeLatent:
    """`SketchModel.sample` along a guide: `count` drawings for each of its sketches, framed where they lie.

    detail  points, where only the picture is followed; None draws them from what people use for the class.

    The other options are those of `rectify`. At strength 0 nothing is drawn: these are the user's points.
    `on_step` hears of the redrawings by which drawings are named, too.
    """
    given = {"steps": steps, "sampler": sampler, "schedule": schedule, "guidance": guidance}
    given = sampling_of(model, guide) | {name: value for name, value in given.items() if value is not None}
    steps, sampler, schedule, guidance = model.settled(**given)
    model.check(count, start, seed, sampler, guidance, detail, batch_size)
    stride = model.placement(schedule, steps)
    own = [sketch for sketch in guide.sketches for _ in range(count)]
    indices = [index for _ in guide.sketches for index in range(start, start + count)]
    if guide.strength == 0:
        found = [_as_it_is(model, sketch) for sketch in own]
        frames = [_frame(sketch) for sketch in own]
        return _latent(model, found, frames, [sketch.label for sketch in own], seed, indices)
    labels = _classes(model, guide, recognizer, batch_size=batch_size, on_step=on_step)
    labels = [label for label in labels for _ in range(count)]
    generators = [sketch_generator(seed, index) for index in indices]
    options = {"stride": stride, "batch_size": batch_size}
    options |= {"sampler": sampler, "guidance": guidance, "on_step": on_step}
    if guide.follow == "picture":
        drawn = [model.draw_length(label, one) for label, one in zip(labels, generators, strict=True)]
        lengths = [detail or n for n in drawn]  # with or without detail, the noise is the same
        around = _to_pictures(own, min(PULL / guide.looseness, STRONGEST))
        found = _walk(model, labels, lengths, generators, around=around, **options)
        frames = [_box_frame(model, sketch, *one) for sketch, one in zip(own, found, strict=True)]
    else:
        parts = [_brought(sketch, model.longest) for sketch in guide.sketches]
        spreads = [far * guide.looseness / model.scale for _, far in parts for _ in range(count)]
        parts = [part for part, _ in parts for _ in range(count)]
        if spread_of_places(model.network.config) is None:
            options["around"] = _to_places(spreads, parts, model.scale)
        else:
            options["begin"] = _from_places(spreads, parts, guide.looseness, model)
        found = _walk(model, labels, list(map(len, parts)), generators, **options)
        found = [_believing(part, guide.looseness, *one) for part, one in zip(parts, found, strict=True)]
        framed = zip(own, parts, found, strict=True)
        frames = [_middle_frame(model, sketch, part, *one) for sketch, part, one in framed]
    return _latent(model, found, frames, list(map(model.name_of, labels)), seed, indices)


def sampling_of(model: SketchModel, guide: Guide) -> dict:
    """How drawings are rectified unless told otherwise: the model's own settings, but for two things.

    Where noise is on places, strokes that are followed have nearly all the noise that a walk begins with.
    DDIM adds no other, and what it draws is as often recognized and nearer to the user's. Where it is on
    offsets, there is more guidance.
    """
    own = model.sampling
    if spread_of_places(model.network.config) is not None:
        return own | ({"sampler": "ddim"} if guide.follow == "strokes" and guide.strength < 1 else {})
    return own if own["guidance"] == 1 else own | {"guidance": max(own["guidance"], GUIDANCE)}


def roughness(sketch: Sketch) -> float:
    """How far every point of a drawing is off, as a share of its longer side, judging by its zigzag.

    Two medians over the points of the drawing, simplified as Quick, Draw! is, grow evenly as points are
    displaced at random; the less counts. The distance from the line between a point's neighbours knows clean
    drawings and takes corners of rough ones for more roughness; the second difference is the other way round.
    Of training drawings displaced by 2.4 % of their side four in five are taken for 1.3 to 3.6 %, by 5 % for
    3.3 to 6.8 %, by 12 % for 9.4 to 14.4 %, of clean ones for 0 to 0.7 %.
    """
    zoom, bends, turns = size_of_whole(sketch), [], []
    for stroke in sketch.strokes:
        line = stroke.astype(np.float64) * zoom
        line = line[kept_by_simplifying(line, EPSILON)]
        three = zip(line, line[1:], line[2:], strict=False)
        bends += [distance_to_segment(b[None], a, c)[0] for a, b, c in three]
        turns += [np.hypot(*turn) for turn in np.diff(line, 2, axis=0)]
    if not bends:
        return 0.0
    bend, turn = float(np.median(bends)), float(np.median(turns))
    return min(PER_BEND * max(0.0, bend - CLEAN), PER_TURN * turn) / SIDE


def hard_to_name(model: SketchModel, guide: Guide) -> list[int]:
    """Which sketches of a guide are redrawn, as several classes, before they are named."""
    if guide.follow == "picture" or guide.strength == 0:
        return []
    unknown = unnamed(model, guide.sketches, guide.class_name)
    return [i for i in unknown if roughness(guide.sketches[i]) > PLAIN]


def _classes(model: SketchModel, guide: Guide, recognizer: Recognizer | None, **run) -> list[int]:
    """The label of each sketch of a guide; it hangs on the sketch alone, not on how it is drawn then."""

    def redrawn(which: list[int], names: list[str]) -> list[Sketch]:
        return rectify(model, labelled(guide.sketches, which, names), **run)

    if guide.follow == "picture" and recognizer is None and unnamed(model, guide.sketches, guide.class_name):
        recognizer = _embedded_recognizer()  # strokes that mean nothing are no help
    hard = hard_to_name(model, guide)
    options = {"mend": redrawn, "damaged": hard.__contains__}
    return classes_of(model, guide.sketches, guide.class_name, recognizer, **options)


# ---- the walk --------------------------------------------------------------------------------------

Around = Callable[[slice, Tensor, AlphaBar, Denoise], Denoise]  # which drawings, their lengths (b,), ...
Begin = Callable[[slice], dict]  # which drawings -> where their walks begin, and what is known of them


def _walk(
    model: SketchModel,
    labels: Sequence[int],
    lengths: Sequence[int],
    generators: Sequence[torch.Generator],
    *,
    stride: Stride,
    batch_size: int,
    around: Around | None = None,
    begin: Begin | None = None,
    **options,
) -> list[Drawn]:
    alpha_bar = ALPHA_BARS[model.network.config.schedule]
    drawn = []
    for first in range(0, len(labels), batch_size):
        rows = slice(first, first + batch_size)
        length = torch.tensor(lengths[rows])
        own = begin(rows) if begin is not None else {}
        if around is not None:
            own["around"] = functools.partial(around, rows, length, alpha_bar)
        told = Condition(torch.tensor(labels[rows]), length, own.pop("known", None))
        found = model.walk(told, generators[rows], stride, **own, **options)
        each = zip(found.points, found.pen, lengths[rows], found.calls.tolist(), strict=True)
        drawn += [(points[:n], pen[:n], calls) for points, pen, n, calls in each]
    return drawn


def _brought(sketch: Sketch, most: int) -> tuple[Given, float]:
    """The drawing in at most `most` rows of the model, and how far points are off, units of its canvas.

    Points that are off widen the box: the drawing is brought as large as it would be if they were not.
    """
    rough = max(roughness(sketch), LEAST)
    part = bring(sketch, size_of_whole(sketch), most)
    shrunk = max(1 - WIDENING * rough * np.log(len(part.points)), SMALLEST)
    return replace(part, zoom=part.zoom / shrunk), rough * SIDE / shrunk


def _from_places(
    spreads: Sequence[float], parts: Sequence[Given], looseness: float, model: SketchModel
) -> Begin:
    """From the places of the points, which are noise of that spread to a model whose noise is on places.

    That is no likeness of the rough drawing but itself: it is what the forward process makes of a clean one,
    at the time when the noise is that large, and the walk from there draws from the posterior (Bayes' rule,
    with the network as the prior). A little noise of its own makes each drawing another one; looser, noise is
    added up to `spreads`.
    """
    alpha_bar = ALPHA_BARS[model.network.config.schedule]
    unit, more = spread_of_places(model.network.config), math.hypot(1, FRESH)

    def begin(rows: slice) -> dict:
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        points = pad([torch.from_numpy(part.offsets(model.scale)).float() for part in parts[rows]])
        ratio = torch.tensor(spreads[rows], dtype=torch.float64) * more / unit
        start = time_of(1 / (1 + ratio**2), alpha_bar).clamp(min=SOONEST)
        pens = [torch.from_numpy(np.append(part.pen[1:-1], PenState.END)) for part in parts[rows]]
        real = pad([torch.ones(len(part), 1) for part in parts[rows]])
        known = Known(0 * real, 0 * points, F.one_hot(pad(pens).long(), len(PenState)) * real)
        fresh = max(FRESH / more, max(0.0, 1 - (looseness * more) ** -2) ** 0.5)
        begun = {"points": points, "start": start, "fresh": fresh}
        return begun | ({"known": known} if takes_known(model.network) and math.isfinite(looseness) else {})

    return begin


def _to_places(spreads: Sequence[float], parts: Sequence[Given], scale: float) -> Around:
    """Every point near its own place, as near as the drawing is rough."""

    def around(rows: slice, length: Tensor, alpha_bar: AlphaBar, denoise: Denoise) -> Denoise:
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        at = pad([torch.from_numpy(part.points * part.zoom / scale) for part in parts[rows]])
        spread = torch.tensor(spreads[rows], dtype=at.dtype)[:, None].expand(at.shape[:2])
        return anchored(denoise, Anchors(at, spread), length, alpha_bar)

    return around


def _to_pictures(sources: Sequence[Sketch], scale: float) -> Around:
    """Drawings that look like the sources."""

    def around(rows: slice, length: Tensor, alpha_bar: AlphaBar, denoise: Denoise) -> Denoise:
        if scale == 0:
            return denoise
        ink = torch.from_numpy(rasterize(sources[rows], PICTURE, line_width=LINE, padding=0.05))
        energy = Likeness(_embedded_eye(), ink, length, line_width=LINE)
        return guided(denoise, energy, scale, alpha_bar, length=length)

    return around


@functools.lru_cache(maxsize=1)
def _embedded_eye() -> Perceptual:
    with torch.inference_mode(False):  # a host may be in it, and weights of it cannot be kept for backward
        return sketch_perceptual(_embedded_recognizer().network.requires_grad_(False))


@functools.lru_cache(maxsize=1)
def _embedded_recognizer() -> Recognizer:
    return load_recognizer()


# ---- what was drawn, on the user's canvas ----------------------------------------------------------


def _believing(part: Given, looseness: float, points: Tensor, pen: Tensor, calls: float) -> Drawn:
    """With a say for the user's own lifts of the pen: the freer the drawing, the less."""
    own = F.one_hot(torch.from_numpy(part.pen[1:]).long(), len(PenState))
    return points, pen + min(BELIEF / looseness, SURE) * own, calls


def _middle_frame(
    model: SketchModel, source: Sketch, part: Given, points: Tensor, pen: Tensor, calls: float
) -> Frame:
    """The points as a whole lie where the user's did."""
    zoom = 1 / part.zoom
    at = np.concatenate([np.zeros((1, 2)), points.double().numpy() * model.scale * zoom]).cumsum(0)
    x, y = (part.points - at).mean(0)
    return Frame(source.canvas, (float(x), float(y)), zoom)


def _box_frame(model: SketchModel, source: Sketch, points: Tensor, pen: Tensor, calls: float) -> Frame:
    """The drawing fills the box of the source's points."""
    at = np.concatenate([np.zeros((1, 2)), points.double().numpy() * model.scale]).cumsum(0)
    low, high = at.min(0), at.max(0)
    left, top, right, bottom = bounds(source)
    sides = np.maximum([right - left, bottom - top], 0.1 * max(right - left, bottom - top))
    zoom = float((sides / np.maximum(high - low, 1e-6)).min()) or 1.0
    x, y = np.array([left + right, top + bottom]) / 2 - (low + high) / 2 * zoom
    return Frame(source.canvas, (float(x), float(y)), zoom)


def _as_it_is(model: SketchModel, sketch: Sketch) -> Drawn:
    rows = torch.from_numpy(sketch_to_stroke3(sketch))
    pen = SURE * F.one_hot(rows[:, 2].long(), len(PenState)).float()
    return rows[:, :2] * size_of_whole(sketch) / model.scale, pen, 0.0


def _frame(sketch: Sketch) -> Frame:
    x, y = sketch.strokes[0][0]
    return Frame(sketch.canvas, (float(x), float(y)), 1 / size_of_whole(sketch))


def _latent(
    model: SketchModel,
    found: Sequence[Drawn],
    frames: Sequence[Frame],
    labels: Sequence[str | None],
    seed: int,
    indices: Sequence[int],
) -> StrokeLatent:
    pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return StrokeLatent(
        points=pad([points for points, _, _ in found]),
        pen=pad([pen for _, pen, _ in found]),
        length=torch.tensor([len(points) for points, _, _ in found]),
        scale=model.scale,
        labels=tuple(labels),
        seeds=tuple((seed, index) for index in indices),
        calls=tuple(calls for _, _, calls in found),
        frames=tuple(frames),
    )
