"""Trains the raster recognizer: `python -m sketch_core train recognizer --data DIR --seconds S --out FILE`.

Train split only for training, valid split for choosing the weights, test split never read. Drawings are
rasterised once, in several versions that differ by stroke (aspect, rotation, dropped strokes, line width),
into a byte cache in memory; flips, shifts, small turns and zooms are applied to the pictures as they go into
a batch. The loop, its limits and its command line are those of `classifying.py`.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.dataset import StrokeDataset
from ..models.sketch_classifier import SketchClassifier, SketchClassifierConfig
from ..raster import rasterize
from ..strokes import Sketch
from . import classifying
from .classifying import ClassifierTraining, Run, fit, validation_figures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecognizerTraining(ClassifierTraining):
    versions: int = 4  # rasterised versions of a drawing, the first untouched

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.versions < 1:
            raise ValueError(
                f"versions is {self.versions}, wanted 1 or more. The first is the drawing itself."
            )


def vary_sketch(sketch: Sketch, rng: np.random.Generator) -> Sketch:
    """The drawing squeezed, slanted and turned a little; one stroke in ten left out, never the longest."""
    strokes = sketch.strokes
    if len(strokes) > 2:
        longest = max(range(len(strokes)), key=lambda i: len(strokes[i]))
        kept = rng.random(len(strokes)) > 0.1
        kept[longest] = True
        strokes = tuple(stroke for stroke, keep in zip(strokes, kept, strict=True) if keep)
    angle = math.radians(rng.normal(0, 7))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = np.array([[rng.uniform(0.82, 1.2), rng.normal(0, 0.08)], [0, rng.uniform(0.82, 1.2)]])
    return replace(sketch, strokes=tuple(stroke @ (turn @ slant).T for stroke in strokes))


def ink_bytes(
    sketches: list[Sketch], config: SketchClassifierConfig, *, line_width: float | None = None
) -> np.ndarray:
    """(B, H, W) uint8, 255 = ink, as the network of `config` sees the drawings."""
    ink = rasterize(sketches, config.size, line_width=line_width or config.line_width, padding=config.padding)
    return (ink * 255).round().astype(np.uint8)


def build_cache(
    dataset: StrokeDataset, config: SketchClassifierConfig, *, versions: int, seed: int
) -> np.ndarray:
    """(versions, len(dataset), H, W) uint8."""
    cache = np.empty((versions, len(dataset), config.size, config.size), dtype=np.uint8)
    chunk = 256
    for version in range(versions):
        began = time.monotonic()
        for start in range(0, len(dataset), chunk):
            rng = np.random.default_rng([seed, version, start])
            sketches = [dataset.sketch(i) for i in range(start, min(start + chunk, len(dataset)))]
            width = config.line_width
            if version:
                sketches = [vary_sketch(sketch, rng) for sketch in sketches]
                width *= rng.uniform(0.7, 1.5)
            cache[version, start : start + chunk] = ink_bytes(sketches, config, line_width=width)
        log.info(
            "rasterised version %d of %d drawings in %.0f s", version, len(dataset), time.monotonic() - began
        )
    return cache


def jitter_pictures(ink: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, 1, H, W) -> the same: half of them mirrored, all shifted, turned and zoomed a little."""
    B = len(ink)
    angle = np.radians(rng.normal(0, 6, B))
    zoom = rng.uniform(0.94, 1.2, B)  # above 1 the drawing gets smaller
    mirror = rng.choice([-1.0, 1.0], B)
    shift = rng.normal(0, 0.05, (2, B))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    theta = np.stack(
        [np.stack([cos * mirror, -sin, shift[0]], 1), np.stack([sin * mirror, cos, shift[1]], 1)], 1
    )
    grid = F.affine_grid(torch.from_numpy(theta).float(), list(ink.shape), align_corners=False)
    return F.grid_sample(ink, grid, align_corners=False)


def raster_run(config: SketchClassifierConfig, training: RecognizerTraining) -> Run:
    """A run of the raster network under AdamW; convolutions are quickest with channels last."""
    return Run(lambda: SketchClassifier(config).to(memory_format=torch.channels_last), training, _adamw)


def _adamw(network: nn.Module, training: ClassifierTraining) -> list[torch.optim.Optimizer]:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": training.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW(groups, lr=training.lr, betas=(0.9, 0.98))]


def predict(network: SketchClassifier, ink: np.ndarray) -> np.ndarray:
    """(n,) most likely class of each of `ink` (n, H, W) uint8."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(ink), 256):
            pictures = torch.from_numpy(ink[start : start + 256]).float().div_(255)[:, None]
            with torch.autocast("cpu", torch.bfloat16):
                found.append(
                    network(pictures.contiguous(memory_format=torch.channels_last)).argmax(1).numpy()
                )
    return np.concatenate(found)


def train_recognizer(
    data: Path,
    config: SketchClassifierConfig,
    training: RecognizerTraining,
    *,
    checkpoint: Path | None = None,
) -> tuple[SketchClassifier, dict, list[str]]:
    """Trained network, its figures on the valid split, and the names of its classes."""
    dataset = StrokeDataset.from_folder(data, split="train")
    valid = StrokeDataset.from_folder(data, split="valid", classes=dataset.classes)
    classes, labels = list(dataset.classes), np.asarray(dataset.labels)
    config = replace(config, classes=len(classes))
    run = raster_run(config, training)
    run.begin(checkpoint, classes)
    deep, edges = classifying.deep_classes(labels), classifying.chances(labels, training.balance)
    valid_ink = ink_bytes([valid.sketch(i) for i in range(len(valid))], config)
    cache = build_cache(dataset, config, versions=training.versions, seed=training.seed)

    def batch(step: int) -> tuple[tuple[Tensor, ...], Tensor]:
        rng = np.random.default_rng([training.seed, 1, step])
        rows = classifying.pick(edges, training.batch, rng)
        ink = torch.from_numpy(cache[rng.integers(training.versions, size=len(rows)), rows]).float().div_(255)
        ink = jitter_pictures(ink[:, None], rng).contiguous(memory_format=torch.channels_last)
        return (ink,), torch.from_numpy(labels[rows].astype(np.int64))

    def check(network: nn.Module) -> dict[str, float]:
        return validation_figures(predict(network, valid_ink), np.asarray(valid.labels), deep)

    figures = fit(run, batch, check, checkpoint)
    return run.average, figures, classes


def main(argv: Sequence[str] | None = None) -> int:
    about = __doc__.split("\n")[0]
    return classifying.command(
        argv,
        "recognizer",
        about,
        SketchClassifierConfig,
        RecognizerTraining,
        train_recognizer,
        dtype=torch.float16,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
