"""Drawings from and to a file of any kind the project knows, told by its suffix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..strokes import Sketch, sketch_to_stroke3, stroke3_to_sketch
from .binary import read_bin
from .ndjson import read_ndjson, write_ndjson
from .npz import read_npz, write_npz
from .records import DataError, OnError, canvas_of, replacing, report

READABLE = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".npz", ".bin", ".svg", ".svgz")
WRITABLE = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".npz", ".svg")


def read_sketches(path: str | Path, *, on_error: OnError = "raise") -> Iterator[Sketch]:
    """The drawings of a file, in its order; an npz's train, then valid, then test.

    An npz or bin names no class: the label is the file's name, '_' read as ' '. An npz keeps no place either:
    its drawings lie against the left and top edge, as simplified ones do.
    """
    path = Path(path)
    suffix = _suffix(path, READABLE, "read")
    if suffix == ".npz":
        return _npz_sketches(path, on_error)
    if suffix == ".bin":
        return read_bin(path, on_error=on_error)
    if suffix in (".svg", ".svgz"):
        return _svg_sketches(path, on_error)
    return read_ndjson(path, on_error=on_error)


def write_sketches(path: str | Path, sketches: Iterable[Sketch]) -> int:
    """Write drawings and say how many. SVG holds one; npz holds them under train, rounded, without labels."""
    path = Path(path)
    suffix = _suffix(path, WRITABLE, "write")
    if suffix not in (".npz", ".svg"):
        return write_ndjson(path, sketches)
    sketches = list(sketches)
    if suffix == ".npz":
        write_npz(path, {"train": [_rounded_rows(sketch) for sketch in sketches]})
        return len(sketches)
    if len(sketches) != 1:
        raise ValueError(
            f"{path}: {len(sketches)} sketches, but an SVG holds one. Write .ndjson, or one at a time."
        )
    with replacing(path) as file:
        file.write(sketches[0].to_svg().encode())
    return 1


def _suffix(path: Path, known: tuple[str, ...], verb: str) -> str:
    for suffix in known:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"cannot {verb} {path}: its suffix is {path.suffix!r}. Known: {', '.join(known)}.")


def _npz_sketches(path: Path, on_error: OnError) -> Iterator[Sketch]:
    label = path.stem.replace("_", " ")
    for drawings in read_npz(path, on_error=on_error).values():
        for rows in drawings:
            sketch = stroke3_to_sketch(rows, label=label)
            corner = np.min([stroke.min(0) for stroke in sketch.strokes], 0)
            strokes = tuple(stroke - corner for stroke in sketch.strokes)
            yield replace(sketch, strokes=strokes, canvas=canvas_of(strokes))


def _svg_sketches(path: Path, on_error: OnError) -> Iterator[Sketch]:
    from ..svg import read_svg  # brings scipy along; ndjson and npz do without

    try:
        sketch = read_svg(path)
    except ValueError as error:
        message = str(error) if str(path) in str(error) else f"{path}: {error}"
        report(on_error, DataError(message))
        return
    yield sketch


def _rounded_rows(sketch: Sketch) -> np.ndarray:
    """(n, 3) whole offsets; points are rounded, not offsets, so errors don't add up."""
    return sketch_to_stroke3(replace(sketch, strokes=tuple(np.rint(stroke) for stroke in sketch.strokes)))
