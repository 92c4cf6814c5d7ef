"""What is measured of each drawing; the real side of an evaluation, measured once for any number of models.

Limits: the real drawings are chosen by a seed and by where their class stands among the judge's own, so that
judges of other classes may see others of them. What is kept on disk takes 2 kB a training drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from ..data.dataset import StrokeDataset, class_name, read_class
from ..metrics import nearest_distances
from ..raster import rasterize
from ..strokes import QUICKDRAW_CANVAS, Sketch, fit
from .cache import FeatureCache, file_sha256

PICTURE = 24  # pixels a side of the pictures that nearest distances compare
PICTURE_LINE = 2.0  # pixels; thick, so that lines a pixel apart still overlap
K = 3  # neighbours, of precision and recall
DENSITY_K = 5  # neighbours, of density and coverage
SPOT_CHECKS = 12  # drawings of a class that are measured anew before what is kept of the class is believed


class Judge(Protocol):
    """What names drawings and describes them, as `Recognizer` does."""

    classes: Sequence[str]

    def read(self, sketches: Sequence[Sketch]) -> tuple[np.ndarray, np.ndarray]: ...  # (B, D), (B, classes)

    def features(self, sketches: Sequence[Sketch]) -> np.ndarray: ...  # (B, D)


Describe = Callable[[Sequence[Sketch]], np.ndarray]  # drawings -> features (B, D) of one more network
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """Drawings and what is known of each, B rows everywhere."""

    sketches: list[Sketch]
    labels: np.ndarray  # (B,) which of the evaluated classes it should show
    found: np.ndarray  # (B,) which class of the judge it is taken for
    features: np.ndarray  # (B, D)
    pictures: np.ndarray  # (B, P)
    strokes: np.ndarray  # (B,) how many
    ink: np.ndarray  # (B,) length of line on a 255 x 255 canvas
    points: np.ndarray  # (B,) how many
    inception: np.ndarray | None = None  # (B, 2048)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, which: np.ndarray | slice) -> Measured:
        """These rows of everything; `which` are indices or a slice."""
        at = range(len(self))[which] if isinstance(which, slice) else which
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sketches"}
        kept = {name: None if value is None else value[which] for name, value in kept.items()}
        return Measured([self.sketches[i] for i in at], **kept)


@dataclass(frozen=True)
class Real:
    """The real side of an evaluation, measured once and used for any number of models."""

    classes: list[str]
    counts: list[int]  # drawings of each class, on every side
    judge: Judge
    targets: np.ndarray  # (C,) where each class stands in the judge's own list
    test: Measured
    floor: Measured
    train: list[tuple[np.ndarray, np.ndarray]]  # of each class: features (n, D), pictures (n, P) in 1/255
    nearest: dict[str, dict[str, np.ndarray]]  # of "real" and "floor": (B,) on "features" and on "pictures"
    mean_points: np.ndarray  # (C,) of the training drawings of each class
    data_sha256: dict[str, str]  # of the file of each class
    inception: Describe | None = None
    floor_draws: dict = field(default_factory=dict, compare=False)  # what half samples gave, by their number


def measure(
    sketches: Sequence[Sketch], labels: Sequence[int], judge: Judge, inception: Describe | None = None
) -> Measured:
    """What the judge and a ruler say of the drawings."""
    sketches = list(sketches)
    features, scores = judge.read(sketches)
    return Measured(
        sketches=sketches,
        labels=np.asarray(labels, dtype=np.int64),
        found=scores.argmax(1),
        features=features,
        pictures=small_pictures(sketches),
        strokes=np.array([len(sketch.strokes) for sketch in sketches], dtype=np.float64),
        ink=np.array([ink_length(sketch) for sketch in sketches]),
        points=np.array([sketch.num_points for sketch in sketches], dtype=np.float64),
        inception=None if inception is None else inception(sketches),
    )


def ink_length(sketch: Sketch) -> float:
    """Length of line of the drawing fitted to a 255 x 255 canvas: the size it was drawn at does not count."""
    strokes = fit(sketch, QUICKDRAW_CANVAS).strokes
    return float(sum(np.hypot(*np.diff(stroke.astype(np.float64), axis=0).T).sum() for stroke in strokes))


def small_pictures(sketches: Sequence[Sketch]) -> np.ndarray:
    """(B, PICTURE * PICTURE) float32 ink of the fitted drawings, in steps of 1/255."""
    ink = rasterize(sketches, PICTURE, line_width=PICTURE_LINE, padding=0.05)
    return np.rint(ink.reshape(len(sketches), PICTURE**2) * 255) / np.float32(255)


def measure_real(
    data: str | Path,
    classes: Sequence[str],
    *,
    count: int,
    judge: Judge,
    seed: int = 0,
    inception: Describe | None = None,
    cache: FeatureCache | None = None,
    on_progress: OnProgress | None = None,
) -> Real:
    """The real side: `count` drawings of each class, fewer where the test or valid split holds fewer.

    data     folder of Quick, Draw! files with train, valid and test splits.
    classes  names as in that folder; each must be one of the judge's.
    seed     of the choice among the test drawings, and among the valid ones.
    cache    where the training drawings' features and pictures are kept; None keeps nothing.
    """
    files = _files(data, classes, judge, count)
    place = {name: i for i, name in enumerate(judge.classes)}
    counts, sides, train, points = [], {"test": [], "valid": []}, [], []
    for done, (name, path) in enumerate(files.items(), 1):
        splits = {
            split: StrokeDataset.from_rows(rows, [0] * len(rows), (name,))
            for split, rows in read_class(path).items()
            if rows
        }
        for split in ("test", "valid", "train"):
            if split not in splits:
                raise ValueError(f"{data} holds no {split} drawings of {name}. Leave that class out.")
        counts.append(min(count, len(splits["test"]), len(splits["valid"])))
        for s, split in enumerate(("test", "valid")):
            rng = np.random.default_rng([seed, s, place[name]])  # the choice of a class is its own
            chosen = sorted(rng.permutation(len(splits[split]))[: counts[-1]])
            sides[split] += [splits[split].sketch(i) for i in chosen]
        train.append(_described(splits["train"], path, judge, cache))
        points.append(float(splits["train"].lengths.mean()) + 1)  # n points are n - 1 rows
        if on_progress is not None:
            on_progress(done, len(files))
    labels = np.repeat(np.arange(len(counts)), counts)
    test, floor = (measure(sides[split], labels, judge, inception) for split in ("test", "valid"))
    return Real(
        classes=list(classes),
        counts=counts,
        judge=judge,
        targets=np.array([place[name] for name in classes]),
        test=test,
        floor=floor,
        train=train,
        nearest={name: nearest_training(side, train) for name, side in (("real", test), ("floor", floor))},
        mean_points=np.array(points),
        data_sha256={name: file_sha256(path) for name, path in files.items()},
        inception=inception,
    )


def nearest_training(side: Measured, train: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
    """Distance (B,) of each drawing to the nearest training drawing of its class, on either space."""
    found = {"features": np.zeros(len(side)), "pictures": np.zeros(len(side))}
    for c, (features, pictures) in enumerate(train):
        own = side.labels == c
        if own.any():
            found["features"][own] = nearest_distances(side.features[own], features)
            found["pictures"][own] = nearest_distances(side.pictures[own], pictures / np.float32(255))
    return found


def _files(data: str | Path, classes: Sequence[str], judge: Judge, count: int) -> dict[str, Path]:
    """The file of each class, checked before anything is read."""
    if count < DENSITY_K + 1:
        raise ValueError(
            f"count is {count}, wanted {DENSITY_K + 1} or more: distances to {DENSITY_K} neighbours are "
            f"compared."
        )
    strangers = [name for name in classes if name not in set(judge.classes)]
    if strangers:
        raise ValueError(
            f"the recognizer does not know {', '.join(strangers[:5])}. Leave such classes out, or "
            f"give another recognizer."
        )
    if len(set(classes)) != len(classes) or not classes:
        raise ValueError(f"got {len(classes)} classes, wanted one at least and none twice. Correct the list.")
    there = {class_name(path): path for path in sorted(Path(data).glob("*.npz"))}
    missing = [name for name in classes if name not in there]
    if missing:
        raise ValueError(f"{data} has no file for {', '.join(missing[:5])}. Fetch it, or leave it out.")
    return {name: there[name] for name in classes}


def _described(
    dataset: StrokeDataset, path: Path, judge: Judge, cache: FeatureCache | None
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, D) float32 and pictures (n, P) uint8 of all drawings, from the cache where it is right."""

    def look(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        sketches = [dataset.sketch(i) for i in rows]
        return judge.features(sketches), np.rint(small_pictures(sketches) * 255).astype(np.uint8)

    kept = None if cache is None else cache.find(path)
    if kept is not None and len(kept[0]) == len(dataset):
        rows = np.unique(np.linspace(0, len(dataset) - 1, SPOT_CHECKS).astype(int))
        features, pictures = look(rows)
        if (
            features.shape[1:] == kept[0].shape[1:]
            and np.allclose(features, kept[0][rows], rtol=1e-3, atol=1e-3 * np.abs(features).max())
            and np.array_equal(pictures, kept[1][rows])
        ):
            return kept
    found = look(range(len(dataset)))
    if cache is not None:
        cache.keep(path, *found)
    return found
