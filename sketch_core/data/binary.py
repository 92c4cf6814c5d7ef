"""Quick, Draw!'s `.bin` files: simplified drawings in bytes, little endian, one after another.

    key u64, country 2 letters, recognized i8, time u32, strokes u16; a stroke: points u16, x bytes, y bytes

Limits: reading only. The format has no marks between records, so damage ends the reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..strokes import Sketch
from .records import DataError, OnError, check_on_error, report

_HEAD = struct.Struct("<Q2sbIH")
_COUNT = struct.Struct("<H")


def read_bin(
    path: str | Path, *, recognized_only: bool = False, on_error: OnError = "raise"
) -> Iterator[Sketch]:
    """The drawings of a .bin file. It holds no class: the label is the file's name, '_' read as ' '.

    recognized_only  leave out drawings that Quick, Draw! marks as not recognized.
    """
    check_on_error(on_error)
    path = Path(path)
    label = path.stem.replace("_", " ")
    with open(path, "rb") as file:
        number = 0
        while head := file.read(_HEAD.size):
            number += 1
            where = f"{path}, record {number}"
            try:
                recognized, strokes = _record(head, file)
            except _Truncated:
                report(on_error, DataError(f"{where}: truncated. Download the file again."))
                return
            if recognized not in (0, 1):
                message = (
                    f"{where}: recognized is {recognized}, wanted 0 or 1. Is it a Quick, Draw! .bin file?"
                )
                report(on_error, DataError(message))
                return
            if any(len(stroke) == 0 for stroke in strokes) or not strokes:
                message = f"{where}: a drawing or stroke without points, wanted one at least. Leave it out."
                report(on_error, DataError(message))
            elif recognized or not recognized_only:
                yield Sketch(tuple(strokes), label=label)


class _Truncated(Exception):
    """The file ends within a record."""


def _record(head: bytes, file: IO[bytes]) -> tuple[int, list[np.ndarray]]:
    """(recognized, strokes (n, 2) uint8); a record that is none of Quick, Draw!'s is not read on."""
    if len(head) < _HEAD.size:
        raise _Truncated
    _key, _country, recognized, _time, num_strokes = _HEAD.unpack(head)
    strokes = []
    if recognized in (0, 1):
        for _ in range(num_strokes):
            (n,) = _COUNT.unpack(_exactly(file, _COUNT.size))
            strokes.append(np.frombuffer(_exactly(file, 2 * n), np.uint8).reshape(2, n).T)
    return recognized, strokes


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise _Truncated
    return content
