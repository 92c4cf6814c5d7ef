"""Names drawings: by how they look, by how they are drawn, or by both, the mean of the two.

The raster recognizer sees ink only; the stroke recognizer sees order and direction of strokes and no ink.
Both know the 345 Quick, Draw! classes and always answer with some of them: a drawing of anything else, or of
nothing, gets a confident-looking name too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .hub import load_weights, read_metadata
from .models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from .models.stroke_classifier import StrokeClassifier, StrokeClassifierConfig
from .raster import rasterize
from .strokes import QUICKDRAW_CANVAS, Sketch, fit, simplify, sketch_to_stroke3

BATCH = 256  # drawings at a time


class Recognizer:
    """A network that names drawings, `SketchClassifier` or `StrokeClassifier`, and the names it knows."""

    def __init__(self, network: SketchClassifier | StrokeClassifier, classes: Sequence[str]) -> None:
        if len(classes) != network.config.classes:
            raise ValueError(
                f"got {len(classes)} class names for a network of {network.config.classes} classes. "
                f"Give one each."
            )
        self.network = network.float().eval()
        self.classes = list(classes)

    def scores(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """(B, classes) float32, the probability of each class; rows sum to 1."""
        return self._run(lambda *seen: self.network(*seen).softmax(1), sketches, len(self.classes))

    def features(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """(B, D) float32, what the last layer decides from: the features of `metrics.py`."""
        return self._run(self.network.features, sketches, self.network.head.in_features)

    def read(self, sketches: Sequence[Sketch]) -> tuple[np.ndarray, np.ndarray]:
        """Features (B, D) and scores (B, classes), float32, for the price of one look."""
        features = self.features(sketches)
        with torch.inference_mode():
            logits = self.network.head(torch.from_numpy(features).to(next(self.network.parameters())))
        return features, logits.softmax(1).cpu().numpy()

    def recognize(self, sketches: Sequence[Sketch], top_k: int = 1) -> list[list[tuple[str, float]]]:
        """For each drawing the `top_k` likeliest (class name, probability), likeliest first."""
        return likeliest(lambda: self.scores(sketches), self.classes, top_k)

    @torch.inference_mode()
    def _run(self, read: Callable[..., Tensor], sketches: Sequence[Sketch], width: int) -> np.ndarray:
        """(B, width): what `read` makes of what the network sees of the drawings, `BATCH` at a time."""
        see, like = SEES[type(self.network)], next(self.network.parameters())
        rows = np.zeros((len(sketches), width), dtype=np.float32)
        for start in range(0, len(sketches), BATCH):
            part = slice(start, start + BATCH)
            rows[part] = read(*see(sketches[part], self.network.config, like)).cpu().numpy()
        return rows


class Both:
    """Recognizers that know the same classes; a drawing's score is the mean of theirs."""

    def __init__(self, recognizers: Sequence[Recognizer]) -> None:
        first = recognizers[0].classes
        if any(recognizer.classes != first for recognizer in recognizers):
            raise ValueError("recognizers of different classes cannot be averaged. Use one of them alone.")
        self.recognizers, self.classes = list(recognizers), list(first)

    def scores(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """(B, classes) float32, the probability of each class; rows sum to 1."""
        return np.mean([recognizer.scores(sketches) for recognizer in self.recognizers], 0, dtype=np.float32)

    def recognize(self, sketches: Sequence[Sketch], top_k: int = 1) -> list[list[tuple[str, float]]]:
        """For each drawing the `top_k` likeliest (class name, probability), likeliest first."""
        return likeliest(lambda: self.scores(sketches), self.classes, top_k)


def likeliest(
    scores: Callable[[], np.ndarray], classes: Sequence[str], top_k: int
) -> list[list[tuple[str, float]]]:
    """Of each row of `scores()` (B, classes) the `top_k` names and probabilities, likeliest first."""
    if not 1 <= top_k <= len(classes):
        raise ValueError(f"top_k is {top_k}, wanted 1 to {len(classes)}, the number of classes.")
    rows = scores()
    order = np.argsort(-rows, axis=1, kind="stable")[:, :top_k]
    return [[(classes[c], float(row[c])) for c in best] for row, best in zip(rows, order, strict=True)]


# ---- what the networks see ------------------------------------------------------------------------


def pictures(sketches: Sequence[Sketch], c: SketchClassifierConfig, like: Tensor) -> tuple[Tensor]:
    """Ink (B, 1, H, W)."""
    ink = rasterize(sketches, c.size, line_width=c.line_width, padding=c.padding)
    return (torch.from_numpy(ink)[:, None].to(like, memory_format=torch.channels_last),)


def strokes(sketches: Sequence[Sketch], c: StrokeClassifierConfig, like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, N, 3) and lengths (B,) of the drawings, simplified as those of Quick, Draw! are."""
    rows, length = padded([simplified(sketch, c.max_points) for sketch in sketches])
    return rows.to(like), length.to(like.device)


def simplified(sketch: Sketch, max_points: int) -> np.ndarray:
    """(n, 3) rows of a drawing on the 255 canvas, n <= max_points; as coarse as that takes."""
    sketch, epsilon = fit(sketch, QUICKDRAW_CANVAS), 2.0
    rows = sketch_to_stroke3(simplify(sketch, epsilon))
    while len(rows) > max_points:
        epsilon *= 1.25
        if epsilon > 64:  # more strokes than rows: the end is cut off
            return rows[:max_points]
        rows = sketch_to_stroke3(simplify(sketch, epsilon))
    return rows


def padded(drawings: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows (B, N, 3) float32, zero past the end of each (n, 3), and how many are real, (B,)."""
    length = np.array([len(rows) for rows in drawings], dtype=np.int64)
    rows = np.zeros((len(drawings), max(1, int(length.max(initial=0))), 3), np.float32)
    for row, drawing in zip(rows, drawings, strict=True):
        row[: len(drawing)] = drawing
    return torch.from_numpy(rows), torch.from_numpy(length)


SEES = {SketchClassifier: pictures, StrokeClassifier: strokes}


# ---- loading --------------------------------------------------------------------------------------

BY = {
    "pictures": ("recognizer",),
    "strokes": ("stroke_recognizer",),
    "both": ("recognizer", "stroke_recognizer"),
}


def recognizer_by(way: str) -> Recognizer | Both:
    """The embedded recognizer that goes by pictures, by strokes, or by both."""
    if way not in BY:
        raise ValueError(f"cannot recognize by {way!r}. Known: {', '.join(BY)}.")
    loaded = [load_recognizer(name) for name in BY[way]]
    return loaded[0] if len(loaded) == 1 else Both(loaded)


def load_recognizer(name: str | Path = "recognizer") -> Recognizer:
    """The recognizer of a name in weights_manifest.json, or of a `.safetensors` file."""
    architecture = read_metadata(name).architecture
    if architecture not in ("sketch_classifier", "stroke_classifier"):
        raise ValueError(
            f"{name} holds a {architecture}, wanted a sketch_classifier or a stroke_classifier. "
            f"Give 'recognizer', or the file of another recognizer."
        )
    weights = load_weights(name)
    return Recognizer(weights.model, weights.metadata.classes)
