"""Trains the stroke recognizer: `python -m sketch_core train stroke-recognizer --data DIR --steps S ...`.

Train split only for training, valid split for choosing the weights, test split never read. Drawings are
mirrored, turned, squeezed, slanted and thinned as they go into a batch, and a share of them damaged, so that
rough, begun and broken drawings are named too; a batch holds drawings of about one length. The loop, its
limits and its command line are those of `classifying.py`.

Matrices inside blocks learn by Muon, everything else by AdamW, as in `trainer.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..data.augment import Augmentation
from ..data.damage import Damage
from ..data.dataset import StrokeDataset
from ..models.stroke_classifier import StrokeClassifier, StrokeClassifierConfig
from ..recognizer import padded, simplified
from ..strokes import stroke3_to_sketch
from . import classifying
from .classifying import ClassifierTraining, Run, fit, validation_figures
from .trainer import optimizers

GROUP = 8  # batches that are sorted by length together


@dataclass(frozen=True)
class StrokeRecognizerTraining(ClassifierTraining):
    batch: int = 256
    lr: float = 4e-3  # peak, Muon
    adam_lr: float = 2e-3  # peak, AdamW
    weight_decay: float = 0.02
    stretch: float = 0.15  # augmentation: as in `Augmentation`
    rotation: float = 12.0
    drop: float = 0.15
    damaged: float = 0.5  # share of the drawings, as in `Damage`

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.damaged <= 1:
            raise ValueError(f"damaged is {self.damaged:g}, wanted a share of 0 to 1.")


def stroke_run(config: StrokeClassifierConfig, training: StrokeRecognizerTraining) -> Run:
    return Run(lambda: StrokeClassifier(config), training, optimizers)


def mirrored(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left and right changed, for half of the drawings."""
    if rng.random() < 0.5:
        rows[:, 0] *= -1
    return rows


def group(
    dataset: StrokeDataset, edges: np.ndarray, training: StrokeRecognizerTraining, k: int
) -> list[np.ndarray]:
    """The drawings of batches k * GROUP .. (k + 1) * GROUP - 1, (batch,) numbers each, by rising length."""
    rng = np.random.default_rng([training.seed, 1, k])
    picked = classifying.pick(edges, GROUP * training.batch, rng)
    picked = picked[np.argsort(dataset.lengths[picked], kind="stable")].reshape(GROUP, -1)
    return list(picked[rng.permutation(GROUP)])


def predict(network: StrokeClassifier, drawings: Sequence[np.ndarray], batch: int = 512) -> np.ndarray:
    """(n,) the likeliest class of each drawing, (m, 3) rows."""
    found = np.zeros(len(drawings), np.int64)
    order = np.argsort([len(rows) for rows in drawings], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            found[part] = network(*padded([drawings[i] for i in part])).argmax(1).numpy()
    return found


def harmed(rows: np.ndarray, rng: np.random.Generator, max_points: int) -> np.ndarray:
    """(m, 3) rows of a drawing of (n, 3) rows once it is damaged, as the network then sees it."""
    return simplified(Damage()(stroke3_to_sketch(rows), rng), max_points)


def train_stroke_recognizer(
    data: Path,
    config: StrokeClassifierConfig,
    training: StrokeRecognizerTraining,
    *,
    checkpoint: Path | None = None,
) -> tuple[StrokeClassifier, dict, list[str]]:
    """Trained network, its figures on the valid split, and the names of its classes."""
    dataset = StrokeDataset.from_folder(data, split="train")
    valid = StrokeDataset.from_folder(data, split="valid", classes=dataset.classes)
    dataset, valid = dataset.at_most(config.max_points), valid.at_most(config.max_points)
    classes, labels = list(dataset.classes), np.asarray(dataset.labels)
    run = stroke_run(replace(config, classes=len(classes)), training)
    run.begin(checkpoint, classes)
    deep, edges = classifying.deep_classes(labels), classifying.chances(labels, training.balance)
    augment = Augmentation(training.stretch, training.rotation, training.drop)
    groups: dict[int, list[np.ndarray]] = {}

    def batch(step: int) -> tuple[tuple[Tensor, ...], Tensor]:
        k = step // GROUP
        if k not in groups:
            groups.clear()
            groups[k] = group(dataset, edges, training, k)
        picked = groups[k][step % GROUP]
        rng = np.random.default_rng([training.seed, 2, step])
        drawings = [mirrored(augment(dataset[i], rng), rng) for i in picked]
        for hit in np.flatnonzero(rng.random(len(drawings)) < training.damaged):
            drawings[hit] = harmed(drawings[hit], rng, config.max_points)
        return padded(drawings), torch.from_numpy(labels[picked])

    whole = list(valid)
    rng = np.random.default_rng([training.seed, 3])
    broken = [harmed(rows, rng, config.max_points) for rows in whole] if training.damaged else []

    def check(network: nn.Module) -> dict[str, float]:
        """Of whole drawings, and of the same ones damaged."""
        targets = np.asarray(valid.labels)
        figures = validation_figures(predict(network, whole), targets, deep)
        if broken:
            figures["damaged_top1"] = float((predict(network, broken) == targets).mean())
        return figures

    figures = fit(run, batch, check, checkpoint)
    return run.average, figures, classes


def main(argv: Sequence[str] | None = None) -> int:
    about = __doc__.split("\n")[0]
    return classifying.command(
        argv,
        "stroke-recognizer",
        about,
        StrokeClassifierConfig,
        StrokeRecognizerTraining,
        train_stroke_recognizer,
        dtype=torch.bfloat16,
    )
