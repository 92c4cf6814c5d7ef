"""Interpolate: drawings on the way from one to another, by way of the noise they come from.

Both ends are brought to as many points as the in-between has, carried to noise along the flow (DDIM
inversion; Song et al., 2021, arXiv:2010.02502, section 5.3), mixed there on the great circle (slerp), and
carried back. Nothing is drawn by chance, so there is no seed.

Limits: points correspond by their place in the order of the pen. Two drawings that were drawn in different
order turn into each other by way of ones that look like neither. Ends are not returned; they come back from
their own noise only nearly, see `invert_ddim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .denoisers import Condition, Denoise, Prediction
from .given import Given, bring, size_of_whole, with_rows
from .knitter import BATCH, Emerging, SketchModel
from .naming import classes_of
from .pen import lift_probability
from .recognizer import Recognizer
from .samplers import OnStep, Step, sample_ddim
from .schedules import ALPHA_BARS, AlphaBar, checked_steps, uniform
from .strokes import Sketch, stroke3_to_sketch

STEPS = 24  # each way
ROUNDS = 2  # calls a step of the way to noise


def interpolate(
    model: SketchModel,
    sketch: Sketch,
    other: Sketch,
    *,
    count: int = 8,
    class_name: str | Sequence[str | None] | None = None,
    steps: int = STEPS,
    recognizer: Recognizer | None = None,
    batch_size: int = BATCH,
    on_step: Callable[[Emerging], None] | None = None,
) -> list[Sketch]:
    """`count` drawings at even distances between `sketch` and `other`, in order, on the first one's canvas.

    class_name  of both, or a pair; None: each one's own label, or else the recognizer's guess. Between two
                classes the network is asked about both, and the answers are mixed. A result is labelled with
                the class that it is nearer to.
    """
    if not 1 <= count <= 1000:
        raise ValueError(f"count is {count}, wanted 1 to 1000 drawings between the two.")
    if checked_steps(steps) < 2:
        raise ValueError(f"steps is {steps}, wanted 2 or more: one step cannot carry a drawing to noise.")
    names = [class_name] * 2 if class_name is None or isinstance(class_name, str) else list(class_name)
    if len(names) != 2:
        raise ValueError(f"class_name has {len(names)} names, wanted one for both sketches, or two.")
    ends = [sketch, other]
    labels = [classes_of(model, [end], name, recognizer)[0] for end, name in zip(ends, names, strict=True)]
    given = [bring(end, size_of_whole(end), model.longest) for end in ends]
    least = max(part.with_ends_only for part in given)
    weights = [(k + 1) / (count + 1) for k in range(count)]
    made = []
    for first in range(0, count, batch_size):
        part = weights[first : first + batch_size]
        lengths = [max(round((1 - w) * len(given[0]) + w * len(given[1])), least) for w in part]
        pairs = [[with_rows(end, n) for end in given] for n in lengths]
        for w, pair, (points, pen) in zip(
            part, pairs, _between(model, pairs, part, labels, steps, on_step), strict=True
        ):
            made.append(_placed(model, sketch, other, pair, w, points, pen, model.name_of(labels[w > 0.5])))
    return made


def _between(
    model: SketchModel,
    pairs: list[list[Given]],
    weights: list[float],
    labels: list[int],
    steps: int,
    on_step: Callable[[Emerging], None] | None,
) -> list[tuple[Tensor, Tensor]]:
    """One batch: clean offsets (n, 2), model units, and pen logits (n, 3) for each pair and weight."""
    alpha_bar, device = ALPHA_BARS[model.network.config.schedule], model.device
    length = torch.tensor([len(pair[0]) for pair in pairs])
    W = len(weights)

    def told(labels: Tensor, shift: int) -> OnStep | None:
        def callback(step: Step) -> None:
            names = tuple(model.name_of(int(labels[i])) for i in step.active)
            fields = {**vars(step), "index": step.index + shift}
            on_step(Emerging(**fields, length=length[step.active % W], labels=names))

        return callback if on_step is not None else None

    both = torch.tensor(labels).repeat_interleave(W)  # the first ends, then the others
    clean = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(pair[k].offsets(model.scale)).float() for k in (0, 1) for pair in pairs], True
    )
    condition = Condition(both, length.repeat(2))
    noise = invert_ddim(
        model.bound(condition, 1.0), clean.to(device), alpha_bar, steps, callback=told(both, 0)
    )
    share = torch.tensor(weights)
    mixed = slerp(noise[:W], noise[W:], share.to(noise))
    walks = [model.bound(Condition(torch.full((W,), label), length), 1.0) for label in labels]
    denoise = walks[0] if labels[0] == labels[1] else mixing(*walks, share)
    nearer = torch.tensor([labels[w > 0.5] for w in weights])
    found = sample_ddim(denoise, mixed, alpha_bar, uniform(steps), callback=told(nearer, steps * ROUNDS))
    return [(found.points[i, :n].cpu(), found.pen[i, :n].cpu()) for i, n in enumerate(length.tolist())]


@torch.no_grad()
def invert_ddim(
    denoise: Denoise,
    x: Tensor,
    alpha_bar: AlphaBar,
    steps: int,
    *,
    rounds: int = ROUNDS,
    callback: OnStep | None = None,
) -> Tensor:
    """The noise (B, N, 2) from which `sample_ddim` in as many uniform steps draws x (B, N, 2), nearly.

    A step of DDIM from s to t < s is undone by finding the x_s that it leads to x_t from: the fixed point of
    x_s = √(ᾱ_s / ᾱ_t) x_t + (√(1−ᾱ_s) − √(ᾱ_s (1−ᾱ_t) / ᾱ_t)) ε(x_s, s), or near noise, where ε(x_s) is x_s
    itself, of the same equation solved for x_0(x_s, s); `rounds` calls a step (Pan et al., 2023,
    arXiv:2309.04907). One round is the usual inversion. Eight validation drawings came back in 16 steps with
    points 0.8 to 3.0 units of 255 off on average, after one round 3.5 to 9.0.
    """
    times = torch.linspace(0, 1, checked_steps(steps) + 1, dtype=torch.float64)
    active = torch.arange(len(x))
    index = 0
    for t, s in zip(times, times[1:], strict=False):
        (a, b), at = alpha_bar(torch.stack([t, s])).tolist(), s.expand(len(x))
        kept = ((1 - a) / (1 - b)) ** 0.5  # DDIM: x_t = kept x_s + gain x_0(x_s)
        gain = a**0.5 - b**0.5 * kept
        ahead = (b / a) ** 0.5 * x if index == 0 else x
        for _ in range(rounds):
            found = denoise(ahead, at, active)
            if callback is not None:
                callback(Step(index, active, at, ahead, found))
            index += 1
            if a > 0.5:
                eps = (ahead - b**0.5 * found.points) / (1 - b) ** 0.5
                ahead = (b / a) ** 0.5 * x + ((1 - b) ** 0.5 - (b * (1 - a) / a) ** 0.5) * eps
            else:
                ahead = (x - gain * found.points) / kept
        x = ahead
    return x


def mixing(denoise: Denoise, other: Denoise, share: Tensor) -> Denoise:
    """What two denoisers say, the second weighing `share` (B,) of 1: the flow of neither class or both."""

    def mixed(x: Tensor, t: Tensor, active: Tensor) -> Prediction:
        a, b = denoise(x, t, active), other(x, t, active)
        w = share[active].to(x)[:, None, None]
        return Prediction(torch.lerp(a.points, b.points, w), torch.lerp(a.pen, b.pen, w), a.calls + b.calls)

    return mixed


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """On the great circle from a (B, N, 2) to b at `share` (B,); straight where there is none to speak of.

    Shoemake (1985). The mean of two independent noises would be too quiet to be noise.
    """
    share = share[:, None, None]
    cosine = (a * b).sum((1, 2), keepdim=True) / (
        a.square().sum((1, 2), keepdim=True) * b.square().sum((1, 2), keepdim=True)
    ).sqrt().clamp(min=1e-12)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    straight = sine < 1e-4
    sine = torch.where(straight, 1.0, sine)
    left = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / sine)
    right = torch.where(straight, share, (share * angle).sin() / sine)
    return left * a + right * b


def _placed(
    model: SketchModel,
    sketch: Sketch,
    other: Sketch,
    pair: list[Given],
    weight: float,
    points: Tensor,
    pen: Tensor,
    label: str | None,
) -> Sketch:
    """The in-between as large as it is between the two, and where it is between them."""
    zoom = min(np.divide(sketch.canvas, other.canvas))  # the other's canvas, fitted into the first one's
    shift = (np.array(sketch.canvas) - zoom * np.array(other.canvas)) / 2
    middles = [pair[0].points.mean(0), zoom * pair[1].points.mean(0) + shift]
    size = (1 - weight) / pair[0].zoom + weight * zoom / pair[1].zoom  # canvas units per unit of the model
    lift = lift_probability(pen[None])[0].numpy() > 0.5
    rows = np.concatenate([points.double().numpy() * model.scale * size, lift[:, None]], 1)
    places = np.concatenate([np.zeros((1, 2)), rows[:, :2].cumsum(0)])
    origin = (1 - weight) * middles[0] + weight * middles[1] - places.mean(0)
    return stroke3_to_sketch(rows, origin=tuple(origin), canvas=sketch.canvas, label=label)
