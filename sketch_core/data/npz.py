"""Sketch-RNN's `.npz` files of stroke-3 drawings, read without unpickling anything.

The published files (github.com/googlecreativelab/quickdraw-dataset) hold *pickled* object arrays of int16
(n, 3) arrays under train, valid and test: `array_pickle` reads those. Plain arrays, (n, 3) or (B, n, 3), work
too. Files are written as published, so any reader of those reads ours.

Limits: splits of 256 MiB (the largest published class has 70 MB), offsets of 16 bits.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from .array_pickle import Refused, read_numbers
from .records import DataError, OnError, check_on_error, replacing, report

SPLITS = ("train", "valid", "test")
MAX_BYTES = 256 << 20  # of one split, unpacked
MAX_RATIO = 100  # unpacked to packed bytes of a split above 1 MiB; real drawings have 2 to 4
MAX_OFFSET = 32767


def read_npz(path: str | Path, *, on_error: OnError = "raise") -> dict[str, list[np.ndarray]]:
    """{split: drawings} of those of train, valid and test that the file has; other members are not looked at.

    A drawing is (n, 3) rows (dx, dy, lift), n >= 1: int16, or float32 in a split that holds fractions.
    """
    check_on_error(on_error)
    path = Path(path)
    with open(path, "rb") as file:
        contents = _unzip(file, path)
    return {split: _read_split(npy, f"{path}, {split}", on_error) for split, npy in contents.items()}


def write_npz(path: str | Path, splits: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Drawings (n, 3) by split, written as the published files are: compressed object arrays of int16."""
    arrays = {}
    for split, drawings in splits.items():
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, wanted train, valid or test.")
        arrays[split] = np.empty(len(drawings), dtype=object)
        for i, rows in enumerate(drawings):
            rows = np.asarray(rows)
            if (whole := _int16(rows)) is None:
                raise ValueError(
                    f"drawing {i} of {split} is not (n, 3) whole numbers within ±{MAX_OFFSET} "
                    f"with lift 0 or 1. Round its offsets first."
                )
            arrays[split][i] = whole
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def _int16(rows: np.ndarray) -> np.ndarray | None:
    """`rows` as int16 if they are a drawing of whole numbers."""
    fits = rows.ndim == 2 and rows.shape[1] == 3 and len(rows) and rows.dtype.kind in "biuf"
    return rows.astype(np.int16) if fits and _sound(rows).all() and (rows == np.rint(rows)).all() else None


# What zipfile raises for files that are damaged (or encrypted: RuntimeError).
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    IndexError,
)


def _unzip(file: IO[bytes], path: Path) -> dict[str, bytes]:
    """{split: npy file} of the splits that are there."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = {split: members[f"{split}.npy"] for split in SPLITS if f"{split}.npy" in members}
            for split, info in found.items():
                _check_size(info, f"{path}, {split}")
            if not found:
                names = ", ".join(sorted(members)[:5]) or "nothing"
                wanted = "wanted any of train, valid and test. Give a sketch-rnn file."
                raise DataError(f"{path}: holds {names[:200]!r}, {wanted}")
            return {split: archive.read(info) for split, info in found.items()}
    except DataError:
        raise
    except _ZIP_DAMAGE as error:
        raise DataError(f"{path}: truncated or not a zip file ({error}). Download it again.") from error


def _check_size(info: zipfile.ZipInfo, where: str) -> None:
    size = f"unpacks to {info.file_size >> 20} MiB"
    if info.file_size > MAX_BYTES:
        raise DataError(f"{where}: {size}, wanted at most {MAX_BYTES >> 20}. Split the file.")
    if info.file_size > 1 << 20 and info.file_size > MAX_RATIO * info.compress_size:
        raise DataError(f"{where}: {size} from next to nothing, wanted drawings. Don't trust this file.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: packed in an unusual way, wanted deflate. Write it as write_npz does.")


def _read_split(npy: bytes, where: str, on_error: OnError) -> list[np.ndarray]:
    file = io.BytesIO(npy)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "created on Python 2", as the published ones are
            shape, fortran, dtype = read_header(file)
        if min(shape, default=0) < 0:
            raise ValueError(f"shape {shape}")
    except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as error:
        message = " ".join(str(error).split())
        raise DataError(f"{where}: not a numpy array ({message:.200}). Download the file again.") from error
    body = npy[file.tell() :]
    if dtype.hasobject:
        return _checked(_read_objects(body, shape, where), where, on_error)
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize != len(body):
        what = f"{dtype} {shape} in {len(body)} bytes"
        raise DataError(f"{where}: {what}, wanted a whole array of numbers. Download it again.")
    array = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    if array.ndim not in (2, 3):
        raise DataError(f"{where}: shape is {shape}, wanted (n, 3) or (B, n, 3). Write it as write_npz does.")
    return _checked(list(array) if array.ndim == 3 else [array], where, on_error)


def _read_objects(body: bytes, shape: tuple[int, ...], where: str) -> list:
    try:
        drawings = read_numbers(body)
    except Refused as error:
        raise DataError(
            f"{where}: {error}, wanted arrays of numbers and nothing else. Don't trust this file."
        ) from None
    except ValueError as error:
        raise DataError(f"{where}: {error}. Download the file again.") from error
    if shape != (len(drawings),):
        raise DataError(
            f"{where}: {len(drawings)} drawings, wanted an array {shape}. Download the file again."
        )
    return drawings


def _checked(drawings: list, where: str, on_error: OnError) -> list[np.ndarray]:
    """Those of `drawings` that are (n, 3) with lift 0 or 1, as views of one int16 (or float32) array."""
    whole = []
    for i, rows in enumerate(drawings):
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == 3 and len(rows):
            whole.append((i, rows))
        else:
            what = f"shape is {rows.shape}" if isinstance(rows, np.ndarray) else "no array of numbers"
            error = DataError(f"{where}, drawing {i}: {what}, wanted (n, 3) with n >= 1. Leave it out.")
            report(on_error, error)
    if not whole:
        return []
    if sum(rows.size for _, rows in whole) > MAX_BYTES:  # only possible when one array is named over and over
        raise DataError(f"{where}: more numbers than {MAX_BYTES >> 20} MiB can hold. Don't trust this file.")
    flat = np.concatenate([rows for _, rows in whole])
    stops = np.cumsum([len(rows) for _, rows in whole])
    broken = np.unique(np.searchsorted(stops, np.flatnonzero(~_sound(flat)), side="right"))
    for i in broken:
        first = whole[i][1][~_sound(whole[i][1])][0].tolist()
        error = DataError(
            f"{where}, drawing {whole[i][0]}: row {first}, wanted finite offsets within ±{MAX_OFFSET} "
            f"and a lift of 0 or 1. Leave it out."
        )
        report(on_error, error)
    if len(broken):
        flat[~_sound(flat)] = 0  # not handed out, but cast below
    fractions = flat.dtype.kind == "f" and (flat != np.rint(flat)).any()
    flat = flat.astype(np.float32 if fractions else np.int16)
    starts = [0, *stops[:-1].tolist()]
    left_out = set(broken.tolist())
    spans = enumerate(zip(starts, stops.tolist(), strict=True))
    return [flat[start:stop] for i, (start, stop) in spans if i not in left_out]


def _sound(rows: np.ndarray) -> np.ndarray:
    """(n,) bool: finite offsets (NaN fails every comparison) of 16 bits and a lift of 0 or 1."""
    dx, dy, lift = rows.T
    near = (dx >= -MAX_OFFSET) & (dx <= MAX_OFFSET) & (dy >= -MAX_OFFSET) & (dy <= MAX_OFFSET)
    return near & ((lift == 0) | (lift == 1))
