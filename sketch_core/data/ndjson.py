"""Quick, Draw!'s ndjson: one drawing a line, simplified (0..255, whole numbers) or raw (pixels and times).

    {"word": "cat", "recognized": true, "drawing": [[[x, ...], [y, ...]], ...]}   raw strokes add a third list

Lines are read one by one, plain or gzipped. Written lines add "canvas": [width, height] where it is not
255 x 255 or points lie off it, which other readers pass over. Numbers keep three decimals.

Limits: lines of 16 MiB, coordinates within a million. Times, country and key are not kept.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..strokes import QUICKDRAW_CANVAS, Sketch, to_polylines
from .records import MAX_COORDINATE, DataError, OnError, canvas_of, check_on_error, replacing, report

MAX_LINE = 16 << 20  # bytes; the longest raw drawings take about one MiB


def read_ndjson(
    path: str | Path, *, recognized_only: bool = False, on_error: OnError = "raise"
) -> Iterator[Sketch]:
    """The drawings of a simplified or raw file, in its order; raw ones keep their pixels, without times.

    recognized_only  leave out drawings that Quick, Draw! marks as not recognized.
    """
    check_on_error(on_error)
    path = Path(path)
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file = gzip.GzipFile(fileobj=plain) if zipped else plain
        number = 0
        while True:
            number += 1
            try:
                line = _line(file)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                message = f"{path}:{number}: truncated or damaged gzip ({error}). Download the file again."
                report(on_error, DataError(message))
                return
            if line == b"":
                return
            if line is not None and line.isspace():
                continue
            try:
                drawing = _parse(line)
                sketch = _sketch(drawing)
            except (ValueError, OverflowError, RecursionError) as error:
                message = " ".join(str(error).split()) or "lists nested without end"
                report(
                    on_error, DataError(f"{path}:{number}: {message.rstrip('.')}. Mend or remove the line.")
                )
                continue
            if not recognized_only or drawing.get("recognized") is not False:
                yield sketch


def write_ndjson(path: str | Path, sketches: Iterable[Sketch]) -> int:
    """Write one line a sketch and say how many; gzipped where the name ends in .gz. `path` appears whole."""
    count = 0
    with replacing(path) as file:
        packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if str(path).endswith(".gz") else file
        for sketch in sketches:
            record = {"word": sketch.label, "drawing": to_polylines(sketch)}
            if not sketch.canvas == canvas_of(sketch.strokes) == QUICKDRAW_CANVAS:
                record["canvas"] = list(sketch.canvas)
            packed.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            count += 1
        if packed is not file:
            packed.close()
    return count


def _line(file: IO[bytes]) -> bytes | None:
    """The next line, b"" at the end of the file, None for a line above MAX_LINE, which is passed over."""
    line = file.readline(MAX_LINE + 1)
    if len(line) <= MAX_LINE:
        return line
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE)
    return None


def _parse(line: bytes | None) -> dict:
    if line is None:
        raise ValueError(f"a line of more than {MAX_LINE >> 20} MiB, wanted one drawing a line")
    try:
        drawing = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("bytes that are not UTF-8, wanted JSON") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"truncated or damaged JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(drawing, dict) or not isinstance(drawing.get("drawing"), list):
        raise ValueError('no "drawing" list, wanted {"word": ..., "drawing": [[[x...], [y...]], ...]}')
    return drawing


def _sketch(drawing: dict) -> Sketch:
    word = drawing.get("word")
    if word is not None and not isinstance(word, str):
        raise ValueError(f'"word" is {str(word)[:40]!r}, wanted text')
    strokes = tuple(_stroke(i, polyline) for i, polyline in enumerate(drawing["drawing"]))
    canvas = drawing.get("canvas")
    if canvas is None:
        return Sketch(strokes, canvas_of(strokes), word)
    if (
        not isinstance(canvas, list)
        or len(canvas) != 2
        or not all(type(side) in (int, float) for side in canvas)
    ):
        raise ValueError(f'"canvas" is {str(canvas)[:40]!r}, wanted [width, height]')
    return Sketch(strokes, tuple(canvas), word)


def _stroke(i: int, polyline: object) -> np.ndarray:
    """(n, 2) points of [[x...], [y...]] or, raw, [[x...], [y...], [t...]]."""
    if not isinstance(polyline, list) or len(polyline) not in (2, 3):
        raise ValueError(f"stroke {i} is not [[x...], [y...]]")
    try:
        x, y = (np.asarray(values) for values in polyline[:2])
    except (ValueError, OverflowError):
        raise ValueError(f"stroke {i} is not two lists of numbers") from None
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(
            f"stroke {i} has x of shape {x.shape} and y of {y.shape}, wanted as many of each, at least one"
        )
    if x.dtype.kind not in "iuf" or y.dtype.kind not in "iuf":
        raise ValueError(f"stroke {i} holds something that is no number")
    points = np.stack([x, y], 1).astype(np.float64)
    if not (np.abs(points) <= MAX_COORDINATE).all():  # NaN fails it too
        raise ValueError(f"stroke {i} holds a coordinate beyond ±{MAX_COORDINATE:g}, wanted canvas units")
    return points
