"""The verbs that start from the user's own drawing: complete, heal, vary.

Each takes a sketch, or a list of them, and gives `count` drawings of each, on the canvas of the source. As in
`draw`, drawing i of a seed is the same alone and in any batch, and it has noise of its own.

What is given is held in two ways: the network is told the known points (it was trained to be), and every
prediction of it is put right where it is known, which keeps the walk on the given points' own path (DDNM,
Wang et al., 2022, arXiv:2212.00490). A `stroke_unet`, which cannot be told, has the second alone.

Limits: one class a drawing; new points follow the given ones in the order of the pen, so complete adds
strokes behind the user's and does not continue the last one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import Condition, Denoise, Prediction, takes_known
from .given import Given, bring, check_masks, put_back, size_of_part, size_of_whole, without_between
from .knitter import BATCH, Emerging, SketchModel, sketch_generator
from .lost import broken
from .models.stroke_transformer import Known
from .naming import classes_of, labelled, unnamed
from .pen import lift_probability
from .recognizer import Recognizer
from .schedules import ALPHA_BARS, Stride
from .strokes import PenState, Sketch

ROOM = 0.9  # of the model's points that a given drawing may take: in training no more were known
SURE = 30.0  # logit of a pen state that is known
BELIEF = 2.0  # nats for the user's own pen state at a signal-to-noise ratio of 1


def complete(
    model: SketchModel,
    sketch: Sketch | Sequence[Sketch],
    *,
    class_name: str | None = None,
    share: float | None = None,
    count: int = 1,
    start: int = 0,
    seed: int = 0,
    detail: int | None = None,
    recognizer: Recognizer | None = None,
    **sampling,
) -> list[Sketch]:
    """Draws on where the user stopped: the given strokes, untouched, and new ones behind them.

    class_name  what it is to become; None: the sketch's own label, or else the recognizer's guess. The
                result's label says which.
    share       how much of the finished drawing's longer side the given part takes; None: the canvas is the
                sheet that the finished drawing fills.
    detail      points of the finished drawing; None draws them from what people use for the class, among the
                drawings longer than what is given.
    sampling    steps, sampler, schedule, guidance, batch_size and on_step, as in `SketchModel.sample`.
    """
    model.check(count, start, seed, detail=detail)
    sources = _sources(sketch)

    def mend(which: list[int], names: list[str]) -> list[Sketch]:
        return complete(model, labelled(sources, which, names), share=share, **_to_name(sampling))

    labels = classes_of(model, sources, class_name, recognizer, mend=mend)
    given = [bring(source, size_of_part(source, share), int(ROOM * model.longest)) for source in sources]
    starts = []
    for label, part in zip(labels, given, strict=True):
        if detail is not None and detail <= len(part):
            raise ValueError(
                f"detail is {detail}, but {len(part)} points are given. Raise detail, or leave it out."
            )
        for index in range(start, start + count):
            generator = sketch_generator(seed, index)
            length = longer(
                model, label, len(part), generator
            )  # with or without detail, the noise is the same
            starts.append(_Start.of(part, label, model.scale, generator, length=detail or length))
    drawn = _walk(model, starts, count=count, start=start, seed=seed, detail=detail, **sampling)
    results = []
    for i, (points, pen) in enumerate(drawn):
        source, part = sources[i // count], given[i // count]
        rows = points[len(part) :].double().numpy() * model.scale / part.zoom
        places = part.points[-1] + rows.cumsum(0)
        ends = np.flatnonzero(_lifts(pen)[len(part) + 1 : -1]) + 1
        strokes = source.strokes + tuple(np.split(places, ends))
        results.append(Sketch(strokes, source.canvas, model.name_of(starts[i].label)))
    return results


def heal(
    model: SketchModel,
    sketch: Sketch | Sequence[Sketch],
    *,
    lost: Sequence | None = None,
    strength: float = 0.0,
    class_name: str | None = None,
    count: int = 1,
    start: int = 0,
    seed: int = 0,
    recognizer: Recognizer | None = None,
    **sampling,
) -> list[Sketch]:
    """Mends a drawing: draws anew the points that are lost, and draws again those that are out of place.

    lost      for each stroke a mask (n,) of its points, as the functions of `lost.py` make them; one list a
              sketch. What is drawn instead begins and ends where the line broke off, and may lift the pen;
              all other points stay to the coordinate.
    strength  0 leaves it at that. Above, every line is then noised to that time and drawn again between its
              two ends, which stay: what shook comes out straighter. The user's lifts of the pen stay too.

    The other options are those of `complete`.
    """
    if not 0 <= strength < 1:
        raise ValueError(f"strength is {strength:g}, wanted 0 (only lost points) to below 1.")
    model.check(count, start, seed)
    sources = _sources(sketch)
    if lost is None and strength == 0:
        return [source for source in sources for _ in range(count)]
    masks = None if lost is None else [lost] if isinstance(sketch, Sketch) else list(lost)
    if masks is not None and len(masks) != len(sources):
        raise ValueError(
            f"lost has masks for {len(masks)} sketches, wanted them for {len(sources)}. "
            f"Give a list of masks for each sketch."
        )

    def mend(which: list[int], names: list[str]) -> list[Sketch]:
        some = [masks[i] for i in which]
        return heal(model, labelled(sources, which, names), lost=some, **_to_name(sampling))

    hard = hard_to_name(model, sources, class_name, [] if masks is None else masks)
    seen = list(sources)
    for i in hard:
        check_masks(sources[i], masks[i])
        seen[i] = broken(sources[i], masks[i])
    to_name = {"mend": mend, "damaged": hard.__contains__, "seen": seen}
    labels = classes_of(model, sources, class_name, recognizer, **to_name)
    options = {"count": count, "start": start, "seed": seed, **sampling}
    healed = [source for source in sources for _ in range(count)]
    if masks is not None:
        given = [
            bring(source, size_of_whole(source), model.longest, lost=mask)
            for source, mask in zip(sources, masks, strict=True)
        ]
        healed = _held(model, sources, given, labels, **options)
    if strength > 0:
        given = [without_between(bring(one, size_of_whole(one), model.longest)) for one in healed]
        anchors = [_stroke_ends(part) for part in given]
        each = {**options, "count": 1}
        labels = [label for label in labels for _ in range(count)]
        drawn = []
        for k in range(count):  # the k-th of each sketch is drawing start + k of the seed
            rows = slice(k, None, count)
            each["start"] = start + k
            drawn.append(
                _held(model, healed[rows], given[rows], labels[rows], anchors[rows], level=strength, **each)
            )
        healed = [one for group in zip(*drawn, strict=True) for one in group]
    return healed


def hard_to_name(
    model: SketchModel, sketches: Sequence[Sketch], class_name: str | None, lost: Sequence | None = None
) -> list[int]:
    """Which sketches are mended, as several classes, before they are named.

    lost  the masks that `heal` is given for each sketch, () for none; None: all are to be completed.
    """
    unknown = unnamed(model, sketches, class_name)
    return [i for i in unknown if lost is None or (len(lost) and any(map(np.any, lost[i])))]


def vary(
    model: SketchModel,
    sketch: Sketch | Sequence[Sketch],
    *,
    amount: float = 0.3,
    class_name: str | None = None,
    count: int = 1,
    start: int = 0,
    seed: int = 0,
    recognizer: Recognizer | None = None,
    **sampling,
) -> list[Sketch]:
    """The user's drawing as it might have come out on another day.

    SDEdit (Meng et al., 2022, arXiv:2108.01073) on strokes.

    amount  0 gives the drawing back, bit for bit; 1 keeps the number of its points alone. Between them the
            drawing is noised to that time and drawn again from there. The less noise there is, the more the
            user's own lifts of the pen count, and the places of the ends of strokes: in offsets the shape of
            lines lives through noise, but their sum, the layout, drifts.

    The other options are those of `complete`.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount is {amount:g}, wanted 0 (the same drawing) to 1 (another one).")
    model.check(count, start, seed)
    sources = _sources(sketch)
    if amount == 0:
        return [source for source in sources for _ in range(count)]
    labels = classes_of(model, sources, class_name, recognizer)
    given = [bring(source, size_of_whole(source), model.longest) for source in sources]
    starts = [
        _Start.of(part, label, model.scale, sketch_generator(seed, index), anchors=_stroke_ends(part))
        for label, part in zip(labels, given, strict=True)
        for index in range(start, start + count)
    ]
    options = {"level": amount, "hold": 1 - amount, **sampling}
    drawn = _walk(model, starts, count=count, start=start, seed=seed, **options)
    level = float(ALPHA_BARS[model.network.config.schedule](torch.tensor([amount])))
    belief = BELIEF * level / max(1 - level, 1e-9)
    results = []
    for i, (points, pen) in enumerate(drawn):
        source, part = sources[i // count], given[i // count]
        offsets = points.double().numpy() * model.scale / part.zoom
        places = np.concatenate([np.zeros((1, 2)), offsets]).cumsum(0)
        places += (part.points - places).mean(0)
        own = F.one_hot(torch.from_numpy(part.pen[1:]).long(), len(PenState))
        lift = _lifts(pen + belief * own)
        results.append(put_back(source, part, places, lift, model.name_of(starts[i].label)))
    return results


def _held(
    model: SketchModel,
    sources: Sequence[Sketch],
    given: Sequence[Given],
    labels: Sequence[int],
    anchors: Sequence[np.ndarray] | None = None,
    *,
    count: int,
    start: int,
    seed: int,
    **sampling,
) -> list[Sketch]:
    """`count` drawings of each source in which the anchors keep their places, and known points their pen."""
    fixed = [part.known for part in given] if anchors is None else anchors
    starts = [
        _Start.of(part, label, model.scale, sketch_generator(seed, index), anchors=held)
        for label, part, held in zip(labels, given, fixed, strict=True)
        for index in range(start, start + count)
    ]
    drawn = _walk(model, starts, count=count, start=start, seed=seed, **sampling)
    results = []
    for i, (points, pen) in enumerate(drawn):
        source, part = sources[i // count], given[i // count]
        places = _anchored(part, fixed[i // count], points.double().numpy() * model.scale / part.zoom)
        lift = np.where(part.known, part.pen != PenState.DOWN, _lifts(pen))
        results.append(put_back(source, part, places, lift, model.name_of(starts[i].label)))
    return results


# ---- what is given to a walk, and held on it -------------------------------------------------------


@dataclass(frozen=True)
class _Start:
    """Where the walk of one drawing of n rows begins.

    points  (n, 2) offsets, model units; 0 where they are not known.
    pen     (n,) `PenState`;  known (n,) bool: told to the network, and held.
    bridge  (n,) 0, or k for the rows that together lead over the k-th gap, by spans[k - 1].
    """

    label: int
    points: Tensor
    pen: Tensor
    known: Tensor
    bridge: Tensor
    spans: Tensor
    generator: torch.Generator

    @staticmethod
    def of(
        given: Given,
        label: int,
        scale: float,
        generator: torch.Generator,
        *,
        length: int | None = None,
        anchors: np.ndarray | None = None,
    ) -> _Start:
        """length  rows of the finished drawing, if it goes on.

        anchors  (m + 1,) bool, the points that keep their place; None: those that are not lost.
        """
        m, n = len(given), length or len(given)
        there = given.known if anchors is None else anchors
        known = torch.zeros(n, dtype=torch.bool)
        known[:m] = torch.from_numpy(there[1:] & there[:-1])
        points = torch.zeros(n, 2)
        points[:m] = torch.from_numpy(given.offsets(scale)).float()
        pen = torch.full((n,), int(PenState.DOWN))
        pen[:m] = torch.from_numpy(given.pen[1:])
        if n == m:
            pen[-1] = PenState.END
        bridge, spans = torch.zeros(n, dtype=torch.long), []
        last, places = None, np.flatnonzero(there)
        for place in places:  # from one known point over lost ones to the next
            if last is not None and place > last + 1:
                span = (given.points[place] - given.points[last]) * given.zoom / scale
                spans.append(span)
                bridge[last:place] = len(spans)
            last = place
        spans = torch.from_numpy(np.array(spans, np.float32).reshape(-1, 2))
        return _Start(label, points, pen, known, bridge, spans, generator)


def _walk(
    model: SketchModel,
    starts: Sequence[_Start],
    *,
    count: int,
    start: int,
    seed: int,
    detail: int | None = None,
    level: float = 1.0,
    hold: float = 1.0,
    steps: int | None = None,
    sampler: str | None = None,
    schedule: str | Stride | None = None,
    guidance: float | None = None,
    batch_size: int = BATCH,
    on_step: Callable[[Emerging], None] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """For each start the clean offsets (n, 2), model units, and pen logits (n, 3).

    level  time in (0, 1] that the walk begins at, from the points of the starts if it is below 1.
    hold   as in `holding`; below 1 the network is not told what is held.
    """
    steps, sampler, schedule, guidance = model.settled(steps, sampler, schedule, guidance)
    model.check(count, start, seed, sampler, guidance, detail, batch_size)
    stride = model.placement(schedule, steps)
    drawn = []
    for first in range(0, len(starts), batch_size):
        batch = starts[first : first + batch_size]
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        length = torch.tensor([len(s.points) for s in batch])
        known, pen = pad([s.known for s in batch]), pad([s.pen for s in batch])
        points = pad([s.points for s in batch])
        flag = known[..., None].float()
        held = Known(flag, points, F.one_hot(pen, len(PenState)) * flag)
        told = held if known.any() and hold == 1 and takes_known(model.network) else None
        condition = Condition(torch.tensor([s.label for s in batch]), length, told)
        bridge, spans = pad([s.bridge for s in batch]), pad([s.spans for s in batch])
        around = functools.partial(holding, held=held, bridge=bridge, spans=spans, hold=hold)
        found = model.walk(
            condition,
            [s.generator for s in batch],
            stride,
            sampler=sampler,
            guidance=guidance,
            points=points if level < 1 else None,
            start=level,
            around=around,
            on_step=on_step,
        )
        drawn += [(found.points[i, :n], found.pen[i, :n]) for i, n in enumerate(length.tolist())]
    return drawn


def holding(denoise: Denoise, held: Known, bridge: Tensor, spans: Tensor, hold: float = 1.0) -> Denoise:
    """The denoiser, put right where the drawing is known.

    held    of each of B sketches the known rows, with offsets and pen states.
    bridge  (B, N) long, 0 or the number of the gap that a row belongs to;  spans (B, K, 2): what the offsets
            of each gap add up to. They are put right by the same amount each: the nearest offsets that do.
    hold    how much of the way to what is known a prediction is moved; below 1 its pen is its own.
    """

    def put_right(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        found = denoise(x, t, active)
        flag, points, pen = (part[active].to(x) for part in held)
        points = torch.where(flag > 0, torch.lerp(found.points, points, hold), found.points)
        if spans.shape[1]:
            gap = bridge[active].to(x.device)[..., None]  # (b, N, 1)
            room = points.new_zeros(len(active), spans.shape[1] + 1, 2)
            sums = room.scatter_add(1, gap.expand_as(points), points)[:, 1:]
            rows = room.scatter_add(1, gap.expand_as(points), torch.ones_like(points))[:, 1:]
            missing = (spans[active].to(x) - sums) / rows.clamp(min=1)
            missing = torch.cat([room[:, :1], missing], 1)
            points = points + hold * missing.gather(1, gap.expand_as(points))
        pen = torch.where(flag > 0, SURE * pen, found.pen) if hold == 1 else found.pen
        return Prediction(points, pen, found.calls)

    return put_right


def longer(model: SketchModel, label: int, given: int, generator: torch.Generator) -> int:
    """Points of a drawing of the class that goes on after `given` of them, from the class's own histogram.

    Where nobody drew that many, from that of all classes.
    """
    least = min(int(given / ROOM) + 1, model.longest)
    for counts in (model.lengths[label : label + 1].sum(0), model.lengths.sum(0)):
        tail = counts.copy()
        tail[:least] = 0
        if tail.sum() > 0:
            break
    else:
        return model.longest
    at = float(torch.rand((), generator=generator, dtype=torch.float64))
    return int(np.searchsorted(np.cumsum(tail) / tail.sum(), at, side="right"))


def _to_name(sampling: dict) -> dict:
    """Options of the drawings by which another is named: they hang on that one alone."""
    return {name: sampling[name] for name in ("batch_size", "on_step") if name in sampling}


def _sources(sketch: Sketch | Sequence[Sketch]) -> list[Sketch]:
    sources = [sketch] if isinstance(sketch, Sketch) else list(sketch)
    if not sources:
        raise ValueError("there is no sketch, wanted at least one.")
    return sources


def _lifts(pen: Tensor) -> np.ndarray:
    """(n + 1,) bool, whether the pen lifts after each point, from the logits (n, 3) of all but the first."""
    return np.concatenate([[False], lift_probability(pen[None])[0].numpy() > 0.5])


def _stroke_ends(given: Given) -> np.ndarray:
    """(n + 1,) bool, the first and the last point of every stroke."""
    last = given.pen != PenState.DOWN
    return last | np.concatenate([[True], last[:-1]])


def _anchored(given: Given, anchors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Places (n + 1, 2) that offsets (n, 2), canvas units, lead to from the anchors (n + 1,)."""
    places = np.concatenate([np.zeros((1, 2)), offsets]).cumsum(0)
    held = np.flatnonzero(anchors)
    error = given.points[held] - places[held]
    for axis in (0, 1):  # what is left of rounding goes to the points between, evenly
        places[:, axis] += np.interp(np.arange(len(places)), held, error[:, axis])
    places[held] = given.points[held]
    return places
