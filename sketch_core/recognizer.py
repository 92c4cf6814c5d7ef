"""Names drawings: the embedded classifier, or another one, behind sketches instead of pictures.

It knows the 345 Quick, Draw! classes and always answers with some of them: a drawing of anything else, or of
nothing, gets a confident-looking name too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .hub import load_weights, read_metadata
from .models.sketch_classifier import SketchClassifier
from .raster import rasterize
from .strokes import Sketch

BATCH = 256  # drawings at a time


class Recognizer:
    """A `SketchClassifier` and the names of its classes."""

    def __init__(self, network: SketchClassifier, classes: Sequence[str]) -> None:
        if len(classes) != network.config.classes:
            raise ValueError(
                f"got {len(classes)} class names for a network of {network.config.classes} classes. "
                f"Give one each."
            )
        self.network = network.float().eval()
        self.classes = list(classes)

    def scores(self, sketches: Sequence[Sketch]) -> np.ndarray:
        """(B, classes) float32, the probability of each class; rows sum to 1."""
        return self._run(lambda ink: self.network(ink).softmax(1), sketches, len(self.classes))

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
        if not 1 <= top_k <= len(self.classes):
            raise ValueError(f"top_k is {top_k}, wanted 1 to {len(self.classes)}, the number of classes.")
        scores = self.scores(sketches)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        return [
            [(self.classes[c], float(row[c])) for c in best] for row, best in zip(scores, order, strict=True)
        ]

    @torch.inference_mode()
    def _run(self, read: Callable[[Tensor], Tensor], sketches: Sequence[Sketch], width: int) -> np.ndarray:
        """(B, width): what `read` makes of the ink (B, 1, H, W) of the drawings, `BATCH` at a time."""
        c = self.network.config
        like = next(self.network.parameters())
        rows = np.zeros((len(sketches), width), dtype=np.float32)
        for start in range(0, len(sketches), BATCH):
            part = slice(start, start + BATCH)
            ink = rasterize(sketches[part], c.size, line_width=c.line_width, padding=c.padding)
            ink = torch.from_numpy(ink)[:, None].to(like, memory_format=torch.channels_last)
            rows[part] = read(ink).cpu().numpy()
        return rows


def load_recognizer(name: str | Path = "recognizer") -> Recognizer:
    """The recognizer of a name in weights_manifest.json, or of a `.safetensors` file."""
    architecture = read_metadata(name).architecture
    if architecture != "sketch_classifier":
        raise ValueError(
            f"{name} holds a {architecture}, wanted a sketch_classifier. "
            f"Give 'recognizer', or the file of another recognizer."
        )
    weights = load_weights(name)
    return Recognizer(weights.model, weights.metadata.classes)
