"""`StrokeDataset`: many drawings in three flat arrays, read from a folder of sketch-rnn `.npz` files.

156,657 Quick, Draw! drawings are 45 MB this way, and picking a batch costs no Python objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..strokes import Sketch, simplify, sketch_to_stroke3, stroke3_to_sketch
from .npz import read_npz


@dataclass(frozen=True, eq=False)
class StrokeDataset:
    """Drawings as stroke-3 rows.

    rows     (M, 3) int16    dx, dy, lift of all drawings, one after the other, 0..255 canvas units.
    starts   (S + 1,) int64  drawing i is rows[starts[i]:starts[i + 1]].
    labels   (S,) int64      index into `classes`.
    classes  names, sorted.
    """

    rows: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @staticmethod
    def from_folder(
        folder: str | Path,
        split: str = "train",
        classes: Sequence[str] | None = None,
        *,
        on_error: str = "raise",
    ) -> StrokeDataset:
        """All drawings of one split of `folder/*.npz`; a file's name is its class, `_` read as a space.

        classes  keep only these names, in any case; None keeps all.
        """
        files = {class_name(path): path for path in sorted(Path(folder).glob("*.npz"))}
        if not files:
            raise ValueError(
                f"{folder} holds no .npz files. Point to a folder of sketch-rnn Quick, Draw! files."
            )
        if classes is not None:
            wanted = {name.replace("_", " ").lower() for name in classes}
            missing = wanted - {name.lower() for name in files}
            if missing:
                raise ValueError(
                    f"{folder} has no file for {', '.join(sorted(missing))}. Fetch it, or leave it out."
                )
            files = {name: path for name, path in files.items() if name.lower() in wanted}
        drawings, labels = [], []
        for label, path in enumerate(files.values()):
            found = read_class(path, on_error=on_error).get(split, [])
            drawings += found
            labels += [label] * len(found)
        if not drawings:
            raise ValueError(
                f"{folder} holds no drawing in the split {split!r}. Known splits: train, valid, test."
            )
        return StrokeDataset.from_rows(drawings, labels, tuple(files))

    @staticmethod
    def from_rows(
        drawings: Sequence[np.ndarray], labels: Sequence[int], classes: tuple[str, ...]
    ) -> StrokeDataset:
        starts = np.concatenate([[0], np.cumsum([len(rows) for rows in drawings])]).astype(np.int64)
        return StrokeDataset(
            np.concatenate(drawings).astype(np.int16), starts, np.asarray(labels, np.int64), classes
        )

    def joined(self, other: StrokeDataset) -> StrokeDataset:
        """These drawings and those of `other`, whose classes must be among ours."""
        places = {name: i for i, name in enumerate(self.classes)}
        if unknown := sorted(set(other.classes) - set(places)):
            raise ValueError(
                f"the added drawings bring new classes: {', '.join(unknown)}. Leave their files out."
            )
        labels = np.array([places[name] for name in other.classes])[other.labels]
        drawings = [data[i] for data in (self, other) for i in range(len(data))]
        return StrokeDataset.from_rows(drawings, np.concatenate([self.labels, labels]), self.classes)

    def first(self, count: int) -> StrokeDataset:
        """The first `count` drawings of each class."""
        kept, seen = [], dict.fromkeys(range(len(self.classes)), 0)
        for i, label in enumerate(self.labels.tolist()):
            seen[label] += 1
            if seen[label] <= count:
                kept.append(i)
        return StrokeDataset.from_rows([self[i] for i in kept], self.labels[kept], self.classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> np.ndarray:
        """(n, 3) int16 stroke-3 rows of drawing i."""
        return self.rows[self.starts[i] : self.starts[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """(S,) rows of each drawing."""
        return np.diff(self.starts)

    def sketch(self, i: int) -> Sketch:
        """Drawing i on the 255 canvas, its box at (0, 0): the files drop the first absolute point."""
        rows = self[i]
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(rows[:, :2], axis=0)])
        return stroke3_to_sketch(rows, origin=tuple(-points.min(0)), label=self.classes[self.labels[i]])

    def scale(self) -> float:
        """The std of all dx and dy pooled, canvas units per model unit (Ha & Eck, 2017, section 3.1)."""
        return float(self.rows[:, :2].astype(np.float64).std())

    def spread(self) -> float:
        """Root mean square of where points lie beside the middle of their drawing, both axes, model units."""
        squares, points = 0.0, 0
        for i in range(len(self)):
            places = np.concatenate([np.zeros((1, 2)), self[i][:, :2].astype(np.float64).cumsum(0)])
            squares += float(((places - places.mean(0)) ** 2).sum())
            points += 2 * len(places)
        return float(np.sqrt(squares / points)) / self.scale()

    def at_most(self, max_points: int) -> StrokeDataset:
        """The same drawings, the longer ones simplified (Ramer–Douglas–Peucker) to `max_points` rows."""
        drawings = [self[i] for i in range(len(self))]
        for i in np.flatnonzero(self.lengths > max_points):
            sketch, epsilon = self.sketch(i), 2.0
            while len(drawings[i]) > max_points:
                epsilon *= 1.25
                if epsilon > 64:  # more strokes than rows: the end is cut off
                    drawings[i] = drawings[i][:max_points]
                    break
                drawings[i] = sketch_to_stroke3(simplify(sketch, epsilon)).round()
        return StrokeDataset.from_rows(drawings, self.labels, self.classes)

    def length_histograms(self, max_points: int) -> np.ndarray:
        """(classes, max_points + 1) int64: how many drawings of each class have that many rows."""
        counts = np.zeros((len(self.classes), max_points + 1), dtype=np.int64)
        np.add.at(counts, (self.labels, np.minimum(self.lengths, max_points)), 1)
        return counts


def read_class(path: Path, *, on_error: str = "raise") -> dict[str, list[np.ndarray]]:
    """{split: drawings (n, 3) int16} of one file, drawings without a row left out."""
    splits = read_npz(path, on_error=on_error)
    kept = {split: [rows for rows in drawings if len(rows)] for split, drawings in splits.items()}
    if any(drawings and drawings[0].dtype != np.int16 for drawings in kept.values()):
        raise ValueError(f"{path} holds offsets with fractions. Scale the drawings to 0..255 and round them.")
    return kept


def class_name(path: Path) -> str:
    """`alarm_clock.npz` -> `alarm clock`."""
    return path.stem.replace("_", " ")
