"""The pen-state decoder: pen logits -> pen states -> strokes.

The published code thresholds the raw logit of *down* and calls the result a lift, which draws dashes
(SketchKnitter issue 16). Here a lift is a probability: softmax first, and the lift's own column.
Where a drawing ends is its length; an END before it counts as a lift.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .strokes import QUICKDRAW_CANVAS, Frame, PenState, Sketch, StrokeLatent, fit, stroke3_to_sketch

MODES = ("argmax", "threshold", "temperature")
LIFT = 0.4  # P(lift) from which it does: on validation drawings argmax lifts an eighth too seldom, this 6 %
PADDING = 0.05  # of the canvas's shorter side, kept free around a decoded drawing


def decode_pen(
    latent: StrokeLatent,
    *,
    mode: str = "threshold",
    threshold: float = LIFT,
    temperature: float = 1.0,
    min_stroke: float = 0.0,
    seed: int = 0,
    canvas: tuple[float, float] | None = QUICKDRAW_CANVAS,
    padding: float = PADDING,
) -> list[Sketch]:
    """The B sketches of a latent.

    mode         threshold: lift where P(lift) > `threshold`. argmax: where that is likelier than going on.
                 temperature: by chance, the log-odds of a lift divided by `temperature`, by `seed` and the
                 sketch's index.
    min_stroke   strokes shorter than this many units of `canvas` are dropped (dots too, if it is above 0),
                 and the rest is fitted again; a drawing keeps at least its longest stroke.
    canvas       the drawing is fitted to it with `padding` (share of the shorter side) free; None keeps the
                 model's own size, with its upper left corner at (0, 0). Where the latent has frames, they
                 say where drawings lie, and on which canvas.
    """
    if mode not in MODES:
        raise ValueError(f"unknown pen mode {mode!r}. Known: {', '.join(MODES)}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, wanted a probability in 0..1.")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, wanted a number above 0. Near 0 is argmax.")
    if not min_stroke >= 0:
        raise ValueError(f"min_stroke is {min_stroke}, wanted a length of 0 or more in canvas units.")
    lifts = lift_probability(latent.pen, temperature if mode == "temperature" else 1.0).numpy()  # (B, N)
    points = latent.points.double().cpu().numpy() * latent.scale
    sketches = []
    for i, n in enumerate(latent.length.tolist()):
        cut = threshold if mode == "threshold" else 0.5
        if mode == "temperature":
            index = latent.seeds[i][1] if latent.seeds else i
            cut = np.random.default_rng([seed, index]).random(n)
        rows = np.concatenate([points[i, :n], (lifts[i, :n] > cut)[:, None]], axis=1)
        if latent.frames:
            sketches.append(_framed(rows, latent.frames[i], latent.labels[i], min_stroke))
            continue
        sketch = _placed(stroke3_to_sketch(rows, label=latent.labels[i]), canvas, padding)
        if min_stroke > 0:  # what is left is fitted again, and only ever grows
            sketch = _placed(without_short_strokes(sketch, min_stroke), canvas, padding)
        sketches.append(sketch)
    return sketches


def lift_probability(pen: Tensor, temperature: float = 1.0) -> Tensor:
    """(B, N) float64 on the CPU: P(not down) from logits (B, N, 3) of `PenState`.

    Temperature divides the log-odds of lifting against going on, so that near 0 it is argmax: divided one by
    one, two lifting states of 0.3 each would lose against 0.4 for going on.
    """
    pen = pen.detach().double().cpu()
    log_odds = pen[..., PenState.UP :].logsumexp(-1) - pen[..., PenState.DOWN]
    return (log_odds / temperature).sigmoid()


def without_short_strokes(sketch: Sketch, shortest: float) -> Sketch:
    """The sketch less its strokes shorter than `shortest` canvas units; the longest one always stays."""
    lengths = [float(np.hypot(*np.diff(stroke, axis=0).T).sum()) for stroke in sketch.strokes]
    keep = [s for s, length in zip(sketch.strokes, lengths, strict=True) if length >= shortest]
    if not keep and sketch.strokes:
        keep = [sketch.strokes[int(np.argmax(lengths))]]
    return Sketch(tuple(keep), sketch.canvas, sketch.label)


def _framed(rows: np.ndarray, frame: Frame, label: str | None, min_stroke: float) -> Sketch:
    """Rows (n, 3) in units of the model's canvas, where a frame says."""
    rows = rows * [frame.zoom, frame.zoom, 1]
    sketch = stroke3_to_sketch(rows, origin=frame.origin, canvas=frame.canvas, label=label)
    return without_short_strokes(sketch, min_stroke * frame.zoom) if min_stroke > 0 else sketch


def _placed(sketch: Sketch, canvas: tuple[float, float] | None, padding: float) -> Sketch:
    if canvas is not None:
        return fit(sketch, canvas, padding=padding * min(canvas))
    corner = np.concatenate(sketch.strokes).min(0) if sketch.strokes else 0
    return Sketch(tuple(stroke - corner for stroke in sketch.strokes), sketch.canvas, sketch.label)
